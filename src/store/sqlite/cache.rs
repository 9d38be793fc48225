//! What the lexical search would otherwise read again and again: the lengths of memories, how many memories contain a
//! common term, and which terms there are at all. One process owns the file, so what is kept here can be kept right.
//!
//! Filled by readers, corrected by the writer with each commit. A reader may have looked at the database before
//! a commit and come back after it, or the other way round; what it brings is then dropped, which the generations
//! tell.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Terms in fewer memories are counted quicker than they are kept right.
const COMMON: u64 = 256;
/// Most terms that are kept.
const MOST_TERMS: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    generation: Generation,
    /// A commit is under way: nobody can tell which side of it a reader saw.
    committing: bool,
    /// The same, where lengths change.
    resizing: bool,
    /// By storage order; 0 where it is not known.
    lengths: Vec<u32>,
    /// By the index's name of the term.
    frequencies: HashMap<String, u64>,
    vocabulary: Vocabulary,
}

/// The terms of the index, by hash: guesses at misspelled words are many, and nearly all of them wrong. Terms that are
/// gone stay, so that somebody who asks has to look at the index for what is found here.
#[derive(Debug, Default)]
struct Vocabulary {
    /// From here on what is new is added.
    followed: bool,
    /// What was there before has been added up to this term,
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

/// The state that a reader is about to look at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Commits that changed the index.
    terms: u64,
    /// Commits that changed the length of a memory which was there already.
    lengths: u64,
}

/// What a transaction did to the index.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// The index's names of terms, and how many memories more contain them.
    pub(super) terms: Vec<(String, i64)>,
    /// Memories whose length changed.
    pub(super) resized: Vec<i64>,
    /// Memories that were removed from the index.
    pub(super) unindexed: HashSet<i64>,
}

impl Cache {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before reading what is to be kept.
    pub(super) fn generation(&self) -> Generation {
        self.read().generation
    }

    /// How many memories contain each term, as far as known.
    pub(super) fn frequencies(&self, terms: &[String]) -> Vec<Option<u64>> {
        let known = self.read();
        terms
            .iter()
            .map(|term| known.frequencies.get(term).copied())
            .collect()
    }

    /// Keeps what a reader counted since `generation`.
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

    /// Which of the terms (the index's names) may be in the index; nothing where that is not known.
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

    /// Behind which term the vocabulary is to be read on; nothing where it is known. What is new is kept from here on.
    pub(super) fn follow_vocabulary(&self) -> Option<String> {
        let Known { vocabulary, .. } = &mut *self.write();
        vocabulary.followed = true;
        (!vocabulary.complete).then(|| vocabulary.read_to.clone())
    }

    /// Keeps what was read since, up to a term or all.
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

    /// The lengths of memories, 0 where not known.
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

    /// Keeps what a reader read since `generation`.
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

    /// To be called before a commit.
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

/// A commit under way. Dropped before it is [`Committing::done`], its outcome is not known, and all is forgotten.
#[derive(Debug)]
pub(super) struct Committing<'a> {
    cache: &'a Cache,
    delta: &'a Delta,
    done: bool,
}

impl Committing<'_> {
    /// Follows what was committed.
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
            for (term, more) in &self.delta.terms {
                if let Some(count) = known.frequencies.get_mut(term) {
                    *count = count.saturating_add_signed(*more);
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
