//! Opaque positions in a list of hits, bound to the question that made them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Invalid;

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Browsing: after this storage order, newest first.
    #[serde(rename = "s")]
    Before(i64),
    /// Searching: after this many ranked hits.
    #[serde(rename = "o")]
    Offset(usize),
    /// History: after the entry at this place of the memory with this index in the request; before its newest entry
    /// where there is no place.
    #[serde(rename = "h")]
    History(usize, Option<i64>),
}

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "p")]
    position: Position,
    #[serde(rename = "q")]
    question: String,
}

/// A short hash of everything that decides the order of hits.
#[must_use]
pub fn question_hash(question: &impl Serialize) -> String {
    let text = serde_json::to_vec(question).expect("a question is plain data, which always serialises");
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..9])
}

/// The cursor which a client hands back.
#[must_use]
pub fn encode(position: Position, question: String) -> String {
    let token = serde_json::to_vec(&Token { position, question }).expect("a token is plain data");
    URL_SAFE_NO_PAD.encode(token)
}

/// Reads a cursor.
///
/// # Errors
/// When it was not made by [`encode`], or for another question.
pub fn decode(cursor: &str, question: &str) -> Result<Position, Invalid> {
    let expected = "the next_cursor of the previous answer, unchanged, together with the same other arguments";
    let token = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok())
        .filter(|token| token.question == question)
        .ok_or_else(|| Invalid::new("cursor", cursor, expected))?;
    Ok(token.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_question() {
        let cursor = encode(Position::Offset(10), question_hash(&"a"));
        assert_eq!(decode(&cursor, &question_hash(&"a")), Ok(Position::Offset(10)));
        assert!(decode(&cursor, &question_hash(&"b")).is_err());
        assert!(decode("?!", &question_hash(&"a")).is_err());
    }
}
