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
    /// Why a primitive failed. A backend that repeats transactions tells the causes apart.
    type Error: From<StoreError> + Debug + Send;

    /// The project and who works in it.
    fn scope(&self) -> &Scope;

    /// The analysis of texts.
    fn analyzer(&self) -> &Analyzer;

    /// How much a project may hold.
    fn limits(&self) -> Limits;

    /// Creates the project if it does not exist.
    fn ensure_project(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Things of which a project may have a limited number.
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
    /// Keeps others from adding to the project until the end of the transaction.
    fn lock_usage(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Memories and bytes of the project, with those that this transaction wrote.
    fn usage(&mut self) -> impl Future<Output = Result<(u64, u64), Self::Error>> + Send;

    fn count_items(&mut self, item: Item) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}

/// The tables of memories. All primitives work in the project of the scope.
pub(crate) trait ChangeTx: QuotaTx {
    /// Memories in any state, locked until the end of the transaction. They come and are locked in storage order, so that
    /// two transactions never wait for each other in a circle.
    fn lock_memories(
        &mut self,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<Vec<Memory>, Self::Error>> + Send;

    /// Which of the IDs are live memories of a readable project.
    fn find_sources(
        &mut self,
        ids: &[Uuid],
    ) -> impl Future<Output = Result<Vec<Uuid>, Self::Error>> + Send;

    /// The live memories that have these turns of conversations.
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

    /// Writes the votes for a memory, which are no new version.
    fn save_votes(
        &mut self,
        memory: &Memory,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Removes memories and everything that belongs to them or repeats their texts.
    fn purge_memories(
        &mut self,
        memories: &[Memory],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The history of a memory from a version on, oldest first.
    fn history_from(
        &mut self,
        memory: &Memory,
        version: i64,
    ) -> impl Future<Output = Result<Vec<History>, Self::Error>> + Send;
}

/// Session, number and memory of a turn.
pub(crate) type TurnOwner = (String, i64, Uuid);

/// The tables of the graph.
pub(crate) trait LinkTx: QuotaTx {
    /// Keeps others from writing to the graph of the project until the end of the transaction.
    fn lock_graph(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The entities and relations that the batches name, locked against other writers of the graph of the project.
    fn named_graph(
        &mut self,
        batches: &[&Links],
    ) -> impl Future<Output = Result<(Vec<Entity>, Vec<Relation>), Self::Error>> + Send;

    /// Stores a mention unless it is there. Returns whether it did.
    fn insert_mention(
        &mut self,
        memory: i64,
        entity: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Carries a plan out. Returns the numbers of the entities that it names, by their compared names.
    fn write_plan(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<HashMap<String, i64>, Self::Error>> + Send;
}

/// Where an item is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// In the working memory.
    Focus,
    /// In the archive.
    Archive,
}

/// The tables of the working memory.
pub(crate) trait FocusTx: Transaction {
    /// Keeps others from changing the session until the end of the transaction.
    fn lock_session(
        &mut self,
        session: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// All items of a session, the most recently touched first.
    fn focus_items(
        &mut self,
        session: &str,
    ) -> impl Future<Output = Result<Vec<FocusItem>, Self::Error>> + Send;

    /// Archived items of a session, the latest first, after the one numbered `before`.
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

    /// Stores an item and sets its number. It is linked to its memory if that is in the project, otherwise to the oldest
    /// memory with the same text.
    fn insert_item(
        &mut self,
        session: &str,
        item: &mut FocusItem,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores an item in the archive and sets its number. It is linked to its memory if that is in the project.
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

    /// Removes an item. Returns whether it was still there: a purge may have removed it since it was read.
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

/// The table of reviews.
pub(crate) trait ReviewTx: ChangeTx {
    /// A review of the same memory with the same proposal that is open or, for a proposal without effect, dismissed.
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

    /// A review, locked until the end of the transaction.
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

/// The tables of an import. Records get the times, versions and IDs that they have.
pub(crate) trait ImportTx: FocusTx + LinkTx + ReviewTx {
    /// Where a memory of any project is.
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

    /// Adds memories to the index, and to the queue for embeddings.
    fn index_records(
        &mut self,
        entering: &[(i64, Terms)],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The number of an entity, by its compared name.
    fn find_entity(
        &mut self,
        name_key: &str,
    ) -> impl Future<Output = Result<Option<i64>, Self::Error>> + Send;

    fn insert_entity(
        &mut self,
        record: &EntityRecord,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores a relation unless one says the same of the same time. Returns whether it did.
    fn insert_relation(
        &mut self,
        record: &RelationRecord,
        from: i64,
        to: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Stores an item of the working memory or of its archive, unless one of them has it. Returns whether it did. A memory
    /// that does not exist here is left out.
    fn insert_focus(
        &mut self,
        record: &FocusRecord,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Stores a review of a memory unless it is there. Returns whether it did.
    fn insert_decided_review(
        &mut self,
        review: &Review,
        memory: i64,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Where a memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryLocation {
    /// Whether it belongs to the project of the transaction.
    pub(crate) is_own: bool,
    pub(crate) seq: i64,
}
