//! `get`.

use rmcp::model::{JsonObject, ToolAnnotations};
use serde_json::Value;

use super::{
    Answer, MUCH_TEXT, ModelTool, ToolError, describe_detail, describe_memory, given_count,
    limited_answer, list_within, with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, GetOutput, GetParams, HistoryView};

/// Each list at the end of an answer may take this fraction of the budget.
const LIST_PART: usize = 4;

pub(crate) struct Get;

impl ModelTool for Get {
    type Params = GetParams;
    type Output = GetOutput;

    const NAME: &'static str = "get";
    const TITLE: &'static str = "Read memories";
    const DESCRIPTION: &'static str =
        "Read full memories by ID (optionally with history), or everything about entities by name.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(true)
    }

    fn check(engine: &Engine, params: GetParams) -> Result<(), Invalid> {
        engine.check_get(&params)
    }

    fn reads_much(arguments: &JsonObject) -> bool {
        let of = |name| given_count(arguments, name);
        of("max_chars") > MUCH_TEXT
            || of("entities") > 3
            || arguments.get("history") == Some(&true.into())
    }

    async fn run(engine: &Engine, call: &Call, params: GetParams) -> Result<Answer, ToolError> {
        let budget = params.budget();
        let output = engine.get(call, params).await?;
        let mut parts: Vec<String> = output.memories.iter().map(describe_memory).collect();
        parts.extend(output.entities.iter().map(describe_detail));
        parts.extend(output.history.iter().map(describe_change));
        let text = with_notes(&output.notes, &parts.join("\n"));
        Ok(limited_answer(
            &output,
            text,
            ending(&output, budget),
            budget,
        ))
    }
}

/// Describes missing parts and how to read the rest. Lists take at most a part of the budget.
fn ending(output: &GetOutput, budget: usize) -> String {
    let not_read: Vec<String> = output
        .not_read
        .iter()
        .map(|id| short_id(id).to_owned())
        .collect();
    let lines = [
        list_within("Not found", &output.missing, budget / LIST_PART),
        list_within("Not read", &not_read, budget / LIST_PART),
        output
            .next_cursor
            .as_ref()
            .map(|cursor| format!("More with cursor {cursor}")),
    ];
    lines
        .into_iter()
        .flatten()
        .collect::<Vec<String>>()
        .join("\n")
}

/// Describes a change in a sentence.
fn describe_change(entry: &HistoryView) -> String {
    let HistoryView {
        version, at, by, ..
    } = entry;
    let id = short_id(&entry.id);
    let mut sentence = format!(
        "{at}: {by} {} memory {id}, now version {version}",
        entry.change.as_str()
    );
    if let Some(reason) = &entry.reason {
        sentence.push_str(&format!(", because {}", quoted(reason)));
    }
    let (Some(Value::Object(old)), Some(Value::Object(new))) = (&entry.old, &entry.new) else {
        return sentence;
    };
    let changes: Vec<String> = new
        .iter()
        .map(|(field, value)| {
            let before = old.get(field).unwrap_or(&Value::Null);
            format!(
                "{} changed from {} to {}",
                field.replace('_', " "),
                in_words(before),
                in_words(value)
            )
        })
        .collect();
    if !changes.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&changes.join("; "));
    }
    sentence
}

/// Formats the value of a field for people.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "nothing".to_owned(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "nothing".to_owned(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name} {}", in_words(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

/// Formats a text on one line, so that it cannot be mistaken for another entry.
fn quoted(text: &str) -> String {
    format!("“{}”", text.replace('\n', " ⏎ ").replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Change;

    #[test]
    fn history_is_prose() {
        let entry = HistoryView {
            id: "0192".to_owned(),
            version: 3,
            change: Change::Updated,
            at: "2026-01-01T00:00:00Z".to_owned(),
            by: "laptop".to_owned(),
            reason: Some("it moved".to_owned()),
            old: Some(json!({"content": "old\n# a heading", "tags": [], "valid_until": null})),
            new: Some(
                json!({"content": "new", "tags": ["a", "b"], "valid_until": "2027-01-01T00:00:00Z"}),
            ),
        };
        assert_eq!(
            describe_change(&entry),
            "2026-01-01T00:00:00Z: laptop updated memory 0192, now version 3, because “it moved”: content changed from \
             “old ⏎ # a heading” to “new”; tags changed from nothing to “a”, “b”; valid until changed from nothing to \
             “2027-01-01T00:00:00Z”"
        );
        let created = HistoryView {
            change: Change::Created,
            version: 1,
            reason: None,
            old: None,
            new: None,
            ..entry
        };
        assert_eq!(
            describe_change(&created),
            "2026-01-01T00:00:00Z: laptop created memory 0192, now version 1"
        );
    }
}
