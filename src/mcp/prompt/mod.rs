//! The prompts: texts which a person calls up, one file each. What they bring from the memory is collected in the
//! engine; a prompt only words it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rmcp::model::{JsonObject, Prompt, PromptArgument};
use serde_json::Value;

use super::error::ToolError;
use crate::engine::{Call, Completable, Engine};

mod reflect;
mod session_end;
mod session_start;

/// Every prompt, in the order in which a person sees them.
pub(super) const ALL: [&dyn MemoryPrompt; 3] =
    [&session_start::SessionStart, &session_end::SessionEnd, &reflect::Reflect];

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
        .map(|argument| PromptArgument::new(argument.name).with_description(argument.description).with_required(false))
        .collect();
    Prompt::new(name, Some(description), Some(arguments)).with_title(title)
}

/// Arguments that were given, by name; empty ones count as absent.
pub(super) struct Given(BTreeMap<String, String>);

impl Given {
    /// Accepts texts under the names which the prompt knows.
    pub(super) fn accept(prompt: &dyn MemoryPrompt, arguments: Option<JsonObject>) -> Result<Self, ToolError> {
        let known: Vec<&str> = prompt.arguments().iter().map(|argument| argument.name).collect();
        let mut given = BTreeMap::new();
        for (name, value) in arguments.unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                let problem = format!("there is no such argument; there are {}", known.join(", "));
                return Err(ToolError::Arguments { path: name, problem });
            }
            let Value::String(text) = value else {
                return Err(ToolError::Arguments { path: name, problem: "a text is expected".to_owned() });
            };
            let text = text.trim();
            if !text.is_empty() {
                given.insert(name, text.to_owned());
            }
        }
        Ok(Self(given))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }
}
