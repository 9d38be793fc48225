//! Edits JSON with comments. Everything outside of the edited entries keeps its bytes.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

use crate::change::PlanError;
use crate::entry::{Field, FieldValue, TOKEN_INPUT};

/// The format in errors.
const FORMAT: &str = "JSON";
/// The key of the inputs in VS Code.
const INPUTS: &str = "inputs";

/// Comments and trailing commas are what the clients accept beyond JSON.
const ACCEPTED: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses the text; an empty one becomes an empty object.
pub(crate) fn parse_text(text: &str) -> Result<(CstRootNode, CstObject), PlanError> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let root = CstRootNode::parse(text, &ACCEPTED).map_err(|error| PlanError::Malformed {
        format: FORMAT,
        problem: format!(
            "line {}, column {}: {}",
            error.line_display(),
            error.column_display(),
            error.kind().to_string().to_lowercase()
        ),
    })?;
    match root.value() {
        // Only comments.
        None => root.set_value(CstInputValue::Object(Vec::new())),
        Some(CstNode::Container(_)) if root.object_value().is_some() => {}
        Some(other) => return Err(wrong_type("the file", "an object", &other)),
    }
    let object = root.object_value().ok_or_else(|| PlanError::WrongType {
        key: "the file".to_owned(),
        expected: "an object",
        got: "another value",
    })?;
    Ok((root, object))
}

fn wrong_type(key: &str, expected: &'static str, got: &CstNode) -> PlanError {
    let got = match got.to_serde_value() {
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
        None => "another value",
    };
    PlanError::WrongType {
        key: key.to_owned(),
        expected,
        got,
    }
}

/// Returns the property with this name. Parsers disagree about the meaning of a repeated name, so that is an error.
pub(crate) fn find_property(
    object: &CstObject,
    name: &str,
) -> Result<Option<CstObjectProp>, PlanError> {
    let mut found = object
        .properties()
        .into_iter()
        .filter(|property| property.decoded_name().as_deref() == Some(name));
    let first = found.next();
    if found.next().is_some() {
        return Err(PlanError::Duplicate {
            key: name.to_owned(),
        });
    }
    Ok(first)
}

pub(crate) fn find_object(object: &CstObject, name: &str) -> Result<Option<CstObject>, PlanError> {
    let Some(value) = find_property(object, name)?.and_then(|property| property.value()) else {
        return Ok(None);
    };
    match value.as_object() {
        Some(found) => Ok(Some(found)),
        None => Err(wrong_type(&format!("`{name}`"), "an object", &value)),
    }
}

pub(crate) fn find_array(object: &CstObject, name: &str) -> Result<Option<CstArray>, PlanError> {
    let Some(value) = find_property(object, name)?.and_then(|property| property.value()) else {
        return Ok(None);
    };
    match value.as_array() {
        Some(found) => Ok(Some(found)),
        None => Err(wrong_type(&format!("`{name}`"), "an array", &value)),
    }
}

/// Returns the object with this name, which is created if it is missing.
pub(crate) fn require_object(object: &CstObject, name: &str) -> Result<CstObject, PlanError> {
    if let Some(found) = find_object(object, name)? {
        return Ok(found);
    }
    object.append(name, CstInputValue::Object(Vec::new()));
    find_object(object, name)?.ok_or_else(|| PlanError::Duplicate {
        key: name.to_owned(),
    })
}

/// Returns the servers with their names.
pub(crate) fn list_servers(text: &str, container: &str) -> Result<Vec<(String, Value)>, PlanError> {
    let (_root, object) = parse_text(text)?;
    let Some(servers) = find_object(&object, container)? else {
        return Ok(Vec::new());
    };
    let mut listed = Vec::new();
    for property in servers.properties() {
        let Some(name) = property.decoded_name() else {
            continue;
        };
        find_property(&servers, &name)?;
        let entry = property.value().and_then(|value| value.to_serde_value());
        listed.push((name, entry.unwrap_or_default()));
    }
    Ok(listed)
}

/// Sets fields of a server, which is created if it is missing. Without `keeps_others`, its other fields are removed.
pub(crate) fn set_server(
    text: &str,
    container: &str,
    name: &str,
    keeps_others: bool,
    fields: &[Field],
) -> Result<String, PlanError> {
    let (root, object) = parse_text(text)?;
    let servers = require_object(&object, container)?;
    if !keeps_others && let Some(property) = find_property(&servers, name)? {
        property.set_value(CstInputValue::Object(Vec::new()));
    }
    let entry = require_object(&servers, name)?;
    for field in fields {
        let [parents @ .., key] = field.path.as_slice() else {
            continue;
        };
        let mut owner = entry.clone();
        for parent in parents {
            owner = require_object(&owner, parent)?;
        }
        set_value(&owner, key, &field.value)?;
    }
    Ok(root.to_string())
}

fn set_value(object: &CstObject, key: &str, value: &FieldValue) -> Result<(), PlanError> {
    match find_property(object, key)? {
        Some(property) => {
            let current = property.value().and_then(|value| value.to_serde_value());
            if current.as_ref() != Some(&value.to_json()) {
                property.set_value(input_value(value));
            }
        }
        None => {
            object.append(key, input_value(value));
        }
    }
    Ok(())
}

fn input_value(value: &FieldValue) -> CstInputValue {
    match value {
        FieldValue::Text(text) => CstInputValue::String(text.clone()),
        FieldValue::List(list) => {
            CstInputValue::Array(list.iter().cloned().map(CstInputValue::String).collect())
        }
    }
}

/// Removes the servers with these names, and the container if it becomes empty and nothing keeps it.
pub(crate) fn remove_servers(
    text: &str,
    container: &str,
    names: &[&str],
    keeps_container: bool,
) -> Result<String, PlanError> {
    let (root, object) = parse_text(text)?;
    let Some(servers) = find_object(&object, container)? else {
        return Ok(text.to_owned());
    };
    for name in names {
        if let Some(property) = find_property(&servers, name)? {
            property.remove();
        }
    }
    if !keeps_container {
        remove_if_empty(&object, container)?;
    }
    Ok(root.to_string())
}

/// Removes an object or array without elements and comments.
pub(crate) fn remove_if_empty(object: &CstObject, name: &str) -> Result<(), PlanError> {
    let Some(property) = find_property(object, name)? else {
        return Ok(());
    };
    let is_empty = property.value().is_some_and(|value| {
        let children = value.children();
        let only_brackets = children
            .iter()
            .all(|child| child.is_whitespace() || child.is_newline() || child.is_token());
        (value.as_object().is_some() || value.as_array().is_some()) && only_brackets
    });
    if is_empty {
        property.remove();
    }
    Ok(())
}

fn find_token_input(inputs: &CstArray) -> Option<CstNode> {
    inputs.elements().into_iter().find(|input| {
        input
            .to_serde_value()
            .is_some_and(|input| input["id"] == TOKEN_INPUT)
    })
}

/// Adds the question for the token, which VS Code asks once.
pub(crate) fn add_token_input(text: &str) -> Result<String, PlanError> {
    let (root, object) = parse_text(text)?;
    let inputs = match find_array(&object, INPUTS)? {
        Some(inputs) => inputs,
        None => object
            .append(INPUTS, CstInputValue::Array(Vec::new()))
            .array_value_or_set(),
    };
    if find_token_input(&inputs).is_none() {
        let text = |text: &str| CstInputValue::String(text.to_owned());
        inputs.ensure_multiline();
        inputs.append(CstInputValue::Object(vec![
            ("type".to_owned(), text("promptString")),
            ("id".to_owned(), text(TOKEN_INPUT)),
            ("description".to_owned(), text("Token of the memory")),
            ("password".to_owned(), CstInputValue::Bool(true)),
        ]));
    }
    Ok(root.to_string())
}

/// Removes the question for the token.
pub(crate) fn remove_token_input(text: &str) -> Result<String, PlanError> {
    let (root, object) = parse_text(text)?;
    let Some(input) = find_array(&object, INPUTS)?.and_then(|inputs| find_token_input(&inputs))
    else {
        return Ok(text.to_owned());
    };
    input.remove();
    remove_if_empty(&object, INPUTS)?;
    Ok(root.to_string())
}
