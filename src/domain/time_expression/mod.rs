//! Finds times in a question: "on 7 May 2023", "in March", "letzte Woche", "hace tres días", "2024-02-29".
//!
//! The rules are the same for English, German, French, Spanish, Italian, Portuguese and Dutch; `table` has the words of
//! each language. Only explicit expressions count; a question without them has no time. To add a language, add its table
//! and its expressions in tests/data/time-expressions.jsonl.

mod cursor;
mod grammar;
mod period;
mod rule;
mod table;
mod word;

use std::collections::BTreeSet;

use chrono::NaiveDate;

use cursor::Question;
use grammar::{LEXICONS, Lexicon, Meaning};
use period::Period;
pub use period::Span;
use rule::Rule;
use word::{Word, split_words};

/// Number of days outside of a period after which the closeness has decreased to a third.
const FADING: f64 = 7.0;

/// Returns the closeness of a day to the nearest of `spans`: 1 inside, less with every day outside, 0 if there are
/// none.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "days stay far below 2^52")]
pub fn nearness_to(day: NaiveDate, spans: &[Span]) -> f64 {
    let near = |span: &Span| {
        let days = if day < span.from {
            (span.from - day).num_days()
        } else if day >= span.to {
            (day - span.to).num_days() + 1
        } else {
            0
        };
        (-(days as f64) / FADING).exp()
    };
    spans.iter().map(near).fold(0.0, f64::max)
}

/// Finds the times of a question asked on the day `today`. A period without a year stands for that in each of `years`;
/// the latest one that has begun comes first. Its year follows a season.
#[must_use]
pub fn find_spans(question: &str, today: NaiveDate, years: &BTreeSet<i32>) -> Vec<Span> {
    let words = split_words(question);
    let (likely, others) = divide_languages(&words);
    let find = |lexicon: &'static Lexicon, rules: &[Rule], accept: &dyn Fn(&[Word]) -> bool| {
        find_first(&Question::new(lexicon, &words, today), rules, years, accept)
    };
    let all_rules = [rule::DATES, rule::EXPLICIT, rule::OTHERS].concat();
    // Other languages may contribute a whole phrase, such as "letzte Woche" in an English question, but no word that is
    // another one in the language of the question.
    let is_foreign_phrase = |phrase: &[Word]| {
        let mut known = phrase.iter();
        phrase.iter().filter(|word| !word.is_number()).count() >= 2
            && !known.any(|word| likely.iter().any(|lexicon| lexicon.knows_word(word)))
    };
    let has_year = |phrase: &[Word]| phrase.iter().any(|word| word.year().is_some());
    let in_likely = likely
        .iter()
        .find_map(|lexicon| find(lexicon, &all_rules, &|_| true));
    in_likely
        .or_else(|| {
            let mut others = others.iter();
            others.find_map(|lexicon| find(lexicon, rule::EXPLICIT, &has_year))
        })
        .or_else(|| {
            let mut others = others.iter();
            others.find_map(|lexicon| find(lexicon, rule::OTHERS, &is_foreign_phrase))
        })
        .unwrap_or_default()
}

/// Reads a text that consists of one time with a known year, apart from a preposition. The lower-case names of months
/// and weekdays may be in any of the languages.
pub(super) fn read_whole_text(text: &str, today: NaiveDate) -> Option<Span> {
    let words = split_words(text);
    LEXICONS.iter().find_map(|lexicon| {
        let question = Question::new(lexicon, &words, today);
        let rules = [rule::EXPLICIT, rule::OTHERS, rule::WHOLE].concat();
        let period = (0..words.len())
            .take_while(|at| *at == 0 || is_preposition(&question, *at - 1))
            .find_map(|at| {
                rules.iter().find_map(|rule| {
                    let mut cursor = question.cursor(at);
                    rule(&mut cursor).filter(|period| cursor.is_at_end() && period.has_year())
                })
            })?;
        period.list_spans(today, &BTreeSet::new()).first().copied()
    })
}

/// Returns the number that a word names in one of the languages.
pub(super) fn read_number(word: &str) -> Option<u32> {
    let words = split_words(word);
    LEXICONS.iter().find_map(|lexicon| {
        let question = Question::new(lexicon, &words, NaiveDate::MIN);
        let mut cursor = question.cursor(0);
        cursor.number().filter(|_| cursor.is_at_end())
    })
}

/// Returns whether the word at this place may precede a time without affecting it.
fn is_preposition(question: &Question<'_>, at: usize) -> bool {
    let mut cursor = question.cursor(at);
    [
        Meaning::On,
        Meaning::Within,
        Meaning::From,
        Meaning::To,
        Meaning::The,
    ]
    .into_iter()
    .any(|meaning| cursor.skip(meaning))
}

/// Returns the times of the first rule that matches words which `accept` accepts.
fn find_first(
    question: &Question<'_>,
    rules: &[Rule],
    years: &BTreeSet<i32>,
    accept: &dyn Fn(&[Word]) -> bool,
) -> Option<Vec<Span>> {
    rules.iter().find_map(|rule| {
        (0..question.words.len()).find_map(|at| {
            let mut cursor = question.cursor(at);
            let period: Period = rule(&mut cursor)?;
            let spans = period.list_spans(question.today, years);
            (!spans.is_empty() && accept(&question.words[at..cursor.at])).then_some(spans)
        })
    })
}

/// Returns the languages that know most words of the question, and the others.
fn divide_languages(words: &[Word]) -> (Vec<&'static Lexicon>, Vec<&'static Lexicon>) {
    let count_known =
        |lexicon: &Lexicon| words.iter().filter(|word| lexicon.knows_word(word)).count();
    let counts: Vec<usize> = LEXICONS.iter().map(count_known).collect();
    let most = counts.iter().max();
    let (likely, others): (Vec<_>, Vec<_>) = LEXICONS
        .iter()
        .zip(&counts)
        .partition(|(_, count)| Some(*count) == most);
    let lexicons = |counted: Vec<(&'static Lexicon, &usize)>| {
        counted.into_iter().map(|(lexicon, _)| lexicon).collect()
    };
    (lexicons(likely), lexicons(others))
}

/// Finds the words of a question that can be part of a time: months, years, days of a month. Texts about events at that
/// time seldom contain them.
pub fn find_time_words(question: &str) -> impl Iterator<Item = &str> {
    let of_time = |text: &&str| {
        let words = split_words(text);
        let is_month = |word: &Word| LEXICONS.iter().any(|lexicon| lexicon.is_month(word));
        words
            .iter()
            .any(|word| is_month(word) || word.year().is_some() || word.day().is_some())
    };
    question
        .split(|c: char| !c.is_alphanumeric())
        .filter(of_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(question: &str) -> Vec<(String, String)> {
        let today = NaiveDate::from_ymd_opt(2024, 3, 14).expect("a day");
        let found = find_spans(question, today, &BTreeSet::from([2022, 2023]));
        found
            .into_iter()
            .map(|span| (span.from.to_string(), span.to.to_string()))
            .collect()
    }

    #[test]
    fn times_are_read_in_english_and_german() {
        for (question, from, to) in [
            ("what was on 2024-02-29?", "2024-02-29", "2024-03-01"),
            ("on the 7th of May, 2023", "2023-05-07", "2023-05-08"),
            ("since May 7, 2023", "2023-05-07", "2023-05-08"),
            ("am 7. Mai 2023", "2023-05-07", "2023-05-08"),
            ("in May 2023", "2023-05-01", "2023-06-01"),
            ("im Dezember 2023", "2023-12-01", "2024-01-01"),
            ("plans in 2021", "2021-01-01", "2022-01-01"),
            ("im Jahr 2021", "2021-01-01", "2022-01-01"),
            ("who came yesterday", "2024-03-13", "2024-03-14"),
            ("wer kam gestern", "2024-03-13", "2024-03-14"),
            ("last week", "2024-03-04", "2024-03-11"),
            ("letzte Woche", "2024-03-04", "2024-03-11"),
            ("last month", "2024-02-01", "2024-03-01"),
            ("letztes Jahr", "2023-01-01", "2024-01-01"),
            ("3 days ago", "2024-03-11", "2024-03-12"),
            ("vor zwei Monaten", "2024-01-01", "2024-02-01"),
        ] {
            assert_eq!(
                found(question),
                [(from.to_owned(), to.to_owned())],
                "{question}"
            );
        }
    }

    #[test]
    fn other_forms_are_read_in_every_language() {
        for (question, from, to) in [
            (
                "What did she say letzte Woche about it?",
                "2024-03-04",
                "2024-03-11",
            ),
            (
                "Which ticket came on 3 mars 2023",
                "2023-03-03",
                "2023-03-04",
            ),
            ("Morgen kommt der Techniker", "2024-03-15", "2024-03-16"),
            ("in den achtziger Jahren", "1980-01-01", "1990-01-01"),
            ("Q1/2023", "2023-01-01", "2023-04-01"),
            (
                "vom 28. Februar bis zum 3. März 2023",
                "2023-02-28",
                "2023-03-04",
            ),
            ("von November bis Februar 2023", "2022-11-01", "2023-03-01"),
            ("the last quarter of 2023", "2023-10-01", "2024-01-01"),
            ("ces trois derniers mois", "2023-12-14", "2024-03-15"),
            ("mañana por la mañana", "2024-03-15", "2024-03-16"),
            ("na última sexta", "2024-03-08", "2024-03-09"),
            ("Cosa è successo lunedì?", "2024-03-11", "2024-03-12"),
            ("vorige maandag", "2024-03-11", "2024-03-12"),
        ] {
            assert_eq!(
                found(question),
                [(from.to_owned(), to.to_owned())],
                "{question}"
            );
        }
    }

    #[test]
    fn the_year_follows_its_season() {
        let span = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(
            found("where did we swim in summer 2023"),
            [
                span("2023-06-01", "2023-09-01"),
                span("2023-01-01", "2024-01-01")
            ]
        );
        assert_eq!(found("last summer"), [span("2023-06-01", "2023-09-01")]);
    }

    #[test]
    fn words_of_one_language_are_no_times_in_another() {
        for none in [
            "Wo ist hier der Drucker?",
            "Wat is hier gebeurd?",
            "guten morgen, was steht an",
            "Am Morgen trinkt er Tee",
            "goede morgen allemaal",
            "jeden Montag gibt es Kuchen",
            "tous les lundis",
            "cada lunes",
            "por la mañana tomo café",
            "a segunda vez",
            "il y a trois serveurs",
            "set 2025 as the limit",
            "a timeout of 90s",
            "in the march across the moor",
            "What happened on 07/04/2026?",
            "2026-02-30",
            "😀😀 мир 世界",
            &"x".repeat(65_536),
        ] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_month_alone_is_that_of_every_year_and_names_are_no_times() {
        let march = |year: i32| (format!("{year}-03-01"), format!("{year}-04-01"));
        assert_eq!(found("what happened in March"), [march(2023), march(2022)]);
        for none in [
            "may I ask",
            "April likes tea",
            "room 2023",
            "the last one",
            "99 days",
            "in 20233",
            "",
        ] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn nearness_fades_on_both_sides() {
        let day = |day| NaiveDate::from_ymd_opt(2023, 5, day).expect("a day");
        let spans = [Span {
            from: day(10),
            to: day(12),
        }];
        assert_eq!(
            (nearness_to(day(10), &spans), nearness_to(day(11), &spans)),
            (1.0, 1.0)
        );
        assert!((nearness_to(day(3), &spans) - (-1.0_f64).exp()).abs() < 1e-12);
        assert!((nearness_to(day(18), &spans) - (-1.0_f64).exp()).abs() < 1e-12);
        assert_eq!(nearness_to(day(1), &[]), 0.0);
    }
}
