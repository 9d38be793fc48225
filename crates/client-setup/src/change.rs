//! A change of a client's settings: what the user asks for, the planned text, and why a file is not changed.

use crate::entry::Target;

/// The change that is made to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Connect,
    Remove,
}

/// A change that the user asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub action: Action,
    /// Name of the server in the client; `None` uses the entry that is already there, else the default name.
    pub name: Option<String>,
    pub target: Target,
}

/// The result of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The new text of the file; the old one if nothing changes.
    pub text: String,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Added,
    Updated,
    AlreadyConnected,
    Removed,
    NotConnected,
}

/// The reason why a file is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("it is not valid {format} ({problem})")]
    Malformed {
        format: &'static str,
        problem: String,
    },
    #[error("{key}: expected {expected}, got {got}")]
    WrongType {
        key: String,
        expected: &'static str,
        got: &'static str,
    },
    #[error("the key `{key}` occurs more than once")]
    Duplicate { key: String },
    #[error("its server `{name}` is another program ({other}); choose another name with --name")]
    NameTaken { name: String, other: String },
    #[error(
        "{client} cannot send a token to {url} without storing it in this file, and `stdio` reaches only http addresses; \
         use a proxy on this machine for https"
    )]
    NoSafeToken { client: &'static str, url: String },
}

/// Editors of Windows begin files with this mark, which parsers reject.
pub(crate) fn split_byte_order_mark(text: &str) -> (&str, &str) {
    match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    }
}
