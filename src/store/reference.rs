//! Resolution of partial IDs.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::domain::{IdPart, Scope};

/// Maximum number of characters of the text of a [`Referent`].
pub(super) const REFERENT_CHARS: i32 = 200;

/// The objects that an ID can identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referable<'a> {
    /// A memory of any readable project, including deleted ones.
    Memory,
    /// An item in the working memory or the archive of a session of the scope's own project.
    FocusItem {
        /// The session; empty for the project's working memory.
        session: &'a str,
    },
    /// A review of the scope's own project.
    Review,
}

/// An object whose ID begins or ends with a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referent {
    /// Index of the part.
    pub part: usize,
    /// The full ID.
    pub id: Uuid,
    /// The first 200 characters of its text; for a review, of the text of its memory.
    pub text: String,
}

/// Resolves partial IDs, using an index in both directions.
#[async_trait]
pub trait ReferenceStore: Send + Sync + 'static {
    /// Returns the objects to which `parts` refer, at most `most` per part, ordered by part and then by ID.
    async fn referents(
        &self,
        scope: &Scope,
        kind: Referable<'_>,
        parts: &[IdPart],
        most: usize,
    ) -> Result<Vec<Referent>>;
}
