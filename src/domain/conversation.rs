//! Conversations: position, speaker and form of a turn. The turns around a turn often show its topic better than its
//! own words.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Analyzer;

/// Speaker names that are roles rather than persons.
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
    /// Project of the turn: sessions of the same name in different projects are different conversations.
    pub project: String,
    /// Name of the conversation.
    pub session: String,
    /// Position in the conversation.
    pub number: i64,
}

impl Turn {
    /// Creates a turn if session and number are known.
    #[must_use]
    pub fn new(project: String, session: Option<String>, number: Option<i64>) -> Option<Self> {
        let (session, number) = session.zip(number)?;
        Some(Self {
            project,
            session,
            number,
        })
    }
}

/// Properties of a memory that ranking needs in addition to its words and usage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HitContext {
    /// Position in a conversation, if the memory belongs to one.
    pub turn: Option<Turn>,
    pub speaker: Option<String>,
    /// Length in terms.
    pub length: u32,
    /// Whether the memory is a turn that ends with a question.
    pub asks: bool,
    /// Time of the event.
    pub occurred_at: DateTime<Utc>,
}

impl HitContext {
    /// Combines the columns of a row. An empty speaker means none, and only turns can ask.
    #[must_use]
    pub fn new(
        turn: Option<Turn>,
        speaker: Option<String>,
        length: u32,
        asks: bool,
        occurred_at: DateTime<Utc>,
    ) -> Self {
        let speaker = speaker.filter(|name| !name.is_empty());
        let asks = asks && turn.is_some();
        Self {
            turn,
            speaker,
            length,
            asks,
            occurred_at,
        }
    }
}

/// Returns whether a text ends with a question mark. The backends compute the same in SQL.
#[must_use]
pub fn is_question(text: &str) -> bool {
    text.trim_end_matches([' ', '\t', '\r', '\n'])
        .ends_with(['?', '\u{ff1f}', '\u{61f}'])
}

/// Returns the terms by which a query can name a speaker; none for roles.
#[must_use]
pub fn list_name_terms(speaker: &str, analyzer: &Analyzer) -> BTreeSet<String> {
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
        assert!(is_question("How are you?") && is_question("really?? \n") && is_question("何？"));
        assert!(!is_question("Is it? Yes.") && !is_question(""));
    }

    #[test]
    fn a_speaker_is_named_by_any_word_of_the_name() {
        let analyzer = Analyzer::new(Language::English);
        let named = |name: &str| list_name_terms(name, &analyzer);
        assert!(
            named("Ada Lovelace")
                .is_superset(&BTreeSet::from(["ada".to_owned(), "lovelac".to_owned()]))
        );
        assert!(named("Assistant").is_empty() && named("user").is_empty());
        let plain = Analyzer::new(Language::None);
        assert!(list_name_terms("Ada", &plain).contains("ada's"));
    }
}
