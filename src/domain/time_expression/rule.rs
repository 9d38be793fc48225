//! The forms of time expressions, the same for all languages. Each rule reads one form from a position in the question.

use chrono::{Datelike, NaiveDate};

use super::cursor::Cursor;
use super::grammar::Meaning;
use super::period::{Calendar, Period, Span, Unit, Which, YearPart};

/// Reads a period and moves the cursor behind it.
pub(super) type Rule = fn(&mut Cursor<'_>) -> Option<Period>;

/// Forms in digits. Their first match decides.
pub(super) const DATES: &[Rule] = &[date_range, numeric_date];

/// Forms with a month name and a year or day, which are unmistakable in any language.
pub(super) const EXPLICIT: &[Rule] = &[day_of_month, month_of_year];

/// Other forms, the most exact first.
pub(super) const OTHERS: &[Rule] = &[
    quarter,
    half_year,
    season_of_year,
    numbered_week,
    decade,
    bare_month,
    bare_year,
    last_units,
    units_ago,
    day_word,
    weekday_or_unit,
    bare_weekday,
];

/// Forms that are times only if they are the whole text.
pub(super) const WHOLE: &[Rule] = &[units_ahead, lone_weekday];

fn fixed(span: Option<Span>) -> Option<Period> {
    span.map(Period::Fixed)
}

/// "Between May and July 2025", "from 3 to 7 May".
fn date_range(cursor: &mut Cursor<'_>) -> Option<Period> {
    let middle = if cursor.skip(Meaning::Between) {
        Meaning::And
    } else {
        cursor.expect(Meaning::From)?;
        Meaning::To
    };
    let first = range_end(cursor)?;
    cursor.expect(middle)?;
    let last = range_end(cursor)?;
    match (first, last) {
        (RangeEnd::Calendar(first), RangeEnd::Calendar(last)) => Some(Period::Range(first, last)),
        (RangeEnd::Day(day), RangeEnd::Calendar(last)) => {
            Some(Period::Range(same_month(day, last)?, last))
        }
        (RangeEnd::Calendar(first), RangeEnd::Day(day)) => {
            Some(Period::Range(first, same_month(day, first)?))
        }
        (RangeEnd::Day(_), RangeEnd::Day(_)) => None,
    }
}

/// One end of a range; a day alone is in the month of the other end.
enum RangeEnd {
    Day(u32),
    Calendar(Calendar),
}

fn same_month(day: u32, other: Calendar) -> Option<Calendar> {
    match other.part {
        YearPart::Day { month, .. } => Some(Calendar {
            year: other.year,
            part: YearPart::Day { month, day },
        }),
        _ => None,
    }
}

fn range_end(cursor: &mut Cursor<'_>) -> Option<RangeEnd> {
    cursor.skip(Meaning::The);
    let calendar = |year, part| Some(RangeEnd::Calendar(Calendar { year, part }));
    if let Some(date) = cursor.date() {
        let Period::Calendar(day) = day_period(date) else {
            return None;
        };
        return Some(RangeEnd::Calendar(day));
    }
    if let Some(Period::Calendar(day)) = attempt(cursor, day_of_month) {
        return Some(RangeEnd::Calendar(day));
    }
    if let Some(month) = cursor.month() {
        return calendar(cursor.year_behind(), YearPart::Month(month));
    }
    if let Some(year) = cursor.plausible_year() {
        return calendar(Some(year), YearPart::Whole);
    }
    cursor.day_number().map(RangeEnd::Day)
}

/// Applies a rule, and leaves the cursor in place if it does not match.
fn attempt(cursor: &mut Cursor<'_>, rule: Rule) -> Option<Period> {
    let mut ahead = *cursor;
    let period = rule(&mut ahead)?;
    *cursor = ahead;
    Some(period)
}

fn day_period(date: NaiveDate) -> Period {
    let (month, day) = (date.month(), date.day());
    Period::calendar(Some(date.year()), YearPart::Day { month, day })
}

fn numeric_date(cursor: &mut Cursor<'_>) -> Option<Period> {
    cursor.date().map(day_period)
}

/// "3 May 2026", "the 3rd of May", "il primo maggio", and in English also "May 3rd".
fn day_of_month(cursor: &mut Cursor<'_>) -> Option<Period> {
    let month_first = cursor.grammar().has_month_before_day;
    let mut ahead = *cursor;
    let (month, day) = match ahead.day_number() {
        Some(day) => {
            ahead.skip(Meaning::Of);
            (ahead.month()?, day)
        }
        None => match ahead.ordinal_word() {
            Some(day) => {
                let joined = ahead.skip(Meaning::Of);
                let month = ahead.month()?;
                (joined || !month_first).then_some((month, day))?
            }
            None => {
                let month = ahead.month().filter(|_| month_first)?;
                (month, ahead.day_number()?)
            }
        },
    };
    let year = attempt_year(&mut ahead);
    *cursor = ahead;
    Some(Period::calendar(year, YearPart::Day { month, day }))
}

/// Reads any year of four digits, or "of the year" with a plausible one.
fn attempt_year(cursor: &mut Cursor<'_>) -> Option<i32> {
    cursor.four_digit_year().or_else(|| cursor.year_behind())
}

/// "March 2026", "marzo del 2026".
fn month_of_year(cursor: &mut Cursor<'_>) -> Option<Period> {
    let month = cursor.month()?;
    let year = attempt_year(cursor)?;
    Some(Period::calendar(Some(year), YearPart::Month(month)))
}

/// "The first quarter of 2026", "Q3 2025", "2025 Q3".
fn quarter(cursor: &mut Cursor<'_>) -> Option<Period> {
    const LETTERS: &[char] = &['q', 't'];
    let mut ahead = *cursor;
    if let Some(year) = ahead.plausible_year() {
        let number = ahead.numbered(LETTERS, 4)?;
        *cursor = ahead;
        return Some(Period::calendar(Some(year), YearPart::Quarter(number)));
    }
    if let Some(number) = cursor.numbered(LETTERS, 4) {
        let year = cursor.year_behind()?;
        return Some(Period::calendar(Some(year), YearPart::Quarter(number)));
    }
    if cursor.skip(Meaning::Last) {
        cursor.expect(Meaning::Unit(Unit::Quarter))?;
        let year = cursor.year_behind()?;
        return Some(Period::calendar(Some(year), YearPart::Quarter(4)));
    }
    let number = cursor.ordinal().filter(|number| *number <= 4)?;
    cursor.expect(Meaning::Unit(Unit::Quarter))?;
    let year = cursor.year_behind();
    Some(Period::calendar(year, YearPart::Quarter(number)))
}

/// "The second half of 2025", "im zweiten Halbjahr", "H1 2026".
fn half_year(cursor: &mut Cursor<'_>) -> Option<Period> {
    if let Some(number) = cursor.numbered(&['h'], 2) {
        let year = cursor.year_behind()?;
        return Some(Period::calendar(Some(year), YearPart::Half(number)));
    }
    let number = cursor.ordinal().filter(|number| *number <= 2)?;
    let is_half = cursor.skip(Meaning::Half);
    if !is_half {
        cursor.expect(Meaning::Unit(Unit::HalfYear))?;
    }
    let year = cursor.year_behind();
    // Half of a match or of a page is no time.
    (year.is_some() || !is_half).then_some(Period::calendar(year, YearPart::Half(number)))
}

/// "Spring 2025", "in the autumn of 2025".
fn season_of_year(cursor: &mut Cursor<'_>) -> Option<Period> {
    let month = cursor.season()?;
    let year = cursor.year_behind()?;
    Some(Period::calendar(Some(year), YearPart::Season(month)))
}

/// "Week 23 of 2026", "KW 23".
fn numbered_week(cursor: &mut Cursor<'_>) -> Option<Period> {
    let always_counted = cursor.skip(Meaning::CalendarWeek);
    if !always_counted {
        cursor.expect(Meaning::Unit(Unit::Week))?;
    }
    let week = cursor.number().filter(|week| (1..=53).contains(week))?;
    let year = cursor.year_behind();
    (year.is_some() || always_counted).then_some(Period::calendar(year, YearPart::Week(week)))
}

/// "The 1990s", "in den 90er Jahren", "gli anni novanta".
fn decade(cursor: &mut Cursor<'_>) -> Option<Period> {
    let first = if let Some(first) = cursor.decade() {
        cursor.skip(Meaning::Years);
        first
    } else if let Some(first) = cursor.short_decade() {
        // "90s" may be seconds.
        if !cursor.skip(Meaning::Years) {
            let mut before = *cursor;
            before.at = cursor.at.checked_sub(2)?;
            before.expect(Meaning::The)?;
        }
        first
    } else {
        cursor.expect(Meaning::Years)?;
        let number = i32::try_from(cursor.number()?).ok()?;
        match number {
            20..=90 => 1_900 + number,
            1_000..=2_090 => number,
            _ => return None,
        }
    };
    (first % 10 == 0).then_some(())?;
    fixed(Span::of_months(first, 1, 120))
}

/// "In March", "Anfang Februar", "le mois de mai", "marzo scorso".
fn bare_month(cursor: &mut Cursor<'_>) -> Option<Period> {
    let mut ahead = *cursor;
    let near = [
        Meaning::Within,
        Meaning::NearMonth,
        Meaning::Last,
        Meaning::This,
    ]
    .into_iter()
    .any(|meaning| ahead.skip(meaning));
    let joined = ahead.skip(Meaning::Of);
    let is_small = ahead.peek_word().is_some_and(|word| !word.is_capitalized);
    let is_named = near || (joined && ahead.grammar().writes_names_small && is_small);
    let month = ahead.month()?;
    if !is_named {
        ahead.which_behind()?;
    }
    *cursor = ahead;
    Some(Period::calendar(None, YearPart::Month(month)))
}

/// "In 2024", "im Jahr 2024", "nel 2024".
fn bare_year(cursor: &mut Cursor<'_>) -> Option<Period> {
    let near = cursor.skip(Meaning::Within);
    let joined = !near && cursor.skip(Meaning::Of);
    cursor.skip(Meaning::The);
    let named = cursor.skip(Meaning::Unit(Unit::Year));
    (near || joined || named).then_some(())?;
    cursor.skip(Meaning::Of);
    let year = cursor.plausible_year()?;
    Some(Period::calendar(Some(year), YearPart::Whole))
}

/// "The last seven days", "ces sept derniers jours".
fn last_units(cursor: &mut Cursor<'_>) -> Option<Period> {
    let precedes = cursor.skip(Meaning::Last);
    let count = cursor.number()?;
    let between = !precedes && cursor.skip(Meaning::Last);
    let unit = cursor.unit()?;
    let follows = cursor.grammar().has_adjective_after_noun;
    let counted = precedes || between || (follows && cursor.skip(Meaning::Last));
    fixed(counted.then(|| unit.until_today(count, cursor.today()))?)
}

/// "Three days ago", "vor drei Tagen", "il y a trois jours".
fn units_ago(cursor: &mut Cursor<'_>) -> Option<Period> {
    let precedes = cursor.skip(Meaning::Before);
    let count = cursor.number()?;
    let unit = cursor.unit()?;
    (precedes || cursor.skip(Meaning::Ago)).then_some(())?;
    fixed(unit.offset(-i64::from(count), cursor.today()))
}

/// "Yesterday".
fn day_word(cursor: &mut Cursor<'_>) -> Option<Period> {
    let days = cursor.take(|meaning| match meaning {
        Meaning::Day(days) => Some(days),
        _ => None,
    })?;
    fixed(Unit::Day.offset(days, cursor.today()))
}

/// "Last Friday", "next week", "la semana pasada", "the week before last".
fn weekday_or_unit(cursor: &mut Cursor<'_>) -> Option<Period> {
    let today = cursor.today();
    let which = cursor.which();
    let find = |cursor: &mut Cursor<'_>, span: &dyn Fn(Which) -> Option<Span>| {
        // An adjective behind the noun decides: "este mes que viene".
        let which = cursor.which_behind().or(which)?;
        fixed(span(which))
    };
    if let Some(weekday) = cursor.any_weekday() {
        return find(cursor, &|which| which.of_weekday(weekday, today));
    }
    if let Some(season) = cursor.season() {
        return find(cursor, &|which| which.of_season(season, today));
    }
    let unit = cursor.unit().filter(|unit| *unit != Unit::Day)?;
    find(cursor, &|which| which.of_unit(unit, today))
}

/// "On Monday", and "lundi" in languages that write weekdays in lower case.
fn bare_weekday(cursor: &mut Cursor<'_>) -> Option<Period> {
    let before = cursor.peek_before();
    let announced = cursor.skip(Meaning::On);
    let word = cursor.peek_word()?;
    let weekday = cursor.weekday()?;
    let habits = cursor.grammar().before_habit;
    let is_habit = before.is_some_and(|before| habits.contains(&before.folded.as_str()));
    let is_small = cursor.grammar().writes_names_small && !word.is_capitalized;
    (!is_habit && (announced || is_small)).then_some(())?;
    fixed(Which::Last.of_weekday(weekday, cursor.today()))
}

/// "In 3 days".
fn units_ahead(cursor: &mut Cursor<'_>) -> Option<Period> {
    cursor.expect(Meaning::Ahead)?;
    let count = cursor.number()?;
    let unit = cursor.unit()?;
    let day = unit.shift(cursor.today(), i64::from(count))?;
    fixed(Span::of_days(day, 1))
}

/// "Monday".
fn lone_weekday(cursor: &mut Cursor<'_>) -> Option<Period> {
    let weekday = cursor.any_weekday()?;
    fixed(Which::Last.of_weekday(weekday, cursor.today()))
}
