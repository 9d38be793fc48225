//! The prompts: texts that a person requests, one file each. The engine collects the memories; a prompt only formats
//! them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rmcp::model::{JsonObject, Prompt, PromptArgument};
use serde_json::Value;

use super::argument::{Prepared, Shape, prepare};
use super::error::ToolError;
use crate::domain::validate::{self, Invalid, Problems};
use crate::engine::{Call, Completable, Engine, EngineError};

mod reflect;
mod session_end;
mod session_start;

/// Every prompt, in the order in which a person sees them.
pub(super) const ALL: [&dyn MemoryPrompt; 3] = [
    &session_start::SessionStart,
    &session_end::SessionEnd,
    &reflect::Reflect,
];

/// An argument of a prompt: name, description, maximum length in bytes, and the kind of completion. All are optional
/// texts.
pub(super) struct Argument {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) most: usize,
    pub(super) completes: Option<Completable>,
}

/// A prompt: its description and its text.
#[async_trait]
pub(super) trait MemoryPrompt: Send + Sync {
    /// Name, title, description.
    fn metadata(&self) -> (&'static str, &'static str, &'static str);

    /// Returns the arguments of the prompt.
    fn arguments(&self) -> &'static [Argument];

    /// Returns whether reading the data for the prompt may need some MiB of memory.
    fn reads_much(&self) -> bool {
        false
    }

    /// Returns the text, as if the person had written it.
    async fn render_text(
        &self,
        engine: &Engine,
        call: &Call,
        given: PromptArguments,
    ) -> Result<String, ToolError>;
}

/// Converts the prompt to its definition in the protocol.
pub(super) fn define_prompt(prompt: &dyn MemoryPrompt) -> Prompt {
    let (name, title, description) = prompt.metadata();
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

/// Refuses texts that are too long or that no database can store.
fn check_texts(prompt: &dyn MemoryPrompt, arguments: &JsonObject) -> Result<(), Invalid> {
    let mut problems = Problems::default();
    for argument in prompt.arguments() {
        let text = arguments
            .get(argument.name)
            .and_then(Value::as_str)
            .filter(|text| !text.trim().is_empty());
        problems.check(validate::optional_text(argument.name, text, argument.most));
    }
    problems.refuse_if_any()
}

/// The given arguments by name; empty ones count as absent.
pub(super) struct PromptArguments {
    arguments: JsonObject,
    /// How the arguments were read.
    pub(super) notes: Vec<String>,
}

impl PromptArguments {
    /// Reads texts under the names that the prompt knows, by the rules for the arguments of tools.
    pub(super) fn read_arguments(
        prompt: &dyn MemoryPrompt,
        arguments: Option<JsonObject>,
        now: DateTime<Utc>,
    ) -> Result<Self, ToolError> {
        let shape = Shape::of_texts(prompt.arguments().iter().map(|argument| argument.name));
        match prepare(&shape, arguments.unwrap_or_default(), now) {
            Ok(Prepared { arguments, notes }) => {
                check_texts(prompt, &arguments).map_err(EngineError::from)?;
                Ok(Self { arguments, notes })
            }
            Err(mut refused) => {
                if let Err(invalid) = check_texts(prompt, &refused.readable) {
                    refused.add(&invalid);
                }
                Err(ToolError::Arguments(refused.problems))
            }
        }
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        let Some(Value::String(text)) = self.arguments.remove(name) else {
            return None;
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}
