//! Notices for the operator, shown by `status`.

use std::sync::{Arc, PoisonError, RwLock};

/// Sentences about the state of the data. Clones share state.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<RwLock<Vec<String>>>);

impl Notices {
    /// Replaces all sentences.
    pub fn replace(&self, sentences: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sentences;
    }

    /// Returns the current sentences.
    #[must_use]
    pub fn current(&self) -> Vec<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
