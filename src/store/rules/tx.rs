//! The primitives of a transaction, by table. A backend implements each in a few lines.

use std::collections::HashMap;
use std::fmt::Debug;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::memory_change::{ChangeRecord, MemoryChange};
use crate::domain::focus::{ArchivedItem, FocusItem};
use crate::domain::graph::{Entity, Links, Relation};
use crate::domain::graph_merge::Plan;
use crate::domain::text::Terms;
use crate::domain::{Analyzer, History, Memory, Review, Scope};
use crate::store::port::{EntityRecord, FocusRecord, MemoryRecord, RelationRecord};
use crate::store::{Limits, NewReview, Result, ReviewQuery, StoreError};

/// All primitives of a transaction.
pub(crate) trait Tx: ImportTx {}

impl<T: ImportTx> Tx for T {}

/// A transaction in the project of a scope.
#[trait_variant::make(Send)]
pub(crate) trait Transaction: Send {
    /// The reason why a primitive failed. A backend that retries transactions distinguishes the causes.
    type Error: From<StoreError> + Debug + Send;

    /// Returns the project and the caller.
    fn scope(&self) -> &Scope;

    /// Returns the text analyzer.
    fn analyzer(&self) -> &Analyzer;

    /// Returns the quotas of a project.
    fn limits(&self) -> Limits;

    /// Creates the project if it does not exist.
    async fn ensure_project(&mut self) -> Result<(), Self::Error>;
}

/// Objects whose number in a project is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Entity,
    Relation,
    Review,
}

impl Item {
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Entity => "entities",
            Self::Relation => "relations",
            Self::Review => "reviews",
        }
    }
}

/// The numbers that quotas limit.
#[trait_variant::make(Send)]
pub(crate) trait QuotaTx: Transaction {
    /// Prevents concurrent additions to the project until the end of the transaction.
    async fn lock_usage(&mut self) -> Result<(), Self::Error>;

    /// Counts the memories and bytes of the project, including those that this transaction wrote.
    async fn usage(&mut self) -> Result<(u64, u64), Self::Error>;

    async fn count_items(&mut self, item: Item) -> Result<u64, Self::Error>;
}

/// Access to the tables of memories. All primitives work in the project of the scope.
#[trait_variant::make(Send)]
pub(crate) trait ChangeTx: QuotaTx {
    /// Returns memories in any state, locked until the end of the transaction. They are returned and locked in storage
    /// order, so that two transactions never deadlock.
    async fn lock_memories(&mut self, ids: &[Uuid]) -> Result<Vec<Memory>, Self::Error>;

    /// Returns those IDs that are live memories of a readable project.
    async fn find_sources(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, Self::Error>;

    /// Returns the live memories that have these turns of conversations.
    async fn turn_owners(&mut self, turns: &[(&str, i64)]) -> Result<Vec<TurnOwner>, Self::Error>;

    /// Writes changed memories with their history, index entries, vectors and index jobs.
    async fn rewrite_memories(
        &mut self,
        changes: &[MemoryChange],
        record: &ChangeRecord<'_>,
    ) -> Result<(), Self::Error>;

    /// Writes the votes for a memory without creating a new version.
    async fn save_votes(&mut self, memory: &Memory) -> Result<(), Self::Error>;

    /// Removes memories and all data that belongs to them or repeats their texts.
    async fn purge_memories(&mut self, memories: &[Memory]) -> Result<(), Self::Error>;

    /// Returns the history of a memory from a version on, oldest first.
    async fn history_from(
        &mut self,
        memory: &Memory,
        version: i64,
    ) -> Result<Vec<History>, Self::Error>;
}

/// Session, number and memory of a turn.
pub(crate) type TurnOwner = (String, i64, Uuid);

/// Access to the tables of the graph.
#[trait_variant::make(Send)]
pub(crate) trait LinkTx: QuotaTx {
    /// Prevents concurrent writes to the graph of the project until the end of the transaction.
    async fn lock_graph(&mut self) -> Result<(), Self::Error>;

    /// Returns the entities and relations that the batches name, locked against other writers of the project's graph.
    async fn named_graph(
        &mut self,
        batches: &[&Links],
    ) -> Result<(Vec<Entity>, Vec<Relation>), Self::Error>;

    /// Stores a mention unless it exists. Returns whether it was stored.
    async fn insert_mention(&mut self, memory: i64, entity: i64) -> Result<bool, Self::Error>;

    /// Executes a plan. Returns the numbers of the named entities by their normalized names.
    async fn write_plan(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, i64>, Self::Error>;
}

/// The location of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// In the working memory.
    Focus,
    /// In the archive.
    Archive,
}

/// Access to the tables of the working memory.
#[trait_variant::make(Send)]
pub(crate) trait FocusTx: Transaction {
    /// Prevents concurrent changes of the session until the end of the transaction.
    async fn lock_session(&mut self, session: &str) -> Result<(), Self::Error>;

    /// Returns all items of a session, most recently touched first.
    async fn focus_items(&mut self, session: &str) -> Result<Vec<FocusItem>, Self::Error>;

    /// Returns archived items of a session, latest first, after the one numbered `before`.
    async fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>, Self::Error>;

    async fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> Result<Option<ArchivedItem>, Self::Error>;

    /// Stores an item and sets its number. It is linked to its memory if that belongs to the project, otherwise to the
    /// oldest memory with the same text.
    async fn insert_item(&mut self, session: &str, item: &mut FocusItem)
    -> Result<(), Self::Error>;

    /// Stores an item in the archive and sets its number. It is linked to its memory if that belongs to the project.
    async fn insert_archived(
        &mut self,
        session: &str,
        archived: &mut ArchivedItem,
    ) -> Result<(), Self::Error>;

    /// Raises the time of the last use and the importance of an item.
    async fn touch_item(
        &mut self,
        seq: i64,
        importance: f64,
        now: DateTime<Utc>,
    ) -> Result<(), Self::Error>;

    /// Removes an item. Returns whether it still existed: a purge may have removed it since it was read.
    async fn delete_item(&mut self, shelf: Shelf, seq: i64) -> Result<bool, Self::Error>;

    /// Archives the items of all sessions that were touched longest ago, and removes those that were archived first,
    /// until at most this many of each are left.
    async fn trim_focus(&mut self, most: i64, now: DateTime<Utc>) -> Result<(), Self::Error>;
}

/// Access to the table of reviews.
#[trait_variant::make(Send)]
pub(crate) trait ReviewTx: ChangeTx {
    /// Returns a review of the same memory with the same proposal that is open or, for a proposal without effect,
    /// dismissed.
    async fn equal_review(&mut self, review: &NewReview) -> Result<Option<Review>, Self::Error>;

    async fn count_open_reviews(&mut self, now: DateTime<Utc>) -> Result<u64, Self::Error>;

    async fn insert_review(&mut self, review: &NewReview) -> Result<(), Self::Error>;

    /// Returns a review, locked until the end of the transaction.
    async fn lock_review(&mut self, id: Uuid) -> Result<Option<Review>, Self::Error>;

    async fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>, Self::Error>;

    async fn save_decision(&mut self, review: &Review) -> Result<(), Self::Error>;
}

/// Access to the tables of an import. Records keep their times, versions and IDs.
#[trait_variant::make(Send)]
pub(crate) trait ImportTx: FocusTx + LinkTx + ReviewTx {
    /// Returns the location of a memory of any project.
    async fn locate_memory(&mut self, id: Uuid) -> Result<Option<MemoryLocation>, Self::Error>;

    /// Stores a memory with its history. Returns its number.
    async fn insert_record(
        &mut self,
        record: &MemoryRecord,
        terms: &Terms,
    ) -> Result<i64, Self::Error>;

    /// Adds memories to the index and to the embedding queue.
    async fn index_records(&mut self, entering: &[(i64, Terms)]) -> Result<(), Self::Error>;

    /// Returns the number of an entity by its normalized name.
    async fn find_entity(&mut self, name_key: &str) -> Result<Option<i64>, Self::Error>;

    async fn insert_entity(&mut self, record: &EntityRecord) -> Result<(), Self::Error>;

    /// Stores a relation unless an equal one of the same time exists. Returns whether it was stored.
    async fn insert_relation(
        &mut self,
        record: &RelationRecord,
        from: i64,
        to: i64,
    ) -> Result<bool, Self::Error>;

    /// Stores an item of the working memory or of its archive unless it exists in either. Returns whether it was
    /// stored. A memory that does not exist here is left out.
    async fn insert_focus(&mut self, record: &FocusRecord) -> Result<bool, Self::Error>;

    /// Stores a review of a memory unless it exists. Returns whether it was stored.
    async fn insert_decided_review(
        &mut self,
        review: &Review,
        memory: i64,
    ) -> Result<bool, Self::Error>;
}

/// The location of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLocation {
    /// Whether it belongs to the project of the transaction.
    pub(crate) is_own: bool,
    pub(crate) seq: i64,
}
