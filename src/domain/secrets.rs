//! Keeps credentials out of what is stored: masks or refuses them, by the setting of the operator.
//!
//! Every use case that stores text of a caller passes it through a [`SecretGate`] before it validates, hashes, indexes
//! or stores anything; so does an import. A new field of a caller must be added to the gate of its use case.

use std::fmt;

use secret_filter::{Secret, find_named_secrets, find_secrets, mask, mask_named};
use serde_json::{Map, Value};

use super::count::count_of;
use super::validate::{Invalid, Problems};

/// Maximum number of fields that notes name.
const MOST_NAMED: usize = 10;
/// The step after a refusal.
const ADVICE: &str = "leave it out, or store where it is kept instead; if it is no credential, ask the operator for \
                      MEMORY_SECRETS=mask";

/// The handling of credentials in text that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretPolicy {
    /// Replaces credentials by marks.
    Mask,
    /// Refuses the text.
    Refuse,
    /// Stores the text unchanged.
    Allow,
}

/// A credential that was found in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSecret {
    /// Path of the field, such as `items[0].content`.
    pub field: String,
    /// Rule that found it.
    pub rule: &'static str,
}

/// Applies a policy to the fields of a call or a record, one after the other.
#[derive(Debug)]
pub struct SecretGate {
    policy: SecretPolicy,
    found: Vec<FoundSecret>,
}

impl SecretGate {
    /// Creates a gate.
    #[must_use]
    pub fn new(policy: SecretPolicy) -> Self {
        Self {
            policy,
            found: Vec::new(),
        }
    }

    /// Passes a text.
    pub fn text(&mut self, field: &str, text: &mut String) {
        self.pass_text(field, None, text);
    }

    /// Passes a text that may be absent.
    pub fn optional(&mut self, field: &str, text: &mut Option<String>) {
        if let Some(text) = text {
            self.text(field, text);
        }
    }

    /// Passes the texts of a list.
    pub fn list(&mut self, field: &str, texts: &mut [String]) {
        for (index, text) in texts.iter_mut().enumerate() {
            self.text(&format!("{field}[{index}]"), text);
        }
    }

    /// Passes an object with its keys. A key may announce that its value is a credential.
    pub fn object(&mut self, field: &str, object: &mut Map<String, Value>) {
        if self.policy == SecretPolicy::Allow {
            return;
        }
        let mut passed = Map::new();
        for (key, mut value) in std::mem::take(object) {
            let mut new_key = key.clone();
            self.pass_text(&format!("{field} (a key)"), None, &mut new_key);
            let path = join_path(field, &new_key);
            self.pass_value(&path, &key, &mut value);
            insert_unique(&mut passed, new_key, value);
        }
        *object = passed;
    }

    /// Returns the credentials that were found so far.
    #[must_use]
    pub fn into_found(self) -> Vec<FoundSecret> {
        self.found
    }

    /// Ends the passage: returns notes on what was masked.
    ///
    /// # Errors
    /// [`Invalid`] names the fields and the rules, never the credentials, if the policy refuses them.
    pub fn finish(self) -> Result<Vec<String>, Invalid> {
        if self.policy == SecretPolicy::Refuse {
            let mut problems = Problems::default();
            for found in &self.found {
                problems.note(found.refuse());
            }
            problems.refuse_if_any()?;
        }
        Ok(note_masked(&self.found).into_iter().collect())
    }

    fn pass_value(&mut self, field: &str, name: &str, value: &mut Value) {
        match value {
            Value::String(text) => self.pass_text(field, Some(name), text),
            Value::Array(values) => {
                for (index, value) in values.iter_mut().enumerate() {
                    self.pass_value(&format!("{field}[{index}]"), name, value);
                }
            }
            Value::Object(object) => self.object(field, object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn pass_text(&mut self, field: &str, name: Option<&str>, text: &mut String) {
        if self.policy == SecretPolicy::Allow {
            return;
        }
        let secrets =
            name.map_or_else(|| find_secrets(text), |name| find_named_secrets(name, text));
        if secrets.is_empty() {
            return;
        }
        self.record(field, &secrets);
        if self.policy == SecretPolicy::Mask {
            let masked = name.map_or_else(|| mask(text), |name| mask_named(name, text));
            *text = masked.unwrap_or_default();
        }
    }

    fn record(&mut self, field: &str, secrets: &[Secret]) {
        for secret in secrets {
            let found = FoundSecret {
                field: field.to_owned(),
                rule: secret.rule,
            };
            if !self.found.contains(&found) {
                self.found.push(found);
            }
        }
    }
}

impl fmt::Display for FoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.field, self.rule)
    }
}

impl FoundSecret {
    fn refuse(&self) -> Invalid {
        let value = format!("[secret removed: {}]", self.rule);
        let sentence = format!("contains a credential ({}); {ADVICE}", self.rule);
        Invalid::new(&self.field, value, "text without credentials").explained_by(sentence)
    }
}

/// Adds a value; a key that was masked like another one gets a number.
fn insert_unique(object: &mut Map<String, Value>, key: String, value: Value) {
    let mut unique = key.clone();
    let mut number = 2;
    while object.contains_key(&unique) {
        unique = format!("{key} ({number})");
        number += 1;
    }
    object.insert(unique, value);
}

fn join_path(field: &str, key: &str) -> String {
    if field.is_empty() {
        key.to_owned()
    } else {
        format!("{field}.{key}")
    }
}

/// Returns a note on the fields from which credentials were removed.
#[must_use]
pub fn note_masked(found: &[FoundSecret]) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    let mut named: Vec<String> = found
        .iter()
        .take(MOST_NAMED)
        .map(FoundSecret::to_string)
        .collect();
    if found.len() > MOST_NAMED {
        named.push(count_of((found.len() - MOST_NAMED) as u64, "more place"));
    }
    Some(format!(
        "Credentials were removed before storing: {}.",
        named.join(", ")
    ))
}
