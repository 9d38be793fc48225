//! The vocabulary of times in one language: which words name which part of an expression, and where they stand. The
//! rules in `rule` are the same for all languages.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::period::Unit;
use super::table;
use super::word::{Word, fold_word};
use crate::domain::Language;
use crate::domain::stop_words::is_stop_word;

/// The part that a word or phrase has in a time expression. Some words have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Number of the month, from 1.
    Month(u32),
    /// Days after Monday.
    Weekday(u32),
    /// A weekday that is also another word, such as "sexta" or "sun". It needs "last", "next" or "this".
    AmbiguousWeekday(u32),
    /// The first month of the season.
    Season(u32),
    Unit(Unit),
    /// A half of something, which is a period only with a year.
    Half,
    /// A week that is always counted, such as "KW".
    CalendarWeek,
    /// A decade of the last century in words, such as "nineties".
    Decade(i32),
    /// The word for years in the name of a decade, such as "anni '90".
    Years,
    Number(u32),
    Ordinal(u32),
    /// The day this many days after today.
    Day(i64),
    Last,
    BeforeLast,
    This,
    Next,
    /// Follows a number of units: "ago".
    Ago,
    /// Precedes a number of past units: "vor", "il y a".
    Before,
    /// Precedes a number of future units: "in", "dans".
    Ahead,
    /// Precedes a month or year.
    Within,
    /// Precedes a month, but not a year.
    NearMonth,
    /// Precedes a weekday.
    On,
    Of,
    The,
    From,
    To,
    Between,
    And,
    /// A phrase that looks like a time but names none, such as "guten Morgen".
    NoTime,
}

impl Meaning {
    /// Returns whether the word is one of those of which every expression without digits has at least one.
    fn is_essential(self) -> bool {
        matches!(
            self,
            Self::Month(_)
                | Self::Weekday(_)
                | Self::AmbiguousWeekday(_)
                | Self::Season(_)
                | Self::Unit(_)
                | Self::CalendarWeek
                | Self::Decade(_)
                | Self::Years
                | Self::Day(_)
        )
    }
}

/// The words of one language.
pub(super) struct Grammar {
    pub(super) language: Language,
    /// The month may precede the day: "May 3rd".
    pub(super) has_month_before_day: bool,
    /// "Last" and "next" may follow the noun: "la semana pasada".
    pub(super) has_adjective_after_noun: bool,
    /// Months and weekdays are written in lower case, so that a capital letter indicates a name.
    pub(super) writes_names_small: bool,
    /// Words that indicate a habit or a length instead of a day if they precede a weekday without "last" or "next".
    pub(super) before_habit: &'static [&'static str],
    /// Words that are times only in lower case, except at the start of a sentence.
    pub(super) small_words: &'static [&'static str],
    /// Words and phrases of each meaning. A final period belongs to an abbreviation that is another word without it.
    pub(super) words: &'static [(Meaning, &'static [&'static str])],
}

/// A word or phrase of a grammar.
struct Entry {
    words: Vec<String>,
    needs_period: bool,
    meaning: Meaning,
}

/// A set of languages, one bit for each.
pub(super) type LanguageSet = u8;

/// A grammar with an index of its words.
pub(super) struct Lexicon {
    pub(super) grammar: &'static Grammar,
    /// The set of this language alone.
    pub(super) bit: LanguageSet,
    entries: HashMap<String, Vec<Entry>>,
}

/// All languages in the order in which they are tried.
pub(super) static LEXICONS: LazyLock<Vec<Lexicon>> = LazyLock::new(|| {
    [
        &table::english::ENGLISH,
        &table::german::GERMAN,
        &table::french::FRENCH,
        &table::spanish::SPANISH,
        &table::italian::ITALIAN,
        &table::portuguese::PORTUGUESE,
        &table::dutch::DUTCH,
    ]
    .into_iter()
    .zip(0..)
    .map(|(grammar, place)| Lexicon::new(grammar, 1 << place))
    .collect()
});

impl Lexicon {
    fn new(grammar: &'static Grammar, bit: LanguageSet) -> Self {
        let mut entries: HashMap<String, Vec<Entry>> = HashMap::new();
        for (meaning, phrases) in grammar.words {
            for phrase in *phrases {
                let entry = Entry::new(phrase, *meaning);
                let first = entry.words.first().cloned().unwrap_or_default();
                entries.entry(first).or_default().push(entry);
            }
        }
        Self {
            grammar,
            bit,
            entries,
        }
    }

    /// Returns the first words of all phrases, and whether one of their phrases is essential.
    pub(super) fn list_first_words(&self) -> impl Iterator<Item = (&str, bool)> {
        self.entries.iter().map(|(word, entries)| {
            let mut meanings = entries.iter().map(|entry| entry.meaning);
            (word.as_str(), meanings.any(Meaning::is_essential))
        })
    }

    /// Returns whether the word belongs to this language: to a time expression or to the function words.
    pub(super) fn knows_word(&self, word: &Word) -> bool {
        self.entries.contains_key(&word.folded) || is_stop_word(self.grammar.language, &word.lower)
    }

    /// Returns whether the word names a month in this language.
    pub(super) fn is_month(&self, word: &Word) -> bool {
        self.list_readings(std::slice::from_ref(word))
            .iter()
            .any(|reading| matches!(reading.meaning, Meaning::Month(_)))
    }

    /// Returns the meanings of the phrases with which `words` begin, longest first.
    pub(super) fn list_readings(&self, words: &[Word]) -> Vec<Reading> {
        let Some(first) = words.first() else {
            return Vec::new();
        };
        let entries = self.entries.get(&first.folded).into_iter().flatten();
        let mut readings: Vec<Reading> = entries
            .filter(|entry| entry.is_start_of(words))
            .filter(|_| self.has_expected_case(first))
            .map(|entry| Reading {
                meaning: entry.meaning,
                length: entry.words.len(),
            })
            .collect();
        readings.sort_by_key(|reading| std::cmp::Reverse(reading.length));
        readings
    }

    fn has_expected_case(&self, word: &Word) -> bool {
        let small = self.grammar.small_words.contains(&word.folded.as_str());
        !small || !word.is_capitalized || (word.opens_sentence && word.precedes_space)
    }
}

impl Entry {
    fn new(phrase: &str, meaning: Meaning) -> Self {
        Self {
            words: phrase
                .trim_end_matches('.')
                .split(' ')
                .map(fold_word)
                .collect(),
            needs_period: phrase.ends_with('.'),
            meaning,
        }
    }

    fn is_start_of(&self, words: &[Word]) -> bool {
        let spoken = words.iter().take(self.words.len());
        let period = words
            .get(self.words.len() - 1)
            .is_some_and(|last| last.precedes_period);
        spoken.map(|word| &word.folded).eq(&self.words) && (period || !self.needs_period)
    }
}

/// A meaning of the words at one place, and their number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) meaning: Meaning,
    pub(super) length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_own_bit() {
        let bits = LEXICONS.iter().map(|lexicon| lexicon.bit);
        let joined = bits.fold(0, |all, bit| all | bit);
        assert_eq!(joined.count_ones() as usize, LEXICONS.len());
    }

    #[test]
    fn every_language_has_all_months_weekdays_and_seasons() {
        for lexicon in LEXICONS.iter() {
            let has = |meaning: Meaning| {
                let mut entries = lexicon.entries.values().flatten();
                entries.any(|entry| entry.meaning == meaning)
            };
            let language = lexicon.grammar.language;
            assert!((1..=12).map(Meaning::Month).all(has), "{language:?}");
            assert!((0..7).map(Meaning::Weekday).all(has), "{language:?}");
            assert!(
                [3, 6, 9, 12].map(Meaning::Season).into_iter().all(has),
                "{language:?}"
            );
            assert!((1..=12).map(Meaning::Number).all(has), "{language:?}");
            assert!((1..=4).map(Meaning::Ordinal).all(has), "{language:?}");
        }
    }

    #[test]
    fn every_phrase_reads_as_its_meaning() {
        for lexicon in LEXICONS.iter() {
            for (meaning, phrases) in lexicon.grammar.words {
                for phrase in *phrases {
                    let words = super::super::word::split_words(phrase);
                    let readings = lexicon.list_readings(&words);
                    assert!(
                        readings.iter().any(|reading| reading.meaning == *meaning),
                        "{phrase:?}"
                    );
                }
            }
        }
    }
}
