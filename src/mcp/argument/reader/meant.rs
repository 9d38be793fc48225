//! Arguments that are not where the schema expects them: inside an additional object, or as a word next to the field whose
//! value it is.

use rmcp::model::JsonObject;
use serde_json::Value;

use super::super::fold::fold_name;
use super::super::json_text::Parsed;
use super::super::name::Meaning;
use super::super::path::Path;
use super::super::shape::{Choice, Object, Shape};
use super::{ObjectContext, Reader};

/// Names under which frameworks and models wrap some or all arguments, in the form of [`fold_name`].
const WRAPPERS: [&str; 24] = [
    "args",
    "arguments",
    "body",
    "changes",
    "data",
    "fields",
    "filter",
    "filters",
    "input",
    "inputs",
    "kwargs",
    "options",
    "parameters",
    "params",
    "patch",
    "payload",
    "properties",
    "request",
    "requestbody",
    "set",
    "update",
    "updates",
    "values",
    "where",
];

/// Names of arguments that select an action, in the form of [`fold_name`].
const ACTIONS: [&str; 6] = ["action", "command", "method", "mode", "op", "operation"];

/// A value of an enumeration that was sent under another name.
pub(super) struct Chosen<'s> {
    /// The field to which the value belongs.
    pub(super) field: &'s str,
    /// The word.
    pub(super) word: Value,
    /// Whether the field belongs to the entries of a list.
    pub(super) is_lifted: bool,
}

impl<'s> Reader<'s> {
    /// Returns the arguments, including those inside wrappers. A wrapper that contradicts them is kept, to be reported.
    pub(super) fn unwrap_arguments(&mut self, object: &'s Object, given: JsonObject) -> JsonObject {
        let mut arguments = JsonObject::new();
        let mut wrappers = Vec::new();
        for (name, value) in given {
            if self.is_wrapper(object, &name) {
                wrappers.push((name, value));
            } else {
                arguments.insert(name, value);
            }
        }
        for (name, value) in wrappers {
            match self.wrapped(object, &value) {
                Some(inner) if inner.iter().all(|(name, _)| is_free(&arguments, name)) => {
                    let path = Path::Field(&Path::Root, &name);
                    self.notes
                        .repaired(&path, "its fields were read as arguments".to_owned());
                    arguments.extend(inner);
                }
                _ => drop(arguments.insert(name, value)),
            }
        }
        arguments
    }

    fn is_wrapper(&mut self, object: &'s Object, name: &str) -> bool {
        let is_known = matches!(
            self.find_meaning(object, name, ObjectContext::Outermost),
            Meaning::Exact(_) | Meaning::Alias(_)
        );
        WRAPPERS.contains(&fold_name(name).as_str())
            && !is_known
            && !self.is_lifted(object, name, ObjectContext::Outermost)
    }

    /// Returns the fields of a wrapper, if one of them is an argument.
    fn wrapped(&mut self, object: &'s Object, value: &Value) -> Option<JsonObject> {
        let inner = match value {
            Value::Object(inner) => inner.clone(),
            Value::String(text) if text.trim_start().starts_with('{') => {
                match self.size.parse_text(text.trim()) {
                    Ok(Parsed {
                        value: Value::Object(inner),
                        ..
                    }) => inner,
                    _ => return None,
                }
            }
            _ => return None,
        };
        let is_argument = inner.keys().any(|name| {
            let known = matches!(
                self.find_meaning(object, name, ObjectContext::Outermost),
                Meaning::Exact(_) | Meaning::Alias(_)
            );
            known || self.is_lifted(object, name, ObjectContext::Outermost)
        });
        is_argument.then_some(inner)
    }

    /// Returns the field to which an unknown argument assigns a value: `action: "restore"`, or `restore: true`, is a
    /// mode.
    pub(super) fn chosen_by_word(
        &self,
        object: &'s Object,
        name: &str,
        value: &Value,
    ) -> Option<Chosen<'s>> {
        let folded = fold_name(name);
        let word = match value {
            Value::String(word) if ACTIONS.contains(&folded.as_str()) => word.clone(),
            Value::Bool(true) => folded,
            _ => return None,
        };
        let is_flag = value.is_boolean();
        let fits = |shape: &Shape| matches!(shape, Shape::Choice(choice) if chooses(choice, &word, is_flag));
        let find = |object: &'s Object| object.fields.iter().find(|(_, field)| fits(&field.shape));
        let chosen = |field: &'s String, is_lifted| Chosen {
            field,
            word: Value::String(word.clone()),
            is_lifted,
        };
        if let Some((field, _)) = find(object) {
            return Some(chosen(field, false));
        }
        let mut lifted = object.lifted_lists().filter_map(|(_, item)| find(item));
        lifted.next().map(|(field, _)| chosen(field, true))
    }
}

/// Returns whether an argument is absent or empty.
fn is_free(arguments: &JsonObject, name: &str) -> bool {
    arguments.get(name).is_none_or(super::is_empty)
}

/// Returns whether a word is a value, or a synonym of one. The name of a flag must be the value itself.
fn chooses(choice: &Choice, word: &str, is_flag: bool) -> bool {
    let folded = fold_name(word);
    let is_value = choice.values.iter().any(|known| fold_name(known) == folded);
    is_value || (!is_flag && choice.synonyms.contains_key(&folded))
}
