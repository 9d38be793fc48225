//! Detects memories with equivalent texts, so that an answer shows one of them.
//!
//! Two texts are equivalent if they have the same words in the same order. Case, punctuation, white space and a few
//! words without a meaning of their own are ignored. The rule is deliberately narrow: texts that differ in a number, a
//! name, a date or a negation, in any language, differ in a word.

use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

use super::Memory;

/// Lower-case words that are ignored, sorted for binary search. None of them is a negation, a number or a preposition
/// in a supported language.
const FILLERS: [&str; 22] = [
    "also", "auch", "aussi", "bitte", "das", "dem", "den", "der", "des", "die", "een", "ein",
    "eine", "einem", "einen", "einer", "eines", "please", "really", "sehr", "the", "very",
];
/// Those that may begin a text, capitalized.
const ARTICLES: [&str; 6] = ["das", "der", "die", "ein", "eine", "the"];
/// Punctuation that is ignored.
const PUNCTUATION: &str = ".,;:!…\"'`´“”„‘’‚«»‹›()[]{}<>*_~|\\–—-。、，！：；「」『』（）،؛।";

/// Returns a key that equivalent memories share: same words, kind and speaker, and both or neither superseded.
#[must_use]
pub fn fold_key(memory: &Memory) -> String {
    let mut key = format!(
        "{}\n{}\n{}\n",
        memory.kind,
        memory.project,
        memory.superseded_by.is_some()
    );
    key.push_str(memory.speaker.as_deref().unwrap_or_default());
    push_words(&mut key, &memory.content);
    if let Some(episode) = &memory.episode {
        key.push_str(&format!("\n{}", episode.outcome));
        push_words(&mut key, &episode.situation);
        push_words(&mut key, &episode.lesson);
    }
    key
}

/// Adds the words that count, one per line.
fn push_words(key: &mut String, text: &str) {
    let normal: String = text
        .nfkc()
        .map(|sign| if sign == '\u{2019}' { '\'' } else { sign })
        .collect();
    let segments: Vec<&str> = normal
        .split_word_bounds()
        .filter(|segment| !segment.trim().is_empty())
        .collect();
    key.push('\n');
    for (place, segment) in segments.iter().enumerate() {
        if segment.chars().any(char::is_alphanumeric) {
            let word = segment.to_lowercase();
            let begins = place == 0 && ARTICLES.contains(&word.as_str());
            let filler =
                FILLERS.binary_search(&word.as_str()).is_ok() && (begins || word == *segment);
            if !filler {
                key.push_str(&word);
                key.push('\n');
            }
        } else if !is_punctuation(segment) || touches_number(&normal, segment) {
            key.push_str(segment);
            key.push('\n');
        }
    }
}

fn is_punctuation(segment: &str) -> bool {
    segment
        .chars()
        .all(|sign| PUNCTUATION.contains(sign) || sign.is_control())
}

/// Returns whether a sign is directly before a digit: as a minus, in a time, a ratio or a version.
fn touches_number(text: &str, segment: &str) -> bool {
    // `segment` is a slice of `text`.
    let end = segment.as_ptr() as usize - text.as_ptr() as usize + segment.len();
    text.get(end..)
        .and_then(|rest| rest.chars().next())
        .is_some_and(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let mut key = String::new();
        push_words(&mut key, text);
        key
    }

    #[test]
    fn fillers_are_sorted() {
        assert!(FILLERS.is_sorted());
    }

    #[test]
    fn spelling_and_articles_do_not_keep_texts_apart() {
        for (a, b) in [
            ("The deploy runs on Friday.", "the deploy runs on Friday"),
            ("User prefers dark mode", "The user prefers dark mode!"),
            (
                "Marta likes green tea.",
                "  marta really likes *green* tea ",
            ),
            ("Das Passwort liegt im Tresor.", "Passwort liegt im Tresor"),
            ("It\u{2019}s late", "It's late"),
            ("ＴＥＡ　time", "tea time"),
        ] {
            assert_eq!(words(a), words(b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn numbers_names_dates_and_negations_keep_texts_apart() {
        for (a, b) in [
            ("The port is 8080.", "The port is 8081."),
            ("Version 1.5 is out", "Version 15 is out"),
            ("It was -5 degrees", "It was 5 degrees"),
            ("Lunch at 12:30", "Lunch at 12 30"),
            ("It costs 5 €", "It costs 5 $"),
            ("Marta likes tea", "Peter likes tea"),
            (
                "marta prefers the green tea of the shop near the station",
                "peter prefers the green tea of the shop near the station",
            ),
            ("Marta Lindqvist calls", "Marta calls"),
            ("Vitamin A helps", "Vitamin helps"),
            ("Call Des", "Call"),
            ("The review is on 2026-03-01", "The review is on 2026-03-02"),
            ("We meet on Monday", "We meet on Tuesday"),
            ("Wir treffen uns im März", "Wir treffen uns im Mai"),
            ("The flag is set", "The flag is not set"),
            ("I can swim", "I can't swim"),
            ("Er kommt", "Er kommt nicht"),
            ("Das ist eine Lösung", "Das ist keine Lösung"),
            ("Il vient", "Il ne vient pas"),
            ("Viene", "No viene"),
            ("Он придёт", "Он не придёт"),
            ("Hän tulee", "Hän ei tule"),
            ("geliyor", "gelmiyor"),
            ("他来", "他不来"),
            ("هو يأتي", "هو لا يأتي"),
            ("Marta likes tea.", "Marta likes tea?"),
            ("A pays B", "B pays A"),
            ("Approved 👍", "Approved 👎"),
        ] {
            assert_ne!(words(a), words(b), "{a:?} {b:?}");
        }
    }
}
