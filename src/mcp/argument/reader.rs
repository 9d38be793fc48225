//! Reads arguments by their shape in one pass that repairs, refuses and records notes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use chrono::{DateTime, Utc};
use rmcp::model::JsonObject;
use serde_json::Value;

use super::json_text::{CallSize, Parsed};
use super::name::{self, Meaning};
use super::note::Notes;
use super::path::Path;
use super::shape::{List, Object, Shape, Text};
use super::{Problem, shorten_text, show_value};

mod lift;
mod meant;
mod scalar;

/// Maximum number of problems that are kept; an error lists fewer.
const MAX_PROBLEMS: usize = 1_000;
/// Maximum number of different unknown names in one call, because each is compared with every known one.
const MAX_UNKNOWN: usize = 400;
/// Words for "no value", where the value cannot be a text.
const NOTHING: [&str; 4] = ["null", "none", "undefined", "nil"];

/// The context of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ObjectContext {
    /// The arguments themselves, to which clients add their own.
    Outermost,
    /// Inside the arguments.
    Nested,
    /// Fields that an object may have, but need not have.
    Partial,
}

/// Reads the arguments of one call.
pub(super) struct Reader<'s> {
    now: DateTime<Utc>,
    notes: Notes,
    problems: Vec<Problem>,
    meanings: HashMap<(usize, String), Meaning<'s>>,
    /// Paths of fields that were sent under another name, or were meant for an item.
    lacking: Vec<String>,
    too_many: bool,
    size: CallSize,
}

/// The results of reading a call, in addition to the arguments.
pub(super) struct Finished {
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<Problem>,
    /// Paths of arguments that were given or meant, but are not among the read ones.
    pub(super) lacking: Vec<String>,
}

/// Fields by the name that the shape gives them, each with the name that was sent.
type Fields<'s> = BTreeMap<&'s str, (String, Value)>;

impl<'s> Reader<'s> {
    /// Creates a reader for these arguments.
    pub(super) fn new(now: DateTime<Utc>, arguments: &Value) -> Self {
        Self {
            now,
            notes: Notes::default(),
            problems: Vec::new(),
            meanings: HashMap::new(),
            lacking: Vec::new(),
            too_many: false,
            size: CallSize::of_arguments(arguments),
        }
    }

    /// Returns notes and problems.
    pub(super) fn finish(self) -> Finished {
        Finished {
            notes: self.notes.finish(),
            problems: self.problems,
            lacking: self.lacking,
        }
    }

    /// Reads all arguments of a call.
    pub(super) fn read_all(&mut self, shape: &'s Shape, arguments: Value) -> Option<Value> {
        match (shape, arguments) {
            (Shape::Object(object), Value::Object(given)) => Some(Value::Object(self.read_object(
                object,
                &Path::Root,
                given,
                ObjectContext::Outermost,
            ))),
            (shape, arguments) => self.read_value(shape, &Path::Root, arguments, &[]),
        }
    }

    fn read_value(
        &mut self,
        shape: &'s Shape,
        path: &Path<'_>,
        value: Value,
        beside: &[&str],
    ) -> Option<Value> {
        match shape {
            Shape::Any => Some(value),
            Shape::Text(text) => self.read_text(text, shape, path, value),
            Shape::Choice(choice) => self.read_choice(choice, shape, path, value, beside),
            Shape::Integer { low, high } => self.read_integer(shape, path, value, *low, *high),
            Shape::Number { low, high } => self.read_number(shape, path, value, *low, *high),
            Shape::Boolean => self.read_boolean(shape, path, value),
            Shape::List(list) => self.read_list(list, shape, path, value),
            Shape::Map => self.read_map(shape, path, value).map(Value::Object),
            Shape::Object(object) => {
                let given = match (&object.scalar, value) {
                    (Some(field), Value::String(text)) if !text.trim_start().starts_with('{') => {
                        JsonObject::from_iter([(field.clone(), Value::String(text))])
                    }
                    (_, value) => self.read_map(shape, path, value)?,
                };
                Some(Value::Object(self.read_object(
                    object,
                    path,
                    given,
                    ObjectContext::Nested,
                )))
            }
        }
    }

    // ---------------------------------------------------------------------------------------------------- objects

    /// Reads an object. Fields with a problem are left out, or replaced by placeholders if they are required.
    fn read_object(
        &mut self,
        object: &'s Object,
        path: &Path<'_>,
        given: JsonObject,
        place: ObjectContext,
    ) -> JsonObject {
        let mut fields = Fields::new();
        let mut lifted = JsonObject::new();
        let mut slips = Vec::new();
        let given = if place == ObjectContext::Outermost {
            self.unwrap_arguments(object, given)
        } else {
            given
        };
        for (name, value) in given {
            match self.find_meaning(object, &name, place) {
                Meaning::Exact(field) => self.collect_field(&mut fields, path, field, name, value),
                _ if value.is_null() => {}
                // The text `knows` under `relation` is the type of one relation, not a list of relations.
                Meaning::Alias(field)
                    if lift::is_word_for_list(&object.fields[field].shape, &value)
                        && self.is_lifted(object, &name, place) =>
                {
                    lifted.insert(name, value);
                }
                Meaning::Alias(field) => {
                    self.notes
                        .repaired(&Path::Field(path, &name), format!("read as {field}"));
                    self.collect_field(&mut fields, path, field, name, value);
                }
                _ if self.is_lifted(object, &name, place) => drop(lifted.insert(name, value)),
                Meaning::Slip(field) => {
                    self.report_unknown(path, &name, field);
                    self.lacking.push(Path::Field(path, field).to_string());
                    slips.push(field);
                }
                Meaning::Unknown => match self.chosen_by_word(object, &name, &value) {
                    Some(chosen) if place == ObjectContext::Outermost => {
                        let path_of_word = Path::Field(path, &name);
                        self.notes
                            .repaired(&path_of_word, format!("read as {}", chosen.field));
                        if chosen.is_lifted {
                            lifted.insert(chosen.field.to_owned(), chosen.word);
                        } else {
                            self.collect_field(&mut fields, path, chosen.field, name, chosen.word);
                        }
                    }
                    _ => self.ignore_argument(object, path, &name, place),
                },
            }
        }
        let mut read = self.read_fields(object, path, fields, place, &slips, !lifted.is_empty());
        if !lifted.is_empty() {
            self.lift_fields(object, path, lifted, &mut read);
        }
        read
    }

    /// Resolves a name; misspellings are looked up once for each name.
    fn find_meaning(
        &mut self,
        object: &'s Object,
        name: &str,
        place: ObjectContext,
    ) -> Meaning<'s> {
        if let Some((field, _)) = object.fields.get_key_value(name) {
            return Meaning::Exact(field);
        }
        let outermost = place == ObjectContext::Outermost;
        let key = (
            std::ptr::from_ref(object).addr() + usize::from(outermost),
            name.to_owned(),
        );
        if let Some(meaning) = self.meanings.get(&key) {
            return *meaning;
        }
        if self.meanings.len() >= MAX_UNKNOWN {
            if !std::mem::replace(&mut self.too_many, true) {
                let text = "too many unknown arguments".to_owned();
                self.add_problem(Problem {
                    field: String::new(),
                    value: None,
                    expected: None,
                    text,
                });
            }
            return Meaning::Unknown;
        }
        let meaning = name::resolve_name(object, name, outermost);
        self.meanings.insert(key, meaning);
        meaning
    }

    fn collect_field(
        &mut self,
        fields: &mut Fields<'s>,
        path: &Path<'_>,
        field: &'s str,
        name: String,
        value: Value,
    ) {
        match fields.get(field) {
            Some((_, known)) if *known == value || is_empty(&value) => {}
            Some((other, known)) if !is_empty(known) => {
                let text =
                    format!("means the same as {other}, which has another value; send one of them");
                let field = Path::Field(path, &name).to_string();
                self.add_problem(Problem {
                    field,
                    value: Some(show_value(&value)),
                    expected: None,
                    text,
                });
            }
            _ => drop(fields.insert(field, (name, value))),
        }
    }

    fn report_unknown(&mut self, path: &Path<'_>, name: &str, meant: &str) {
        let text = format!("unknown argument; did you mean {meant}?");
        let field = Path::Field(path, &shorten_name(name)).to_string();
        self.add_problem(Problem {
            field,
            value: None,
            expected: Some(meant.to_owned()),
            text,
        });
    }

    fn ignore_argument(
        &mut self,
        object: &'s Object,
        path: &Path<'_>,
        name: &str,
        place: ObjectContext,
    ) {
        let mut ignored = Path::Field(path, &shorten_name(name)).to_string();
        // An argument that a client adds may also be one that a model means.
        if place == ObjectContext::Outermost
            && let Meaning::Alias(meant) | Meaning::Slip(meant) =
                self.find_meaning(object, name, ObjectContext::Nested)
        {
            ignored.push_str(&format!(" (the argument of this tool is {meant})"));
        }
        self.notes.ignored(ignored);
    }

    fn read_fields(
        &mut self,
        object: &'s Object,
        path: &Path<'_>,
        given: Fields<'s>,
        place: ObjectContext,
        slips: &[&str],
        with_lifted: bool,
    ) -> JsonObject {
        let beside: Vec<&str> = given
            .iter()
            .filter(|(_, (_, value))| !is_empty(value))
            .map(|(field, _)| *field)
            .collect();
        let mut read = JsonObject::new();
        let mut seen = Vec::new();
        for (name, (_, value)) in given {
            let field = &object.fields[name];
            let place = Path::Field(path, name);
            if !field.required && is_unset(&field.shape, &value) {
                if value.is_string() {
                    self.notes.empty(&place);
                }
                continue;
            }
            if field.required
                && with_lifted
                && is_empty(&value)
                && object.lift.iter().any(|list| list == name)
            {
                seen.push(name);
                continue;
            }
            // A number may be a label, but never the main text of a call.
            if field.required && value.is_number() && matches!(field.shape, Shape::Text(_)) {
                self.report_mismatch(&place, field.shape.expected_phrase(), &value);
                seen.push(name);
                continue;
            }
            if let Some(value) = self.read_value(&field.shape, &place, value, &beside) {
                read.insert(name.to_owned(), value);
            }
            seen.push(name);
        }
        if place != ObjectContext::Partial {
            for (name, field) in object.fields.iter().filter(|(_, field)| field.required) {
                let lifts = with_lifted && object.lift.contains(name);
                if !seen.contains(&name.as_str()) && !slips.contains(&name.as_str()) && !lifts {
                    self.report_missing(&Path::Field(path, name), &field.shape);
                }
                if !read.contains_key(name) && !lifts {
                    read.insert(name.clone(), field.shape.placeholder());
                }
            }
        }
        read
    }

    fn report_missing(&mut self, path: &Path<'_>, shape: &Shape) {
        let expected = shape.expected_phrase();
        let text = format!("required; expected {expected}");
        self.add_problem(Problem {
            field: path.to_string(),
            value: None,
            expected: Some(expected),
            text,
        });
    }

    fn read_map(&mut self, shape: &Shape, path: &Path<'_>, value: Value) -> Option<JsonObject> {
        match value {
            Value::Object(object) => Some(object),
            Value::String(text) if text.trim_start().starts_with('{') => {
                match self.size.parse_text(text.trim()) {
                    Ok(Parsed {
                        value: Value::Object(object),
                        how,
                    }) => {
                        self.notes.repaired(path, how);
                        Some(object)
                    }
                    Ok(other) => self.refuse_value(path, shape.expected_phrase(), &other.value),
                    Err(reason) => self.report_unreadable(path, shape, &text, &reason),
                }
            }
            other => self.refuse_value(path, shape.expected_phrase(), &other),
        }
    }

    // ----------------------------------------------------------------------------------------------------- arrays

    fn read_list(
        &mut self,
        list: &'s List,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
    ) -> Option<Value> {
        let entries = self.read_entries(list, shape, path, value)?;
        if let Some(most) = list.most.filter(|most| entries.len() > *most) {
            let (expected, found) = (format!("at most {most} entries"), entries.len());
            let text = format!("expected {expected}, got {found}");
            let value = Some(format!("{found} entries"));
            self.add_problem(Problem {
                field: path.to_string(),
                value,
                expected: Some(expected),
                text,
            });
            return None;
        }
        // A list of only empty entries is not an empty list, which might clear a value.
        let skips_empty = holds_words(&list.item) && !entries.iter().all(is_empty_entry);
        let mut read = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            if self.problems.len() == MAX_PROBLEMS {
                return None;
            }
            if skips_empty && is_empty_entry(&entry) {
                self.notes.empty(&Path::Entry(path, index));
                continue;
            }
            let entry = self.read_value(&list.item, &Path::Entry(path, index), entry, &[]);
            // Later entries keep their index.
            read.push(entry.unwrap_or_else(|| list.item.placeholder()));
        }
        Some(Value::Array(read))
    }

    fn read_entries(
        &mut self,
        list: &'s List,
        shape: &Shape,
        path: &Path<'_>,
        value: Value,
    ) -> Option<Vec<Value>> {
        let one = "one value read as an array";
        match (&list.item, value) {
            (_, Value::Array(entries)) => Some(entries),
            (Shape::Object(_), value @ Value::Object(_)) => {
                self.notes
                    .repaired(path, "one object read as an array".to_owned());
                Some(vec![value])
            }
            (_, Value::String(text)) => self.entries_of_text(list, shape, path, text),
            (
                Shape::Text(_) | Shape::Integer { .. } | Shape::Number { .. },
                value @ Value::Number(_),
            ) => {
                self.notes.repaired(path, one.to_owned());
                Some(vec![value])
            }
            (_, other) => self.refuse_value(path, shape.expected_phrase(), &other),
        }
    }

    fn entries_of_text(
        &mut self,
        list: &'s List,
        shape: &Shape,
        path: &Path<'_>,
        text: String,
    ) -> Option<Vec<Value>> {
        let text = unquote_json(text);
        let trimmed = text.trim();
        if let Some(entries) = list.references.then(|| references(trimmed)).flatten() {
            self.notes
                .repaired(path, format!("read as {} IDs", entries.len()));
            return Some(entries);
        }
        if let Some(entries) = list.split.then(|| hashtags(trimmed)).flatten() {
            self.notes
                .repaired(path, "hashtags read as tags".to_owned());
            return Some(entries);
        }
        if trimmed.starts_with(['[', '{']) {
            return match (self.size.parse_text(trimmed), &list.item) {
                (
                    Ok(Parsed {
                        value: Value::Array(entries),
                        how,
                    }),
                    _,
                ) => {
                    self.notes.repaired(path, how);
                    Some(entries)
                }
                (
                    Ok(Parsed {
                        value: value @ Value::Object(_),
                        how,
                    }),
                    Shape::Object(_),
                ) => {
                    self.notes.repaired(path, format!("one object {how}"));
                    Some(vec![value])
                }
                (Ok(other), _) => self.refuse_value(path, shape.expected_phrase(), &other.value),
                (Err(reason), _) => self.report_unreadable(path, shape, trimmed, &reason),
            };
        }
        match &list.item {
            Shape::Text(_) | Shape::Choice(_)
                if list.split || matches!(list.item, Shape::Choice(_)) =>
            {
                let parts = text
                    .split([',', ';', '\n'])
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                let parts: Vec<Value> = parts.map(Value::from).collect();
                if parts.len() > 1 {
                    self.notes.repaired(path, "split at commas".to_owned());
                    return Some(parts);
                }
            }
            Shape::Object(object) if object.scalar.is_none() => {
                return self.refuse_value(path, shape.expected_phrase(), &Value::String(text));
            }
            _ => {}
        }
        self.notes
            .repaired(path, "one value read as an array".to_owned());
        Some(vec![Value::String(trimmed.to_owned())])
    }

    // --------------------------------------------------------------------------------------------------- problems

    fn add_problem(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Records a value of the wrong form. Always returns `None`, for the end of a function that reads a value.
    fn refuse_value<T>(
        &mut self,
        path: &dyn Display,
        expected: String,
        value: &Value,
    ) -> Option<T> {
        self.report_mismatch(path, expected, value);
        None
    }

    fn report_mismatch(&mut self, path: &dyn Display, expected: String, value: &Value) {
        let got = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(truth) => format!("a boolean: {truth}"),
            Value::Number(number) => format!("a number: {number}"),
            Value::String(text) => format!("a string: {}", shorten_text(text)),
            Value::Array(_) => "an array".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        let text = format!("expected {expected}, got {got}");
        let field = path.to_string();
        self.add_problem(Problem {
            field,
            value: Some(show_value(value)),
            expected: Some(expected),
            text,
        });
    }

    fn report_unreadable<T>(
        &mut self,
        path: &Path<'_>,
        shape: &Shape,
        text: &str,
        reason: &str,
    ) -> Option<T> {
        let expected = shape.expected_phrase();
        let sentence = format!("expected {expected}, got {reason}");
        let (field, value) = (path.to_string(), Some(shorten_text(text)));
        self.add_problem(Problem {
            field,
            value,
            expected: Some(expected),
            text: sentence,
        });
        None
    }
}

/// Reads IDs in brackets without quotation marks, or separated by white space: `[ab12cd34, ef56ab78]`.
fn references(text: &str) -> Option<Vec<Value>> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parts: Vec<&str> = inner
        .unwrap_or(text)
        .split([',', ' ', '\n', '\t'])
        .filter(|part| !part.is_empty())
        .collect();
    let is_id = |part: &&str| {
        part.len() >= 4
            && part
                .chars()
                .all(|sign| sign.is_ascii_hexdigit() || sign == '-')
    };
    let is_list = inner.is_some() || (parts.len() > 1 && !text.contains(','));
    (is_list && !parts.is_empty() && parts.iter().all(is_id))
        .then(|| parts.into_iter().map(Value::from).collect())
}

/// Reads `#quay #harbour` as two tags.
fn hashtags(text: &str) -> Option<Vec<Value>> {
    let words: Vec<&str> = text
        .split([' ', ',', '\n', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let tags: Option<Vec<Value>> = words
        .iter()
        .map(|word| {
            word.strip_prefix('#')
                .filter(|tag| !tag.is_empty())
                .map(Value::from)
        })
        .collect();
    tags.filter(|tags| !tags.is_empty())
}

/// Unwraps a text that is a JSON string containing an array or object, which was encoded twice.
fn unquote_json(text: String) -> String {
    let inner = text
        .trim()
        .starts_with('"')
        .then(|| serde_json::from_str::<String>(text.trim()).ok())
        .flatten();
    inner
        .filter(|inner| inner.trim_start().starts_with(['[', '{']))
        .unwrap_or(text)
}

/// Shortens a name, because long names would fill an error or a note.
fn shorten_name(name: &str) -> String {
    let short: String = name
        .chars()
        .take(super::SHOWN_CHARS)
        .filter(|c| !c.is_control())
        .collect();
    if short.len() < name.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// Returns whether the entries of a list are names, labels, IDs or words, for which an empty entry has no meaning.
fn holds_words(item: &Shape) -> bool {
    match item {
        Shape::Text(_) | Shape::Choice(_) => true,
        Shape::Object(object) => object.scalar.is_some(),
        _ => false,
    }
}

fn is_empty_entry(entry: &Value) -> bool {
    match entry {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Returns whether an optional argument was omitted in one of the ways that clients use.
fn is_unset(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Null) => true,
        (Shape::Text(Text { empty: true, .. }), Value::String(_)) => false,
        (Shape::Text(Text { time: false, .. }) | Shape::Any, Value::String(text)) => {
            text.is_empty()
        }
        (Shape::Object(object), Value::String(text)) if object.scalar.is_some() => text.is_empty(),
        (_, Value::String(text)) => {
            let text = text.trim().to_lowercase();
            text.is_empty() || NOTHING.contains(&text.as_str())
        }
        // `unlink: false` has no effect.
        (Shape::Choice(choice), Value::Bool(false)) => !choice.synonyms.contains_key("false"),
        // An empty list is a value: it clears one.
        (Shape::List(_) | Shape::Any, Value::Array(_)) => false,
        (_, Value::Array(entries)) => entries.is_empty(),
        _ => false,
    }
}
