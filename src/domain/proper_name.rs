//! Proper names in questions, recognized by their form.

use unicode_segmentation::UnicodeSegmentation as _;

use super::Language;
use super::stop_words::is_stop_word;

/// English function words that are also German words. They are excluded because German capitalizes all nouns.
const SHARED: [&str; 7] = ["am", "an", "her", "in", "so", "was", "will"];
/// Capitalized English words that do not name a stored object.
const NO_NAMES: [&str; 31] = [
    "april",
    "august",
    "december",
    "english",
    "february",
    "french",
    "friday",
    "german",
    "i",
    "i'd",
    "i'll",
    "i'm",
    "i've",
    "italian",
    "january",
    "july",
    "june",
    "march",
    "may",
    "monday",
    "mr",
    "mrs",
    "ms",
    "november",
    "october",
    "saturday",
    "september",
    "spanish",
    "sunday",
    "thursday",
    "tuesday",
];

/// Finds proper names in an English question by a capital letter that does not begin the sentence. In a title, or in a
/// language that capitalizes all nouns, capital letters prove nothing.
#[must_use]
pub fn find_proper_names(question: &str) -> Vec<&str> {
    let bare = |word: &str| word.to_lowercase().replace('\u{2019}', "'");
    let words: Vec<&str> = question.unicode_words().collect();
    let english = |word: &str| is_stop_word(Language::English, word);
    let telling = |word: &&str| {
        let word = bare(word);
        english(&word) && SHARED.binary_search(&word.as_str()).is_err()
    };
    let capital = |word: &str| word.starts_with(char::is_uppercase);
    let sentence = words.iter().any(telling)
        && words
            .iter()
            .any(|word| word.starts_with(char::is_lowercase));
    if !sentence {
        return Vec::new();
    }
    let names = words.iter().enumerate().filter_map(|(at, word)| {
        let name = word
            .strip_suffix("'s")
            .or_else(|| word.strip_suffix("\u{2019}s"));
        // The first word is always capitalized.
        let due = at == 0 && name.is_none();
        let name = name.unwrap_or(word);
        let folded = bare(name);
        let common = english(&folded) || NO_NAMES.binary_search(&folded.as_str()).is_ok();
        (capital(name) && !due && !common).then_some(name)
    });
    names.collect()
}

/// Lists the words of a note that begin with a capital letter inside of a sentence: names, and nouns in German.
pub fn list_inner_names(note: &str) -> impl Iterator<Item = &str> {
    let is_name = |(at, word): &(usize, &str)| {
        let before = note[..*at].trim_end();
        let begins_sentence = before.is_empty() || before.ends_with(['.', '!', '?', '…']);
        let folded = word.to_lowercase().replace('\u{2019}', "'");
        let is_common = is_stop_word(Language::English, &folded)
            || NO_NAMES.binary_search(&folded.as_str()).is_ok();
        word.starts_with(char::is_uppercase) && word.len() > 1 && !begins_sentence && !is_common
    };
    note.unicode_word_indices()
        .filter(is_name)
        .map(|(_, word)| word)
}

/// Days that have the ending of an owner ("Today's lunch").
const NO_OWNERS: [&str; 4] = ["today", "tomorrow", "tonight", "yesterday"];

/// Finds the owner that a note begins with ("Ben's passport is valid until March").
pub fn find_owner(note: &str) -> Option<&str> {
    let first = note.unicode_words().next()?;
    let owner = first
        .strip_suffix("'s")
        .or_else(|| first.strip_suffix("\u{2019}s"))?;
    let folded = owner.to_lowercase();
    let is_common = is_stop_word(Language::English, &folded)
        || NO_NAMES.binary_search(&folded.as_str()).is_ok()
        || NO_OWNERS.contains(&folded.as_str());
    (owner.starts_with(char::is_uppercase) && !is_common).then_some(owner)
}

/// Lists the words of a text in lower case, without the ending of a possessive.
pub fn list_bare_words(text: &str) -> impl Iterator<Item = String> {
    text.unicode_words().map(|word| {
        let word = word.to_lowercase().replace('\u{2019}', "'");
        word.strip_suffix("'s").unwrap_or(&word).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_capital_letter_where_none_is_due() {
        for (question, names) in [
            (
                "What did Melanie and her kids do in July 2023?",
                vec!["Melanie"],
            ),
            (
                "Which pizza does Ada\u{2019}s brother order on Friday?",
                vec!["Ada"],
            ),
            ("Ada's shoe size is what?", vec!["Ada"]),
            ("Who paid for the trip to New York?", vec!["New", "York"]),
            ("Melanie called about the tent", vec![]),
            ("what is I'm doing", vec![]),
            ("Wann hat die Werkstatt offen?", vec![]),
            ("Was kostet die Unterkunft in Wien?", vec![]),
            ("How To Reset The Router", vec![]),
            ("Router Password", vec![]),
            ("quando parte il treno per Milano", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(find_proper_names(question), names, "{question}");
        }
    }

    #[test]
    fn a_note_may_begin_with_an_owner() {
        assert_eq!(find_owner("Ben's passport is valid."), Some("Ben"));
        for note in [
            "My passport is valid.",
            "That's Ben's passport.",
            "Today's lunch",
            "",
        ] {
            assert_eq!(find_owner(note), None, "{note}");
        }
    }

    #[test]
    fn inner_names_have_a_capital_letter_inside_of_a_sentence() {
        for (note, names) in [
            (
                "Our dentist is Dr Pascoe on Elm Road.",
                &["Dr", "Pascoe", "Elm", "Road"][..],
            ),
            ("We left. Now it is GitLab, since May.", &["GitLab"]),
            ("Das Rad steht im Keller.", &["Rad", "Keller"]),
            ("Nothing. Here", &[]),
            ("", &[]),
        ] {
            let found: Vec<&str> = list_inner_names(note).collect();
            assert_eq!(found, names, "{note}");
        }
    }

    #[test]
    fn lists_are_sorted() {
        assert!(SHARED.is_sorted() && NO_NAMES.is_sorted());
    }
}
