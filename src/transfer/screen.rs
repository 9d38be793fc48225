//! Masks or refuses credentials in the lines of an import: in every text of a record, including its history.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::domain::secrets::{FoundSecret, SecretGate, SecretPolicy, note_masked};

/// A line, and a note if credentials were removed from it.
pub(super) struct ScreenedLine<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) note: Option<String>,
}

/// Applies the policy to a line. A line that is not a JSON object is returned unchanged, because reading it explains
/// the problem.
///
/// # Errors
/// A sentence that names fields and rules, never the credentials, if the policy refuses them.
pub(super) fn screen_line(line: &str, policy: SecretPolicy) -> Result<ScreenedLine<'_>, String> {
    match find_in_line(line, policy) {
        None => Ok(ScreenedLine {
            text: Cow::Borrowed(line),
            note: None,
        }),
        Some((_, found)) if policy == SecretPolicy::Refuse => Err(refuse_fields(&found)),
        Some((fields, found)) => Ok(ScreenedLine {
            text: Cow::Owned(Value::Object(fields).to_string()),
            note: note_masked(&found),
        }),
    }
}

/// Returns the fields of a line after the policy was applied, and the credentials that were found. `None` if there are
/// none, or if the line is not a JSON object.
pub(super) fn find_in_line(
    line: &str,
    policy: SecretPolicy,
) -> Option<(Map<String, Value>, Vec<FoundSecret>)> {
    if policy == SecretPolicy::Allow {
        return None;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return None;
    };
    let mut gate = SecretGate::new(policy);
    gate.object("", &mut fields);
    let found = gate.into_found();
    (!found.is_empty()).then_some((fields, found))
}

fn refuse_fields(found: &[FoundSecret]) -> String {
    let named: Vec<String> = found.iter().map(FoundSecret::to_string).collect();
    format!(
        "contains credentials, which MEMORY_SECRETS=refuse keeps out: {}; set it to mask to store the rest",
        named.join(", ")
    )
}
