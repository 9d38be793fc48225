//! Credentials in sentences: `The password for the router is …`, `Passwort …`, `our new token: …`.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use crate::rule::ASSIGNED_SECRET;
use crate::secret::Secret;
use crate::value::{is_random_key, is_strongly_random, is_uuid};

/// Maximum number of words between the name and the connecting word.
const MOST_WORDS: usize = 8;
/// Maximum number of bytes that are read behind the name.
const LONGEST_SENTENCE: usize = 400;

/// Minimum length of a key in one case.
const SHORTEST_KEY: usize = 24;

/// Words directly before the value.
const CONNECTORS: &[&str] = &[
    "is",
    "are",
    "was",
    "now",
    "ist",
    "lautet",
    "lauten",
    "war",
    "jetzt",
    "est",
    "es",
    "è",
    "é",
    "=",
    ":",
    "->",
    "→",
    "=>",
    "-",
    "–",
    "to",
    "auf",
    "und",
    "and",
    "or",
    "oder",
    "равен",
    "—",
];

static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    let names = r"(?i:passw(?:or[dt]|d)|kennwort|pass(?:phrase|code)|secret|token|(?:api|access|auth|secret|license)[ -]?key|schl..?ssel|mot de passe|contrase..?a|wachtwoord|credentials?)(?i:s|en|er)?\b";
    RegexBuilder::new(names)
        .unicode(false)
        .build()
        .expect("a test uses the pattern")
});

/// Finds values that look random without any doubt and follow the name of a credential in the same sentence.
pub(super) fn find_stated_secrets(text: &str) -> Vec<Secret> {
    NAMES
        .find_iter(text.as_bytes())
        .filter_map(|name| find_stated_value(text, name.end()))
        .collect()
}

fn find_stated_value(text: &str, from: usize) -> Option<Secret> {
    let end = text.floor_char_boundary(text.len().min(from + LONGEST_SENTENCE));
    let rest = text.get(from..end)?;
    let line = rest.lines().next().unwrap_or_default();
    // A path such as `Token::new`.
    if line.starts_with("::") {
        return None;
    }
    if !line.starts_with([' ', ':', ',', '`', '"', ')', '*']) {
        return None;
    }
    // Directly behind the name, only a value without any doubt counts: a hash may belong to it in another way.
    let mut is_wanted: fn(&str) -> bool = is_strongly_random;
    for (at, word) in split_words(line).take(MOST_WORDS + 1) {
        let begin = word.len() - word.trim_start_matches(is_punctuation).len();
        let value = word.trim_matches(is_punctuation);
        if is_wanted(value) {
            let start = from + at + begin;
            return Some(Secret {
                range: start..start + value.len(),
                rule: ASSIGNED_SECRET,
            });
        }
        is_wanted = if is_connector(word) {
            is_stated_secret
        } else {
            |_| false
        };
        if word.ends_with(['.', '!', '?']) {
            return None;
        }
    }
    None
}

/// Returns the words of a line with their positions.
fn split_words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    line.split_inclusive(char::is_whitespace)
        .map(move |piece| {
            let start = at;
            at += piece.len();
            (start, piece.trim_end())
        })
        .filter(|(_, word)| !word.is_empty())
}

/// Returns whether a value is random without any doubt, or a long key in lower case such as a hexadecimal one.
fn is_stated_secret(value: &str) -> bool {
    is_strongly_random(value)
        || value.len() >= SHORTEST_KEY && is_random_key(value) && !is_uuid(value)
}

fn is_connector(word: &str) -> bool {
    word.ends_with(':') || CONNECTORS.contains(&word.to_lowercase().as_str())
}

fn is_punctuation(c: char) -> bool {
    "\"'`*()[]{}<>.,;:„“”‚‘’«»".contains(c)
}
