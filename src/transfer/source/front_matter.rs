//! The YAML between `---` lines at the top of a Markdown file.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Maximum nesting depth.
const MAX_DEPTH: usize = 32;
/// Maximum number of values; an alias counts each time it is used.
const MAX_VALUES: usize = 10_000;

/// Maximum bytes of text from aliases.
const MAX_ALIAS_BYTES: usize = 1024 * 1024;

/// A Markdown file in its two parts.
#[derive(Debug, PartialEq)]
pub(super) struct Document<'a> {
    /// The fields of the front matter. Every scalar except null is a string, as written.
    pub fields: Map<String, Value>,
    /// The text after it; the whole file if the front matter cannot be parsed.
    pub body: &'a str,
    /// A warning if the front matter was read as text or has problems.
    pub warning: Option<String>,
}

/// Splits a Markdown file into its parts.
pub(super) fn split(text: &str) -> Document<'_> {
    let whole = Document {
        fields: Map::new(),
        body: text,
        warning: None,
    };
    let Some((yaml, body)) = between_marks(text) else {
        return whole;
    };
    match parse(yaml) {
        Ok((fields, warning)) => Document {
            fields,
            body,
            warning,
        },
        Err(error) => Document {
            warning: Some(format!(
                "the front matter is not valid YAML ({error}): kept as text"
            )),
            ..whole
        },
    }
}

/// Returns the lines between the first line, which is `---`, and the next one that is `---` or
/// `...`.
fn between_marks(text: &str) -> Option<(&str, &str)> {
    let first_end = text.find('\n')?;
    if text[..first_end].trim_end() != "---" {
        return None;
    }
    let rest = &text[first_end + 1..];
    let mut offset = 0;
    for line in rest.split_inclusive('\n') {
        if matches!(line.trim_end(), "---" | "...") {
            return Some((&rest[..offset], &rest[offset + line.len()..]));
        }
        offset += line.len();
    }
    None
}

/// An incomplete list or object.
enum Open {
    List(Vec<Value>),
    Object {
        fields: Map<String, Value>,
        key: Option<String>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<(Open, usize)>,
    anchors: HashMap<usize, Value>,
    values: usize,
    alias_bytes: usize,
    root: Option<Value>,
    repeated_key: Option<String>,
}

fn parse(yaml: &str) -> Result<(Map<String, Value>, Option<String>), String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(yaml) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::DocumentEnd => break,
            event => builder.take(event)?,
        }
    }
    let warning = builder
        .repeated_key
        .map(|key| format!("{key:?} is in the front matter twice: both values are kept"));
    match builder.root {
        None | Some(Value::Null) => Ok((Map::new(), warning)),
        Some(Value::Object(fields)) => Ok((fields, warning)),
        Some(_) => Err("fields with values are expected".to_owned()),
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null {
                    Value::Null
                } else {
                    Value::String(text.into_owned())
                };
                self.add(value, anchor)
            }
            Event::Alias(anchor) => {
                let value = self
                    .anchors
                    .get(&anchor)
                    .ok_or("an alias refers to itself")?;
                let (values, bytes) = measure(value);
                self.values += values;
                self.alias_bytes += bytes;
                if self.alias_bytes > MAX_ALIAS_BYTES {
                    return Err(format!(
                        "its aliases repeat more than {MAX_ALIAS_BYTES} bytes"
                    ));
                }
                self.add(value.clone(), 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.begin(
                Open::Object {
                    fields: Map::new(),
                    key: None,
                },
                anchor,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some((Open::List(list), anchor)) => self.add(Value::Array(list), anchor),
            Some((Open::Object { fields, .. }, anchor)) => self.add(Value::Object(fields), anchor),
            None => Ok(()),
        }
    }

    fn add(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(format!("it has more than {MAX_VALUES} values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some((Open::List(list), _)) => list.push(value),
            Some((Open::Object { fields, key }, _)) => match key.take() {
                None => {
                    *key = Some(match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    });
                }
                Some(key) => {
                    let value = match fields.remove(&key) {
                        None => value,
                        Some(first) => {
                            self.repeated_key = Some(key.clone());
                            let mut both = into_list(first);
                            both.extend(into_list(value));
                            Value::Array(both)
                        }
                    };
                    fields.insert(key, value);
                }
            },
        }
        Ok(())
    }
}

fn into_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        other => vec![other],
    }
}

/// Counts the values in a value, and the bytes of their text.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(values, bytes): (usize, usize), (more, more_bytes): (usize, usize)| {
        (values + more, bytes + more_bytes)
    };
    match value {
        Value::Array(list) => list.iter().map(measure).fold((1, 0), add),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| add((0, name.len()), measure(value)))
            .fold((1, 0), add),
        Value::String(text) => (1, text.len()),
        _ => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Document, split};

    fn fields(yaml: &str) -> Value {
        let text = format!("---\n{yaml}\n---\nbody\n");
        let Document {
            fields,
            body,
            warning,
        } = split(&text);
        assert_eq!((body, warning), ("body\n", None), "{yaml}");
        Value::Object(fields)
    }

    #[test]
    fn aliases_of_a_long_text_are_refused() {
        let aliases = "- *a\n".repeat(2_000);
        let text = format!(
            "---\nlong: &a {}\nlist:\n{aliases}---\nbody",
            "x".repeat(1_000)
        );
        let document = split(&text);
        assert!(
            document
                .warning
                .unwrap()
                .contains("its aliases repeat more than 1048576 bytes")
        );
        assert!(document.body.ends_with("body"));
    }

    #[test]
    fn quotes_escapes_comments_and_blocks() {
        assert_eq!(
            fields("tags: [\"#quay\", 'x y', plain]   # a comment")["tags"],
            json!(["#quay", "x y", "plain"])
        );
        assert_eq!(
            fields(r#"title: "He said \"deep\" and 'it''s' \u00e9""#)["title"],
            "He said \"deep\" and 'it''s' é"
        );
        assert_eq!(fields("title: 'it''s'")["title"], "it's");
        assert_eq!(
            fields("a: >-\n  folded\n  over: lines\nb: |\n  kept\n  lines\n"),
            json!({ "a": "folded over: lines", "b": "kept\nlines\n" })
        );
        assert_eq!(
            fields("tags:\n- a # one\n- \"b, c\"\n- [d]"),
            json!({ "tags": ["a", "b, c", ["d"]] })
        );
        assert_eq!(
            fields("a: {b: [1, 2.0], c: ~}\ne:\nf: \"\""),
            json!({ "a": { "b": ["1", "2.0"], "c": null }, "e": null, "f": "" })
        );
        assert_eq!(
            fields("created: 2026-01-02 10:00:00\ntitle: yes"),
            json!({ "created": "2026-01-02 10:00:00", "title": "yes" })
        );
        assert_eq!(
            fields("a: &x [1, 2]\nb: *x"),
            json!({ "a": ["1", "2"], "b": ["1", "2"] })
        );
        assert_eq!(fields(""), json!({}));
    }

    #[test]
    fn a_file_without_front_matter_is_its_text() {
        for text in [
            "",
            "text",
            "--- a\nb\n---\n",
            "a\n---\nb\n---\n",
            "---\nunclosed: 1\n",
        ] {
            assert_eq!(
                split(text),
                Document {
                    fields: serde_json::Map::new(),
                    body: text,
                    warning: None
                },
                "{text}"
            );
        }
        assert_eq!(split("---\r\na: 1\r\n---\r\nbody").body, "body");
        assert_eq!(split("---\na: 1\n...\n---\n").body, "---\n");
    }

    #[test]
    fn broken_front_matter_stays_in_the_text() {
        let bomb: String = (1..9)
            .map(|n| {
                format!(
                    "a{n}: &a{n} [*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0},*a{0}]\n",
                    n - 1
                )
            })
            .collect();
        let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
        for yaml in [
            "a: [1",
            "a: \"open",
            "\t- x: :",
            &format!("a0: &a0 x\n{bomb}"),
            &deep,
            "- a list",
        ] {
            let text = format!("---\n{yaml}\n---\nbody");
            let document = split(&text);
            assert_eq!(document.body, text);
            assert!(document.warning.unwrap().contains("kept as text"), "{yaml}");
        }
    }

    #[test]
    fn a_repeated_key_loses_nothing() {
        let document = split("---\ntags: a\ntags: [b]\n---\n");
        assert_eq!(document.fields["tags"], json!(["a", "b"]));
        assert!(document.warning.unwrap().contains("\"tags\""));
    }
}
