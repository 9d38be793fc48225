//! JSON inside a string: clients and models encode arrays and objects as text. Depth and number of values are counted
//! before anything is parsed, and over the whole call, so that small texts cannot become large trees.

use serde_json::Value;

use super::{MAX_CONTAINERS, MAX_VALUES};
use crate::domain::lenient_json;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value that was read from text, and how it was read.
pub(super) struct Parsed {
    pub(super) value: Value,
    /// For a note to the caller.
    pub(super) how: String,
}

fn parse_repaired(text: &str) -> Option<Parsed> {
    let (repaired, repairs) = lenient_json::mend(text);
    let value = serde_json::from_str(&repaired).ok()?;
    let repairs: Vec<String> = repairs.iter().map(ToString::to_string).collect();
    Some(Parsed {
        value,
        how: format!("read from JSON text ({})", repairs.join("; ")),
    })
}

/// The counts that limit the size of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    /// Objects and arrays.
    containers: usize,
    /// Values of any kind.
    values: usize,
}

/// The total size of a call: its arguments as they arrived, and the JSON texts in them that were parsed.
#[derive(Debug)]
pub(super) struct CallSize(Size);

impl CallSize {
    /// Counts the arguments as they arrived.
    pub(super) fn of_arguments(arguments: &Value) -> Self {
        let mut size = Size::default();
        count_values(arguments, &mut size);
        Self(size)
    }

    /// Parses a text that must be a JSON array or object, and adds it to the size of the call. Arrays and objects in
    /// Python notation, for example `['a', 'b']`, are also accepted, and so is JSON with raw line breaks in strings,
    /// halves of surrogate pairs, or `NaN`.
    ///
    /// # Errors
    /// Why the text is not readable, as the end of a sentence.
    pub(super) fn parse_text(&mut self, text: &str) -> Result<Parsed, String> {
        let size = scan_text(text)?;
        self.add_size(size)?;
        let how = "read from JSON text".to_owned();
        match serde_json::from_str(text) {
            Ok(value) => Ok(Parsed { value, how }),
            Err(error) => match python_literal(text) {
                Some(value) => Ok(Parsed { value, how }),
                None => parse_repaired(text)
                    .ok_or_else(|| format!("a string that is not valid JSON ({error})")),
            },
        }
    }

    fn add_size(&mut self, size: Size) -> Result<(), String> {
        let total = Size {
            containers: self.0.containers + size.containers,
            values: self.0.values + size.values,
        };
        let excess = if total.containers > MAX_CONTAINERS {
            format!("{MAX_CONTAINERS} objects and arrays")
        } else if total.values > MAX_VALUES {
            format!("{MAX_VALUES} values")
        } else {
            self.0 = total;
            return Ok(());
        };
        Err(format!(
            "JSON text with which the call has more than {excess} (send fewer at once)"
        ))
    }
}

fn count_values(value: &Value, size: &mut Size) {
    size.values += 1;
    match value {
        Value::Array(entries) => {
            size.containers += 1;
            entries.iter().for_each(|entry| count_values(entry, size));
        }
        Value::Object(fields) => {
            size.containers += 1;
            fields.values().for_each(|field| count_values(field, size));
        }
        _ => {}
    }
}

/// Counts the values that a text would become.
fn scan_text(text: &str) -> Result<Size, String> {
    let (mut size, mut depth, mut inside, mut escaped) = (Size::default(), 0_usize, false, false);
    for byte in text.bytes() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => inside = true,
            b'[' | b'{' => {
                depth += 1;
                size.containers += 1;
                size.values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            // Each further value follows a comma.
            b',' => size.values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("JSON nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(size)
}

/// Converts `['a', None]` to `["a", null]`. A text with double quotes or backslashes would be ambiguous.
fn python_literal(text: &str) -> Option<Value> {
    if !text.contains('\'') || text.contains(['"', '\\']) {
        return None;
    }
    let mut json = String::with_capacity(text.len());
    for (place, piece) in text.split('\'').enumerate() {
        if place > 0 {
            json.push('"');
        }
        // Every second piece is inside quotes.
        if place % 2 == 1 {
            json.push_str(piece);
        } else {
            json.push_str(
                &piece
                    .replace("None", "null")
                    .replace("True", "true")
                    .replace("False", "false"),
            );
        }
    }
    // Other quotes delimit other strings, so the size is checked again.
    CallSize(Size::default())
        .add_size(scan_text(&json).ok()?)
        .ok()?;
    serde_json::from_str(&json).ok()
}
