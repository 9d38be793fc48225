//! Records which memories recall returned. Records are collected in memory and written in batches, so that a
//! recall never waits for a write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::Engine;
use crate::domain::Scope;
use crate::store::StoreError;

/// Maximum number of waiting IDs; further ones are dropped, because use statistics must not grow without limit.
const MAX_WAITING: usize = 20_000;

/// Recalled IDs by scope, waiting for [`Engine::flush_recall_notes`].
#[derive(Debug, Default)]
pub struct RecallNotes {
    waiting: Mutex<BTreeMap<String, (Scope, BTreeSet<Uuid>)>>,
}

impl RecallNotes {
    pub(super) fn add(&self, scope: &Scope, ids: impl Iterator<Item = Uuid>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = waiting.values().map(|(_, ids)| ids.len()).sum();
        let (_, known) = waiting
            .entry(format!("{}\n{}", scope.project(), scope.actor()))
            .or_insert_with(|| (scope.clone(), BTreeSet::new()));
        known.extend(ids.take(MAX_WAITING.saturating_sub(total)));
    }

    fn take(&self) -> Vec<(Scope, BTreeSet<Uuid>)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *waiting).into_values().collect()
    }
}

impl Engine {
    /// Writes the collected records. Drops records that cannot be written.
    ///
    /// # Errors
    /// The first error of the store.
    pub async fn flush_recall_notes(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        for (scope, ids) in self.notes.take() {
            let ids: Vec<Uuid> = ids.into_iter().collect();
            for chunk in ids.chunks(500) {
                self.store.note_recalled(&scope, chunk, now).await?;
            }
        }
        Ok(())
    }
}
