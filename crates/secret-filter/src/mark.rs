//! The marks that replace credentials.

use std::ops::Range;
use std::sync::LazyLock;

use crate::rule::rule_names;
use crate::secret::Secret;

const BEGIN: &str = "[secret removed: ";

static NAMES: LazyLock<Vec<&str>> = LazyLock::new(rule_names);

/// Returns the place of the first mark. Only a mark with the name of a rule counts, so that none hides a credential.
pub(crate) fn find_mark(text: &str) -> Option<Range<usize>> {
    text.match_indices(BEGIN).find_map(|(start, begin)| {
        let inside = &text[start + begin.len()..];
        let name = NAMES.iter().find(|name| {
            inside
                .strip_prefix(**name)
                .is_some_and(|rest| rest.starts_with(']'))
        })?;
        Some(start..start + begin.len() + name.len() + 1)
    })
}

/// Replaces credentials, which are in order and do not overlap, by marks.
pub(crate) fn replace_secrets(text: &str, secrets: &[Secret]) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut end = 0;
    for secret in secrets {
        masked.push_str(&text[end..secret.range.start]);
        masked.push_str(BEGIN);
        masked.push_str(secret.rule);
        masked.push(']');
        end = secret.range.end;
    }
    masked.push_str(&text[end..]);
    masked
}
