//! Finding what a part of an ID refers to.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::domain::{IdPart, Scope};

/// Characters of text that a [`Referent`] has at most.
pub(super) const REFERENT_CHARS: i32 = 200;

/// What an ID can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referable<'a> {
    /// A memory of any readable project, deleted ones included.
    Memory,
    /// An item in the working memory or the archive of a session of the scope's own project.
    FocusItem {
        /// The session; empty for the project's working memory.
        session: &'a str,
    },
    /// A review of the scope's own project.
    Review,
}

/// Something whose ID begins or ends with a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referent {
    /// Index of the part.
    pub part: usize,
    /// The full ID.
    pub id: Uuid,
    /// The first 200 characters of its text; of a review those of its memory.
    pub text: String,
}

/// Looks up parts of IDs, by an index in both directions.
#[async_trait]
pub trait ReferenceStore: Send + Sync + 'static {
    /// Whatever `parts` refer to, at most `most` for each part, in the order of the parts and then of the IDs.
    async fn referents(
        &self,
        scope: &Scope,
        kind: Referable<'_>,
        parts: &[IdPart],
        most: usize,
    ) -> Result<Vec<Referent>>;
}
