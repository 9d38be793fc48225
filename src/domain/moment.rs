//! Parses points in time as models and people write them: RFC 3339, dates, months, with and without a zone, and
//! relative ones in seven languages, for example "yesterday", "7 days ago", "letzte Woche" or "il y a trois jours". The whole text must be
//! a time; a text that only contains one is refused. A period stands for its first moment. The default zone is UTC.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

use super::time_expression::{read_number, read_whole_text};

/// Maximum length of the text in bytes.
const MAX_BYTES: usize = 64;
/// A point in time, and the form in which it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub at: DateTime<Utc>,
    /// Written as RFC 3339, or as a date like 2026-03-01.
    pub plain: bool,
    /// Written with a time of day but without a zone.
    pub zone_assumed: bool,
    /// Depends on the current time, or is written in words.
    pub relative: bool,
}

impl Moment {
    fn written(at: DateTime<Utc>) -> Self {
        Self {
            at,
            plain: false,
            zone_assumed: false,
            relative: false,
        }
    }
}

/// Parses a time that does not depend on the current one.
#[must_use]
pub fn read_absolute(text: &str) -> Option<Moment> {
    let text = text.trim();
    if text.len() > MAX_BYTES {
        return None;
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Moment {
            plain: true,
            ..Moment::written(time.to_utc())
        });
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        let plain = text.len() == 10;
        return Some(Moment {
            plain,
            ..Moment::written(begin(date))
        });
    }
    numeric(text).or_else(|| {
        DateTime::parse_from_rfc2822(text)
            .ok()
            .map(|time| Moment::written(time.to_utc()))
    })
}

/// Parses a time.
#[must_use]
pub fn read(text: &str, now: DateTime<Utc>) -> Option<Moment> {
    read_absolute(text).or_else(|| {
        let text = text.trim();
        let at = (text.len() <= MAX_BYTES)
            .then(|| in_words(&text.to_lowercase(), now))
            .flatten()?;
        Some(Moment {
            relative: true,
            ..Moment::written(at)
        })
    })
}

fn begin(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// Parses dates, months and years in digits, with or without a time of day and a zone.
fn numeric(text: &str) -> Option<Moment> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let split = text.find(['T', 't', ' ']);
    let (date_text, time_text) =
        split.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()));
    if time_text.is_empty() {
        return period(date_text).map(|date| Moment::written(begin(date)));
    }
    let date = date(date_text)?;
    let (time_text, zone) = split_zone(time_text)?;
    let local = NaiveDateTime::new(date, time_of_day(time_text)?);
    let at = local
        .checked_sub_signed(zone.unwrap_or_default())?
        .and_utc();
    Some(Moment {
        zone_assumed: zone.is_none(),
        ..Moment::written(at)
    })
}

fn date(text: &str) -> Option<NaiveDate> {
    let formats = ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y"];
    let year_has_four_digits = text.split(['-', '/', '.']).any(|part| part.len() == 4);
    let read = || {
        formats
            .iter()
            .find_map(|format| NaiveDate::parse_from_str(text, format).ok())
    };
    if year_has_four_digits {
        return read();
    }
    (text.len() == 8)
        .then(|| NaiveDate::parse_from_str(text, "%Y%m%d").ok())
        .flatten()
}

/// Parses a date, month or year.
fn period(text: &str) -> Option<NaiveDate> {
    if let Some(date) = date(text) {
        return Some(date);
    }
    let parts: Vec<&str> = text.split(['-', '/', '.']).collect();
    match parts.as_slice() {
        [year] if year.len() == 4 => NaiveDate::from_ymd_opt(year.parse().ok()?, 1, 1),
        [year, month] if year.len() == 4 && month.len() <= 2 => {
            NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)
        }
        [month, year] if year.len() == 4 && month.len() <= 2 => {
            NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)
        }
        _ => None,
    }
}

/// Splits a time of day into its time and the UTC offset of its zone, if given.
fn split_zone(text: &str) -> Option<(&str, Option<TimeDelta>)> {
    for utc in ["Z", "z", "UTC", "utc", "GMT"] {
        if let Some(time) = text.strip_suffix(utc) {
            return Some((time.trim_end(), Some(TimeDelta::zero())));
        }
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, None));
    };
    let digits: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    let zone = TimeDelta::try_seconds(if text[at..].starts_with('-') {
        -seconds
    } else {
        seconds
    })?;
    (hours <= 14 && minutes < 60).then_some((text[..at].trim_end(), Some(zone)))
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let text = text.strip_suffix("uhr").unwrap_or(text).trim_end();
    let formats = ["%H:%M:%S%.f", "%H:%M", "%H:%M:%S,%f"];
    formats
        .iter()
        .find_map(|format| NaiveTime::parse_from_str(text, format).ok())
}

/// Parses lower-case words, with or without a time of day at the end.
fn in_words(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Some((before, time)) = text.rsplit_once(' ')
        && time.contains(':')
    {
        let before = before
            .strip_suffix(" at")
            .or_else(|| before.strip_suffix(" um"))
            .unwrap_or(before);
        let (time, zone) = split_zone(time)?;
        let day = in_words(before.trim_end_matches(','), now)?.date_naive();
        return day
            .and_time(time_of_day(time)?)
            .checked_sub_signed(zone.unwrap_or_default())
            .map(|at| at.and_utc());
    }
    let is_plain = |c: char| c.is_alphanumeric() || " ,.-'\u{2019}".contains(c);
    if !text.chars().all(is_plain) {
        return None;
    }
    if matches!(text, "now" | "jetzt") {
        return Some(now);
    }
    read_clock_units(text, now)
        .or_else(|| Some(begin(read_whole_text(text, now.date_naive())?.from)))
}

/// Parses hours, minutes and seconds before or after now: "2 hours ago", "vor einer Stunde", "in 5 minutes".
fn read_clock_units(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (sign, number, unit) = match words.as_slice() {
        [number, unit, "ago"] | ["vor", number, unit] => (-1, number, unit),
        ["in", number, unit] => (1, number, unit),
        _ => return None,
    };
    let number = i32::try_from(read_number(number)?).ok()?;
    now.checked_add_signed(clock_unit(unit)?.checked_mul(sign * number)?)
}

fn clock_unit(word: &str) -> Option<TimeDelta> {
    Some(match word {
        "second" | "seconds" | "sekunde" | "sekunden" => TimeDelta::seconds(1),
        "minute" | "minutes" | "min" | "minuten" => TimeDelta::minutes(1),
        "hour" | "hours" | "stunde" | "stunden" => TimeDelta::hours(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339("2024-03-14T15:30:00Z")
            .expect("a time")
            .to_utc();
        read(text, now).map(|moment| moment.at.format("%Y-%m-%dT%H:%M:%S").to_string())
    }

    #[test]
    fn relative_times_are_read_in_every_language() {
        for (text, expected) in [
            ("vorgestern um 9:15", "2024-03-12T09:15:00"),
            ("vorletzte Woche", "2024-02-26T00:00:00"),
            ("l\u{2019}année dernière", "2023-01-01T00:00:00"),
            ("il y a trois jours", "2024-03-11T00:00:00"),
            ("3 mai 2023", "2023-05-03T00:00:00"),
            ("el viernes pasado", "2024-03-08T00:00:00"),
            ("dentro de dos semanas", "2024-03-28T00:00:00"),
            ("due mesi fa", "2024-01-01T00:00:00"),
            ("1º de maio de 2023", "2023-05-01T00:00:00"),
            ("over 3 dagen", "2024-03-17T00:00:00"),
            ("in the last seven days", "2024-03-07T00:00:00"),
            ("Montag", "2024-03-11T00:00:00"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn times_are_read_however_they_are_written() {
        for (text, expected) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00"),
            ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00"),
            ("2026-03-01T12:00:00", "2026-03-01T12:00:00"),
            ("2026-03-01 12:00:00", "2026-03-01T12:00:00"),
            ("2026-03-01 12:00", "2026-03-01T12:00:00"),
            ("2026-03-01T12:00:00.123456", "2026-03-01T12:00:00"),
            ("2026-03-01 12:00 +0200", "2026-03-01T10:00:00"),
            ("2026-03-01 12:00:00-05", "2026-03-01T17:00:00"),
            ("2026-03-01 12:00 UTC", "2026-03-01T12:00:00"),
            (" 2026-03-01 ", "2026-03-01T00:00:00"),
            ("2026-03", "2026-03-01T00:00:00"),
            ("2026", "2026-01-01T00:00:00"),
            ("2026/03/01", "2026-03-01T00:00:00"),
            ("1.3.2026", "2026-03-01T00:00:00"),
            ("01.03.2026 08:15", "2026-03-01T08:15:00"),
            ("20260301", "2026-03-01T00:00:00"),
            ("Sun, 1 Mar 2026 12:00:00 +0100", "2026-03-01T11:00:00"),
            ("March 2026", "2026-03-01T00:00:00"),
            ("in March 2026", "2026-03-01T00:00:00"),
            ("März 2026", "2026-03-01T00:00:00"),
            ("7 May 2023", "2023-05-07T00:00:00"),
            ("May 7, 2023", "2023-05-07T00:00:00"),
            ("the 7th of May 2023", "2023-05-07T00:00:00"),
            ("am 7. Mai 2023", "2023-05-07T00:00:00"),
            ("yesterday", "2024-03-13T00:00:00"),
            ("Gestern", "2024-03-13T00:00:00"),
            ("yesterday at 09:15", "2024-03-13T09:15:00"),
            ("gestern um 9:15", "2024-03-13T09:15:00"),
            ("today", "2024-03-14T00:00:00"),
            ("now", "2024-03-14T15:30:00"),
            ("7 days ago", "2024-03-07T00:00:00"),
            ("vor 7 Tagen", "2024-03-07T00:00:00"),
            ("a week ago", "2024-03-04T00:00:00"),
            ("2 hours ago", "2024-03-14T13:30:00"),
            ("vor einer Stunde", "2024-03-14T14:30:00"),
            ("last week", "2024-03-04T00:00:00"),
            ("letzte Woche", "2024-03-04T00:00:00"),
            ("letzten Monat", "2024-02-01T00:00:00"),
            ("last Friday", "2024-03-08T00:00:00"),
            ("tomorrow", "2024-03-15T00:00:00"),
            ("übermorgen", "2024-03-16T00:00:00"),
            ("in 3 days", "2024-03-17T00:00:00"),
            ("in zwei Wochen", "2024-03-28T00:00:00"),
            ("next month", "2024-04-01T00:00:00"),
            ("nächste Woche", "2024-03-18T00:00:00"),
            ("next Monday", "2024-03-18T00:00:00"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_wholly_a_time_is_not_read() {
        for text in [
            "",
            " ",
            "soon",
            "never",
            "someday last week",
            "last week or so",
            "2025-02-30",
            "2026-13",
            "03/01/2026",
            "25:00",
            "2026-03-01T25:00:00",
            "2026-03-01 12:00 PST8",
            "May",
            "99",
            "12345",
            "yesterday at noon",
            "the last one",
            "before 2024",
            "between May and July 2023",
            "3-1-2026",
            "im Mai",
            "letzte Woche oder so",
            "99999999999 days ago",
            "2026-03-01T12:00:00+99:00",
        ] {
            assert_eq!(at(text), None, "{text:?}");
        }
        assert_eq!(at(&"7 ".repeat(1_000)), None);
    }

    #[test]
    fn the_form_is_known() {
        let now = DateTime::UNIX_EPOCH;
        let form = |text: &str| read(text, now).map(|m| (m.plain, m.zone_assumed, m.relative));
        assert_eq!(form("2026-03-01T12:00:00Z"), Some((true, false, false)));
        assert_eq!(form("2026-03-01"), Some((true, false, false)));
        assert_eq!(form("2026-03-01 12:00Z"), Some((false, false, false)));
        assert_eq!(form("2026-03-01 12:00"), Some((false, true, false)));
        assert_eq!(form("2026-03"), Some((false, false, false)));
        assert_eq!(form("today"), Some((false, false, true)));
    }
}
