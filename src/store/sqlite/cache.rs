//! A cache of data that the lexical search reads repeatedly: the lengths of memories, the number of memories with each
//! common term, and the vocabulary. One process owns the file, so that the cache can be kept consistent with it.
//!
//! Readers fill the cache, and the writer corrects it with each commit. A reader may have read the database before a
//! commit and report after it, or the other way round. Generations detect this, and the reader's data is then dropped.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Minimum number of memories with a cached term. Counting a rarer term is faster than keeping its count correct.
const COMMON: u64 = 256;
/// Maximum number of cached terms.
const MOST_TERMS: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    generation: Generation,
    /// A commit is in progress: it is unknown whether a reader saw the state before or after it.
    committing: bool,
    /// A commit that changes lengths is in progress.
    resizing: bool,
    /// Lengths by storage order; 0 if unknown.
    lengths: Vec<u32>,
    /// Counts by the term's name in the index.
    frequencies: HashMap<String, u64>,
    vocabulary: Vocabulary,
}

/// The terms of the index, by hash: most of the many candidates for misspelled words do not exist. Removed terms
/// remain, so a term that is found here must still be looked up in the index.
#[derive(Debug, Default)]
struct Vocabulary {
    /// New terms are added from here on.
    followed: bool,
    /// Older terms have been added up to this term,
    read_to: String,
    /// or all of it.
    complete: bool,
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Vocabulary {
    fn add(&mut self, term: &str) {
        self.hashes.insert(self.hasher.hash_one(term));
    }
}

/// The state that a reader is about to read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Number of commits that changed the index.
    terms: u64,
    /// Number of commits that changed the length of an existing memory.
    lengths: u64,
}

/// The changes of a transaction to the index.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// The index's names of terms, and how many memories more contain them.
    pub(super) terms: TermChanges,
    /// Memories whose length changed.
    pub(super) resized: Vec<i64>,
    /// Memories that were removed from the index.
    pub(super) unindexed: HashSet<i64>,
}

/// Names of terms with the change of their frequency, in one text: a call may store a million terms.
#[derive(Debug, Default)]
pub(super) struct TermChanges {
    text: String,
    /// Where each name ends in the text, and the change.
    entries: Vec<(usize, i32)>,
}

impl TermChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let mut begin = 0;
        self.entries.iter().map(move |(end, change)| {
            let name = &self.text[begin..*end];
            begin = *end;
            (name, i64::from(*change))
        })
    }
}

impl Extend<(String, i32)> for TermChanges {
    fn extend<T: IntoIterator<Item = (String, i32)>>(&mut self, changes: T) {
        for (name, change) in changes {
            self.text.push_str(&name);
            self.entries.push((self.text.len(), change));
        }
    }
}

impl Cache {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the generation. Must be called before reading data for the cache.
    pub(super) fn generation(&self) -> Generation {
        self.read().generation
    }

    /// Returns the number of memories that contain each term, if known.
    pub(super) fn frequencies(&self, terms: &[String]) -> Vec<Option<u64>> {
        let known = self.read();
        terms
            .iter()
            .map(|term| known.frequencies.get(term).copied())
            .collect()
    }

    /// Stores the counts of a reader unless the index changed since `generation`.
    pub(super) fn keep_frequencies<'a>(
        &self,
        generation: Generation,
        counted: impl Iterator<Item = (&'a String, u64)>,
    ) {
        let counted: Vec<_> = counted.filter(|(_, count)| *count >= COMMON).collect();
        if counted.is_empty() {
            return;
        }
        let mut known = self.write();
        if !known.committing && known.generation.terms == generation.terms {
            if known.frequencies.len() + counted.len() > MOST_TERMS {
                known.frequencies.clear();
            }
            known.frequencies.extend(
                counted
                    .into_iter()
                    .map(|(term, count)| (term.clone(), count)),
            );
        }
    }

    /// Returns which of the terms (names in the index) may be in the index; `None` if the vocabulary is not complete.
    pub(super) fn may_have(&self, terms: &[String]) -> Option<Vec<bool>> {
        let Known { vocabulary, .. } = &*self.read();
        let known = |term: &String| {
            vocabulary
                .hashes
                .contains(&vocabulary.hasher.hash_one(term.as_str()))
        };
        vocabulary
            .complete
            .then(|| terms.iter().map(known).collect())
    }

    /// Returns the term after which the vocabulary must be read; `None` if it is complete. New terms are added from
    /// here on.
    pub(super) fn follow_vocabulary(&self) -> Option<String> {
        let Known { vocabulary, .. } = &mut *self.write();
        vocabulary.followed = true;
        (!vocabulary.complete).then(|| vocabulary.read_to.clone())
    }

    /// Stores terms that were read since, up to a term or to the end.
    pub(super) fn keep_vocabulary<'a>(
        &self,
        terms: impl Iterator<Item = &'a str>,
        read_to: Option<String>,
    ) {
        let hasher = self.read().vocabulary.hasher.clone();
        let hashes: Vec<u64> = terms.map(|term| hasher.hash_one(term)).collect();
        let Known { vocabulary, .. } = &mut *self.write();
        vocabulary.hashes.extend(hashes);
        match read_to {
            Some(term) if term > vocabulary.read_to => vocabulary.read_to = term,
            Some(_) => {}
            None => vocabulary.complete = true,
        }
    }

    /// Returns the lengths of memories, 0 if unknown.
    pub(super) fn lengths(&self, memories: &[i64]) -> Vec<u32> {
        let known = self.read();
        let length = |seq: &i64| {
            usize::try_from(*seq)
                .ok()
                .and_then(|seq| known.lengths.get(seq))
                .copied()
        };
        memories
            .iter()
            .map(|seq| length(seq).unwrap_or_default())
            .collect()
    }

    /// Stores the lengths of a reader unless they changed since `generation`.
    pub(super) fn keep_lengths(&self, generation: Generation, lengths: &[(i64, u32)]) {
        let mut known = self.write();
        if known.resizing || known.generation.lengths != generation.lengths {
            return;
        }
        for (seq, length) in lengths {
            let Ok(place) = usize::try_from(*seq) else {
                continue;
            };
            if known.lengths.len() <= place {
                known.lengths.resize(place + 1, 0);
            }
            known.lengths[place] = *length;
        }
    }

    /// Must be called before a commit.
    pub(super) fn commit<'a>(&'a self, delta: &'a Delta) -> Committing<'a> {
        let mut known = self.write();
        known.committing = !delta.terms.is_empty();
        known.resizing = !delta.resized.is_empty();
        Committing {
            cache: self,
            delta,
            done: false,
        }
    }
}

/// A commit in progress. If it is dropped before [`Committing::done`], its outcome is unknown and the cache is
/// cleared.
#[derive(Debug)]
pub(super) struct Committing<'a> {
    cache: &'a Cache,
    delta: &'a Delta,
    done: bool,
}

impl Committing<'_> {
    /// Applies the committed changes.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let mut known = self.cache.write();
        if known.committing {
            known.generation.terms += 1;
        }
        if known.resizing {
            known.generation.lengths += 1;
        }
        known.committing = false;
        known.resizing = false;
        if known.vocabulary.followed {
            for (term, _) in self.delta.terms.iter().filter(|(_, more)| *more > 0) {
                known.vocabulary.add(term);
            }
        }
        if !self.done {
            known.frequencies.clear();
            known.lengths.clear();
            return;
        }
        if !known.frequencies.is_empty() {
            for (term, more) in self.delta.terms.iter() {
                if let Some(count) = known.frequencies.get_mut(term) {
                    *count = count.saturating_add_signed(more);
                }
            }
        }
        for seq in &self.delta.resized {
            if let Some(length) = usize::try_from(*seq)
                .ok()
                .and_then(|place| known.lengths.get_mut(place))
            {
                *length = 0;
            }
        }
    }
}
