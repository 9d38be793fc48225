//! Checks of the contents of a database: their findings, and the comparison of the word index with the memories.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{MemoryKey, Result, WriteFailure};
use crate::domain::count::{count_of, verb_for};
use crate::domain::text::Terms;

/// Maximum number of suspicious memories that a check examines again. With more of them, the index is certainly
/// damaged.
const MOST_SUSPECTS: usize = 10_000;

/// The part of the database that a finding concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The pages of the file or of its indexes.
    File,
    /// Tables, indexes, triggers and views.
    Schema,
    /// References between rows.
    References,
    /// The word index. The memories themselves are intact.
    WordIndex,
    /// The vectors. The memories themselves are intact.
    Vectors,
}

impl Subject {
    /// Returns whether only derived data is affected, so that a backup of the memories is complete.
    #[must_use]
    pub fn is_derived(self) -> bool {
        matches!(self, Self::WordIndex | Self::Vectors)
    }
}

/// The result of checking the pages of the indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexPages {
    /// The pages were checked; the findings are empty if all are sound.
    Checked(Vec<Finding>),
    /// The pages cannot be checked, for this reason.
    Unchecked(String),
}

/// A fault inside a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The affected part.
    pub subject: Subject,
    /// The fault.
    pub detail: String,
    /// How to repair it.
    pub remedy: String,
}

impl Finding {
    /// Creates a finding with its remedy.
    pub fn new(subject: Subject, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            subject,
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.detail, self.remedy)
    }
}

/// The speed of a check.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    rest: u32,
}

impl Pace {
    /// Without pauses.
    pub const FULL_SPEED: Self = Self { rest: 0 };
    /// Works a tenth of the time, so that requests are hardly slowed down.
    pub const BACKGROUND: Self = Self { rest: 9 };

    /// Pauses in proportion to the time since `started`, and starts the next step.
    pub(super) async fn rest_since(self, started: &mut Instant) {
        if self.rest > 0 {
            tokio::time::sleep((started.elapsed() * self.rest).min(Duration::from_secs(30))).await;
        }
        *started = Instant::now();
    }
}

/// A database that can be checked.
#[async_trait]
pub trait CheckStore: Send + Sync {
    /// Compares the word index and the vectors with the memories in both directions, and reads every page if the
    /// database offers that. The duration is not limited; a caller aborts the check by dropping the future. Works on
    /// the embedded file while another process has it open, and changes nothing.
    async fn inspect_deeply(&self, pace: Pace) -> Result<Vec<Finding>>;

    /// Checks the pages of the indexes with the tools of the database server. Does nothing if [`Self::inspect_deeply`]
    /// already reads every page.
    async fn inspect_index_pages(&self) -> Result<IndexPages> {
        Ok(IndexPages::Checked(Vec::new()))
    }

    /// Makes the next [`Store::prepare`](super::Store::prepare) of a new process rebuild the word index.
    async fn request_index_rebuild(&self) -> Result<()>;

    /// Tests whether a durable write succeeds, without a visible change.
    async fn probe_write(&self) -> Result<()>;

    /// Returns the reason why the last write failed, or `None` if it succeeded.
    fn write_failure(&self) -> watch::Receiver<Option<WriteFailure>>;
}

/// Sums over the terms of each memory: the terms that the index should contain minus those that it contains.
///
/// Other connections may write while both sides are read page by page. A difference is therefore only a suspicion until
/// a second read of the same version confirms it.
#[derive(Debug, Default)]
pub(super) struct IndexComparison {
    /// Memories by key, in ascending order.
    memories: Vec<Balance>,
    /// Memories that are only in the index.
    strays: BTreeSet<MemoryKey>,
}

#[derive(Debug)]
struct Balance {
    key: MemoryKey,
    version: i64,
    /// Zero if both sides agree.
    sum: u64,
}

/// The version of each memory at the end of a comparison; deleted and missing memories are absent.
pub(super) type Current = HashMap<MemoryKey, i64>;

/// The number of memories that differ from the index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disagreement {
    /// Memories with other terms in the index.
    pub(super) wrong: u64,
    /// Index entries of memories that are deleted or missing.
    pub(super) left_over: u64,
}

fn weight(term: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    term.hash(&mut hasher);
    hasher.finish()
}

impl IndexComparison {
    /// Adds a live memory with its expected terms. Keys must ascend.
    pub(super) fn expect(&mut self, key: MemoryKey, version: i64, terms: &Terms) {
        let sum = terms.counts.iter().fold(0_u64, |sum, (term, count)| {
            sum.wrapping_add(weight(term).wrapping_mul(u64::from(*count)))
        });
        self.memories.push(Balance { key, version, sum });
    }

    /// Adds a term that the index contains `count` times for a memory.
    pub(super) fn found(&mut self, key: MemoryKey, term: &str, count: u64) {
        match self
            .memories
            .binary_search_by_key(&key, |balance| balance.key)
        {
            Ok(place) => {
                let balance = &mut self.memories[place];
                balance.sum = balance.sum.wrapping_sub(weight(term).wrapping_mul(count));
            }
            Err(_) if self.strays.len() < MOST_SUSPECTS => drop(self.strays.insert(key)),
            Err(_) => {}
        }
    }

    /// Returns the memories that must be read again.
    pub(super) fn suspects(&self) -> Vec<MemoryKey> {
        let wrong = self
            .memories
            .iter()
            .filter(|balance| balance.sum != 0)
            .map(|balance| balance.key);
        wrong
            .take(MOST_SUSPECTS)
            .chain(self.strays.iter().copied())
            .collect()
    }

    /// Counts the suspects that still differ in their current state.
    pub(super) fn confirm(&self, current: &Current) -> Disagreement {
        let unchanged = |balance: &&Balance| current.get(&balance.key) == Some(&balance.version);
        let wrong = self
            .memories
            .iter()
            .filter(|balance| balance.sum != 0)
            .take(MOST_SUSPECTS)
            .filter(unchanged);
        let left_over = self.strays.iter().filter(|key| !current.contains_key(key));
        Disagreement {
            wrong: wrong.count() as u64,
            left_over: left_over.count() as u64,
        }
    }
}

/// Describes the result of comparing the word index.
pub(super) fn word_index_finding(disagreement: Disagreement, remedy: &str) -> Option<Finding> {
    let Disagreement { wrong, left_over } = disagreement;
    (wrong + left_over > 0).then(|| {
        let detail = format!(
            "the word index disagrees with the memories: it has wrong terms for {wrong} of them, and entries of \
             {left_over} that are deleted or purged"
        );
        Finding::new(Subject::WordIndex, detail, remedy)
    })
}

/// Describes a difference between the numbers of index entries and memories.
pub(super) fn describe_index_counts(missing: i64, stray: i64, corpus: i64) -> String {
    format!(
        "the word index disagrees with the memories: {} {} missing, entries of {} are left over, and the totals of {} {} \
         wrong",
        count_of(missing, "memory"),
        verb_for(missing, "is", "are"),
        count_of(stray, "deleted memory"),
        count_of(corpus, "project"),
        verb_for(corpus, "is", "are")
    )
}

/// Describes the result of comparing the vectors.
pub(super) fn vector_finding(missing: u64, stale: u64) -> Option<Finding> {
    (missing + stale > 0).then(|| {
        let detail = format!(
            "the vectors disagree with the memories: {} {} none and {} for none, and {} {} of another text or of no memory",
            count_of(missing, "memory"),
            verb_for(missing, "has", "have"),
            verb_for(missing, "waits", "wait"),
            count_of(stale, "vector"),
            verb_for(stale, "is", "are")
        );
        Finding::new(Subject::Vectors, detail, "run `cognitive-memory-mcp reindex`, which recomputes all embeddings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seq: i64) -> MemoryKey {
        MemoryKey { project: 1, seq }
    }

    fn terms(words: &[(&str, u32)]) -> Terms {
        let counts = words
            .iter()
            .map(|(word, count)| ((*word).to_owned(), *count))
            .collect();
        Terms {
            counts,
            length: words.iter().map(|(_, count)| count).sum(),
        }
    }

    #[test]
    fn a_disagreement_counts_only_if_the_memory_is_as_it_was() {
        let mut comparison = IndexComparison::default();
        for seq in 1..=3 {
            comparison.expect(key(seq), 1, &terms(&[("alpha", 2), ("beta", 1)]));
        }
        comparison.found(key(1), "alpha", 2);
        comparison.found(key(1), "beta", 1);
        comparison.found(key(2), "alpha", 1);
        comparison.found(key(2), "beta", 1);
        comparison.found(key(9), "alpha", 1);
        comparison.found(key(10), "alpha", 1);
        assert_eq!(comparison.suspects(), [key(2), key(3), key(9), key(10)]);
        // Memory 3 was changed during the comparison, and memory 10 was stored.
        let current = Current::from([(key(1), 1), (key(2), 1), (key(3), 2), (key(10), 1)]);
        assert_eq!(
            comparison.confirm(&current),
            Disagreement {
                wrong: 1,
                left_over: 1
            }
        );
    }
}
