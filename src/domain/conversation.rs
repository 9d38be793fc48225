//! Conversations: where a turn stands, who said it, and whether it asks. What was said around a turn says what it is
//! about, often better than its own words.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Analyzer;

/// Speakers of these names are no persons that a question could name.
const ROLES: [&str; 12] = [
    "user",
    "assistant",
    "system",
    "human",
    "ai",
    "bot",
    "agent",
    "model",
    "tool",
    "unknown",
    "me",
    "you",
];

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn {
    /// Number of the project: sessions of different projects have nothing to do with each other.
    pub project: i64,
    /// The conversation.
    pub session: String,
    /// Its place therein.
    pub number: i64,
}

/// What ranking knows of a memory beside its words and its standing.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Number of its project.
    pub project: i64,
    /// Its place, where it has one.
    pub turn: Option<Turn>,
    /// Who said it.
    pub speaker: Option<String>,
    /// In terms.
    pub length: u32,
    /// Whether it ends with a question.
    pub asks: bool,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
}

impl Setting {
    /// Puts together what a row says.
    #[must_use]
    pub fn new(
        project: i64,
        (session, number): (Option<String>, Option<i64>),
        speaker: Option<String>,
        length: u32,
        asks: bool,
        occurred_at: DateTime<Utc>,
    ) -> Self {
        let turn = session.zip(number).map(|(session, number)| Turn {
            project,
            session,
            number,
        });
        let speaker = speaker.filter(|name| !name.is_empty());
        Self {
            project,
            asks: asks && turn.is_some(),
            turn,
            speaker,
            length,
            occurred_at,
        }
    }
}

/// Whether a text ends with a question mark. The backends say it of what they hold.
#[must_use]
pub fn asks(text: &str) -> bool {
    text.trim_end_matches([' ', '\t', '\r', '\n'])
        .ends_with(['?', '\u{ff1f}', '\u{61f}'])
}

/// The terms by which a question can name a speaker; none for roles.
#[must_use]
pub fn name_terms(speaker: &str, analyzer: &Analyzer) -> BTreeSet<String> {
    if ROLES.contains(&speaker.to_lowercase().as_str()) {
        return BTreeSet::new();
    }
    let mut terms: BTreeSet<String> = analyzer.terms(speaker).counts.into_keys().collect();
    for word in speaker.split_whitespace() {
        terms.extend(analyzer.terms(&format!("{word}'s")).counts.into_keys());
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Language;

    #[test]
    fn questions_are_known_by_their_end() {
        assert!(asks("How are you?") && asks("really?? \n") && asks("何？"));
        assert!(!asks("Is it? Yes.") && !asks(""));
    }

    #[test]
    fn a_speaker_is_named_by_any_word_of_the_name() {
        let analyzer = Analyzer::new(Language::English);
        let named = |name: &str| name_terms(name, &analyzer);
        assert!(
            named("Ada Lovelace")
                .is_superset(&BTreeSet::from(["ada".to_owned(), "lovelac".to_owned()]))
        );
        assert!(named("Assistant").is_empty() && named("user").is_empty());
        let plain = Analyzer::new(Language::None);
        assert!(name_terms("Ada", &plain).contains("ada's"));
    }
}
