//! Finds out which languages know the words of a question, with one look-up of each word for all languages.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::grammar::{LEXICONS, LanguageSet, Lexicon};
use super::word::Word;
use crate::domain::stop_words::list_stop_words;

/// The words of all languages.
struct Vocabulary {
    /// Languages that know the word, by the folded form of a word of times.
    known: HashMap<&'static str, LanguageSet>,
    /// Languages in which an expression of time may need the word, in the same form.
    essential: HashMap<&'static str, LanguageSet>,
    /// Languages of which the word is a function word, by its form in lower case.
    functional: HashMap<&'static str, LanguageSet>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let mut vocabulary = Vocabulary {
        known: HashMap::new(),
        essential: HashMap::new(),
        functional: HashMap::new(),
    };
    for lexicon in LEXICONS.iter() {
        for (word, is_essential) in lexicon.list_first_words() {
            *vocabulary.known.entry(word).or_default() |= lexicon.bit;
            if is_essential {
                *vocabulary.essential.entry(word).or_default() |= lexicon.bit;
            }
        }
        for word in list_stop_words(lexicon.grammar.language) {
            *vocabulary.functional.entry(word).or_default() |= lexicon.bit;
        }
    }
    vocabulary
});

/// Returns whether a time may need the word in any language.
pub(super) fn is_essential(word: &Word) -> bool {
    VOCABULARY.essential.contains_key(word.folded.as_str())
}

/// The languages of the words of a question.
pub(super) struct WordSurvey {
    /// Number of words that each language knows, in the order of [`LEXICONS`].
    counts: Vec<usize>,
    /// Languages in which some word is essential for a time.
    essential: LanguageSet,
    has_digits: bool,
}

impl WordSurvey {
    pub(super) fn new(words: &[Word]) -> Self {
        let mut survey = Self {
            counts: vec![0; LEXICONS.len()],
            essential: 0,
            has_digits: words.iter().any(Word::has_digits),
        };
        let look_up = |languages: &HashMap<&str, LanguageSet>, word: &str| {
            languages.get(word).copied().unwrap_or_default()
        };
        for word in words {
            let known = look_up(&VOCABULARY.known, &word.folded);
            if known != 0 {
                survey.essential |= look_up(&VOCABULARY.essential, &word.folded);
            }
            let languages = known | look_up(&VOCABULARY.functional, &word.lower);
            for (count, lexicon) in survey.counts.iter_mut().zip(LEXICONS.iter()) {
                *count += usize::from(languages & lexicon.bit != 0);
            }
        }
        survey
    }

    /// Returns the languages that know most words, and the others.
    pub(super) fn divide_languages(&self) -> (Vec<&'static Lexicon>, Vec<&'static Lexicon>) {
        let most = self.counts.iter().max();
        let counted = LEXICONS.iter().zip(&self.counts);
        let (likely, others): (Vec<_>, Vec<_>) =
            counted.partition(|(_, count)| Some(*count) == most);
        let lexicons = |counted: Vec<(&'static Lexicon, &usize)>| {
            counted.into_iter().map(|(lexicon, _)| lexicon).collect()
        };
        (lexicons(likely), lexicons(others))
    }

    /// Returns whether the words can contain a time in a language. Most questions cannot in any.
    pub(super) fn can_name_time(&self, lexicon: &Lexicon) -> bool {
        self.has_digits || self.essential & lexicon.bit != 0
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::domain::time_expression::cursor::Question;
    use crate::domain::time_expression::rule;
    use crate::domain::time_expression::word::split_words;

    const DIGITS: [&str; 8] = ["7", "3rd", "2023", "1990s", "90s", "Q3", "2024-02-29", "3."];

    #[test]
    fn languages_are_counted_as_their_lexicons_know_words() {
        for question in [
            "Which port does Heron listen on?",
            "Was kostet der Stellplatz am Montag?",
            "Où est-elle allée l’été dernier, maman ?",
            "¿Cuándo fue la última vez, mañana por la mañana?",
            "peras blu xyzzy",
            "",
        ] {
            let words = split_words(question);
            let count_known =
                |lexicon: &Lexicon| words.iter().filter(|word| lexicon.knows_word(word)).count();
            let counts: Vec<usize> = LEXICONS.iter().map(count_known).collect();
            assert_eq!(WordSurvey::new(&words).counts, counts, "{question}");
        }
    }

    #[test]
    fn only_languages_with_an_essential_word_can_name_a_time() {
        let able = |question: &str| {
            let survey = WordSurvey::new(&split_words(question));
            let lexicons = LEXICONS.iter();
            let able = lexicons.filter(|lexicon| survey.can_name_time(lexicon));
            able.map(|lexicon| lexicon.grammar.language.as_str())
                .collect::<Vec<_>>()
        };
        assert!(able("Which port does the service listen on?").is_empty());
        assert_eq!(able("letzte Woche"), ["german"]);
        assert_eq!(able("since yesterday"), ["english"]);
        assert_eq!(able("port 80").len(), LEXICONS.len());
    }

    proptest! {
        #[test]
        fn every_expression_begins_at_a_start_in_an_able_language(
            language in 0..LEXICONS.len(),
            chosen in prop::collection::vec(any::<Index>(), 1..7),
        ) {
            let lexicon = &LEXICONS[language];
            let phrases = lexicon.grammar.words.iter().flat_map(|(_, phrases)| *phrases);
            let phrases: Vec<&str> = phrases.copied().chain(DIGITS).collect();
            let text: Vec<&str> = chosen.iter().map(|index| *index.get(&phrases)).collect();
            let words = split_words(&text.join(" "));
            let survey = WordSurvey::new(&words);
            let today = NaiveDate::from_ymd_opt(2024, 3, 14).expect("a day");
            let question = Question::new(lexicon, &words, today);
            for rule in [rule::DATES, rule::EXPLICIT, rule::OTHERS].concat() {
                for at in 0..words.len() {
                    if rule(&mut question.cursor(at)).is_some() {
                        prop_assert!(question.starts.contains(&at), "{} in {:?}", at, text);
                        prop_assert!(survey.can_name_time(lexicon), "{:?}", text);
                    }
                }
            }
        }
    }
}
