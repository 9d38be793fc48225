//! Schemas in the form for models, which read them in every conversation, so that every word has a cost.
//!
//! Input schemas omit parts that do not help a model: titles, formats of integers, null next to a type (absent fields
//! are simply left out), limits and the refusal of unknown fields (the error names both), and descriptions of the whole
//! and of self-explanatory names. Output schemas describe only the top level: the fields and their types. No output
//! field is required, because clients also validate the structured form of an error against this schema, and would show
//! a model their own error instead. docs/tools.md has the full schemas.

use std::sync::Arc;

use rmcp::model::JsonObject;
use serde_json::{Value, json};

/// Keywords that an input schema does not need.
const IDLE: &[&str] = &[
    "$schema",
    "title",
    "format",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "default",
    "additionalProperties",
];

/// Prefix of our own annotations, which are for [`crate::mcp::argument`] and docs/tools.md.
const OURS: &str = "x-";

/// Marks a field that is accepted but not offered.
const HIDDEN: &str = "x-hidden";

/// Marks a field with a self-explanatory name; its description is only for docs/tools.md.
const PLAIN: &str = "x-plain";

/// Returns the schema of arguments with as few words as a correct call needs.
pub(super) fn input_schema(schema: &JsonObject) -> Arc<JsonObject> {
    let mut value = Value::Object(schema.clone());
    prune_schema(&mut value, SchemaRole::Whole);
    match value {
        Value::Object(object) => Arc::new(object),
        _ => unreachable!("an object stays an object"),
    }
}

/// Returns the top level of an output schema.
pub(super) fn output_schema(schema: &JsonObject) -> Arc<JsonObject> {
    let none = JsonObject::new();
    let fields = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let properties: JsonObject = fields
        .iter()
        .map(|(name, field)| {
            let mut shallow = JsonObject::new();
            if let Some(is) = type_of(field, schema) {
                shallow.insert("type".into(), is.into());
                if is == "array" {
                    shallow.insert("items".into(), entry_of(field, schema));
                }
            }
            declare_contents(&mut shallow);
            (name.clone(), Value::Object(shallow))
        })
        .collect();
    let mut shallow = JsonObject::new();
    shallow.insert("type".into(), "object".into());
    shallow.insert("properties".into(), properties.into());
    Arc::new(shallow)
}

/// Returns the type of the entries of a list. Clients warn of a schema that permits anything.
fn entry_of(field: &Value, root: &JsonObject) -> Value {
    let is = field
        .get("items")
        .and_then(|items| type_of(items, root))
        .unwrap_or("object");
    let mut entry = JsonObject::new();
    entry.insert("type".into(), is.into());
    declare_contents(&mut entry);
    Value::Object(entry)
}

/// Returns the type of a field apart from null; none if it has several.
fn type_of<'s>(field: &'s Value, root: &'s JsonObject) -> Option<&'s str> {
    if let Some(name) = field.get("$ref").and_then(Value::as_str) {
        let name = name.strip_prefix("#/$defs/")?;
        return type_of(root.get("$defs")?.get(name)?, root);
    }
    match field.get("type") {
        Some(Value::String(is)) => Some(is),
        Some(Value::Array(several)) => match several.as_slice() {
            [Value::String(is), Value::String(null)] if null == "null" => Some(is),
            _ => None,
        },
        _ => {
            let variants = field
                .get("oneOf")
                .or_else(|| field.get("anyOf"))?
                .as_array()?;
            let mut types = variants
                .iter()
                .filter_map(|variant| type_of(variant, root))
                .filter(|is| *is != "null");
            let first = types.next()?;
            types.all(|is| is == first).then_some(first)
        }
    }
}

/// The role of a part of a schema.
#[derive(Clone, Copy, PartialEq)]
enum SchemaRole {
    /// The arguments, or an entry of a list, which the tool and the list describe.
    Whole,
    /// A field.
    Field,
    /// The names of fields, which are not keywords of JSON Schema.
    Names,
}

fn prune_schema(value: &mut Value, place: SchemaRole) {
    match value {
        Value::Object(object) => {
            if place != SchemaRole::Names {
                drop_null(object);
                name_variants(object);
                IDLE.iter().for_each(|word| drop(object.remove(*word)));
                if object.remove(PLAIN).is_some() || place == SchemaRole::Whole {
                    object.remove("description");
                }
                object.retain(|word, _| !word.starts_with(OURS));
                declare_contents(object);
            } else {
                object.retain(|_, field| field.get(HIDDEN).is_none());
            }
            for (key, inner) in object {
                let inside = match key.as_str() {
                    "properties" | "$defs" if place != SchemaRole::Names => SchemaRole::Names,
                    "items" if place != SchemaRole::Names => SchemaRole::Whole,
                    _ => SchemaRole::Field,
                };
                prune_schema(inner, inside);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| prune_schema(item, SchemaRole::Whole)),
        _ => {}
    }
}

/// Declares contents, because some providers refuse tools with an object without properties or an array without items,
/// even if both may contain anything.
fn declare_contents(object: &mut JsonObject) {
    let wanted = match object.get("type").and_then(Value::as_str) {
        Some("object") => "properties",
        Some("array") => "items",
        _ => return,
    };
    object.entry(wanted).or_insert_with(|| json!({}));
}

/// Replaces `["string", "null"]` by `"string"`, and `anyOf: [X, null]` by X, because some providers of models do not
/// support several types.
fn drop_null(object: &mut JsonObject) {
    if let Some(Value::Array(types)) = object.get("type")
        && let [single, Value::String(null)] = types.as_slice()
        && null == "null"
    {
        let single = single.clone();
        object.insert("type".into(), single);
    }
    if let Some(Value::Array(variants)) = object.get("anyOf")
        && let [Value::Object(only), null] = variants.as_slice()
        && null.get("type") == Some(&Value::from("null"))
    {
        let only = only.clone();
        object.remove("anyOf");
        // The description of the field is kept rather than that of its type.
        for (key, inner) in only.into_iter().filter(|(key, _)| key != "description") {
            object.entry(key).or_insert(inner);
        }
    }
}

/// Turns `oneOf: [{const: "a"}, {const: "b"}]` into `enum: ["a", "b"]`.
fn name_variants(object: &mut JsonObject) {
    let names: Option<Vec<Value>> = match object.get("oneOf").or_else(|| object.get("anyOf")) {
        Some(Value::Array(variants)) => variants
            .iter()
            .map(|variant| variant.get("const").cloned())
            .collect(),
        _ => None,
    };
    if let Some(names) = names {
        object.remove("oneOf");
        object.remove("anyOf");
        object.insert("type".into(), "string".into());
        object.insert("enum".into(), names.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> JsonObject {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn an_input_keeps_what_a_call_needs() {
        let schema = object(json!({
            "$schema": "x", "title": "T", "description": "What.", "type": "object", "additionalProperties": false,
            "properties": {
                "title": { "type": ["string", "null"], "description": "Kept.", "default": null },
                "mode": { "description": "How.", "anyOf": [
                    { "description": "Variants.", "oneOf": [
                        { "type": "string", "const": "a" }, { "type": "string", "const": "b" } ] },
                    { "type": "null" } ] },
                "end": { "type": "string", "description": "The end.", "x-plain": true },
                "items": { "type": "array", "maxItems": 3, "items": {
                    "description": "One.", "type": "object", "properties": { "n": { "type": "integer", "format": "int64" } } } },
            },
            "required": ["items"],
        }));
        let expected = json!({
            "type": "object",
            "properties": {
                "title": { "type": "string", "description": "Kept." },
                "mode": { "description": "How.", "type": "string", "enum": ["a", "b"] },
                "end": { "type": "string" },
                "items": { "type": "array", "items": {
                    "type": "object", "properties": { "n": { "type": "integer" } } } },
            },
            "required": ["items"],
        });
        assert_eq!(Value::Object((*input_schema(&schema)).clone()), expected);
    }

    #[test]
    fn an_output_is_one_level_deep() {
        let schema = object(json!({
            "title": "T", "type": "object",
            "properties": {
                "hits": { "description": "All.", "type": "array", "items": { "type": "object", "properties": {} } },
                "next": { "type": ["string", "null"] },
                "kind": { "oneOf": [{ "type": "string", "const": "a" }, { "type": "string", "const": "b" }] },
                "named": { "$ref": "#/$defs/Named" },
                "maybe": { "anyOf": [{ "$ref": "#/$defs/Named" }, { "type": "null" }] },
                "anything": true,
            },
            "required": ["hits"],
            "$defs": { "Named": { "type": "object", "properties": { "x": { "type": "string" } } } },
        }));
        let expected = json!({
            "type": "object",
            "properties": {
                "hits": { "type": "array", "items": { "type": "object", "properties": {} } },
                "next": { "type": "string" },
                "kind": { "type": "string" },
                "named": { "type": "object", "properties": {} },
                "maybe": { "type": "object", "properties": {} },
                "anything": {},
            },
        });
        assert_eq!(Value::Object((*output_schema(&schema)).clone()), expected);
    }
}
