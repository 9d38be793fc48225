//! Opaque positions in a list of hits, bound to the query for which they were created.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Invalid;

/// The start of the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Browsing: after this storage order, newest first.
    Before(i64),
    /// Searching: after this many ranked hits.
    Offset(usize),
    /// History: after the entry at this position of the memory with this index in the request; before its newest
    /// entry if there is no position.
    History(usize, Option<i64>),
}

/// Separates the parts of a cursor.
const SEPARATOR: char = '.';

/// Returns a short hash of everything that determines the order of hits. It detects mistakes, and each further
/// character would cost tokens of a model.
#[must_use]
pub fn question_hash(question: &impl Serialize) -> String {
    let text =
        serde_json::to_vec(question).expect("a question is plain data, which always serialises");
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..3])
}

/// Returns the cursor for a client. It is short, because a model reads and repeats it.
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
/// Fails if [`encode`] did not create it, or created it for another query.
pub fn decode(cursor: &str, question: &str) -> Result<Position, Invalid> {
    cursor
        .trim()
        .rsplit_once(SEPARATOR)
        .filter(|(_, made_for)| *made_for == question)
        .and_then(|(place, _)| parse_position(place))
        .ok_or_else(|| refusal(cursor))
}

/// Checks that a text has the form of a cursor, for any query.
///
/// # Errors
/// Fails if [`encode`] cannot have created it.
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
