//! Which projects a caller writes to and reads from.

use std::collections::BTreeSet;

/// The project of a single user who never names one.
pub const DEFAULT_PROJECT: &str = "default";

/// The projects of a credential. Every store method takes one; a project outside of it does not exist
/// for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    project: String,
    readable: BTreeSet<String>,
    actor: String,
    read_only: bool,
}

impl Scope {
    /// A scope that writes and reads `project`. `actor` is the name of the credential, kept in the history.
    #[must_use]
    pub fn new(project: impl Into<String>, actor: impl Into<String>) -> Self {
        let project = project.into();
        Self {
            readable: BTreeSet::from([project.clone()]),
            project,
            actor: actor.into(),
            read_only: false,
        }
    }

    /// Allows the scope to read `projects`, too.
    #[must_use]
    pub fn reading(mut self, projects: impl IntoIterator<Item = String>) -> Self {
        self.readable.extend(projects);
        self
    }

    /// Removes the right to change anything.
    #[must_use]
    pub fn reading_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether anything may be changed.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.read_only
    }

    /// The project that writes go to.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// All projects that may be read, the written one included.
    pub fn readable(&self) -> impl Iterator<Item = &str> {
        self.readable.iter().map(String::as_str)
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }
}
