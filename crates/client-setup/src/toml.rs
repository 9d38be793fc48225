//! Edits the TOML settings of Codex. Comments and the order of keys stay.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use crate::change::PlanError;
use crate::entry::{Field, FieldValue};

/// The format in errors.
const FORMAT: &str = "TOML";
const CONTAINER: &str = "mcp_servers";
const WINDOWS_END: &str = "\r\n";

fn parse_text(text: &str) -> Result<DocumentMut, PlanError> {
    text.parse::<DocumentMut>()
        .map_err(|error| PlanError::Malformed {
            format: FORMAT,
            problem: describe_error(text, &error),
        })
}

/// Describes the place and the problem, without the line itself, which may contain a secret.
fn describe_error(text: &str, error: &toml_edit::TomlError) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    format!("line {line}, column {column}: {message}")
}

fn wrong_type(key: &str, item: &Item) -> PlanError {
    PlanError::WrongType {
        key: format!("`{key}`"),
        expected: "a table",
        got: match item.type_name() {
            "string" => "a string",
            "integer" | "float" => "a number",
            "boolean" => "a boolean",
            "array" | "array of tables" => "an array",
            _ => "another value",
        },
    }
}

/// Returns the servers with their names.
pub(crate) fn list_servers(text: &str) -> Result<Vec<(String, Value)>, PlanError> {
    let document = parse_text(text)?;
    let Some(item) = document.get(CONTAINER) else {
        return Ok(Vec::new());
    };
    let servers = item
        .as_table_like()
        .ok_or_else(|| wrong_type(CONTAINER, item))?;
    Ok(servers
        .iter()
        .map(|(name, entry)| (name.to_owned(), item_to_json(entry)))
        .collect())
}

/// Returns the strings, arrays and tables of an item; other values are irrelevant to us.
fn item_to_json(item: &Item) -> Value {
    if let Some(table) = item.as_table_like() {
        let entries = table.iter();
        return entries
            .map(|(key, item)| (key.to_owned(), item_to_json(item)))
            .collect();
    }
    if let Some(array) = item.as_array() {
        let items = array.iter();
        return items
            .map(|item| item.as_str().map_or(Value::Null, Value::from))
            .collect();
    }
    item.as_str().map_or(Value::Null, Value::from)
}

/// Sets fields of a server, which is created if it is missing. Without `keeps_others`, its other fields are removed.
pub(crate) fn set_server(
    text: &str,
    name: &str,
    keeps_others: bool,
    fields: &[Field],
) -> Result<String, PlanError> {
    let mut document = parse_text(text)?;
    let item = document
        .entry(CONTAINER)
        .or_insert_with(|| Item::Table(implicit_table()));
    let found = wrong_type(CONTAINER, item);
    let servers = item.as_table_like_mut().ok_or(found)?;
    if !servers.contains_key(name) {
        servers.insert(name, new_server(text));
    }
    let Some(item) = servers.get_mut(name) else {
        return Ok(text.to_owned());
    };
    let found = wrong_type(name, item);
    let entry = item.as_table_like_mut().ok_or(found)?;
    if !keeps_others {
        entry.clear();
    }
    for field in fields {
        set_value(entry, field);
    }
    Ok(format_document(&document, text))
}

/// Returns the text of an edited document. The library writes line feeds only, so the line ends of Windows are restored.
fn format_document(document: &DocumentMut, before: &str) -> String {
    let text = document.to_string();
    if text == before.replace(WINDOWS_END, "\n") {
        return before.to_owned();
    }
    let first_end = before
        .find('\n')
        .and_then(|end| before[..end].chars().next_back());
    if first_end == Some('\r') {
        text.replace('\n', WINDOWS_END)
    } else {
        text
    }
}

fn implicit_table() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

/// Returns an empty table, which begins after a blank line if other settings precede it.
fn new_server(text: &str) -> Item {
    let mut table = Table::new();
    if text.trim().is_empty() {
        table.decor_mut().set_prefix("");
    } else {
        table.decor_mut().set_prefix("\n");
    }
    Item::Table(table)
}

/// Sets a field of an entry; all fields of Codex have one key. An equal value keeps its form and its comment.
fn set_value(entry: &mut dyn TableLike, field: &Field) {
    let [key] = field.path.as_slice() else {
        return;
    };
    if entry.get(key).map(item_to_json) == Some(field.value.to_json()) {
        return;
    }
    let new = match &field.value {
        FieldValue::Text(text) => value(text.as_str()),
        FieldValue::List(list) => value(list.iter().map(String::as_str).collect::<Array>()),
    };
    match (entry.get_mut(key).and_then(Item::as_value_mut), new) {
        // The decoration contains the comment at the end of the line.
        (Some(old), Item::Value(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (_, new) => {
            entry.insert(key, new);
        }
    }
}

/// Removes the servers with these names, and their container if it becomes empty.
pub(crate) fn remove_servers(text: &str, names: &[&str]) -> Result<String, PlanError> {
    let mut document = parse_text(text)?;
    let Some(servers) = document
        .get_mut(CONTAINER)
        .and_then(Item::as_table_like_mut)
    else {
        return Ok(text.to_owned());
    };
    for name in names {
        servers.remove(name);
    }
    if servers.is_empty() {
        document.remove(CONTAINER);
    }
    Ok(format_document(&document, text))
}
