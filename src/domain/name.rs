//! Names of entities: when two of them mean the same, and where a query names one.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Words of a query that may name an entity.
const QUERY_WORDS: usize = 64;
/// Words of the longest name that is found in a query.
const NAME_WORDS: usize = 8;

/// What two names have in common when they mean the same entity: Unicode form NFKC, case folded, single spaces.
#[must_use]
pub fn name_key(name: &str) -> String {
    let folded: String = name.nfkc().flat_map(fold).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ").nfkc().collect()
}

/// Case folding where it is more than lower case: the sharp s, and the Greek sigma at the end of a word.
fn fold(c: char) -> impl Iterator<Item = char> {
    let (special, other) = match c {
        'ß' | 'ẞ' => ("ss", None),
        'ς' => ("σ", None),
        other => ("", Some(other)),
    };
    special.chars().chain(other.into_iter().flat_map(char::to_lowercase))
}

/// The words of a name or of a text, as names are looked for in a query: folded, without possessive endings.
fn folded_words(text: &str) -> Vec<String> {
    let plain: String = text.chars().map(|c| if c == '\u{2019}' { '\'' } else { c }).collect();
    let key = name_key(&plain);
    let bare = |word: &str| word.strip_suffix("'s").unwrap_or(word).to_owned();
    key.unicode_words().map(bare).filter(|word| !word.is_empty()).collect()
}

/// The words of a name, by which a query finds it; empty for a name of symbols.
#[must_use]
pub fn name_words(name: &str) -> String {
    folded_words(name).join(" ")
}

/// Every sequence of words in a query that could be a name, as [`name_words`] writes names.
#[must_use]
pub fn names_in(query: &str) -> Vec<String> {
    // The words behind are not even segmented.
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

/// Types are compared like names, and kept as they are compared.
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

    #[test]
    fn names_are_found_in_questions() {
        for (query, name) in [
            ("What does Ada's cat eat?", "ADA"),
            ("tell me of ada lovelace, please", "Ada Lovelace"),
            ("is src/main.rs formatted", "src/main.rs"),
            ("東京で会議", "東京"),
        ] {
            assert!(names_in(query).contains(&name_words(name)), "{query}: {:?}", names_in(query));
        }
        assert!(!names_in("adamant").contains(&name_words("Ada")));
        assert!(names_in("").is_empty() && names_in("?!").is_empty());
        assert!(names_in(&"word ".repeat(10_000)).len() <= QUERY_WORDS * NAME_WORDS);
    }
}
