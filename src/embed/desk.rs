//! Where an embedder is asked for, whether there is one yet or not.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::query_cache::QueryCache;
use super::{Embedder, Model};

/// Longest that a recall waits for the vector of its question.
const QUERY_LIMIT: Duration = Duration::from_secs(2);

/// The place of the embedder: empty while its model is fetched and loaded.
#[derive(Debug)]
pub struct Desk {
    /// What was configured, if anything.
    wanted: Option<String>,
    embedder: RwLock<Option<Arc<dyn Embedder>>>,
    /// What goes on, for people; empty when all is well.
    trouble: Mutex<Option<String>>,
    cache: QueryCache,
    work: Notify,
}

/// The vector of a question.
#[derive(Debug, Clone)]
pub struct QueryVector {
    /// Who made it.
    pub model: Model,
    /// Of length 1.
    pub vector: Arc<[f32]>,
}

impl Desk {
    /// Embedding is switched off.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(None)
    }

    /// The embedder `wanted` comes later.
    #[must_use]
    pub fn expecting(wanted: impl Into<String>) -> Self {
        Self::new(Some(wanted.into()))
    }

    fn new(wanted: Option<String>) -> Self {
        let trouble = wanted
            .as_ref()
            .map(|_| "the embedding model is being loaded".to_owned());
        Self {
            wanted,
            embedder: RwLock::default(),
            trouble: Mutex::new(trouble),
            cache: QueryCache::default(),
            work: Notify::new(),
        }
    }

    /// Name of the model that was configured; `None`: recall is by words alone, and nothing is wrong with that.
    pub fn wanted(&self) -> Option<&str> {
        self.wanted.as_deref()
    }

    /// The embedder, once it is there.
    pub fn embedder(&self) -> Option<Arc<dyn Embedder>> {
        self.embedder
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The embedder has come.
    pub fn open(&self, embedder: Arc<dyn Embedder>) {
        self.cache.clear();
        *self
            .embedder
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(embedder);
        self.set_trouble(None);
        self.work.notify_one();
    }

    /// Says why there is no embedder, or why it does not get on.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What is wrong, if anything.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// There is something to be indexed.
    pub fn call(&self) {
        self.work.notify_one();
    }

    /// Waits until there is, or somebody thinks so.
    pub async fn called(&self) {
        self.work.notified().await;
    }

    /// The vector of a question; `Ok(None)` when embedding is off.
    ///
    /// # Errors
    /// A sentence that says why the question has none.
    pub async fn query(&self, text: &str) -> Result<Option<QueryVector>, String> {
        if self.wanted.is_none() {
            return Ok(None);
        }
        let Some(embedder) = self.embedder() else {
            return Err(self
                .trouble()
                .unwrap_or_else(|| "the embedding model is not there yet".to_owned()));
        };
        let model = embedder.model().clone();
        if let Some(vector) = self.cache.get(text) {
            return Ok(Some(QueryVector { model, vector }));
        }
        let vector = tokio::time::timeout(QUERY_LIMIT, embedder.query(text.to_owned()))
            .await
            .map_err(|_| {
                format!(
                    "the embedder did not answer within {} s",
                    QUERY_LIMIT.as_secs()
                )
            })?
            .map_err(|error| error.to_string())?;
        let vector: Arc<[f32]> = vector.into();
        self.cache.put(text.to_owned(), Arc::clone(&vector));
        Ok(Some(QueryVector { model, vector }))
    }
}
