//! Data that a transport attaches to a request beside its message. Each type is an extension of the request's parts.

use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::JsonObject;

use crate::domain::Scope;

/// The identity of the caller.
#[derive(Debug, Clone)]
pub struct Identity(pub Arc<Scope>);

/// Names a request in the log and in answers.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// The arguments of a call, where the transport has parsed them already and the message has none. A large argument
/// that went through the message would be copied once for each form that the protocol library tries.
#[derive(Debug, Clone)]
pub struct SideArguments(Arc<Mutex<JsonObject>>);

impl SideArguments {
    /// Keeps arguments for one call.
    #[must_use]
    pub fn new(arguments: JsonObject) -> Self {
        Self(Arc::new(Mutex::new(arguments)))
    }

    /// Looks at the arguments.
    pub fn with<T>(&self, look: impl FnOnce(&JsonObject) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the arguments; nothing is left.
    pub(super) fn take(&self) -> JsonObject {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Repairs of a message by the transport, for the `notes` of the answer.
#[derive(Debug, Clone)]
pub struct CallNotes(pub Arc<[String]>);
