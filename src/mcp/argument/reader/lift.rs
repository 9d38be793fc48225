//! Fields of an entry that were sent next to the list of entries, for example `content` next to `items`.

use rmcp::model::JsonObject;
use serde_json::Value;

use super::super::name::Meaning;
use super::super::path::Path;
use super::super::shape::{Object, Shape};
use super::{ObjectContext, Reader, shorten_name};

/// Maximum size of a value next to a list that applies to all of its entries, as JSON in bytes.
const MAX_SHARED_BYTES: usize = 16 * 1024;

impl<'s> Reader<'s> {
    /// Returns whether a name is a field of the list's entries that may be sent next to the list.
    pub(super) fn is_lifted(
        &mut self,
        object: &'s Object,
        name: &str,
        place: ObjectContext,
    ) -> bool {
        object
            .lifted_lists()
            .any(|(_, item)| self.is_field(item, name, place))
    }

    fn is_field(&mut self, item: &'s Object, name: &str, place: ObjectContext) -> bool {
        matches!(
            self.find_meaning(item, name, place),
            Meaning::Exact(_) | Meaning::Alias(_)
        )
    }

    /// Returns the list to which the fields next to it belong: the one whose entries have all of them; among
    /// several, the one that requires one of them.
    fn lifting_list(
        &mut self,
        object: &'s Object,
        lifted: &JsonObject,
        read: &JsonObject,
    ) -> Option<(&'s str, &'s Object)> {
        let names: Vec<&String> = lifted.keys().collect();
        let mut lists: Vec<(&str, &Object)> = object.lifted_lists().collect();
        lists.sort_by_key(|(list, item)| {
            let known = names
                .iter()
                .filter(|name| self.is_field(item, name, ObjectContext::Outermost))
                .count();
            let required = names
                .iter()
                .filter(|name| self.is_required(item, name))
                .count();
            std::cmp::Reverse((known, required, read.contains_key(*list)))
        });
        lists.first().copied()
    }

    fn is_required(&mut self, item: &'s Object, name: &str) -> bool {
        match self.find_meaning(item, name, ObjectContext::Outermost) {
            Meaning::Exact(field) | Meaning::Alias(field) => item.fields[field].required,
            _ => false,
        }
    }

    /// Converts item fields next to the list of items to a further item, or to values that all items share.
    pub(super) fn lift_fields(
        &mut self,
        object: &'s Object,
        path: &Path<'_>,
        lifted: JsonObject,
        read: &mut JsonObject,
    ) {
        let Some((list, item)) = self.lifting_list(object, &lifted, read) else {
            return;
        };
        let problems = self.problems.len();
        let whole = lifted.keys().any(|name| self.is_required(item, name));
        let names: Vec<String> = lifted.keys().map(|name| shorten_name(name)).collect();
        if whole || !read.contains_key(list) {
            let one = self.read_object(item, path, lifted, ObjectContext::Nested);
            if self.problems.len() > problems {
                self.lacking.push(list.to_owned());
                read.entry(list).or_insert_with(|| Value::Array(Vec::new()));
                return;
            }
            self.notes.repaired(
                &list,
                format!("the arguments {} were read as one item", names.join(", ")),
            );
            match read
                .entry(list.to_owned())
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                Value::Array(items) => items.push(Value::Object(one)),
                other => *other = Value::Array(vec![Value::Object(one)]),
            }
            return;
        }
        let shared = self.read_object(item, path, lifted, ObjectContext::Partial);
        if self.problems.len() > problems {
            return;
        }
        for (name, value) in &shared {
            if value.to_string().len() > MAX_SHARED_BYTES {
                let expected = format!(
                    "at most {MAX_SHARED_BYTES} bytes beside {list}; put it into the items"
                );
                self.report_mismatch(&Path::Field(path, name), expected, value);
                return;
            }
        }
        let Some(Value::Array(items)) = read.get_mut(list) else {
            return;
        };
        items
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|item| share_fields(item, &shared));
        self.notes
            .repaired(&list, format!("{} applied to every item", names.join(", ")));
    }
}

/// Returns whether a value is a word in place of a list of objects.
pub(super) fn is_word_for_list(shape: &Shape, value: &Value) -> bool {
    let Shape::List(list) = shape else {
        return false;
    };
    let is_word = value
        .as_str()
        .is_some_and(|text| !text.trim_start().starts_with(['[', '{', '"']));
    is_word && matches!(&list.item, Shape::Object(object) if object.scalar.is_none())
}

/// Adds the shared values to an item: lists are joined, and other fields keep the item's own values.
fn share_fields(item: &mut JsonObject, shared: &JsonObject) {
    for (name, value) in shared {
        match (item.get_mut(name), value) {
            (None, value) => drop(item.insert(name.clone(), value.clone())),
            (Some(Value::Array(own)), Value::Array(more)) => {
                for entry in more {
                    if !own.contains(entry) {
                        own.push(entry.clone());
                    }
                }
            }
            _ => {}
        }
    }
}
