//! Single values: texts, times, words of an enumeration, numbers and booleans.

use chrono::SecondsFormat;
use serde_json::Value;

use super::super::fold::fold_name;
use super::super::number::whole_number;
use super::super::path::Path;
use super::super::shape::{Choice, Shape, Text};
use super::super::{shorten_text, show_value};
use super::Reader;
use crate::domain::{moment, validate};

/// The word for no end, and its synonyms.
const NEVER: &str = "never";
const OPEN_ENDS: [&str; 12] = [
    "forever",
    "always",
    "indefinite",
    "indefinitely",
    "infinite",
    "infinity",
    "no end",
    "ongoing",
    "open",
    "open end",
    "open-ended",
    "permanent",
];

impl Reader<'_> {
    pub(super) fn read_text(
        &mut self,
        kind: &Text,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
    ) -> Option<Value> {
        match value {
            Value::String(text) if kind.time => self.read_time(kind, shape, path, text),
            Value::String(_) => Some(value),
            Value::Number(number) if !kind.time => {
                self.notes.repaired(path, format!("{number} read as text"));
                Some(Value::String(number.to_string()))
            }
            Value::Array(mut entries) if kind.single && entries.len() == 1 => {
                self.notes
                    .repaired(path, "the one entry of an array".to_owned());
                entries.pop().and_then(|entry| {
                    self.read_text(
                        &Text {
                            single: false,
                            ..kind.clone()
                        },
                        shape,
                        path,
                        entry,
                    )
                })
            }
            // A memory in the form of an answer, in place of its ID.
            Value::Object(object)
                if kind.reference && object.get("id").is_some_and(Value::is_string) =>
            {
                self.notes.repaired(path, "the id of an object".to_owned());
                object.get("id").cloned()
            }
            other => self.refuse_value(path, shape.expected_phrase(), &other),
        }
    }

    fn read_time(
        &mut self,
        kind: &Text,
        shape: &Shape,
        path: &Path<'_>,
        text: String,
    ) -> Option<Value> {
        let folded = text.trim().to_lowercase();
        if let Some(word) = kind.words.iter().find(|word| **word == folded) {
            return Some(Value::String(word.clone()));
        }
        if kind.words.iter().any(|word| word == NEVER) && OPEN_ENDS.contains(&folded.as_str()) {
            self.notes
                .repaired(path, format!("{} read as {NEVER:?}", shorten_text(&text)));
            return Some(Value::String(NEVER.to_owned()));
        }
        let Some(moment) =
            moment::read(&text, self.now).filter(|moment| validate::is_in_range(moment.at))
        else {
            return self.refuse_value(path, shape.expected_phrase(), &Value::String(text));
        };
        if moment.plain {
            return Some(Value::String(text.trim().to_owned()));
        }
        let at = moment.at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        if moment.relative {
            self.notes
                .repaired(path, format!("{} read as {at}", shorten_text(&text)));
        } else if moment.zone_assumed {
            self.notes.zone_assumed();
        }
        Some(Value::String(at))
    }

    pub(super) fn read_choice(
        &mut self,
        choice: &Choice,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
        beside: &[&str],
    ) -> Option<Value> {
        let word = match &value {
            Value::String(word) => word.clone(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(words) if words.len() == 1 => {
                self.notes
                    .repaired(path, "the one entry of an array".to_owned());
                return self.read_choice(choice, shape, path, words[0].clone(), beside);
            }
            _ => return self.refuse_value(path, shape.expected_phrase(), &value),
        };
        if choice.values.contains(&word) {
            return Some(Value::String(word));
        }
        let folded = fold_name(&word);
        let meant = choice
            .values
            .iter()
            .find(|known| fold_name(known) == folded)
            .or_else(|| {
                let synonym = choice.synonyms.get(&folded)?;
                let fits = synonym.with.is_empty()
                    || synonym
                        .with
                        .iter()
                        .any(|field| beside.contains(&field.as_str()));
                // In a list there are no other fields next to the word.
                let fits = fits || beside.is_empty();
                if fits {
                    Some(&synonym.to)
                } else {
                    synonym.otherwise.as_ref()
                }
            });
        let Some(meant) = meant else {
            return self.refuse_value(path, shape.expected_phrase(), &value);
        };
        // A former word that is still a valid value needs no note.
        if *meant != word {
            self.notes
                .repaired(path, format!("{} read as {meant:?}", show_value(&value)));
        }
        Some(Value::String(meant.clone()))
    }

    pub(super) fn read_integer(
        &mut self,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
        low: i64,
        high: i64,
    ) -> Option<Value> {
        let number = match &value {
            Value::Number(number) => number.as_i64().or_else(|| whole_number(number.as_f64()?)),
            Value::String(text) => text
                .trim()
                .parse()
                .ok()
                .or_else(|| whole_number(text.trim().parse().ok()?)),
            _ => None,
        };
        let Some(number) = number.filter(|number| (low..=high).contains(number)) else {
            return self.refuse_value(path, shape.expected_phrase(), &value);
        };
        if value.is_string() {
            self.notes
                .repaired(path, format!("{} read as {number}", show_value(&value)));
        }
        Some(Value::from(number))
    }

    pub(super) fn read_number(
        &mut self,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
        low: Option<f64>,
        high: Option<f64>,
    ) -> Option<Value> {
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().or_else(|| percent(text)),
            _ => None,
        };
        let fits = |number: &f64| {
            number.is_finite()
                && low.is_none_or(|low| *number >= low)
                && high.is_none_or(|high| *number <= high)
        };
        let Some(number) = number.filter(fits) else {
            return self.refuse_value(path, shape.expected_phrase(), &value);
        };
        if value.is_string() {
            self.notes
                .repaired(path, format!("{} read as {number}", show_value(&value)));
            return Some(Value::from(number));
        }
        Some(value)
    }

    pub(super) fn read_boolean(
        &mut self,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
    ) -> Option<Value> {
        let truth = match &value {
            Value::Bool(_) => return Some(value),
            Value::String(text) => match text.trim().to_lowercase().as_str() {
                "true" | "yes" | "1" => Some(true),
                "false" | "no" | "0" => Some(false),
                _ => None,
            },
            Value::Number(number) => match number.as_f64() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                _ => None,
            },
            _ => None,
        };
        let Some(truth) = truth else {
            return self.refuse_value(path, shape.expected_phrase(), &value);
        };
        self.notes
            .repaired(path, format!("{} read as {truth}", show_value(&value)));
        Some(Value::Bool(truth))
    }
}

/// Reads `80%` as 0.8.
fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    Some(number / 100.0)
}
