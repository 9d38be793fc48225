//! What a backend does for the working memory. The rules are in `domain::focus`; every method is one transaction, and
//! those that change a session take turns within it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::Scope;
use crate::domain::focus::{ArchivedItem, Eviction, FocusItem};
use crate::domain::memory::content_hash;

/// Something to have in mind.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFocus {
    /// Identity, drawn by the engine.
    pub id: Uuid,
    /// The text.
    pub content: String,
    /// From 0 to 1.
    pub importance: f64,
    /// The present.
    pub now: DateTime<Utc>,
}

impl From<NewFocus> for FocusItem {
    fn from(
        NewFocus {
            id,
            content,
            importance,
            now,
        }: NewFocus,
    ) -> Self {
        Self {
            id,
            seq: 0,
            content,
            importance,
            created_at: now,
            touched_at: now,
            memory: None,
        }
    }
}

/// The item with the same text, as [`content_hash`] compares it.
pub(super) fn same_text<'a>(items: &'a [FocusItem], content: &str) -> Option<&'a FocusItem> {
    let hash = content_hash(content);
    items
        .iter()
        .find(|item| content_hash(&item.content) == hash)
}

/// What became of an item that was added or brought back.
#[derive(Debug, Clone, PartialEq)]
pub struct Focused {
    /// The item.
    pub item: FocusItem,
    /// False when the session had the same text in mind already, which was touched instead.
    pub added: bool,
    /// What had to go.
    pub evicted: Vec<(FocusItem, Eviction)>,
}

/// Where an item is.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In the working memory.
    Focus(FocusItem),
    /// In the archive.
    Archive(ArchivedItem),
}

/// The working memory of each project and session. See [`super::Store`], of which this is a part.
///
/// A session is a name that the caller chooses; the empty one is that of the project. All is in the scope's own
/// project. Unknown ids are [`super::StoreError::NotFound`] with the field `id`.
///
/// An item keeps its link to the memory wherever it goes, and a new one that repeats a memory of the project gets one.
/// A purge takes along what is linked and what has the text of any version of the memory.
#[async_trait]
pub trait FocusStore: Send + Sync {
    /// Adds an item, or touches the one with the same text and raises its importance. Evicts by
    /// [`crate::domain::focus::make_room`].
    async fn focus_add(
        &self,
        scope: &Scope,
        session: &str,
        new: NewFocus,
        capacity: usize,
    ) -> Result<Focused>;

    /// All items of a session, the most recently touched first.
    async fn focus_list(&self, scope: &Scope, session: &str) -> Result<Vec<FocusItem>>;

    /// Archived items of a session, the latest first, after the one numbered `before`.
    async fn focus_archived(
        &self,
        scope: &Scope,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>>;

    /// One item, wherever it is.
    async fn focus_get(&self, scope: &Scope, session: &str, id: Uuid) -> Result<Place>;

    /// Marks an item as used now.
    async fn focus_touch(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<FocusItem>;

    /// Moves an item to the archive. One that became a memory names it; that also marks an archived one. A memory that
    /// is not there any more is [`super::StoreError::NotFound`] with the field `memory`.
    async fn focus_drop(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        reason: &str,
        memory: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<ArchivedItem>;

    /// Brings an item back from the archive, touched; one that is in the working memory is only touched.
    async fn focus_restore(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        capacity: usize,
        now: DateTime<Utc>,
    ) -> Result<Focused>;
}
