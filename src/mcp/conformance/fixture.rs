//! The fixtures of the suite that need no code: definitions, and answers that are always the same.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rmcp::ErrorData;
use serde::de::DeserializeOwned;
use serde_json::Value;

static FIXTURES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("fixtures.json")).expect("the fixtures are JSON")
});

/// Returns the definitions of a section, for example `tools`.
pub(super) fn list_fixtures<T: DeserializeOwned>(section: &str) -> Vec<T> {
    serde_json::from_value(FIXTURES[section].clone()).expect("the fixtures fit the protocol")
}

/// Returns an entry of a section, for example the result of a tool.
pub(super) fn find_fixture<T: DeserializeOwned>(section: &str, name: &str) -> Option<T> {
    let fixture = FIXTURES[section].get(name)?.clone();
    Some(serde_json::from_value(fixture).expect("the fixtures fit the protocol"))
}

/// Replaces `{name}` in the texts of a fixture by the value of the argument.
pub(super) fn fill_fixture(fixture: &mut Value, arguments: &BTreeMap<String, String>) {
    match fixture {
        Value::String(text) => {
            for (name, value) in arguments {
                *text = text.replace(&format!("{{{name}}}"), value);
            }
        }
        Value::Array(entries) => entries
            .iter_mut()
            .for_each(|entry| fill_fixture(entry, arguments)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| fill_fixture(field, arguments)),
        _ => {}
    }
}

pub(super) fn unknown_fixture(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("there is no fixture {name:?}"), None)
}

pub(super) fn internal_error(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
