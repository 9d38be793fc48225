//! JSON inside of a string: clients and models encode arrays and objects as text. Depth and number of values are
//! counted before anything is parsed, so that a small text cannot become a large tree.

use serde_json::Value;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most values, keys included.
const MAX_VALUES: usize = 100_000;

/// Parses a text that must be a JSON array or object. Arrays and objects as Python prints them, such as `['a', 'b']`,
/// are read as well.
///
/// # Errors
/// Why the text cannot be read, as the end of a sentence.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    check_bounds(text)?;
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) => python_literal(text).ok_or_else(|| format!("a string that is not valid JSON ({error})")),
    }
}

fn check_bounds(text: &str) -> Result<(), String> {
    let (mut depth, mut values, mut inside, mut escaped) = (0_usize, 1_usize, false, false);
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
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("JSON nested more than {MAX_DEPTH} deep"));
        }
        if values > MAX_VALUES {
            return Err(format!("JSON with more than {MAX_VALUES} values"));
        }
    }
    Ok(())
}

/// `['a', None]` is `["a", null]`. A text with double quotes or backslashes could mean something else.
fn python_literal(text: &str) -> Option<Value> {
    if !text.contains('\'') || text.contains(['"', '\\']) {
        return None;
    }
    let mut json = String::with_capacity(text.len());
    for (place, piece) in text.split('\'').enumerate() {
        if place > 0 {
            json.push('"');
        }
        // Every second piece is inside of quotes.
        if place % 2 == 1 {
            json.push_str(piece);
        } else {
            json.push_str(&piece.replace("None", "null").replace("True", "true").replace("False", "false"));
        }
    }
    check_bounds(&json).ok()?;
    serde_json::from_str(&json).ok()
}
