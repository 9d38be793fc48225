//! Access to the embedder, whether or not it is loaded.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::catalog::find_calibration;
use super::query_cache::QueryCache;
use super::{Embedder, Model};
use crate::domain::ranking::Calibration;

/// Maximum wait of a recall for the embedding of its query.
const QUERY_LIMIT: Duration = Duration::from_secs(2);

/// Handle of the embedder, empty while the model is downloaded and loaded.
#[derive(Debug)]
pub struct Desk {
    /// Name of the configured model.
    wanted: Option<String>,
    embedder: RwLock<Option<Arc<dyn Embedder>>>,
    /// The reason why there is no embedder, or why it fails.
    trouble: Mutex<Option<String>>,
    /// Configured or fitted, instead of that of the catalog.
    calibration: Mutex<Option<Calibration>>,
    cache: QueryCache,
    work: Notify,
}

/// The embedding of a question.
#[derive(Debug, Clone)]
pub struct QueryVector {
    /// The model that computed it.
    pub model: Model,
    /// Of length 1.
    pub vector: Arc<[f32]>,
    /// Translates cosines with this vector. `None` if the scale of the model is unknown.
    pub calibration: Option<Calibration>,
}

impl Desk {
    /// Creates a handle without an embedder, because embedding is disabled.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(None)
    }

    /// Creates a handle for the model `wanted`, which is loaded later.
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
            calibration: Mutex::default(),
            cache: QueryCache::default(),
            work: Notify::new(),
        }
    }

    /// Returns the name of the configured model. `None` if embedding is disabled, so that recall uses
    /// words only.
    pub fn wanted(&self) -> Option<&str> {
        self.wanted.as_deref()
    }

    /// Returns the embedder if it is loaded.
    pub fn embedder(&self) -> Option<Arc<dyn Embedder>> {
        self.embedder
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the loaded embedder.
    pub fn open(&self, embedder: Arc<dyn Embedder>) {
        self.cache.remove_all();
        *self
            .embedder
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(embedder);
        self.set_trouble(None);
        self.work.notify_one();
    }

    /// Sets the reason why there is no embedder, or why it fails.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Sets the calibration of the model, instead of that of the catalog.
    pub fn set_calibration(&self, calibration: Option<Calibration>) {
        *self
            .calibration
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = calibration;
    }

    fn calibration_of(&self, model: &Model) -> Option<Calibration> {
        let configured = *self
            .calibration
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        configured.or_else(|| find_calibration(&model.id))
    }

    /// Reason for which there is no embedder, or why it fails.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Wakes the indexer, because there are memories to embed.
    pub fn call(&self) {
        self.work.notify_one();
    }

    /// Waits for [`call`](Self::call).
    pub async fn called(&self) {
        self.work.notified().await;
    }

    /// Embeds a question. Returns `Ok(None)` if embedding is disabled.
    ///
    /// # Errors
    /// A sentence that states why there is no embedding.
    pub async fn query(&self, text: &str) -> Result<Option<QueryVector>, String> {
        if self.wanted.is_none() {
            return Ok(None);
        }
        let Some(embedder) = self.embedder() else {
            return Err(self
                .trouble()
                .unwrap_or_else(|| "the embedding model is not loaded yet".to_owned()));
        };
        let model = embedder.model().clone();
        let calibration = self.calibration_of(&model);
        if let Some(vector) = self.cache.find_vector(text) {
            return Ok(Some(QueryVector {
                model,
                vector,
                calibration,
            }));
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
        self.cache.keep_vector(text.to_owned(), Arc::clone(&vector));
        Ok(Some(QueryVector {
            model,
            vector,
            calibration,
        }))
    }
}
