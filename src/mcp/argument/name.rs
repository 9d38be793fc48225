//! Names of arguments: resolves aliases and spellings, and detects misspelled ones.

use super::fold::fold_name;
use super::shape::Object;

/// Maximum length of an unknown name that is compared with the known ones.
const MAX_COMPARED: usize = 64;
/// Minimum length of a known name that is also recognized as the beginning or end of an unknown one.
const LONG_NAME: usize = 5;

/// Arguments that clients add to every call by themselves, in the form of [`fold_name`]. A model cannot omit them, so
/// they are never treated as misspelled.
const ADDED_BY_CLIENTS: [&str; 24] = [
    "action",
    "agentid",
    "callid",
    "chatid",
    "chatinput",
    "conversationid",
    "executionid",
    "messageid",
    "meta",
    "model",
    "progresstoken",
    "requestid",
    "runid",
    "securitycontext",
    "sessionid",
    "sessionkey",
    "signal",
    "threadid",
    "tool",
    "toolcallid",
    "toolname",
    "userid",
    "workflowid",
    "xrequestid",
];

/// The meaning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'s> {
    /// A known field, by its own name.
    Exact(&'s str),
    /// A known field, by an alias or another spelling.
    Alias(&'s str),
    /// Probably a known field.
    Slip(&'s str),
    /// Nothing that is known here.
    Unknown,
}

/// Finds the field that a name means. `outermost`: only there, clients add arguments of their own.
pub(super) fn resolve_name<'s>(object: &'s Object, name: &str, outermost: bool) -> Meaning<'s> {
    if let Some((field, _)) = object.fields.get_key_value(name) {
        return Meaning::Exact(field);
    }
    if name.len() > MAX_COMPARED {
        return Meaning::Unknown;
    }
    let folded = fold_name(name);
    if outermost && ADDED_BY_CLIENTS.contains(&folded.as_str()) {
        return Meaning::Unknown;
    }
    if let Some(field) = object.names.get(&folded) {
        return Meaning::Alias(field);
    }
    // Aliases are included, because a misspelled alias means its field.
    let near = object
        .names
        .iter()
        .filter_map(|(known, field)| Some((count_slips(&folded, known)?, field)));
    near.min_by_key(|(slips, _)| *slips)
        .map_or(Meaning::Unknown, |(_, field)| Meaning::Slip(field))
}

/// Returns the distance of an unknown name from a known one; none if they are unrelated.
fn count_slips(unknown: &str, known: &str) -> Option<usize> {
    let forgiven = match known.chars().count().min(unknown.chars().count()) {
        0..=2 => 0,
        3..=4 => 1,
        _ => 2,
    };
    let distance = strsim::osa_distance(unknown, known);
    if distance <= forgiven {
        return Some(distance);
    }
    let contained =
        known.len() >= LONG_NAME && (unknown.starts_with(known) || unknown.ends_with(known));
    contained.then_some(forgiven + 1)
}
