//! Storage of vectors: the queue of memories that wait for embeddings.
//!
//! The queue belongs to the service rather than to a caller, so its methods take no scope. They pass texts to the
//! embedder and store its vectors, and no answer to a client contains their results.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;

/// A memory that waits for its vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexJob {
    /// Key of the memory in this backend.
    pub key: MemoryKey,
    /// Its version when it was read. Vectors of another version are discarded.
    pub version: i64,
    /// The text to embed.
    pub text: String,
    /// Whether it is a turn of a conversation.
    pub is_turn: bool,
    /// Number of failed attempts.
    pub attempts: u32,
}

/// Identifies a memory within a backend; ordered by storage order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryKey {
    /// Number of the project.
    pub project: i64,
    /// Number of the memory.
    pub seq: i64,
}

/// The vectors of a memory, one for each passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Key of the memory.
    pub key: MemoryKey,
    /// The version from the [`IndexJob`].
    pub version: i64,
    /// Number of the first vector, see [`crate::domain::passage::Passages::first`].
    pub first_passage: u32,
    /// Of length 1 and all of the same dimension; at least one.
    pub vectors: Vec<Vec<f32>>,
}

/// Vectors of a database.
#[async_trait]
pub trait VectorStore: Send + Sync + 'static {
    /// Builds an index for searches with vectors of this model, if it is useful and missing. May take long, but blocks
    /// no other method.
    async fn prepare_vectors(&self, model: &str, dimension: usize) -> Result<()>;

    /// Returns the model for which every memory has vectors or is queued.
    async fn queued_model(&self) -> Result<Option<String>>;

    /// Stores the model for [`Self::queued_model`].
    async fn set_queued_model(&self, model: &str) -> Result<()>;

    /// Queues live memories without vectors of this model and dimension (all live memories if no model is given), some
    /// thousand per call, starting after `after`. Memories that were postponed because of their text are tried again.
    /// Returns the position for the next call, or `None` at the end.
    async fn queue_missing(
        &self,
        model: Option<(&str, usize)>,
        after: Option<MemoryKey>,
    ) -> Result<Option<MemoryKey>>;

    /// Claims memories that wait for vectors, newest first. A claim excludes other callers for some minutes.
    async fn claim_index_jobs(&self, limit: usize, now: DateTime<Utc>) -> Result<Vec<IndexJob>>;

    /// Replaces all vectors of each memory and removes it from the queue. Memories that have changed or no longer exist
    /// are skipped. Returns the number of memories that got vectors.
    async fn save_vectors(
        &self,
        model: &str,
        embedded: &[Embedded],
        now: DateTime<Utc>,
    ) -> Result<u64>;

    /// Returns claimed memories to the queue, to be tried again at `not_before`. With an `error` the attempt counts as
    /// failed.
    async fn postpone_index_jobs(
        &self,
        keys: &[MemoryKey],
        error: Option<&str>,
        not_before: DateTime<Utc>,
    ) -> Result<()>;

    /// Counts the waiting memories of all projects.
    async fn index_backlog(&self) -> Result<u64>;
}
