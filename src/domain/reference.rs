//! References to stored objects: the full ID, or a part of the ID that identifies it.
//!
//! IDs are UUIDs of version 7. Their first 12 digits are a timestamp, so that the IDs of one conversation begin alike;
//! their last digits are random. Answers in text therefore print the last [`SHORT_DIGITS`] digits.

use uuid::Uuid;

/// Number of digits of a short ID.
pub const SHORT_DIGITS: usize = 8;
/// Minimum number of digits of a prefix.
const LEAST_DIGITS: usize = 4;
/// Words that answers print before an ID.
const LABELS: [&str; 7] = [
    "note", "dialogue", "insight", "episode", "memory", "review", "id",
];
/// Number of digits of a full ID.
const ALL_DIGITS: usize = 32;
/// Scheme of the URIs of memories as resources.
const SCHEME: &str = "memory://";

/// A reference as a caller writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdReference {
    /// The whole ID.
    Full(Uuid),
    /// Some of its digits.
    Part(IdPart),
}

/// The first digits of an ID, or its last [`SHORT_DIGITS`] or more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdPart {
    digits: String,
}

impl IdReference {
    /// Parses a reference; `None` for text that cannot be one. Hyphens and case are ignored, and the URI of a resource
    /// refers to its memory.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = without_label(text.trim().trim_matches(['[', ']', '`', '"']));
        let text = text.strip_prefix(SCHEME).unwrap_or(text);
        if let Ok(id) = Uuid::parse_str(text) {
            return Some(Self::Full(id));
        }
        // No reference is longer than an ID with its hyphens.
        if text.len() > ALL_DIGITS + 4 {
            return None;
        }
        let digits: String = text
            .chars()
            .filter(|sign| *sign != '-')
            .collect::<String>()
            .to_ascii_lowercase();
        let fits = (LEAST_DIGITS..ALL_DIGITS).contains(&digits.len());
        let readable = digits.chars().all(|digit| digit.is_ascii_hexdigit());
        (fits && readable).then_some(Self::Part(IdPart { digits }))
    }
}

/// Returns the ID in `note 1a2b3c4d`, which is the form in answers.
fn without_label(text: &str) -> &str {
    match text.split_once(' ') {
        Some((label, id)) if LABELS.contains(&label.trim_end_matches(':')) => id.trim(),
        _ => text,
    }
}

impl IdPart {
    /// Returns the lowest ID that begins with these digits.
    #[must_use]
    pub fn lowest(&self) -> Uuid {
        self.padded('0')
    }

    /// Returns the highest ID that begins with these digits.
    #[must_use]
    pub fn highest(&self) -> Uuid {
        self.padded('f')
    }

    fn padded(&self, digit: char) -> Uuid {
        let missing = ALL_DIGITS - self.digits.len();
        let digits: String = self
            .digits
            .chars()
            .chain(std::iter::repeat_n(digit, missing))
            .collect();
        Uuid::parse_str(&digits).expect("32 hexadecimal digits are a UUID")
    }

    /// Returns these digits as the end of an ID; `None` if they are too few.
    #[must_use]
    pub fn suffix(&self) -> Option<&str> {
        (self.digits.len() >= SHORT_DIGITS).then_some(&self.digits)
    }

    /// Returns the last digits of [`IdPart::suffix`], as many as the indexes contain.
    #[must_use]
    pub fn tail(&self) -> Option<&str> {
        Some(&self.suffix()?[self.digits.len() - SHORT_DIGITS..])
    }
}

/// Returns the short form of an ID in its usual notation.
#[must_use]
pub fn short_id(id: &str) -> &str {
    id.get(id.len().saturating_sub(SHORT_DIGITS)..)
        .unwrap_or(id)
}

/// Returns the first line of a text with visible characters, shortened to `most` characters.
#[must_use]
pub fn first_line(text: &str, most: usize) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let more = line.len() < text.trim().len();
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None if more => format!("{line} …"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01990a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b";

    fn part(text: &str) -> IdPart {
        match IdReference::parse(text) {
            Some(IdReference::Part(part)) => part,
            other => panic!("{text:?} is no part of an ID: {other:?}"),
        }
    }

    #[test]
    fn full_ids_are_read_in_every_notation() {
        let id = Uuid::parse_str(ID).unwrap();
        for text in [
            ID,
            &ID.to_uppercase(),
            &ID.replace('-', ""),
            &format!(" {ID} "),
            &format!("memory://{ID}"),
        ] {
            assert_eq!(
                IdReference::parse(text),
                Some(IdReference::Full(id)),
                "{text}"
            );
        }
    }

    #[test]
    fn parts_are_prefixes_and_suffixes() {
        let id = Uuid::parse_str(ID).unwrap();
        assert_eq!(short_id(ID), "9e0f1a2b");
        assert_eq!(part(short_id(ID)).suffix(), Some("9e0f1a2b"));
        assert_eq!(part("8d9E-0f1a2b").tail(), Some("9e0f1a2b"));
        assert_eq!(part("8d9E-0f1a2b").suffix(), Some("8d9e0f1a2b"));
        for prefix in ["0199", "01990a2b-3c4d", "01990a2b3", &ID[..35]] {
            let part = part(prefix);
            assert!(part.lowest() <= id && id <= part.highest(), "{prefix}");
        }
        assert!(part("01990a2c").lowest() > id && part("01990a2a").highest() < id);
        assert_eq!(
            part("0199").suffix(),
            None,
            "too short for the end of an ID"
        );
    }

    #[test]
    fn other_texts_are_no_references() {
        for text in [
            "",
            "019",
            "note",
            "01990a2g",
            "first memory",
            &"a".repeat(33),
            &"ä".repeat(9),
            &"-".repeat(40),
        ] {
            assert_eq!(IdReference::parse(text), None, "{text}");
        }
        assert_eq!(short_id("ärger"), "ärger");
    }

    #[test]
    fn the_first_line_says_when_there_is_more() {
        assert_eq!(first_line("\n  One.  \nTwo.", 80), "One. …");
        assert_eq!(first_line("One.\n", 80), "One.");
        assert_eq!(first_line("äöü äöü", 4), "äöü…");
        assert_eq!(first_line("", 4), "");
    }
}
