//! `reflect`.

use async_trait::async_trait;

use super::{Argument, MemoryPrompt, PromptArguments, ToolError};
use crate::domain::validate::{MAX_EPISODE_BYTES, MAX_NAME_BYTES};
use crate::engine::{Call, Completable, Engine, GetParams};
use crate::mcp::tool::describe_memory;

pub(super) struct Reflect;

#[async_trait]
impl MemoryPrompt for Reflect {
    fn metadata(&self) -> (&'static str, &'static str, &'static str) {
        (
            "reflect",
            "Learn from an attempt",
            "Turn an attempt, especially a failed one, into a lesson that is recalled in similar situations.",
        )
    }

    fn arguments(&self) -> &'static [Argument] {
        &[
            Argument {
                name: "situation",
                description: "The attempt and its circumstances",
                most: MAX_EPISODE_BYTES,
                completes: None,
            },
            Argument {
                name: "outcome",
                description: "The result, in words or from -1 to 1",
                most: MAX_EPISODE_BYTES,
                completes: None,
            },
            Argument {
                name: "lesson",
                description: "The rule for next time",
                most: MAX_EPISODE_BYTES,
                completes: None,
            },
            Argument {
                name: "memory",
                description: "ID of a memory that was involved",
                most: MAX_NAME_BYTES,
                completes: Some(Completable::Id),
            },
        ]
    }

    async fn render_text(
        &self,
        engine: &Engine,
        call: &Call,
        mut given: PromptArguments,
    ) -> Result<String, ToolError> {
        let mut text = "Let us learn from the last attempt.\n".to_owned();
        let questions = [
            (
                "situation",
                "Situation",
                "what was tried, where, and when this situation may come up again",
            ),
            (
                "outcome",
                "Outcome",
                "how it went, from -1 (failed) to 1 (succeeded)",
            ),
            (
                "lesson",
                "Lesson",
                "the cause, and what to do or avoid next time, as a rule that others can follow",
            ),
        ];
        for (name, title, question) in questions {
            match given.take_text(name) {
                Some(answer) => text.push_str(&format!("\n{title}: {answer}")),
                None => text.push_str(&format!(
                    "\n{title}: infer it from this conversation, or ask me ({question})."
                )),
            }
        }
        if let Some(id) = given.take_text("memory") {
            let params = GetParams {
                ids: vec![id],
                include_deleted: true,
                ..GetParams::default()
            };
            let found = engine
                .get(call, params)
                .await
                .map_err(|error| error.renamed("ids", "memory"))?;
            match found.memories.first() {
                Some(memory) => text.push_str(&format!(
                    "\n\nThis memory was involved. If it misled, give feedback with update (not_helpful) or correct it:\n{}",
                    describe_memory(memory)
                )),
                None => text.push_str("\n\nThe memory that I named does not exist."),
            }
        }
        text.push_str(
            "\n\nFirst recall with kinds [\"episode\"] and the situation. If the same lesson is stored, improve it with update. \
             Otherwise call remember with one item of kind episode: content in one sentence, situation, outcome, lesson, \
             and the IDs of the memories involved in sources.",
        );
        Ok(text)
    }
}
