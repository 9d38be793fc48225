//! The kinds of memories.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kind of a memory.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    extend("x-synonyms" = {
        "fact": "note", "user_preference": "note", "task": "note", "todo": "note", "reminder": "note", "idea": "note", "preference": "note", "decision": "note", "memory": "note", "observation": "note",
        "information": "note", "knowledge": "note", "semantic": "note",
        "message": "dialogue", "conversation": "dialogue", "chat": "dialogue", "dialog": "dialogue",
        "conclusion": "insight", "reflection": "insight", "summary": "insight",
        "episodic": "episode", "experience": "episode",
        "lesson": {"to": "episode", "with": ["situation", "outcome", "lesson"], "else": "note"}
    })
)]
pub enum Kind {
    /// One turn of a raw transcript.
    Dialogue,
    /// A fact, preference or decision.
    #[default]
    Note,
    /// A distilled statement which rests on other memories.
    Insight,
    /// A lesson from an attempt.
    Episode,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Dialogue, Self::Note, Self::Insight, Self::Episode];

    /// Returns the name in tools, files and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialogue => "dialogue",
            Self::Note => "note",
            Self::Insight => "insight",
            Self::Episode => "episode",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| format!("unknown kind {name:?}"))
    }
}
