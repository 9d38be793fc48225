//! Periods of the calendar, with and without a year, and those relative to today.

use std::collections::BTreeSet;

use chrono::{Datelike, Days, Months, NaiveDate, Weekday};

/// Maximum number of years for a period without a year.
const MOST_YEARS: usize = 40;
/// A year without 29 February and without week 53.
const SHORTEST_YEAR: i32 = 2_001;

/// The days from one day to another, which is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first day.
    pub from: NaiveDate,
    /// The day after the last one.
    pub to: NaiveDate,
}

impl Span {
    pub(super) fn of_days(from: NaiveDate, days: u64) -> Option<Self> {
        let to = from.checked_add_days(Days::new(days))?;
        Some(Self { from, to })
    }

    pub(super) fn of_months(year: i32, month: u32, months: u32) -> Option<Self> {
        let from = NaiveDate::from_ymd_opt(year, month, 1)?;
        let to = from.checked_add_months(Months::new(months))?;
        Some(Self { from, to })
    }

    /// Returns the days from the start of one period to the end of another.
    fn joining(first: Self, last: Self) -> Option<Self> {
        (first.from <= last.from && first.from < last.to).then_some(Self {
            from: first.from,
            to: last.to,
        })
    }
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Day,
    Week,
    Weekend,
    Month,
    Quarter,
    HalfYear,
    Year,
}

impl Unit {
    /// Returns the period that is this many units after the current one, or before it if negative.
    pub(super) fn offset(self, count: i64, today: NaiveDate) -> Option<Span> {
        match self {
            Self::Day => Span::of_days(shift_days(today, count)?, 1),
            Self::Week => Span::of_days(shift_days(monday_of(today)?, count.checked_mul(7)?)?, 7),
            Self::Weekend => {
                let saturday = monday_of(today)?.checked_add_days(Days::new(5))?;
                Span::of_days(shift_days(saturday, count.checked_mul(7)?)?, 2)
            }
            Self::Month | Self::Quarter | Self::HalfYear | Self::Year => {
                let months = self.months();
                let begin = today.month0() / months * months + 1;
                let first = today.with_day(1)?.with_month(begin)?;
                let from = shift_months(first, count.checked_mul(i64::from(months))?)?;
                Span::of_months(from.year(), from.month(), months)
            }
        }
    }

    /// Returns the days from this many units before today until the end of today.
    pub(super) fn until_today(self, count: u32, today: NaiveDate) -> Option<Span> {
        Some(Span {
            from: self.shift(today, -i64::from(count))?,
            to: today.succ_opt()?,
        })
    }

    /// Returns the day that is this many units after another.
    pub(super) fn shift(self, day: NaiveDate, count: i64) -> Option<NaiveDate> {
        match self {
            Self::Day => shift_days(day, count),
            Self::Week | Self::Weekend => shift_days(day, count.checked_mul(7)?),
            _ => shift_months(day, count.checked_mul(i64::from(self.months()))?),
        }
    }

    fn months(self) -> u32 {
        match self {
            Self::Quarter => 3,
            Self::HalfYear => 6,
            Self::Year => 12,
            Self::Day | Self::Week | Self::Weekend | Self::Month => 1,
        }
    }
}

fn shift_days(day: NaiveDate, count: i64) -> Option<NaiveDate> {
    let days = Days::new(count.unsigned_abs());
    if count < 0 {
        day.checked_sub_days(days)
    } else {
        day.checked_add_days(days)
    }
}

fn shift_months(day: NaiveDate, count: i64) -> Option<NaiveDate> {
    let months = Months::new(u32::try_from(count.unsigned_abs()).ok()?);
    if count < 0 {
        day.checked_sub_months(months)
    } else {
        day.checked_add_months(months)
    }
}

fn monday_of(day: NaiveDate) -> Option<NaiveDate> {
    day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into()))
}

/// Which one of several equal periods is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    BeforeLast,
    Last,
    This,
    Next,
}

impl Which {
    /// Returns the period of a unit.
    pub(super) fn of_unit(self, unit: Unit, today: NaiveDate) -> Option<Span> {
        let count = match self {
            Self::BeforeLast => -2,
            Self::Last => -1,
            Self::This => 0,
            Self::Next => 1,
        };
        unit.offset(count, today)
    }

    /// Returns the weekday. "Last" is the nearest one before today, "next" the nearest one after today.
    pub(super) fn of_weekday(self, weekday: u32, today: NaiveDate) -> Option<Span> {
        let monday = monday_of(today)?;
        let in_week = monday.checked_add_days(Days::new(weekday.into()))?;
        let day = match self {
            Self::This => in_week,
            Self::Next if in_week > today => in_week,
            Self::Next => shift_days(in_week, 7)?,
            Self::Last if in_week < today => in_week,
            Self::Last => shift_days(in_week, -7)?,
            Self::BeforeLast => {
                let last = Self::Last.of_weekday(weekday, today)?;
                shift_days(last.from, -7)?
            }
        };
        Span::of_days(day, 1)
    }

    /// Returns the season that begins in `month`. "Last" is the latest one that has ended, "this" the current one or the
    /// one of this year, "next" the first one that has not begun.
    pub(super) fn of_season(self, month: u32, today: NaiveDate) -> Option<Span> {
        let year = today.year();
        let seasons = || (year - 3..=year + 2).filter_map(|year| Calendar::season(month, year));
        match self {
            Self::BeforeLast => seasons().rev().filter(|span| span.to <= today).nth(1),
            Self::Last => seasons().rev().find(|span| span.to <= today),
            Self::This => seasons()
                .find(|span| span.from <= today && today < span.to)
                .or_else(|| Calendar::season(month, year)),
            Self::Next => seasons().find(|span| span.from > today),
        }
    }
}

/// A part of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum YearPart {
    Whole,
    Half(u32),
    Quarter(u32),
    /// Starts with this month and has three.
    Season(u32),
    Month(u32),
    Week(u32),
    Day {
        month: u32,
        day: u32,
    },
}

/// A part of a year that may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calendar {
    pub(super) year: Option<i32>,
    pub(super) part: YearPart,
}

impl Calendar {
    fn season(month: u32, year: i32) -> Option<Span> {
        Span::of_months(year, month, 3)
    }

    fn span_in(self, year: i32) -> Option<Span> {
        match self.part {
            YearPart::Whole => Span::of_months(year, 1, 12),
            YearPart::Half(half) => Span::of_months(year, half.checked_mul(6)?.checked_sub(5)?, 6),
            YearPart::Quarter(quarter) => {
                Span::of_months(year, quarter.checked_mul(3)?.checked_sub(2)?, 3)
            }
            YearPart::Season(month) => Self::season(month, year),
            YearPart::Month(month) => Span::of_months(year, month, 1),
            YearPart::Week(week) => {
                Span::of_days(NaiveDate::from_isoywd_opt(year, week, Weekday::Mon)?, 7)
            }
            YearPart::Day { month, day } => {
                Span::of_days(NaiveDate::from_ymd_opt(year, month, day)?, 1)
            }
        }
    }
}

/// A period that an expression names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    Fixed(Span),
    Calendar(Calendar),
    /// From the start of the first to the end of the second.
    Range(Calendar, Calendar),
}

impl Period {
    pub(super) fn calendar(year: Option<i32>, part: YearPart) -> Self {
        Self::Calendar(Calendar { year, part })
    }

    /// Returns whether the period names its year.
    pub(super) fn has_year(self) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Calendar(calendar) => calendar.year.is_some(),
            Self::Range(first, last) => first.year.is_some() || last.year.is_some(),
        }
    }

    /// Returns whether the period is one without a year that exists in every year.
    pub(super) fn is_in_every_year(self) -> bool {
        let is_part = matches!(self, Self::Calendar(Calendar { year: None, .. }));
        is_part && self.span_in(SHORTEST_YEAR).is_some()
    }

    /// Returns the period in its year, or in each of `years`: first the latest that has begun, then those before, then
    /// future ones. Its year follows a season.
    pub(super) fn list_spans(self, today: NaiveDate, years: &BTreeSet<i32>) -> Vec<Span> {
        if let Self::Fixed(span) = self {
            return vec![span];
        }
        if self.has_year() {
            let own = self.span_in(today.year());
            return own.into_iter().chain(self.season_year()).collect();
        }
        let latest = years.iter().rev().take(MOST_YEARS);
        let spans = latest.filter_map(|year| self.span_in(*year));
        let (begun, future): (Vec<Span>, Vec<Span>) = spans.partition(|span| span.from <= today);
        begun.into_iter().chain(future).collect()
    }

    /// Returns the year of a season. A fact that was true in a season is often from an earlier month.
    fn season_year(self) -> Option<Span> {
        match self {
            Self::Calendar(Calendar {
                year: Some(year),
                part: YearPart::Season(_),
            }) => Span::of_months(year, 1, 12),
            _ => None,
        }
    }

    /// Returns the period in its own year, or in `year` if it names none.
    fn span_in(self, year: i32) -> Option<Span> {
        match self {
            Self::Fixed(span) => Some(span),
            Self::Calendar(calendar) => calendar.span_in(calendar.year.unwrap_or(year)),
            Self::Range(first, last) => range_in(first, last, year),
        }
    }
}

/// Returns a range whose ends may lack the year. From November to February spans two years.
fn range_in(first: Calendar, last: Calendar, year: i32) -> Option<Span> {
    let first_year = first.year.or(last.year).unwrap_or(year);
    let last_year = last.year.or(first.year).unwrap_or(year);
    let joined = Span::joining(first.span_in(first_year)?, last.span_in(last_year)?);
    match (first.year, last.year) {
        (Some(_), Some(_)) => joined,
        (Some(_), None) => joined
            .or_else(|| Span::joining(first.span_in(first_year)?, last.span_in(last_year + 1)?)),
        (None, _) => joined
            .or_else(|| Span::joining(first.span_in(first_year - 1)?, last.span_in(last_year)?)),
    }
}
