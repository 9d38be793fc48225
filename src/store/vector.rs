//! The part of the boundary for vectors: the queue of memories that wait for embeddings.
//!
//! The queue belongs to the service and not to a caller, so its methods take no scope: they hand texts to the embedder
//! and take its vectors back, and no answer to a client comes from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;

/// A memory that waits for its vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexJob {
    /// Which memory, in the backend's own terms.
    pub key: MemoryKey,
    /// Its version when it was read; vectors of another one are not kept.
    pub version: i64,
    /// What is to be embedded.
    pub text: String,
    /// How often this was tried.
    pub attempts: u32,
}

/// A memory in the backend's own terms, in storage order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryKey {
    /// The project's number.
    pub project: i64,
    /// The memory's.
    pub seq: i64,
}

/// The vectors of a memory, one a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Which memory.
    pub key: MemoryKey,
    /// From the [`IndexJob`].
    pub version: i64,
    /// Of length 1 and all of the same dimension; at least one.
    pub vectors: Vec<Vec<f32>>,
}

/// Vectors in a database.
#[async_trait]
pub trait VectorStore: Send + Sync + 'static {
    /// Makes searches for vectors of this model quick. Takes its time, blocks nobody, and does nothing where nothing is
    /// to be done.
    async fn prepare_vectors(&self, model: &str, dimension: usize) -> Result<()>;

    /// The model whose vectors every memory has, or is queued for.
    async fn queued_model(&self) -> Result<Option<String>>;

    /// Keeps that answer.
    async fn set_queued_model(&self, model: &str) -> Result<()>;

    /// Queues the live memories that have no vectors of this model and dimension, or all where none is named, some
    /// thousand of them from `after` on; those that were put off for their text are tried again. Returns where to go
    /// on, `None` at the end.
    async fn queue_missing(
        &self,
        model: Option<(&str, usize)>,
        after: Option<MemoryKey>,
    ) -> Result<Option<MemoryKey>>;

    /// Memories that wait for vectors, the newest first. What was claimed is not given to anybody else for some
    /// minutes.
    async fn claim_index_jobs(&self, limit: usize, now: DateTime<Utc>) -> Result<Vec<IndexJob>>;

    /// Keeps vectors in place of all that a memory had, and takes the memory off the queue. Memories that changed in
    /// the meantime, or are gone, are left alone. Returns how many got their vectors.
    async fn save_vectors(
        &self,
        model: &str,
        embedded: &[Embedded],
        now: DateTime<Utc>,
    ) -> Result<u64>;

    /// Puts claimed memories back, to be tried again at `not_before`. With an `error` it counts as an attempt.
    async fn postpone_index_jobs(
        &self,
        keys: &[MemoryKey],
        error: Option<&str>,
        not_before: DateTime<Utc>,
    ) -> Result<()>;

    /// All memories that wait, of all projects.
    async fn index_backlog(&self) -> Result<u64>;
}
