//! Generates docs/tools.md from the schemas and from real calls of a running service. A new tool needs a line in
//! [`schemas`] and a call in [`SCRIPT`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cognitive_memory_mcp::engine::{
    ExploreOutput, ExploreParams, FocusOutput, FocusParams, ForgetOutput, ForgetParams, GetOutput,
    GetParams, LinkOutput, LinkParams, RecallOutput, RecallParams, RememberOutput, RememberParams,
    ReviewOutput, ReviewParams, StatusOutput, StatusParams, UpdateOutput, UpdateParams,
};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::process::Setup;

/// If this variable is set, the test writes the file instead of comparing it.
const WRITE: &str = "MEMORY_WRITE_DOCS";
/// Replaces every time in the answers.
const MOMENT: &str = "2026-01-02T03:04:05Z";

/// Returns the complete schemas of a tool's arguments and answer.
fn schemas(tool: &str) -> Option<(Value, Value)> {
    Some(match tool {
        "remember" => both::<RememberParams, RememberOutput>(),
        "recall" => both::<RecallParams, RecallOutput>(),
        "get" => both::<GetParams, GetOutput>(),
        "update" => both::<UpdateParams, UpdateOutput>(),
        "forget" => both::<ForgetParams, ForgetOutput>(),
        "focus" => both::<FocusParams, FocusOutput>(),
        "link" => both::<LinkParams, LinkOutput>(),
        "explore" => both::<ExploreParams, ExploreOutput>(),
        "review" => both::<ReviewParams, ReviewOutput>(),
        "status" => both::<StatusParams, StatusOutput>(),
        _ => return None,
    })
}

fn both<P: JsonSchema, O: JsonSchema>() -> (Value, Value) {
    let settings = SchemaSettings::draft2020_12;
    let arguments = settings()
        .for_deserialize()
        .into_generator()
        .into_root_schema_for::<P>();
    let answer = settings()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<O>();
    (arguments.to_value(), answer.to_value())
}

/// One call of each tool, in a meaningful order; `$1` is the first ID in an answer.
const SCRIPT: &[(&str, &str)] = &[
    (
        "remember",
        r#"{"items": [
            {"content": "The harbour service of project Quay listens on port 8080.", "tags": ["quay"],
             "importance": 0.8, "occurred_at": "2026-01-01"},
            {"kind": "episode", "content": "The Friday deployment of Quay had to be undone.", "tags": ["quay"],
             "situation": "Deploying Quay on a Friday afternoon, nobody on call", "outcome": -0.8,
             "lesson": "Deploy before noon, never on a Friday."}],
          "idempotency_key": "quay-1"}"#,
    ),
    (
        "recall",
        r#"{"query": "Which port does Quay use?", "limit": 1}"#,
    ),
    (
        "update",
        r#"{"id": "$1", "expected_version": 1, "reason": "moved with release 2",
            "content": "The harbour service of project Quay listens on port 8081."}"#,
    ),
    ("get", r#"{"ids": ["$1"], "history": true}"#),
    ("forget", r#"{"ids": ["$2"], "reason": "a duplicate"}"#),
    (
        "focus",
        r#"{"action": "add", "content": "Move Quay to release 2", "session": "quay-move", "importance": 0.9}"#,
    ),
    (
        "link",
        r#"{"entities": [{"name": "Quay", "type": "project", "properties": {"language": "Rust"}}],
            "relations": [{"from": "Ada", "to": "Quay", "type": "maintains", "valid_from": "2025-06-01"}]}"#,
    ),
    (
        "explore",
        r#"{"mode": "neighbours", "name": "Quay", "depth": 2}"#,
    ),
    ("review", r#"{"action": "list"}"#),
    ("status", "{}"),
];

/// IDs of the run, in order of appearance.
#[derive(Default)]
struct Ids(Vec<String>);

impl Ids {
    fn shown(place: usize) -> String {
        format!("0198c0de-0000-7000-8000-{:012}", place + 1)
    }

    /// Replaces the placeholders by real IDs.
    fn fill(&self, arguments: &str) -> Value {
        let mut text = arguments.to_owned();
        for (place, id) in self.0.iter().enumerate() {
            text = text.replace(&format!("\"${}\"", place + 1), &format!("\"{id}\""));
        }
        serde_json::from_str(&text).expect("JSON")
    }

    /// Replaces the IDs and times of the run.
    fn settle(&mut self, value: &mut Value, moments: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                if text.len() == 36 && Uuid::parse_str(text).is_ok() {
                    let place = self.0.iter().position(|id| id == text).unwrap_or_else(|| {
                        self.0.push(text.clone());
                        self.0.len() - 1
                    });
                    *text = Self::shown(place);
                } else if chrono::DateTime::parse_from_rfc3339(text).is_ok()
                    && !text.ends_with("T00:00:00Z")
                {
                    moments.push(text.clone());
                    MOMENT.clone_into(text);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.settle(item, moments)),
            Value::Object(object) => object
                .values_mut()
                .for_each(|item| self.settle(item, moments)),
            _ => {}
        }
    }

    fn settle_text(&self, text: &str, moments: &[String]) -> String {
        let mut text = text.to_owned();
        for (place, id) in self.0.iter().enumerate() {
            let shown = Self::shown(place);
            text = text
                .replace(id, &shown)
                .replace(&id[id.len() - 8..], &shown[shown.len() - 8..]);
        }
        for moment in moments {
            let second = moment.split(['.', 'Z']).next().unwrap_or_default();
            text = text
                .replace(moment, MOMENT)
                .replace(&format!("{second}Z"), MOMENT);
        }
        text
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// Describes a type in words, and returns the schema of its elements.
fn kind<'s>(field: &'s Value, root: &'s Value) -> (String, Option<&'s Value>) {
    if let Some(name) = field["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix("#/$defs/"))
    {
        return kind(&root["$defs"][name], root);
    }
    if let Some(names) = field["enum"].as_array() {
        let names: Vec<String> = names
            .iter()
            .filter_map(Value::as_str)
            .map(|name| format!("`{name}`"))
            .collect();
        return (names.join(", "), None);
    }
    if let Some(variants) = field["oneOf"]
        .as_array()
        .or_else(|| field["anyOf"].as_array())
    {
        let constants: Vec<String> = variants
            .iter()
            .filter_map(|v| v["const"].as_str())
            .map(|name| format!("`{name}`"))
            .collect();
        if !constants.is_empty() {
            return (constants.join(", "), None);
        }
        let real = variants
            .iter()
            .find(|variant| variant["type"] != "null")
            .unwrap_or(field);
        return kind(real, root);
    }
    let name = match &field["type"] {
        Value::String(name) => name.as_str(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or("any"),
        _ => "any JSON",
    };
    match name {
        "array" => {
            let (inner, deeper) = kind(&field["items"], root);
            (format!("list of {inner}"), deeper)
        }
        "object" if field["properties"].is_object() => ("object".to_owned(), Some(field)),
        "string" => ("text".to_owned(), None),
        other => (other.to_owned(), None),
    }
}

/// Returns the rows of a table, with nested fields below their parents.
fn rows(schema: &Value, root: &Value, prefix: &str, always: &str, table: &mut String) {
    let none = serde_json::Map::new();
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let fields = schema["properties"].as_object().unwrap_or(&none).iter();
    for (name, field) in fields.filter(|(_, field)| field["x-hidden"].is_null()) {
        let (is, deeper) = kind(field, root);
        let mark = if required.contains(&name.as_str()) {
            always
        } else {
            ""
        };
        let what = field["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ")
            .replace('|', "\\|");
        writeln!(table, "| `{prefix}{name}` | {is} | {mark} | {what} |").expect("text");
        if let Some(deeper) = deeper {
            let dots = if is.starts_with("list") { "[]." } else { "." };
            rows(
                deeper,
                root,
                &format!("{prefix}{name}{dots}"),
                always,
                table,
            );
        }
    }
}

fn table(schema: &Value, always: &str) -> String {
    let mut text = String::new();
    rows(schema, schema, "", always, &mut text);
    if text.is_empty() {
        return "None.\n".to_owned();
    }
    format!("| field | type | | |\n|---|---|---|---|\n{text}")
}

fn hints(tool: &Value) -> &'static str {
    let hint = |name: &str| tool["annotations"][name].as_bool();
    match (
        hint("readOnlyHint"),
        hint("destructiveHint"),
        hint("idempotentHint"),
    ) {
        (Some(true), ..) => "Changes nothing.",
        (_, Some(true), _) => "Destructive and idempotent.",
        (_, _, Some(true)) => "Idempotent.",
        _ => "Changes memories, but destroys nothing.",
    }
}

fn introduction() -> String {
    format!(
        "# Tools, prompts and resources\n\n\
         <!-- Generated from the schemas and from real calls by `{WRITE}=1 cargo nextest run -E 'test(tools_document)'`. \
         Do not edit. -->\n\n{INTRODUCTION}"
    )
}

const INTRODUCTION: &str = r#"This document lists the tools, prompts and resources that a client finds at `/mcp`. Every answer has two forms: structured content, which the tables describe, and a short text for a model. `tools/list` describes answers one level deep to save tokens; the tables describe them completely. An absent field is empty.

A failed call has `isError`. Its structured content has `error` with `code` (stable), `message` and `advice`, and for a wrong argument also `field`, `value` and `expected`. A call reports all its problems at once; `problems` lists them if there are several.

The service reads arguments by the schema of the tool and repairs those whose meaning is clear:

- `null`, and `""` for an optional argument, mean "not set". However, `[]` clears `tags` in `update`, and `null` inside `metadata` and `properties` removes a key.
- JSON text is parsed if an array or an object is expected. A single value becomes an array with one entry. Text with commas becomes several tags or IDs.
- Numbers and booleans may be strings. Enumeration values may be in capitals or common synonyms (`fact`: `note`).
- Arguments may have common other names (`id`: `ids`). `remember` accepts the fields of one item as its own arguments, and `link`
  those of one relation or entity. Arguments inside an object such as `input` or `filters` are read as if they were beside it.
- A word for the action, such as `action: "restore"`, sets the field that has this value.
- Times may be RFC 3339, dates, months (`2026-03`), without a zone (then UTC), or in words in English, German, French, Spanish, Italian, Portuguese or Dutch (`yesterday`, `7 days ago`, `letzte Woche`, `il y a trois jours`). A period means its beginning.

An unknown argument is rejected if it looks like a misspelling of a known one, and ignored otherwise. `notes` lists everything that was repaired or ignored. An array that gives the fields of an object by position is rejected.

The IDs and times in the examples are invented; the rest was answered by a running service.
"#;

async fn document() -> String {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let list = async |method: &str, name: &str| {
        let answer = client
            .try_request(method, json!({}))
            .await
            .expect("an answer");
        answer["result"][name]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("{answer}"))
    };
    let tools = list("tools/list", "tools").await;

    let mut ids = Ids::default();
    let mut examples: BTreeMap<&str, String> = BTreeMap::new();
    for (tool, arguments) in SCRIPT {
        let mut arguments = ids.fill(arguments);
        let mut result = client
            .try_call(tool, arguments.clone())
            .await
            .expect("an answer")["result"]
            .take();
        assert_ne!(result["isError"], true, "{tool}: {result}");
        let mut moments = Vec::new();
        ids.settle(&mut arguments, &mut Vec::new());
        ids.settle(&mut result["structuredContent"], &mut moments);
        let text = ids.settle_text(
            result["content"][0]["text"].as_str().expect("text"),
            &moments,
        );
        let example = format!(
            "```json\n{}\n```\n\nanswers\n\n```json\n{}\n```\n\nand to a model\n\n```text\n{text}\n```\n",
            pretty(&arguments),
            pretty(&result["structuredContent"])
        );
        examples.insert(tool, example);
    }

    let mut text = introduction();
    for tool in &tools {
        let name = tool["name"].as_str().expect("a name");
        let (arguments, answer) =
            schemas(name).unwrap_or_else(|| panic!("add {name} to `schemas`"));
        let example = examples
            .get(name)
            .unwrap_or_else(|| panic!("add a call of {name} to SCRIPT"));
        let description = tool["description"].as_str().expect("a description");
        write!(
            text,
            "\n## `{name}`\n\n{description} {}\n\n### Arguments of {name}\n\n{}\n### Answer of {name}\n\n{}\n### Example of \
             {name}\n\n{example}",
            hints(tool),
            table(&arguments, "needed"),
            table(&answer, "always")
        )
        .expect("text");
    }
    let prompts = list("prompts/list", "prompts").await;
    let mut resources = list("resources/list", "resources").await;
    resources.extend(list("resources/templates/list", "resourceTemplates").await);
    text.push_str(&describe_prompts_and_resources(&prompts, &resources));
    server.stop().await;
    text
}

fn describe_prompts_and_resources(prompts: &[Value], resources: &[Value]) -> String {
    let mut text = String::new();
    text.push_str(
        "\n## Prompts\n\nA person requests these texts, in many clients as a command. All arguments are optional.\n",
    );
    text.push_str("\n| prompt | purpose | arguments |\n|---|---|---|\n");
    for prompt in prompts {
        let arguments: Vec<String> = prompt["arguments"]
            .as_array()
            .expect("arguments")
            .iter()
            .map(|a| {
                format!(
                    "`{}`: {}",
                    a["name"].as_str().unwrap(),
                    a["description"].as_str().unwrap()
                )
            })
            .collect();
        let (name, description) = (
            prompt["name"].as_str().unwrap(),
            prompt["description"].as_str().unwrap(),
        );
        writeln!(
            text,
            "| `{name}` | {description} | {} |",
            arguments.join("; ")
        )
        .expect("text");
    }
    text.push_str("\n## Resources\n\nA person can attach these resources to a conversation.\n\n| address | content |\n|---|---|\n");
    for resource in resources {
        let uri = resource["uri"]
            .as_str()
            .or_else(|| resource["uriTemplate"].as_str())
            .expect("an address");
        writeln!(
            text,
            "| `{uri}` | {} |",
            resource["description"].as_str().unwrap()
        )
        .expect("text");
    }
    text.push_str("\nIDs and tags in arguments are completed (`completion/complete`) from the newest memories.\n");
    text
}

#[tokio::test]
async fn tools_document_matches_the_service() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tools.md");
    let made = document().await;
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, made).expect("written");
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == made,
        "docs/tools.md differs from what the service answers; generate it with: {WRITE}=1 cargo nextest run -E 'test(tools_document)'\n{made}"
    );
}
