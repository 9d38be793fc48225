//! Names of entities: decides when two names mean the same entity, and finds names in queries and texts.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Number of words of a query that may name an entity.
const QUERY_WORDS: usize = 64;
/// Maximum number of words of a name that is found in a query.
const NAME_WORDS: usize = 8;

/// Number of words of a stored text that may name entities.
pub const TEXT_WORDS: usize = 512;
/// Maximum number of words of a name that is recognized in a stored text.
const TEXT_NAME_WORDS: usize = 5;

/// Returns the normalized form of an entity's name, equal if two names mean the same entity: Unicode form NFKC, case
/// folded, single spaces.
#[must_use]
pub fn name_key(name: &str) -> String {
    let folded: String = name.nfkc().flat_map(fold).collect();
    folded
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .nfkc()
        .collect()
}

/// Folds the case of characters for which lower case is not enough: the sharp s, and the Greek sigma at the end of a
/// word.
fn fold(c: char) -> impl Iterator<Item = char> {
    let (special, other) = match c {
        'ß' | 'ẞ' => ("ss", None),
        'ς' => ("σ", None),
        other => ("", Some(other)),
    };
    special
        .chars()
        .chain(other.into_iter().flat_map(char::to_lowercase))
}

/// Returns the words of a name or text as they are compared: folded, without possessive endings.
fn folded_words(text: &str) -> Vec<String> {
    let plain: String = text
        .chars()
        .map(|c| if c == '\u{2019}' { '\'' } else { c })
        .collect();
    let key = name_key(&plain);
    let bare = |word: &str| word.strip_suffix("'s").unwrap_or(word).to_owned();
    key.unicode_words()
        .map(bare)
        .filter(|word| !word.is_empty())
        .collect()
}

/// Returns the words of a name, by which a query finds it; empty for a name of symbols.
#[must_use]
pub fn name_words(name: &str) -> String {
    folded_words(name).join(" ")
}

/// Returns every sequence of words in a query that could be a name, in the form of [`name_words`].
#[must_use]
pub fn names_in(query: &str) -> Vec<String> {
    // Later words are not even segmented.
    let head: String = query.chars().take(QUERY_WORDS * 16).collect();
    let mut words = folded_words(&head);
    words.truncate(QUERY_WORDS);
    let mut names: Vec<String> = (1..=NAME_WORDS.min(words.len()))
        .flat_map(|length| words.windows(length).map(|window| window.join(" ")))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A position in a text at which the name of an entity may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleName {
    /// Number of the first word.
    pub start: usize,
    /// How many words it has.
    pub length: usize,
    /// The words in the form of [`name_words`].
    pub words: String,
}

/// Returns every sequence of words in the first [`TEXT_WORDS`] words of a stored text that may be a name. To exclude
/// common words, a single word counts only if it is not `common` and has a capital letter or a digit, or a script
/// without capitals. Of several words, at least one must not be common.
#[must_use]
pub fn possible_names(text: &str, common: &dyn Fn(&str) -> bool) -> Vec<PossibleName> {
    let head: String = text
        .chars()
        .take(TEXT_WORDS * 16)
        .map(|c| if c == '\u{2019}' { '\'' } else { c })
        .collect();
    let mut words: Vec<(String, bool, bool)> = Vec::new();
    for word in head.unicode_words().take(TEXT_WORDS) {
        let folded = folded_words(word);
        let plain = folded.iter().all(|part| common(part));
        let distinct = is_distinct(word) && !plain;
        words.extend(folded.into_iter().map(|part| (part, distinct, plain)));
    }
    let mut names = Vec::new();
    for length in 1..=TEXT_NAME_WORDS.min(words.len()) {
        for (start, window) in words.windows(length).enumerate() {
            let possible = if length == 1 {
                window[0].1
            } else {
                window.iter().any(|(_, _, plain)| !plain)
            };
            if possible {
                let words: Vec<&str> = window.iter().map(|(word, _, _)| word.as_str()).collect();
                names.push(PossibleName {
                    start,
                    length,
                    words: words.join(" "),
                });
            }
        }
    }
    names
}

/// Returns whether a single word may be a name by its form.
fn is_distinct(word: &str) -> bool {
    let letters = || word.chars().filter(|c| c.is_alphabetic());
    let caseless = letters().all(|c| !c.is_lowercase() && !c.is_uppercase());
    letters().next().is_some()
        && (word.chars().any(|c| c.is_uppercase() || c.is_numeric())
            || (caseless && letters().count() > 1))
}

/// Returns whether two different names may mean the same entity: all words of one are among those of the other, or they
/// differ by one or two letters. Names with different digits are different.
#[must_use]
pub fn are_similar_names(one: &str, other: &str) -> bool {
    let (one, other) = (folded_words(one), folded_words(other));
    if one.is_empty() || other.is_empty() {
        return false;
    }
    let within = |small: &[String], large: &[String]| small.iter().all(|word| large.contains(word));
    if within(&one, &other) || within(&other, &one) {
        return true;
    }
    let (one, other) = (one.join(" "), other.join(" "));
    let digits = |name: &str| {
        name.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let length = one.chars().count().min(other.chars().count());
    let allowed = match length {
        0..=4 => 0,
        5..=8 => 1,
        _ => 2,
    };
    digits(&one) == digits(&other) && allowed > 0 && strsim::osa_distance(&one, &other) <= allowed
}

/// Returns the names by which parts of `name` could be known: every sequence of its words, in the form of [`name_key`].
#[must_use]
pub fn parts_of_name(name: &str) -> Vec<String> {
    let key = name_key(name);
    let words: Vec<&str> = key.split(' ').take(NAME_WORDS).collect();
    let lengths = 1..=words.len();
    let mut parts: Vec<String> = lengths
        .flat_map(|length| words.windows(length).map(|part| part.join(" ")))
        .filter(|part| *part != key)
        .collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Returns the normalized form of a type, which is also stored.
#[must_use]
pub fn type_key(name: &str) -> String {
    name_key(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_form() {
        for (one, other) in [
            ("Ada Lovelace", "  ADA   lovelace "),
            ("Zoe\u{308}", "ZOË"),
            ("ﬁle", "FILE"),
            ("Straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("Ｔｏｋｙｏ", "tokyo"),
        ] {
            assert_eq!(name_key(one), name_key(other), "{one} {other}");
        }
        assert_ne!(name_key("Zoe"), name_key("Zoë"));
    }

    fn possible(text: &str) -> Vec<String> {
        let common = |word: &str| ["the", "will", "may", "of"].contains(&word);
        possible_names(text, &common)
            .into_iter()
            .map(|name| name.words)
            .collect()
    }

    #[test]
    fn names_are_possible_in_texts_where_they_look_like_names() {
        for (text, name) in [
            ("Yesterday Marta's cat slept", "Marta"),
            ("we met marta lindqvist", "Marta Lindqvist"),
            ("deployed on k8s", "k8s"),
            ("edit src/main.rs first", "src/main.rs"),
            ("東京で会議", "東京"),
            ("The ship of Theseus", "Ship of Theseus"),
        ] {
            assert!(
                possible(text).contains(&name_words(name)),
                "{text}: {:?}",
                possible(text)
            );
        }
        for (text, name) in [
            ("the apple fell", "Apple"),
            ("Will it rain? May be.", "Will"),
            ("room 42 is free", "42"),
            ("of the", "of the"),
            ("a Martian", "Marta"),
        ] {
            assert!(
                !possible(text).contains(&name_words(name)),
                "{text}: {:?}",
                possible(text)
            );
        }
        assert!(possible(&"Word ".repeat(100_000)).len() <= TEXT_WORDS * TEXT_NAME_WORDS);
    }

    #[test]
    fn similar_names_may_mean_the_same() {
        for (one, other) in [
            ("Marta", "Marta Lindqvist"),
            ("Lindqvist", "Marta Lindqvist"),
            ("Marta K. Lindqvist", "marta lindqvist"),
            ("Lindqvist, Marta", "Marta Lindqvist"),
            ("Marta Lindquist", "Marta Lindqvist"),
            ("Postgers", "Postgres"),
        ] {
            assert!(are_similar_names(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("Marta", "Martin"),
            ("server 1", "server 2"),
            ("Ada", "Eda"),
            ("Berlin", "Paris"),
            ("?", "!"),
        ] {
            assert!(!are_similar_names(one, other), "{one} {other}");
        }
        assert_eq!(parts_of_name("Marta K Lindqvist").len(), 5);
    }

    #[test]
    fn names_are_found_in_questions() {
        for (query, name) in [
            ("What does Ada's cat eat?", "ADA"),
            ("tell me of ada lovelace, please", "Ada Lovelace"),
            ("is src/main.rs formatted", "src/main.rs"),
            ("東京で会議", "東京"),
        ] {
            assert!(
                names_in(query).contains(&name_words(name)),
                "{query}: {:?}",
                names_in(query)
            );
        }
        assert!(!names_in("adamant").contains(&name_words("Ada")));
        assert!(names_in("").is_empty() && names_in("?!").is_empty());
        assert!(names_in(&"word ".repeat(10_000)).len() <= QUERY_WORDS * NAME_WORDS);
    }
}
