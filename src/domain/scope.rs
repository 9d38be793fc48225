//! The projects that a caller may write and read.

use std::collections::BTreeSet;

/// The default project of a single user.
pub const DEFAULT_PROJECT: &str = "default";

/// The projects of a credential. Every store method takes a scope; for the caller, projects outside of it
/// do not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    project: String,
    readable: BTreeSet<String>,
    actor: String,
    read_only: bool,
}

impl Scope {
    /// Creates a scope that writes and reads `project`. `actor` is the name of the credential, which the
    /// history records.
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

    /// Lets the scope read `projects`, too.
    #[must_use]
    pub fn reading(mut self, projects: impl IntoIterator<Item = String>) -> Self {
        self.readable.extend(projects);
        self
    }

    /// Removes the right to change data.
    #[must_use]
    pub fn reading_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Returns whether data may be changed.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.read_only
    }

    /// Returns the project that is written to.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Returns all projects that may be read, including the written one.
    pub fn readable(&self) -> impl Iterator<Item = &str> {
        self.readable.iter().map(String::as_str)
    }

    /// Returns the name of the credential.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }
}
