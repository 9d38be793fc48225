//! The lines in which two texts differ.

use similar::{ChangeTag, TextDiff};

/// A line that is only in one of two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedLine {
    Removed(String),
    Added(String),
}

/// Returns the changed lines, without their surroundings, which may contain secrets of other servers.
#[must_use]
pub fn changed_lines(old: &str, new: &str) -> Vec<ChangedLine> {
    let changes = TextDiff::from_lines(old, new);
    let lines = changes.iter_all_changes().filter_map(|change| {
        let line = change.value().trim_end_matches(['\r', '\n']).to_owned();
        match change.tag() {
            ChangeTag::Equal => None,
            ChangeTag::Delete => Some(ChangedLine::Removed(line)),
            ChangeTag::Insert => Some(ChangedLine::Added(line)),
        }
    });
    lines.collect()
}
