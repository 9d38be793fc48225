//! JSON objects of callers, stored as text. As a tree, an object of many small values needs a hundred times the memory
//! of its text, so that a few stored records could exhaust the memory of the service.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

const EMPTY: &str = "{}";

/// A JSON object as compact text with sorted keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectText(Box<str>);

impl ObjectText {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the object has no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str() == EMPTY
    }

    /// Returns the object as a tree. The tree should not outlive the processing of one record.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).expect("the text was written from an object")
    }

    /// Counts the objects and arrays, including the outermost.
    #[must_use]
    pub fn count_containers(&self) -> usize {
        count_containers(&self.0)
    }
}

impl Default for ObjectText {
    fn default() -> Self {
        Self(EMPTY.into())
    }
}

impl fmt::Debug for ObjectText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Map<String, Value>> for ObjectText {
    fn from(object: &Map<String, Value>) -> Self {
        let text = serde_json::to_string(object).expect("an object always serialises");
        Self(text.into())
    }
}

impl From<Map<String, Value>> for ObjectText {
    fn from(object: Map<String, Value>) -> Self {
        Self::from(&object)
    }
}

impl Serialize for ObjectText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from)
    }
}

/// Counts the objects and arrays of a JSON text.
#[must_use]
pub fn count_containers(json: &str) -> usize {
    let (mut count, mut inside, mut escaped) = (0, false, false);
    for byte in json.bytes() {
        if inside {
            inside = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => inside = true,
            b'{' | b'[' => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> ObjectText {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn text_and_tree_are_the_same_object() {
        let value = json!({ "b": [1, { "x": null }], "a": "quote \" and {" });
        let text = object(value.clone());
        assert_eq!(
            text.as_str(),
            r#"{"a":"quote \" and {","b":[1,{"x":null}]}"#
        );
        assert_eq!(Value::Object(text.to_map()), value);
        assert_eq!(serde_json::to_value(&text).unwrap(), value);
        assert_eq!(serde_json::to_string(&text).unwrap(), text.as_str());
        let spaced: ObjectText = serde_json::from_str(r#"{ "b": 1, "a": 2 }"#).unwrap();
        assert_eq!(spaced.as_str(), r#"{"a":2,"b":1}"#);
    }

    #[test]
    fn only_an_object_is_accepted() {
        assert!(ObjectText::default().is_empty());
        assert!(object(json!({})).is_empty());
        assert!(!object(json!({ "a": 1 })).is_empty());
        assert!(serde_json::from_value::<ObjectText>(json!([1])).is_err());
    }

    #[test]
    fn containers_in_strings_do_not_count() {
        let text = object(json!({ "a": "[{", "b": "\\\"[", "c": [[], {}] }));
        assert_eq!(text.count_containers(), 4);
    }
}
