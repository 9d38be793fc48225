//! `session_end`.

use async_trait::async_trait;

use super::{Argument, MemoryPrompt, PromptArguments, ToolError};
use crate::domain::validate::MAX_TAG_BYTES;
use crate::engine::{Call, Completable, Engine};

pub(super) struct SessionEnd;

const TEXT: &str = "This conversation is ending. Store what a later conversation will need, and nothing else.

1. Go through the conversation for
   - facts, preferences and decisions that will matter later, each with its reason: kind note;
   - attempts that teach something, with situation, outcome (-1 to 1) and lesson: kind episode;
   - conclusions drawn from several memories, with their IDs in sources: kind insight.
2. Recall each topic first. If a stored memory is no longer true, put its ID in supersedes; if it is still right, leave it.
3. Give feedback with update on memories that helped or misled.
4. Store the rest with one call of remember. Each text must be clear without this conversation: who, what, when, where.
   Leave out small talk, secrets of any kind, and anything that the code, the files or a search would show anyway.
5. Summarise in two sentences what you stored.";

#[async_trait]
impl MemoryPrompt for SessionEnd {
    fn metadata(&self) -> (&'static str, &'static str, &'static str) {
        (
            "session_end",
            "Store what matters",
            "Review this conversation and store what later ones will need.",
        )
    }

    fn arguments(&self) -> &'static [Argument] {
        &[Argument {
            name: "tag",
            description: "Tag for all memories that are stored",
            most: MAX_TAG_BYTES,
            completes: Some(Completable::Tag),
        }]
    }

    async fn render_text(
        &self,
        _: &Engine,
        _: &Call,
        mut given: PromptArguments,
    ) -> Result<String, ToolError> {
        Ok(match given.take_text("tag") {
            Some(tag) => format!("{TEXT}\n\nTag everything with {tag:?}."),
            None => TEXT.to_owned(),
        })
    }
}
