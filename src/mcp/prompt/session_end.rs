//! `session_end`.

use async_trait::async_trait;

use super::{Argument, Given, MemoryPrompt, ToolError};
use crate::engine::{Call, Completable, Engine};

pub(super) struct SessionEnd;

const TEXT: &str = "This conversation ends. Keep in memory what a later one will need, and nothing else.

1. Go through the conversation for
   - facts, preferences and decisions that hold beyond it, each with its reason: kind note;
   - what was tried and how it went, where that teaches something: kind episode with situation, outcome from -1 to 1, and \
lesson;
   - conclusions drawn from several memories: kind insight with their ids in sources.
2. Recall each topic first. Where a stored memory no longer holds, give its id in supersedes; where it is right already, \
leave it.
3. Give feedback with update on memories that helped or misled.
4. Store the rest with one call of remember. Every text must be understood without this conversation: who, what, when, where.
   Leave out what the code, the files or a search tell anyway, small talk, and secrets of any kind.
5. Say in two sentences what you kept.";

#[async_trait]
impl MemoryPrompt for SessionEnd {
    fn about(&self) -> (&'static str, &'static str, &'static str) {
        (
            "session_end",
            "Keep what matters",
            "Has the conversation looked through for what a later one needs, and kept.",
        )
    }

    fn arguments(&self) -> &'static [Argument] {
        &[Argument { name: "tag", description: "Tag of everything that is kept", completes: Some(Completable::Tag) }]
    }

    async fn say(&self, _: &Engine, _: &Call, mut given: Given) -> Result<String, ToolError> {
        Ok(match given.take("tag") {
            Some(tag) => format!("{TEXT}\n\nTag everything with {tag:?}."),
            None => TEXT.to_owned(),
        })
    }
}
