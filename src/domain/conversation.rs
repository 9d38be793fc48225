//! Conversations: where a turn stands, who said it, and whether it asks. What was said around a turn says what it is
//! about, often better than its own words.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Analyzer;

/// Speakers of these names are no persons that a question could name.
const ROLES: [&str; 12] =
    ["user", "assistant", "system", "human", "ai", "bot", "agent", "model", "tool", "unknown", "me", "you"];
/// Characters from the end of a text among which its question mark is looked for.
pub const TAIL: usize = 240;

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
    /// Puts together what a row says. `tail` is the end of a turn's content.
    #[must_use]
    pub fn new(
        project: i64,
        (session, number): (Option<String>, Option<i64>),
        speaker: Option<String>,
        length: u32,
        tail: Option<&str>,
        occurred_at: DateTime<Utc>,
    ) -> Self {
        let turn = session.zip(number).map(|(session, number)| Turn { project, session, number });
        let speaker = speaker.filter(|name| !name.is_empty());
        Self { project, asks: turn.is_some() && tail.is_some_and(asks), turn, speaker, length, occurred_at }
    }
}

/// Whether a text ends with a question mark; a remark in brackets may follow, such as the caption of a picture.
#[must_use]
pub fn asks(text: &str) -> bool {
    let text = text.trim_end();
    let text = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')).map_or(text, |(said, _)| said.trim_end());
    text.ends_with(['?', '\u{ff1f}'])
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

/// The question without the words of these names, with or without `'s`: of two texts by a speaker none is nearer to the
/// question because of the name. `None` where that leaves nothing, or changes nothing.
#[must_use]
pub fn without_names(question: &str, speakers: &[&str]) -> Option<String> {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\'' | '\u{2019}' | '-');
    let names: BTreeSet<String> = speakers
        .iter()
        .flat_map(|name| name.split(|c: char| !inside(c)).filter(|word| !word.is_empty()).map(str::to_lowercase))
        .collect();
    let bare = |word: &str| {
        let word = word.to_lowercase();
        let stripped = word.strip_suffix("'s").or_else(|| word.strip_suffix("\u{2019}s")).map(str::to_owned);
        stripped.unwrap_or(word)
    };
    let mut kept = String::with_capacity(question.len());
    let mut rest = question;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| inside(c) != inside(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        if !inside(first) || !names.contains(&bare(piece)) {
            kept.push_str(piece);
        }
        rest = after;
    }
    let kept = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    (kept != question && kept.contains(char::is_alphanumeric)).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Language;

    #[test]
    fn questions_are_known_by_their_end() {
        assert!(asks("How are you?") && asks("really?? \n") && asks("何？") && asks("Look? [image: a dog, asleep]"));
        assert!(!asks("Is it? Yes.") && !asks("") && !asks("[image: why?]") && !asks("a] b"));
    }

    #[test]
    fn a_speaker_is_named_by_any_word_of_the_name() {
        let analyzer = Analyzer::new(Language::English);
        let named = |name: &str| name_terms(name, &analyzer);
        assert!(named("Ada Lovelace").is_superset(&BTreeSet::from(["ada".to_owned(), "lovelac".to_owned()])));
        assert!(named("Assistant").is_empty() && named("user").is_empty());
        let plain = Analyzer::new(Language::None);
        assert!(name_terms("Ada", &plain).contains("ada's"));
    }

    #[test]
    fn names_are_taken_out_of_a_question() {
        let without = |question: &str| without_names(question, &["Ada Lovelace", "Bob"]);
        assert_eq!(without("What did Bob give to ada's cat?").as_deref(), Some("What did give to cat?"));
        assert_eq!(without("Bob\u{2019}s cat").as_deref(), Some("cat"));
        assert_eq!((without("Who is Ada?").as_deref(), without("Bob?")), (Some("Who is ?"), None));
        assert_eq!(without("Bobby sleeps"), None);
    }
}
