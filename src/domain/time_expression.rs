//! Finds times in a question: "on 7 May 2023", "in March", "last week", "gestern", "2024-02-29", in English and German.
//! Only explicit expressions count; a question without them has no time.

use std::collections::BTreeSet;

use chrono::{Datelike, Days, Months, NaiveDate};

/// Number of days outside of a period after which the closeness has decreased to a third.
const FADING: f64 = 7.0;
/// Maximum number of years for a month without a year.
const MOST_YEARS: usize = 40;

const MONTHS: [&[&str]; 12] = [
    &["january", "jan", "januar", "jänner"],
    &["february", "feb", "februar"],
    &["march", "mar", "märz", "maerz"],
    &["april", "apr"],
    &["may", "mai"],
    &["june", "jun", "juni"],
    &["july", "jul", "juli"],
    &["august", "aug"],
    &["september", "sep", "sept"],
    &["october", "oct", "oktober", "okt"],
    &["november", "nov"],
    &["december", "dec", "dezember", "dez"],
];
/// A month after one of these words is a time; otherwise it may be a name.
const BEFORE_MONTH: [&str; 29] = [
    "in", "during", "of", "since", "from", "until", "before", "after", "by", "around", "early",
    "late", "mid", "last", "this", "im", "seit", "ab", "bis", "vor", "nach", "anfang", "ende",
    "mitte", "letzten", "vom", "zum", "diesen", "diesem",
];
const BEFORE_YEAR: [&str; 19] = [
    "in",
    "during",
    "of",
    "since",
    "from",
    "until",
    "year",
    "summer",
    "winter",
    "spring",
    "autumn",
    "fall",
    "im",
    "jahr",
    "seit",
    "sommer",
    "herbst",
    "frühling",
    "bis",
];
pub(super) const LAST: [&str; 12] = [
    "last", "past", "previous", "letzte", "letzten", "letzter", "letztes", "letztem", "vorige",
    "vorigen", "voriger", "voriges",
];
pub(super) const THIS: [&str; 6] = ["this", "diese", "diesen", "dieser", "dieses", "diesem"];

/// The days from one day to another, which is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first day.
    pub from: NaiveDate,
    /// The day after the last one.
    pub to: NaiveDate,
}

impl Span {
    fn day(day: NaiveDate) -> Option<Self> {
        Some(Self {
            from: day,
            to: day.succ_opt()?,
        })
    }

    fn month(year: i32, month: u32) -> Option<Self> {
        let from = NaiveDate::from_ymd_opt(year, month, 1)?;
        Some(Self {
            from,
            to: from.checked_add_months(Months::new(1))?,
        })
    }

    fn year(year: i32) -> Option<Self> {
        Some(Self {
            from: NaiveDate::from_ymd_opt(year, 1, 1)?,
            to: NaiveDate::from_ymd_opt(year + 1, 1, 1)?,
        })
    }

    fn week(of: NaiveDate) -> Option<Self> {
        let from = of.checked_sub_days(Days::new(of.weekday().num_days_from_monday().into()))?;
        Some(Self {
            from,
            to: from.checked_add_days(Days::new(7))?,
        })
    }
}

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

/// Finds the times of a question asked on the day `today`. A month or a day of a month without a year stands for that
/// in each of `years`.
#[must_use]
pub fn find_spans(question: &str, today: NaiveDate, years: &BTreeSet<i32>) -> Vec<Span> {
    let lower = question.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    if let Some(day) = iso_date(&lower) {
        return Span::day(day).into_iter().collect();
    }
    let ways: [Way; 4] = [day_of_month, month_of_year, bare_month, bare_year];
    for way in ways {
        let named = (0..words.len()).find_map(|at| way(&words[at..]));
        let spans: Vec<Span> = named.map(|named| named.spans(years)).unwrap_or_default();
        if !spans.is_empty() {
            return spans;
        }
    }
    (0..words.len())
        .find_map(|at| relative(&words[at..], today))
        .into_iter()
        .collect()
}

/// Finds the words of a question that can be part of a time: months, years, days of a month. Texts about events at that
/// time seldom contain them.
pub fn find_time_words(question: &str) -> impl Iterator<Item = &str> {
    let of_time = |word: &&str| {
        let lower = word.to_lowercase();
        month(Some(&lower.as_str())).is_some()
            || year(Some(&lower.as_str())).is_some()
            || day(Some(&lower.as_str())).is_some()
    };
    question
        .split(|c: char| !c.is_alphanumeric())
        .filter(of_time)
}

/// A form of writing a time; reads it from the first word on.
type Way = fn(&[&str]) -> Option<Named>;

/// A time, and its precision in the question.
struct Named {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
}

impl Named {
    fn spans(&self, years: &BTreeSet<i32>) -> Vec<Span> {
        let years: Vec<i32> = match self.year {
            Some(year) => vec![year],
            None => years.iter().rev().take(MOST_YEARS).copied().collect(),
        };
        let span = |year| match (self.month, self.day) {
            (Some(month), Some(day)) => {
                NaiveDate::from_ymd_opt(year, month, day).and_then(Span::day)
            }
            (Some(month), None) => Span::month(year, month),
            _ => Span::year(year),
        };
        years.into_iter().filter_map(span).collect()
    }
}

fn iso_date(text: &str) -> Option<NaiveDate> {
    let pieces = text.split(|c: char| !c.is_ascii_digit() && c != '-');
    pieces
        .filter(|piece| piece.len() == 10)
        .find_map(|piece| piece.parse().ok())
}

pub(super) fn month(word: Option<&&str>) -> Option<u32> {
    (1..)
        .zip(MONTHS)
        .find(|(_, names)| word.is_some_and(|word| names.contains(word)))
        .map(|(number, _)| number)
}

pub(super) fn year(word: Option<&&str>) -> Option<i32> {
    word.filter(|word| word.len() == 4)?.parse().ok()
}

pub(super) fn day(word: Option<&&str>) -> Option<u32> {
    let word = word?;
    let digits = ["st", "nd", "rd", "th"]
        .iter()
        .find_map(|end| word.strip_suffix(end))
        .unwrap_or(word);
    digits
        .parse()
        .ok()
        .filter(|day| (1..=31).contains(day) && digits.len() <= 2)
}

fn day_of_month(words: &[&str]) -> Option<Named> {
    let of = usize::from(words.get(1) == Some(&"of"));
    if let (Some(day), Some(month)) = (day(words.first()), month(words.get(1 + of))) {
        return Some(Named {
            year: year(words.get(2 + of)),
            month: Some(month),
            day: Some(day),
        });
    }
    let (month, day) = (month(words.first())?, day(words.get(1))?);
    Some(Named {
        year: year(words.get(2)),
        month: Some(month),
        day: Some(day),
    })
}

fn month_of_year(words: &[&str]) -> Option<Named> {
    Some(Named {
        month: Some(month(words.first())?),
        year: Some(year(words.get(1))?),
        day: None,
    })
}

fn bare_month(words: &[&str]) -> Option<Named> {
    BEFORE_MONTH.contains(words.first()?).then_some(())?;
    Some(Named {
        month: Some(month(words.get(1))?),
        year: None,
        day: None,
    })
}

fn bare_year(words: &[&str]) -> Option<Named> {
    BEFORE_YEAR.contains(words.first()?).then_some(())?;
    let year = year(words.get(1)).filter(|year| (1_900..2_100).contains(year))?;
    Some(Named {
        year: Some(year),
        month: None,
        day: None,
    })
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Day,
    Week,
    Month,
    Year,
}

pub(super) fn unit(word: Option<&&str>) -> Option<Unit> {
    Some(match *word? {
        "day" | "days" | "tag" | "tage" | "tagen" => Unit::Day,
        "week" | "weeks" | "woche" | "wochen" => Unit::Week,
        "month" | "months" | "monat" | "monate" | "monaten" | "monats" => Unit::Month,
        "year" | "years" | "jahr" | "jahre" | "jahren" | "jahres" => Unit::Year,
        _ => return None,
    })
}

pub(super) fn count(word: Option<&&str>) -> Option<u32> {
    Some(match *word? {
        "a" | "an" | "one" | "einem" | "einer" => 1,
        "two" | "zwei" => 2,
        "three" | "drei" => 3,
        "four" | "vier" => 4,
        "five" | "fünf" => 5,
        "six" | "sechs" => 6,
        digits => digits.parse().ok().filter(|count| *count < 10_000)?,
    })
}

/// Returns the period that is this many units back.
fn back(count: u32, unit: Unit, today: NaiveDate) -> Option<Span> {
    match unit {
        Unit::Day => Span::day(today.checked_sub_days(Days::new(count.into()))?),
        Unit::Week => Span::week(today.checked_sub_days(Days::new(7 * u64::from(count)))?),
        Unit::Month => {
            let then = today.checked_sub_months(Months::new(count))?;
            Span::month(then.year(), then.month())
        }
        Unit::Year => Span::year(today.year() - i32::try_from(count).ok()?),
    }
}

pub(super) fn relative(words: &[&str], today: NaiveDate) -> Option<Span> {
    match *words.first()? {
        "yesterday" | "gestern" => return back(1, Unit::Day, today),
        "today" | "heute" => return back(0, Unit::Day, today),
        "vorgestern" => return back(2, Unit::Day, today),
        word if LAST.contains(&word) || THIS.contains(&word) => {
            let unit = unit(words.get(1)).filter(|unit| !matches!(unit, Unit::Day))?;
            return back(u32::from(LAST.contains(&word)), unit, today);
        }
        "vor" => return back(count(words.get(1))?, unit(words.get(2))?, today),
        _ => {}
    }
    let (count, unit) = (count(words.first())?, unit(words.get(1))?);
    (words.get(2) == Some(&"ago")).then(|| back(count, unit, today))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(question: &str) -> Vec<(String, String)> {
        let today = NaiveDate::from_ymd_opt(2024, 3, 14).expect("a day");
        let found = find_spans(question, today, &BTreeSet::from([2022, 2023]));
        found
            .into_iter()
            .map(|span| (span.from.to_string(), span.to.to_string()))
            .collect()
    }

    #[test]
    fn times_are_read_in_two_languages() {
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
                told(question),
                [(from.to_owned(), to.to_owned())],
                "{question}"
            );
        }
    }

    #[test]
    fn a_month_alone_is_that_of_every_year_and_names_are_no_times() {
        let march = |year: i32| (format!("{year}-03-01"), format!("{year}-04-01"));
        assert_eq!(told("what happened in March"), [march(2023), march(2022)]);
        for none in [
            "may I ask",
            "April likes tea",
            "room 2023",
            "the last one",
            "99 days",
            "in 20233",
            "",
        ] {
            assert!(told(none).is_empty(), "{none}");
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
