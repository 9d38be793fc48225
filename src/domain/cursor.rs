//! Opaque positions in a list of hits, bound to the question that made them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Invalid;

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Browsing: after this storage order, newest first.
    Before(i64),
    /// Searching: after this many ranked hits.
    Offset(usize),
    /// History: after the entry at this place of the memory with this index in the request; before its newest entry
    /// where there is no place.
    History(usize, Option<i64>),
}

/// Between the parts of a cursor.
const SEPARATOR: char = '.';

/// A short hash of everything that decides the order of hits: it notices mistakes, and each character costs a model.
#[must_use]
pub fn question_hash(question: &impl Serialize) -> String {
    let text =
        serde_json::to_vec(question).expect("a question is plain data, which always serialises");
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..3])
}

/// The cursor which a client hands back. It is short, since a model reads and repeats it.
#[must_use]
pub fn encode(position: &Position, question: &str) -> String {
    let place = match position {
        Position::Before(seq) => format!("s{seq}"),
        Position::Offset(offset) => format!("o{offset}"),
        Position::History(memory, None) => format!("h{memory}"),
        Position::History(memory, Some(seq)) => format!("h{memory}{SEPARATOR}{seq}"),
    };
    format!("{place}{SEPARATOR}{question}")
}

/// Reads a cursor.
///
/// # Errors
/// When it was not made by [`encode`], or for another question.
pub fn decode(cursor: &str, question: &str) -> Result<Position, Invalid> {
    cursor
        .trim()
        .rsplit_once(SEPARATOR)
        .filter(|(_, made_for)| *made_for == question)
        .and_then(|(place, _)| parse_position(place))
        .ok_or_else(|| refusal(cursor))
}

/// Whether a text has the form of a cursor, whatever the question.
///
/// # Errors
/// When [`encode`] cannot have made it.
pub fn check_form(cursor: &str) -> Result<(), Invalid> {
    let place = cursor.trim().rsplit_once(SEPARATOR).map(|(place, _)| place);
    place
        .and_then(parse_position)
        .map(drop)
        .ok_or_else(|| refusal(cursor))
}

fn refusal(cursor: &str) -> Invalid {
    let expected =
        "the next_cursor of the previous answer, unchanged, together with the same other arguments";
    Invalid::new("cursor", cursor, expected)
}

fn parse_position(place: &str) -> Option<Position> {
    let (kind, value) = place.split_at_checked(1)?;
    match (kind, value.split_once(SEPARATOR)) {
        ("s", None) => value.parse().ok().map(Position::Before),
        ("o", None) => value.parse().ok().map(Position::Offset),
        ("h", None) => Some(Position::History(value.parse().ok()?, None)),
        ("h", Some((memory, seq))) => Some(Position::History(
            memory.parse().ok()?,
            Some(seq.parse().ok()?),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_question() {
        let (question, other) = (question_hash(&"a"), question_hash(&"b"));
        for position in [
            Position::Offset(10),
            Position::Before(i64::MAX),
            Position::Before(-1),
            Position::History(3, None),
            Position::History(3, Some(7)),
        ] {
            let cursor = encode(&position, &question);
            assert_eq!(decode(&cursor, &question), Ok(position), "{cursor}");
            assert!(decode(&cursor, &other).is_err(), "{cursor}");
        }
    }

    #[test]
    fn other_texts_are_no_cursors() {
        let question = question_hash(&"a");
        for place in [
            "",
            "o",
            "o-1",
            "x1",
            "o1.2",
            "h1.x",
            "ö1",
            "s99999999999999999999",
        ] {
            assert!(
                decode(&format!("{place}.{question}"), &question).is_err(),
                "{place}"
            );
        }
        for cursor in ["", "?!", &question] {
            assert!(decode(cursor, &question).is_err(), "{cursor}");
            assert!(check_form(cursor).is_err(), "{cursor}");
        }
    }
}
