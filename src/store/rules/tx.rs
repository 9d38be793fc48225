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
    fn ensure_project(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
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
pub(crate) trait QuotaTx: Transaction {
    /// Prevents concurrent additions to the project until the end of the transaction.
    fn lock_usage(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Counts the memories and bytes of the project, including those that this transaction wrote.
    fn usage(&mut self) -> impl Future<Output = Result<(u64, u64), Self::Error>> + Send;

    fn count_items(&mut self, item: Item) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}

/// Access to the tables of memories. All primitives work in the project of the scope.
pub(crate) trait ChangeTx: QuotaTx {
    /// Returns memories in any state, locked until the end of the transaction. They are returned and locked in storage
    /// order, so that two transactions never deadlock.
    fn lock_memories(
        &mut self,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<Vec<Memory>, Self::Error>> + Send;

    /// Returns those IDs that are live memories of a readable project.
    fn find_sources(
        &mut self,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<Vec<Uuid>, Self::Error>> + Send;

    /// Returns the live memories that have these turns of conversations.
    fn turn_owners(
        &mut self,
        turns: &[(&str, i64)],
    ) -> impl Future<Output = Result<Vec<TurnOwner>, Self::Error>> + Send;

    /// Writes changed memories with their history, index entries, vectors and index jobs.
    fn rewrite_memories(
        &mut self,
        changes: &[MemoryChange],
        record: &ChangeRecord<'_>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Writes the votes for a memory without creating a new version.
    fn save_votes(
        &mut self,
        memory: &Memory,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes memories and all data that belongs to them or repeats their texts.
    fn purge_memories(
        &mut self,
        memories: &[Memory],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the history of a memory from a version on, oldest first.
    fn history_from(
        &mut self,
        memory: &Memory,
        version: i64,
    ) -> impl Future<Output = Result<Vec<History>, Self::Error>> + Send;
}

/// Session, number and memory of a turn.
pub(crate) type TurnOwner = (String, i64, Uuid);

/// Access to the tables of the graph.
pub(crate) trait LinkTx: QuotaTx {
    /// Prevents concurrent writes to the graph of the project until the end of the transaction.
    fn lock_graph(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the entities and relations that the batches name, locked against other writers of the project's graph.
    fn named_graph(
        &mut self,
        batches: &[&Links],
    ) -> impl Future<Output = Result<(Vec<Entity>, Vec<Relation>), Self::Error>> + Send;

    /// Stores a mention unless it exists. Returns whether it was stored.
    fn insert_mention(
        &mut self,
        memory: i64,
        entity: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Executes a plan. Returns the numbers of the named entities by their normalized names.
    fn write_plan(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;
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
pub(crate) trait FocusTx: Transaction {
    /// Prevents concurrent changes of the session until the end of the transaction.
    fn lock_session(
        &mut self,
        session: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns all items of a session, most recently touched first.
    fn focus_items(
        &mut self,
        session: &str,
    ) -> impl Future<Output = Result<Vec<FocusItem>, Self::Error>> + Send;

    /// Returns archived items of a session, latest first, after the one numbered `before`.
    fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ArchivedItem>, Self::Error>> + Send;

    fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<ArchivedItem>, Self::Error>> + Send;

    /// Stores an item and sets its number. It is linked to its memory if that belongs to the project, otherwise to the
    /// oldest memory with the same text.
    fn insert_item(
        &mut self,
        session: &str,
        item: &mut FocusItem,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores an item in the archive and sets its number. It is linked to its memory if that belongs to the project.
    fn insert_archived(
        &mut self,
        session: &str,
        archived: &mut ArchivedItem,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Raises the time of the last use and the importance of an item.
    fn touch_item(
        &mut self,
        seq: i64,
        importance: f64,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes an item. Returns whether it still existed: a purge may have removed it since it was read.
    fn delete_item(
        &mut self,
        shelf: Shelf,
        seq: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Archives the items of all sessions that were touched longest ago, and removes those that were archived first,
    /// until at most this many of each are left.
    fn trim_focus(
        &mut self,
        most: i64,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Access to the table of reviews.
pub(crate) trait ReviewTx: ChangeTx {
    /// Returns a review of the same memory with the same proposal that is open or, for a proposal without effect,
    /// dismissed.
    fn equal_review(
        &mut self,
        review: &NewReview,
    ) -> impl Future<Output = Result<Option<Review>, Self::Error>> + Send;

    fn count_open_reviews(
        &mut self,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    fn insert_review(
        &mut self,
        review: &NewReview,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns a review, locked until the end of the transaction.
    fn lock_review(
        &mut self,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<Review>, Self::Error>> + Send;

    fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Review>, Self::Error>> + Send;

    fn save_decision(
        &mut self,
        review: &Review,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Access to the tables of an import. Records keep their times, versions and IDs.
pub(crate) trait ImportTx: FocusTx + LinkTx + ReviewTx {
    /// Returns the location of a memory of any project.
    fn locate_memory(
        &mut self,
        id: Uuid,
    ) -> impl Future<Output = Result<Option<MemoryLocation>, Self::Error>> + Send;

    /// Stores a memory with its history. Returns its number.
    fn insert_record(
        &mut self,
        record: &MemoryRecord,
        terms: &Terms,
    ) -> impl Future<Output = Result<i64, Self::Error>> + Send;

    /// Adds memories to the index and to the embedding queue.
    fn index_records(
        &mut self,
        entering: &[(i64, Terms)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns the number of an entity by its normalized name.
    fn find_entity(
        &mut self,
        name_key: &str,
    ) -> impl Future<Output = Result<Option<i64>, Self::Error>> + Send;

    fn insert_entity(
        &mut self,
        record: &EntityRecord,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores a relation unless an equal one of the same time exists. Returns whether it was stored.
    fn insert_relation(
        &mut self,
        record: &RelationRecord,
        from: i64,
        to: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Stores an item of the working memory or of its archive unless it exists in either. Returns whether it was
    /// stored. A memory that does not exist here is left out.
    fn insert_focus(
        &mut self,
        record: &FocusRecord,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Stores a review of a memory unless it exists. Returns whether it was stored.
    fn insert_decided_review(
        &mut self,
        review: &Review,
        memory: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The location of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLocation {
    /// Whether it belongs to the project of the transaction.
    pub(crate) is_own: bool,
    pub(crate) seq: i64,
}
