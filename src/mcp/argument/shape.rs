//! The values that a parameter accepts, compiled once from its JSON Schema.

use std::collections::BTreeMap;

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

use super::fold::fold_name;
use super::number::whole_number;

/// Maximum depth of a schema; parameters are far below it.
const MAX_DEPTH: usize = 12;

/// The values that an argument accepts.
#[derive(Debug)]
pub(in crate::mcp) enum Shape {
    /// Text.
    Text(Text),
    /// One of several words.
    Choice(Choice),
    /// A whole number.
    Integer {
        /// Minimum.
        low: i64,
        /// Maximum.
        high: i64,
    },
    /// Any number.
    Number {
        /// Minimum.
        low: Option<f64>,
        /// Maximum.
        high: Option<f64>,
    },
    /// True or false.
    Boolean,
    /// An array.
    List(Box<List>),
    /// An object whose fields the caller chooses.
    Map,
    /// An object with known fields.
    Object(Box<Object>),
    /// Any value.
    Any,
}

/// How a text is read.
#[derive(Debug, Clone, Default)]
pub(in crate::mcp) struct Text {
    /// A point in time.
    pub(super) time: bool,
    /// Words that are accepted in place of a time.
    pub(super) words: Vec<String>,
    /// An array with one entry is read as that entry.
    pub(super) single: bool,
    /// An empty text is a valid value.
    pub(super) empty: bool,
    /// The ID of a stored object.
    pub(super) reference: bool,
}

/// Words that are accepted.
#[derive(Debug)]
pub(in crate::mcp) struct Choice {
    pub(super) values: Vec<String>,
    /// Synonyms by folded word.
    pub(super) synonyms: BTreeMap<String, Synonym>,
}

/// A synonym of a value.
#[derive(Debug)]
pub(super) struct Synonym {
    pub(super) to: String,
    /// Fields at least one of which must be present.
    pub(super) with: Vec<String>,
    /// The value without those fields.
    pub(super) otherwise: Option<String>,
}

/// An array.
#[derive(Debug)]
pub(in crate::mcp) struct List {
    pub(super) item: Shape,
    /// A text with commas is several entries.
    pub(super) split: bool,
    /// The entries are IDs.
    pub(super) references: bool,
    /// Maximum number of entries.
    pub(super) most: Option<usize>,
}

/// An object with known fields.
#[derive(Debug, Default)]
pub(in crate::mcp) struct Object {
    pub(super) fields: BTreeMap<String, Field>,
    /// Fields by their names and aliases, folded.
    pub(super) names: BTreeMap<String, String>,
    /// The field that a string is read as.
    pub(super) scalar: Option<String>,
    /// The lists whose entries' fields may be sent next to them.
    pub(super) lift: Vec<String>,
    /// Example for errors, in JSON.
    pub(super) example: String,
}

impl Object {
    /// Returns the lists whose entries' fields may be sent next to them, with the shape of an entry.
    pub(super) fn lifted_lists(&self) -> impl Iterator<Item = (&str, &Object)> {
        self.lift
            .iter()
            .filter_map(|name| match &self.fields.get(name)?.shape {
                Shape::List(list) => match &list.item {
                    Shape::Object(item) => Some((name.as_str(), &**item)),
                    _ => None,
                },
                _ => None,
            })
    }
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

impl Shape {
    /// Compiles the schema of all arguments of a tool.
    pub(in crate::mcp) fn of_arguments(schema: &JsonObject) -> Self {
        Self::Object(Box::new(compile_object(schema, schema, 0)))
    }

    /// Creates the shape of arguments that are all optional texts.
    pub(in crate::mcp) fn of_texts<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let properties: Map<String, Value> = names
            .map(|name| (name.to_owned(), json!({ "type": "string" })))
            .collect();
        let schema: JsonObject =
            Map::from_iter([("properties".to_owned(), Value::Object(properties))]);
        Self::of_arguments(&schema)
    }

    /// Returns a value that replaces a required one that was refused. It has no other use.
    pub(super) fn placeholder(&self) -> Value {
        match self {
            Self::Text(_) => Value::from(""),
            Self::Choice(choice) => choice
                .values
                .first()
                .cloned()
                .map_or(Value::Null, Value::from),
            Self::Integer { low, .. } => Value::from((*low).max(0)),
            Self::Number { low, .. } => Value::from(low.unwrap_or_default()),
            Self::Boolean => Value::from(false),
            Self::List(_) => Value::Array(Vec::new()),
            Self::Map => Value::Object(Map::new()),
            Self::Object(object) => {
                let required = object.fields.iter().filter(|(_, field)| field.required);
                Value::Object(
                    required
                        .map(|(name, field)| (name.clone(), field.shape.placeholder()))
                        .collect(),
                )
            }
            Self::Any => Value::Null,
        }
    }

    /// Returns the expected value as the end of a sentence.
    pub(super) fn expected_phrase(&self) -> String {
        match self {
            Self::Text(Text { time: true, .. }) => {
                r#"a string with a time such as 2026-03-01T12:00:00Z, 2026-03-01, "yesterday" or "7 days ago", between 1970 and 2200"#
                    .to_owned()
            }
            Self::Text(_) => "a string".to_owned(),
            Self::Choice(choice) => {
                let values: Vec<String> = choice.values.iter().map(|value| format!("{value:?}")).collect();
                format!("one of {}", values.join(", "))
            }
            Self::Integer { low: i64::MIN, high: i64::MAX } => "an integer".to_owned(),
            Self::Integer { low, high: i64::MAX } => format!("an integer of at least {low}"),
            Self::Integer { low, high } => format!("an integer from {low} to {high}"),
            Self::Number { low: Some(low), high: Some(high) } => format!("a number from {low} to {high}"),
            Self::Number { .. } => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::List(list) => match &list.item {
                Self::Object(object) if object.scalar.is_some() => {
                    format!("an array of strings or of objects such as [{}]", object.example)
                }
                Self::Object(object) => format!("an array of objects such as [{}]", object.example),
                Self::Choice(choice) => {
                    let values: Vec<String> = choice.values.iter().map(|value| format!("{value:?}")).collect();
                    format!("an array of {}", values.join(", "))
                }
                Self::Text(_) => r#"an array of strings such as ["…"]"#.to_owned(),
                _ => "an array".to_owned(),
            },
            Self::Map => r#"an object such as {"key": "value"}"#.to_owned(),
            Self::Object(object) if object.scalar.is_some() => format!("a string or an object such as {}", object.example),
            Self::Object(object) => format!("an object such as {}", object.example),
            Self::Any => "any JSON value".to_owned(),
        }
    }
}

fn compile_schema(schema: &Value, root: &JsonObject, depth: usize) -> Shape {
    let Value::Object(schema) = schema else {
        return Shape::Any;
    };
    if depth > MAX_DEPTH {
        return Shape::Any;
    }
    if let Some(target) = resolve_reference(schema, root) {
        return compile_schema(target, root, depth + 1);
    }
    if let Some(values) = enum_values(schema) {
        return Shape::Choice(Choice {
            values,
            synonyms: read_synonyms(schema),
        });
    }
    if let Some(variants) = schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
    {
        return compile_variants(variants, root, depth);
    }
    match type_name(schema) {
        Some("string") => Shape::Text(Text {
            time: schema.contains_key("x-time"),
            words: read_strings(schema.get("x-time")),
            single: has_flag(schema, "x-single"),
            empty: has_flag(schema, "x-empty"),
            reference: false,
        }),
        Some("integer") => compile_integer(schema),
        Some("number") => Shape::Number {
            low: schema.get("minimum").and_then(Value::as_f64),
            high: schema.get("maximum").and_then(Value::as_f64),
        },
        Some("boolean") => Shape::Boolean,
        Some("array") => compile_list(schema, root, depth),
        Some("object") if schema.contains_key("properties") => {
            Shape::Object(Box::new(compile_object(schema, root, depth)))
        }
        Some("object") => Shape::Map,
        _ => Shape::Any,
    }
}

fn compile_list(schema: &JsonObject, root: &JsonObject, depth: usize) -> Shape {
    let references = read_string(schema, "x-split").as_deref() == Some("ids");
    let mut item = schema
        .get("items")
        .map_or(Shape::Any, |item| compile_schema(item, root, depth + 1));
    if let Shape::Text(text) = &mut item {
        text.reference = references;
    }
    Shape::List(Box::new(List {
        item,
        split: schema.contains_key("x-split"),
        references,
        most: schema
            .get("maxItems")
            .and_then(Value::as_u64)
            .and_then(|most| usize::try_from(most).ok()),
    }))
}

/// Compiles variants. A string or an object is compiled to an object that a string can represent;
/// null next to a type is ignored.
fn compile_variants(variants: &[Value], root: &JsonObject, depth: usize) -> Shape {
    let mut shapes: Vec<Shape> = (variants.iter())
        .filter(|variant| variant.get("type").and_then(Value::as_str) != Some("null"))
        .map(|variant| compile_schema(variant, root, depth + 1))
        .collect();
    let object = shapes
        .iter()
        .position(|shape| matches!(shape, Shape::Object(_)));
    match (shapes.len(), object) {
        (1, _) => shapes.swap_remove(0),
        (_, Some(object)) => shapes.swap_remove(object),
        _ => Shape::Any,
    }
}

fn compile_object(schema: &JsonObject, root: &JsonObject, depth: usize) -> Object {
    let none = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let required = read_strings(schema.get("required"));
    let mut object = Object {
        scalar: read_string(schema, "x-scalar"),
        lift: read_strings(schema.get("x-lift")),
        ..Object::default()
    };
    for (name, field) in properties {
        for alias in read_strings(field.get("x-aliases")) {
            object.names.insert(fold_name(&alias), name.clone());
        }
        let required = required.contains(name);
        object.fields.insert(
            name.clone(),
            Field {
                shape: compile_schema(field, root, depth + 1),
                required,
            },
        );
    }
    // A name is never hidden by an alias of another field.
    for name in object.fields.keys() {
        object.names.insert(fold_name(name), name.clone());
    }
    object.example = read_string(schema, "x-example").unwrap_or_else(|| required_fields(&object));
    object
}

/// Returns the required fields with placeholders.
fn required_fields(object: &Object) -> String {
    let required = object.fields.iter().filter(|(_, field)| field.required);
    let fields: Vec<String> = required
        .map(|(name, field)| {
            let value = match &field.shape {
                Shape::Integer { .. } | Shape::Number { .. } => "0",
                Shape::Boolean => "true",
                Shape::List(_) => "[…]",
                Shape::Map | Shape::Object(_) => "{…}",
                Shape::Choice(_) | Shape::Text(_) | Shape::Any => "\"…\"",
            };
            format!("{name:?}: {value}")
        })
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn compile_integer(schema: &JsonObject) -> Shape {
    let bound = |name: &str| {
        let value = schema.get(name)?;
        value.as_i64().or_else(|| whole_number(value.as_f64()?))
    };
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some(format) if format.starts_with("uint") => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    };
    Shape::Integer {
        low: bound("minimum").unwrap_or(least),
        high: bound("maximum").unwrap_or(most),
    }
}

fn resolve_reference<'r>(schema: &JsonObject, root: &'r JsonObject) -> Option<&'r Value> {
    let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
    root.get("$defs")?.get(name)
}

/// Returns the words of an enumeration in any of its forms.
fn enum_values(schema: &JsonObject) -> Option<Vec<String>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(
            values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        );
    }
    let variants = schema
        .get("oneOf")
        .or_else(|| schema.get("anyOf"))?
        .as_array()?;
    variants
        .iter()
        .map(|variant| Some(variant.get("const")?.as_str()?.to_owned()))
        .collect()
}

fn read_synonyms(schema: &JsonObject) -> BTreeMap<String, Synonym> {
    let Some(Value::Object(synonyms)) = schema.get("x-synonyms") else {
        return BTreeMap::new();
    };
    let synonym = |meaning: &Value| match meaning {
        Value::String(to) => Some(Synonym {
            to: to.clone(),
            with: Vec::new(),
            otherwise: None,
        }),
        Value::Object(meaning) => Some(Synonym {
            to: read_string(meaning, "to")?,
            with: read_strings(meaning.get("with")),
            otherwise: read_string(meaning, "else"),
        }),
        _ => None,
    };
    synonyms
        .iter()
        .filter_map(|(word, meaning)| Some((fold_name(word), synonym(meaning)?)))
        .collect()
}

/// Returns the single type, ignoring null.
fn type_name(schema: &JsonObject) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    }
}

fn has_flag(schema: &JsonObject, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

fn read_string(schema: &JsonObject, name: &str) -> Option<String> {
    schema.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn read_strings(value: Option<&Value>) -> Vec<String> {
    let values = value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    values
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
