//! Finds times in a question: "on 7 May 2023", "in March", "letzte Woche", "hace tres días", "2024-02-29".
//!
//! The rules are the same for English, German, French, Spanish, Italian, Portuguese and Dutch; `table` has the words of
//! each language. Only explicit expressions count; a question without them has no time. To add a language, add its table
//! and its expressions in tests/data/time-expressions.jsonl.

mod cursor;
mod grammar;
mod period;
mod rule;
mod survey;
mod table;
mod word;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use chrono::NaiveDate;

use cursor::Question;
use grammar::{LEXICONS, Lexicon, Meaning};
use period::Period;
pub use period::Span;
use rule::Rule;
use survey::{WordSurvey, is_essential};
use word::{Word, split_words};

/// Number of days outside of a period after which the closeness has decreased to a third.
const FADING: f64 = 7.0;
/// Maximum number of readings of a question. Only contrived questions have more that may not exist in a year.
const MOST_READINGS: usize = 16;

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

/// The times that a question names, read once. Those without a year are in the years that become known later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedTimes {
    today: NaiveDate,
    /// Possible readings, the best first. The first that exists in one of the years counts.
    periods: Vec<Period>,
}

impl NamedTimes {
    /// Reads a question asked on the day `today`.
    #[must_use]
    pub fn read_question(question: &str, today: NaiveDate) -> Self {
        let mut times = Self {
            today,
            periods: Vec::new(),
        };
        // The first period that names its year ends the search.
        let _ = times.read_words(&split_words(question));
        times
    }

    /// Returns the times. A period without a year stands for that in each of `years`; the latest one that has begun comes
    /// first. Its year follows a season.
    #[must_use]
    pub fn list_spans(&self, years: &BTreeSet<i32>) -> Vec<Span> {
        let periods = self.periods.iter();
        let mut spans = periods.map(|period| period.list_spans(self.today, years));
        spans.find(|spans| !spans.is_empty()).unwrap_or_default()
    }

    /// Tries all rules in the likely languages. Other languages may contribute a date with its year or a whole phrase,
    /// such as "letzte Woche" in an English question, but no word that is another one in the language of the question.
    fn read_words(&mut self, words: &[Word]) -> ControlFlow<()> {
        let survey = WordSurvey::new(words);
        let (likely, others) = survey.divide_languages();
        let today = self.today;
        let read_in = |lexicon: &'static Lexicon| {
            let can_name_time = survey.can_name_time(lexicon);
            can_name_time.then(|| Question::new(lexicon, words, today))
        };
        for question in likely.iter().copied().filter_map(read_in) {
            for rules in [rule::DATES, rule::EXPLICIT, rule::OTHERS] {
                self.apply_rules(&question, rules, |_| true)?;
            }
        }
        let questions: Vec<Question<'_>> = others.into_iter().filter_map(read_in).collect();
        let has_year = |phrase: &[Word]| phrase.iter().any(|word| word.year().is_some());
        for question in questions.iter().filter(|_| has_year(words)) {
            self.apply_rules(question, rule::EXPLICIT, has_year)?;
        }
        let is_foreign_phrase = |phrase: &[Word]| {
            let mut known = phrase.iter();
            phrase.iter().filter(|word| !word.is_number()).count() >= 2
                && !known.any(|word| likely.iter().any(|lexicon| lexicon.knows_word(word)))
        };
        for question in &questions {
            self.apply_rules(question, rule::OTHERS, is_foreign_phrase)?;
        }
        ControlFlow::Continue(())
    }

    /// Adds the periods of words that a rule matches and `accept` accepts, up to the first one that names its year.
    fn apply_rules(
        &mut self,
        question: &Question<'_>,
        rules: &[Rule],
        accept: impl Fn(&[Word]) -> bool,
    ) -> ControlFlow<()> {
        for rule in rules {
            for at in question.starts.iter().copied() {
                let mut cursor = question.cursor(at);
                if let Some(period) = rule(&mut cursor)
                    && accept(&question.words[at..cursor.at])
                {
                    self.add_period(period)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Adds a period unless an earlier one precludes it.
    fn add_period(&mut self, period: Period) -> ControlFlow<()> {
        if period.has_year() {
            if period.list_spans(self.today, &BTreeSet::new()).is_empty() {
                return ControlFlow::Continue(());
            }
            self.periods.push(period);
            return ControlFlow::Break(());
        }
        let is_decided = self.periods.iter().any(|period| period.is_in_every_year());
        if !is_decided && self.periods.len() < MOST_READINGS && !self.periods.contains(&period) {
            self.periods.push(period);
        }
        ControlFlow::Continue(())
    }
}

/// Finds the times of a question asked on the day `today`, as [`NamedTimes::list_spans`] does.
#[must_use]
pub fn find_spans(question: &str, today: NaiveDate, years: &BTreeSet<i32>) -> Vec<Span> {
    NamedTimes::read_question(question, today).list_spans(years)
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

/// Finds the words of a question that can be part of a time: months, years, days of a month. Texts about events at that
/// time seldom contain them.
pub fn find_time_words(question: &str) -> impl Iterator<Item = &str> {
    let of_time = |text: &&str| {
        let words = split_words(text);
        let is_month = |word: &Word| {
            is_essential(word) && LEXICONS.iter().any(|lexicon| lexicon.is_month(word))
        };
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
    fn a_question_is_read_once_for_all_years() {
        let today = NaiveDate::from_ymd_opt(2024, 3, 14).expect("a day");
        let first_days = |question: &str, years: &[i32]| {
            let times = NamedTimes::read_question(question, today);
            let spans = times.list_spans(&years.iter().copied().collect());
            spans
                .iter()
                .map(|span| span.from.to_string())
                .collect::<Vec<_>>()
        };
        let question = "What happened in March, and what on 29 February?";
        assert_eq!(first_days(question, &[2023, 2024]), ["2024-02-29"]);
        assert_eq!(first_days(question, &[2023]), ["2023-03-01"]);
        assert!(first_days(question, &[]).is_empty());
        let with_year = "What happened in March, and what in 2021?";
        assert_eq!(first_days(with_year, &[2023]), ["2023-03-01"]);
        assert_eq!(first_days(with_year, &[]), ["2021-01-01"]);
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
