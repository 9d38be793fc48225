//! Embeddings of recent questions, because agents repeat questions and request pages with the same words.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of cached embeddings. With 384 dimensions they need 1.5 MB.
const MOST: usize = 1_000;
/// Maximum length of a cached question in bytes, because longer ones are rarely repeated.
const LONGEST: usize = 2_000;

#[derive(Debug, Default)]
pub(super) struct QueryCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    uses: u64,
    vectors: HashMap<String, (u64, Arc<[f32]>)>,
}

impl QueryCache {
    pub(super) fn find_vector(&self, question: &str) -> Option<Arc<[f32]>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        kept.vectors.get_mut(question).map(|(used, vector)| {
            *used = now;
            Arc::clone(vector)
        })
    }

    pub(super) fn keep_vector(&self, question: String, vector: Arc<[f32]>) {
        if question.len() > LONGEST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.vectors.len() >= MOST {
            // Removes the older half at once, which is rare, instead of one entry each time.
            let mut uses: Vec<u64> = kept.vectors.values().map(|(used, _)| *used).collect();
            uses.sort_unstable();
            let middle = uses[uses.len() / 2];
            kept.vectors.retain(|_, (used, _)| *used >= middle);
        }
        let now = kept.uses;
        kept.vectors.insert(question, (now, vector));
    }

    pub(super) fn remove_all(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .vectors
            .clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recently_used_vectors_are_kept() {
        let cache = QueryCache::default();
        for number in 0..2 * MOST {
            cache.keep_vector(number.to_string(), Arc::from([number as f32]));
            assert_eq!(
                cache.find_vector("0").as_deref(),
                Some(&[0.0][..]),
                "after {number}"
            );
        }
        assert!(cache.find_vector("1").is_none());
        assert!(cache.0.lock().unwrap().vectors.len() <= MOST);
    }
}
