//! Arguments as clients and models send them: repaired if the meaning is clear, otherwise refused with all problems in
//! one error.
//!
//! A [`Shape`] is compiled from the full JSON Schema of a tool's parameters, so a new parameter needs no code here.
//! Annotations in the schema add what a type cannot express:
//!
//! | annotation | on | meaning |
//! |---|---|---|
//! | `x-aliases` | field | other names of the field |
//! | `x-time` | string | a point in time, in any form that [`crate::domain::moment`] reads; a list may permit the word `never`, for no end |
//! | `x-split` | array of strings | one string with commas is a list; `ids`: the entries are IDs, which may also be separated by white space |
//! | `x-empty` | string | an empty text is a value rather than a missing one |
//! | `x-single` | string | an array with one entry is read as that entry |
//! | `x-synonyms` | enum | other words for a value; `{"to", "with", "else"}` decides by the fields next to it |
//! | `x-scalar` | object | a string is read as an object with this field |
//! | `x-lift` | object | fields of an entry of these lists may be sent next to the lists |
//! | `x-example` | object | the example in errors |
//!
//! Invariant: no part of a call is dropped without a note, and no error contains a term of the implementation.

use chrono::{DateTime, Utc};
use rmcp::model::JsonObject;
use serde_json::Value;

use crate::domain::Invalid;
use crate::domain::count::count_of;

mod fold;
mod json_text;
mod name;
mod note;
mod number;
mod path;
mod reader;
mod shape;
#[cfg(test)]
mod tests;

pub(super) use shape::Shape;

/// Maximum number of objects and arrays in one call, including those in JSON text: 500 items with 50 relations each,
/// and room for metadata.
pub(crate) const MAX_CONTAINERS: usize = 30_000;
/// Maximum number of values of any kind in one call, including those in JSON text.
pub(crate) const MAX_VALUES: usize = 200_000;
/// Maximum number of problems in one error.
pub(super) const MAX_LISTED: usize = 20;
/// Maximum number of characters of a value in an error or a note.
const SHOWN_CHARS: usize = 60;

/// Arguments in the form of the schema.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Names, types and values as the parameters declare them.
    pub(super) arguments: JsonObject,
    /// Notes on repaired and ignored arguments.
    pub(super) notes: Vec<String>,
}

/// Arguments that are refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// All problems.
    pub(super) problems: Vec<Problem>,
    /// The arguments without the refused values; placeholders replace required ones.
    pub(super) readable: JsonObject,
    /// Paths of the arguments that `readable` lacks, although the caller gave or meant them.
    lacking: Vec<String>,
}

impl Refused {
    /// Adds what a tool refuses in the readable arguments. A refusal that concerns an argument with another problem is a
    /// consequence of that problem and left out.
    pub(super) fn add(&mut self, invalid: &Invalid) {
        for further in invalid.all() {
            let concerns = |lacking: &String| {
                further
                    .arguments()
                    .any(|argument| path::overlap(&argument, lacking))
            };
            if !self.lacking.iter().any(concerns) {
                self.problems.push(Problem::from(further));
            }
        }
    }
}

/// One problem of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Path of the argument, for example `items[3].tags[0]`; empty for the arguments as a whole.
    pub(super) field: String,
    /// The value as sent, shortened; absent if nothing was sent.
    pub(super) value: Option<String>,
    /// The accepted values; absent for an unknown argument.
    pub(super) expected: Option<String>,
    /// The sentence, without the path.
    pub(super) text: String,
}

impl From<&Invalid> for Problem {
    fn from(invalid: &Invalid) -> Self {
        let sentence = invalid.describe();
        let text = sentence
            .strip_prefix(&format!("{}: ", invalid.field))
            .unwrap_or(&sentence)
            .to_owned();
        Self {
            field: invalid.field.clone(),
            value: Some(invalid.value.clone()),
            expected: Some(invalid.expected.clone()),
            text,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "{}: {}", self.field, self.text)
        }
    }
}

/// Describes all problems of a call in one sentence.
pub(super) fn describe_problems(problems: &[Problem]) -> String {
    let listed: Vec<String> = problems
        .iter()
        .take(MAX_LISTED)
        .map(ToString::to_string)
        .collect();
    let mut text = listed.join("; ");
    if problems.len() > MAX_LISTED {
        text.push_str(&format!(
            "; and {}",
            count_of((problems.len() - MAX_LISTED) as u64, "more problem")
        ));
    }
    if problems.len() > 1 {
        text.insert_str(0, &format!("{} problems: ", problems.len()));
    }
    text
}

/// Converts arguments to the form that `shape` describes.
///
/// # Errors
/// Every problem of the call, in the order of the arguments.
pub(super) fn prepare(
    shape: &Shape,
    arguments: JsonObject,
    now: DateTime<Utc>,
) -> Result<Prepared, Refused> {
    let arguments = Value::Object(arguments);
    let mut reader = reader::Reader::new(now, &arguments);
    let arguments = match reader.read_all(shape, arguments) {
        Some(Value::Object(arguments)) => arguments,
        _ => JsonObject::new(),
    };
    let reader::Finished {
        notes,
        problems,
        mut lacking,
    } = reader.finish();
    if problems.is_empty() {
        return Ok(Prepared { arguments, notes });
    }
    lacking.extend(problems.iter().map(|problem| problem.field.clone()));
    Err(Refused {
        problems,
        readable: arguments,
        lacking,
    })
}

/// Formats a value for errors and notes: JSON, shortened.
fn show_value(value: &Value) -> String {
    match value {
        Value::String(text) => shorten_text(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

fn shorten_text(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_CHARS).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}
