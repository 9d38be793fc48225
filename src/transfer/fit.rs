//! Fits names, texts and metadata of other programs into the limits of this one.

use serde_json::{Map, Value};

use crate::domain::validate::{MAX_METADATA_BYTES, MAX_METADATA_DEPTH};

/// Bytes reserved for metadata that the importers add themselves.
const RESERVED_BYTES: usize = 1024;

/// Replaces NUL characters, which neither database stores.
pub(super) fn replace_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Returns the longest beginning of a text that has at most `most` bytes.
pub(super) fn truncate_text(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Fits metadata into the limits. The warnings name changed and omitted values.
pub(super) fn fit_metadata(metadata: Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut fitting = Map::new();
    let mut sizes = Vec::new();
    for (key, value) in metadata {
        let mut is_changed = false;
        let value = fit_value(value, MAX_METADATA_DEPTH - 1, &mut is_changed);
        if is_changed {
            warnings.push(format!(
                "metadata {key:.40?} was nested too deeply: its inner part became text"
            ));
        }
        let key = replace_nul(&key);
        sizes.push((value.to_string().len() + key.len() + 4, key.clone()));
        fitting.insert(key, value);
    }
    let mut total: usize = sizes.iter().map(|(size, _)| size).sum();
    sizes.sort();
    while total > MAX_METADATA_BYTES - RESERVED_BYTES
        && let Some((size, key)) = sizes.pop()
    {
        fitting.remove(&key);
        total -= size;
        warnings.push(format!(
            "metadata {key:.40?} was left out: it has {size} bytes, which is too much"
        ));
    }
    (fitting, warnings)
}

fn fit_value(value: Value, depth: usize, is_changed: &mut bool) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(replace_nul(&text)),
        Value::Array(list) if depth == 0 => {
            *is_changed = true;
            Value::String(replace_nul(&Value::Array(list).to_string()))
        }
        Value::Object(map) if depth == 0 => {
            *is_changed = true;
            Value::String(replace_nul(&Value::Object(map).to_string()))
        }
        Value::Array(list) => list
            .into_iter()
            .map(|value| fit_value(value, depth - 1, is_changed))
            .collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (replace_nul(&key), fit_value(value, depth - 1, is_changed)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::fit_metadata;
    use crate::domain::validate;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn metadata_that_fits_is_not_changed() {
        let metadata = object(json!({ "a": { "b": [1, null, "x"] }, "c": 1.5 }));
        assert_eq!(fit_metadata(metadata.clone()), (metadata, Vec::new()));
    }

    #[test]
    fn metadata_beyond_the_limits_is_reduced_with_warnings() {
        let mut deep = json!("bottom");
        for _ in 0..50 {
            deep = json!([deep]);
        }
        let metadata = object(
            json!({ "deep": deep, "long": "x".repeat(20_000), "nul\0": "a\0b", "small": 1 }),
        );
        let (fitting, warnings) = fit_metadata(metadata);
        validate::metadata("metadata", &fitting).unwrap();
        assert_eq!(fitting["nul\u{fffd}"], "a\u{fffd}b");
        assert_eq!(fitting["small"], 1);
        assert!(
            fitting["deep"].to_string().contains("bottom") && !fitting.contains_key("long"),
            "{fitting:?}"
        );
        assert!(
            warnings[0].contains("\"deep\"") && warnings[1].contains("\"long\""),
            "{warnings:?}"
        );
    }
}
