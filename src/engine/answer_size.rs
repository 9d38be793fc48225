//! Limits on answers, independent of a caller's request. The memory that an answer needs is a multiple of its
//! text, and a large multiple if metadata and properties have many small values.

use crate::domain::ObjectText;

/// Range of `max_chars`: the characters of an answer that a caller may ask for.
pub(super) const LEAST_MAX_CHARS: usize = 100;
pub(super) const MOST_MAX_CHARS: usize = 1_000_000;
/// Maximum number of objects and arrays in the memories or the history of one answer.
pub(super) const MOST_CONTAINERS: usize = 10_000;
/// Number of full memories, entities or relations that are read from the database at once.
pub(super) const PORTION: usize = 32;

/// The remaining budget of an answer for properties of entities or relations.
pub(super) struct PropertyBudget {
    bytes: usize,
    containers: usize,
    left_out: usize,
}

impl PropertyBudget {
    /// Creates a budget for one answer.
    pub(super) fn new() -> Self {
        Self {
            bytes: MOST_MAX_CHARS / 2,
            containers: MOST_CONTAINERS / 2,
            left_out: 0,
        }
    }

    /// Removes properties that do not fit.
    pub(super) fn fit(&mut self, properties: &mut ObjectText) {
        if properties.is_empty() {
            return;
        }
        let (bytes, containers) = (properties.as_str().len(), properties.count_containers());
        if bytes > self.bytes || containers > self.containers {
            *properties = ObjectText::default();
            self.left_out += 1;
            return;
        }
        self.bytes -= bytes;
        self.containers -= containers;
    }

    /// Describes how many properties were left out, and how to read them.
    pub(super) fn note(&self, what: &str) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "The properties of {} {what} are left out because they are too large for one answer; ask for fewer \
                 at once.",
                self.left_out
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn properties(value: Value) -> ObjectText {
        let object: Map<String, Value> = serde_json::from_value(value).unwrap();
        object.into()
    }

    #[test]
    fn properties_beyond_the_budget_are_left_out_and_counted() {
        for large in [
            json!({ "text": "x".repeat(MOST_MAX_CHARS / 4) }),
            json!({ "a": vec![json!({}); MOST_CONTAINERS / 4 + 10] }),
        ] {
            let mut budget = PropertyBudget::new();
            let small = properties(json!({ "a": 1 }));
            let mut all =
                [&properties(large.clone()), &properties(large), &small].map(Clone::clone);
            all.iter_mut().for_each(|each| budget.fit(each));
            assert!(!all[0].is_empty() && all[1].is_empty());
            assert_eq!(all[2], small, "small ones still fit");
            let note = budget.note("entities").unwrap();
            assert!(note.contains("of 1 entities"), "{note}");
        }
        assert_eq!(PropertyBudget::new().note("entities"), None);
    }
}
