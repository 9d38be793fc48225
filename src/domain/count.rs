//! Numbers with their nouns.

use std::fmt::Display;

/// Returns a number and its noun in the singular or plural, such as `1 memory` and `2 memories`.
#[must_use]
pub fn count_of<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    if count == N::from(1) {
        format!("1 {noun}")
    } else {
        format!("{count} {}", plural_of(noun))
    }
}

/// Returns a verb in the form of its subject: `is` or `are`, `has` or `have`.
#[must_use]
pub fn verb_for<N: PartialEq + From<u8>>(
    count: N,
    singular: &'static str,
    plural: &'static str,
) -> &'static str {
    if count == N::from(1) {
        singular
    } else {
        plural
    }
}

/// The plural of a regular noun; of several words, the last one changes.
fn plural_of(noun: &str) -> String {
    let stem = noun.strip_suffix('y');
    match stem {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if noun.ends_with(['s', 'x', 'z']) || noun.ends_with("ch") || noun.ends_with("sh") => {
            format!("{noun}es")
        }
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_agree_with_their_numbers() {
        for (count, noun, expected) in [
            (0, "record", "0 records"),
            (1, "record", "1 record"),
            (2, "record", "2 records"),
            (1, "memory", "1 memory"),
            (7, "open review", "7 open reviews"),
            (3, "deleted entity", "3 deleted entities"),
            (2, "key", "2 keys"),
            (2, "match", "2 matches"),
        ] {
            assert_eq!(count_of(count, noun), expected);
        }
        assert_eq!(verb_for(1_u64, "is", "are"), "is");
        assert_eq!(verb_for(0_u64, "is", "are"), "are");
    }
}
