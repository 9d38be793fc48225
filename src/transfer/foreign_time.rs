//! Points in time as other programs write them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde_json::Value;

const ZONED_FORMS: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
const LOCAL_FORMS: [&str; 3] = [
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
];

/// Reads a time in RFC 3339, without a zone, or in seconds, milliseconds or microseconds since 1970.
pub(super) fn parse_time(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Number(number) => since_1970(number.as_f64()?),
        Value::String(text) => parse_text(text.trim()),
        _ => None,
    }
}

fn parse_text(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(number) = text.parse::<f64>() {
        // A smaller number is a year.
        return since_1970(number).filter(|_| number > 1e6);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    for form in LOCAL_FORMS {
        if let Ok(at) = NaiveDateTime::parse_from_str(text, form) {
            return Some(at.and_utc());
        }
    }
    for form in ZONED_FORMS {
        if let Ok(at) = DateTime::parse_from_str(text, form) {
            return Some(at.to_utc());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_time(NaiveTime::MIN).and_utc())
}

/// Guesses the unit from the size: in seconds, all times up to the year 5138 are smaller numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a number that does not fit is no time, and chrono refuses it"
)]
fn since_1970(number: f64) -> Option<DateTime<Utc>> {
    let micros = match number.abs() {
        ..1e11 => number * 1e6,
        ..1e14 => number * 1e3,
        _ => number,
    };
    DateTime::from_timestamp_micros(micros.round() as i64)
}
