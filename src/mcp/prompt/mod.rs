//! The prompts: texts which a person calls up, one file each. What they bring from the memory is collected in the
//! engine; a prompt only words it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rmcp::model::{JsonObject, Prompt, PromptArgument};
use serde_json::Value;

use super::argument::{Shape, prepare};
use super::error::ToolError;
use crate::engine::{Call, Completable, Engine};

mod reflect;
mod session_end;
mod session_start;

/// Every prompt, in the order in which a person sees them.
pub(super) const ALL: [&dyn MemoryPrompt; 3] = [
    &session_start::SessionStart,
    &session_end::SessionEnd,
    &reflect::Reflect,
];

/// An argument of a prompt: name, what it is, and what completes it. All are optional texts.
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) completes: Option<Completable>,
}

/// A prompt: how it is described, and what it says.
#[async_trait]
pub(super) trait MemoryPrompt: Send + Sync {
    /// Name, title, description.
    fn about(&self) -> (&'static str, &'static str, &'static str);

    /// What may be filled in.
    fn arguments(&self) -> &'static [Argument];

    /// The text, as if the person had written it.
    async fn say(&self, engine: &Engine, call: &Call, given: Given) -> Result<String, ToolError>;
}

/// The definition in the words of the protocol.
pub(super) fn definition(prompt: &dyn MemoryPrompt) -> Prompt {
    let (name, title, description) = prompt.about();
    let arguments = prompt
        .arguments()
        .iter()
        .map(|argument| {
            PromptArgument::new(argument.name)
                .with_description(argument.description)
                .with_required(false)
        })
        .collect();
    Prompt::new(name, Some(description), Some(arguments)).with_title(title)
}

/// Arguments that were given, by name; empty ones count as absent.
pub(super) struct Given {
    arguments: JsonObject,
    /// How the arguments were read.
    pub(super) notes: Vec<String>,
}

impl Given {
    /// Reads texts under the names which the prompt knows, by the rules for the arguments of tools.
    pub(super) fn accept(
        prompt: &dyn MemoryPrompt,
        arguments: Option<JsonObject>,
        now: DateTime<Utc>,
    ) -> Result<Self, ToolError> {
        let shape = Shape::of_texts(prompt.arguments().iter().map(|argument| argument.name));
        let prepared =
            prepare(&shape, arguments.unwrap_or_default(), now).map_err(ToolError::Arguments)?;
        Ok(Self {
            arguments: prepared.arguments,
            notes: prepared.notes,
        })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let Some(Value::String(text)) = self.arguments.remove(name) else {
            return None;
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}
