//! Implements the primitives of memory changes. Each primitive is one statement for all memories.

use sqlx::Row;
use uuid::Uuid;

use super::fault::Fault;
use super::memory_sql::{self, memory_row};
use super::param::number;
use super::tx::PgTx;
use super::{review_sql, sql};
use crate::domain::text::Terms;
use crate::domain::{History, Memory};
use crate::store::memory_columns::read_memory;
use crate::store::rules::{
    ChangeRecord, ChangeTx, Item, MemoryChange, QuotaTx, TurnOwner, memory_terms,
};
use crate::store::statement::bind;
use crate::store::{Result, fields};

impl QuotaTx for PgTx<'_> {
    async fn lock_usage(&mut self) -> Result<(), Fault> {
        let query = sqlx::query(sql::LOCK_USAGE).bind(self.scope.project());
        self.execute(query).await.map(drop)
    }

    async fn usage(&mut self) -> Result<(u64, u64), Fault> {
        let query = sqlx::query(sql::USAGE).bind(self.scope.project());
        let (memories, bytes): (i64, i64) = self
            .fetch_one(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .await?;
        Ok((memories.unsigned_abs(), bytes.unsigned_abs()))
    }

    async fn count_items(&mut self, item: Item) -> Result<u64, Fault> {
        let statement = match item {
            Item::Entity => sql::COUNT_ENTITIES,
            Item::Relation => sql::COUNT_RELATIONS,
            Item::Review => sql::COUNT_REVIEWS,
        };
        let query = sqlx::query(statement).bind(self.scope.project());
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }
}

impl ChangeTx for PgTx<'_> {
    async fn lock_memories(&mut self, ids: &[Uuid]) -> Result<Vec<Memory>, Fault> {
        let query = bind!(sqlx::query(sql::LOCK) => self.scope.project(), ids);
        self.fetch_all(query, read_memory).await
    }

    async fn find_sources(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
        let readable: Vec<&str> = self.scope.readable().collect();
        let query = bind!(sqlx::query(sql::KNOWN) => readable, ids);
        self.fetch_all(query, |row| row.try_get(0)).await
    }

    async fn turn_owners(&mut self, turns: &[(&str, i64)]) -> Result<Vec<TurnOwner>, Fault> {
        let (sessions, numbers): (Vec<&str>, Vec<i64>) = turns.iter().copied().unzip();
        let query = bind!(sqlx::query(sql::TAKEN_TURNS) => self.scope.project(), sessions, numbers);
        self.fetch_all(query, |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        })
        .await
    }

    async fn rewrite_memories(
        &mut self,
        changes: &[MemoryChange],
        record: &ChangeRecord<'_>,
    ) -> Result<(), Fault> {
        self.rewrite_index(changes).await?;
        for change in changes {
            if change.before.sources != change.after.sources {
                self.replace_sources(&change.after).await?;
            }
        }
        // Each row becomes text at once, because nested values need far more memory.
        let rows: Vec<String> = changes.iter().map(changed_row).collect();
        let query = bind!(sqlx::query(memory_sql::WRITE) =>
            self.scope.project(), format!("[{}]", rows.join(",")), record.change.as_str(),
            self.scope.actor(), record.reason, record.now);
        self.execute(query).await.map(drop)
    }

    async fn save_votes(&mut self, memory: &Memory) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::VOTE) =>
            self.scope.project(), memory.seq, memory.helpful, memory.not_helpful);
        self.execute(query).await.map(drop)
    }

    async fn purge_memories(&mut self, memories: &[Memory]) -> Result<(), Fault> {
        let live = memories.iter().filter(|memory| memory.deleted_at.is_none());
        let terms: Vec<(i64, Terms)> = live
            .map(|memory| (memory.seq, memory_terms(memory, self.analyzer)))
            .collect();
        let leaving: Vec<(i64, &Terms)> = terms.iter().map(|(seq, terms)| (*seq, terms)).collect();
        self.remove_terms(&leaving).await?;
        self.count_corpus(&[], &leaving).await?;
        let seqs: Vec<i64> = memories.iter().map(|memory| memory.seq).collect();
        self.run_for_memories(sql::UNQUEUE, &seqs).await?;
        self.run_for_memories(sql::PURGE, &seqs).await
    }

    async fn history_from(&mut self, memory: &Memory, version: i64) -> Result<Vec<History>, Fault> {
        let query = bind!(sqlx::query(review_sql::HISTORY_FROM) =>
            self.scope.project(), memory.id, version);
        self.fetch_all(query, fields::history).await
    }
}

/// Returns the state of a memory after a change, with the state before it, as JSON.
fn changed_row(change: &MemoryChange) -> String {
    let mut row = memory_row(&change.after, change.new_length());
    row["old"] = change.before.snapshot();
    row.to_string()
}

impl PgTx<'_> {
    /// Updates the index entries, vectors and index jobs of changed memories.
    async fn rewrite_index(&mut self, changes: &[MemoryChange]) -> Result<(), Fault> {
        let seqs = |is_wanted: fn(&MemoryChange) -> bool| -> Vec<i64> {
            let wanted = changes.iter().filter(|change| is_wanted(change));
            wanted.map(|change| change.after.seq).collect()
        };
        let leaving: Vec<(i64, &Terms)> = changes
            .iter()
            .filter_map(|change| Some((change.after.seq, change.leaving_terms()?)))
            .collect();
        let entering: Vec<(i64, &Terms)> = changes
            .iter()
            .filter_map(|change| Some((change.after.seq, change.entering_terms()?)))
            .collect();
        self.run_for_memories(sql::FORGET_VECTORS, &seqs(MemoryChange::is_reworded))
            .await?;
        self.run_for_memories(sql::UNQUEUE, &seqs(|change| !change.is_live()))
            .await?;
        self.remove_terms(&leaving).await?;
        self.add_terms(&entering, &seqs(MemoryChange::needs_embedding))
            .await?;
        self.count_corpus(&entering, &leaving).await
    }

    /// Replaces the stored sources of a memory. Purged sources are left out.
    async fn replace_sources(&mut self, memory: &Memory) -> Result<(), Fault> {
        let remove = bind!(sqlx::query(sql::REMOVE_SOURCES) => self.scope.project(), memory.seq);
        self.execute(remove).await?;
        let restore = bind!(sqlx::query(sql::RESTORE_SOURCES) =>
            self.scope.project(), memory.seq, &memory.sources);
        self.execute(restore).await.map(drop)
    }

    /// Adds the terms of memories to the index and the memories to the embedding queue.
    pub(super) async fn add_terms(
        &mut self,
        entering: &[(i64, &Terms)],
        queued: &[i64],
    ) -> Result<(), Fault> {
        if entering.is_empty() && queued.is_empty() {
            return Ok(());
        }
        let (mut seqs, mut names, mut frequencies, mut lengths) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (seq, terms) in entering {
            for (term, frequency) in &terms.counts {
                seqs.push(*seq);
                names.push(term.as_str());
                frequencies.push(number(*frequency as usize));
                lengths.push(number(terms.length as usize));
            }
        }
        let query = bind!(sqlx::query(sql::INDEX) =>
            self.scope.project(), seqs, names, frequencies, lengths, queued);
        self.execute(query).await.map(drop)
    }

    async fn remove_terms(&mut self, leaving: &[(i64, &Terms)]) -> Result<(), Fault> {
        let (mut seqs, mut names) = (Vec::new(), Vec::new());
        for (seq, terms) in leaving {
            for term in terms.counts.keys() {
                seqs.push(*seq);
                names.push(term.as_str());
            }
        }
        if seqs.is_empty() {
            return Ok(());
        }
        let query = bind!(sqlx::query(sql::UNINDEX) => self.scope.project(), seqs, names);
        self.execute(query).await.map(drop)
    }

    /// Updates the stored size of the corpus.
    pub(super) async fn count_corpus(
        &mut self,
        entering: &[(i64, &Terms)],
        leaving: &[(i64, &Terms)],
    ) -> Result<(), Fault> {
        if entering.is_empty() && leaving.is_empty() {
            return Ok(());
        }
        let size = |terms: &[(i64, &Terms)]| {
            let length = terms.iter().map(|(_, terms)| i64::from(terms.length));
            (super::bounded(terms.len()), length.sum::<i64>())
        };
        let (come, gone) = (size(entering), size(leaving));
        let query = bind!(sqlx::query(sql::COUNT_CORPUS) =>
            self.scope.project(), come.0 - gone.0, come.1 - gone.1);
        self.execute(query).await.map(drop)
    }

    /// Runs a statement whose parameters are the project and the numbers of memories. Does nothing if the list
    /// is empty.
    async fn run_for_memories(
        &mut self,
        statement: &'static str,
        seqs: &[i64],
    ) -> Result<(), Fault> {
        if seqs.is_empty() {
            return Ok(());
        }
        let query = bind!(sqlx::query(statement) => self.scope.project(), seqs);
        self.execute(query).await.map(drop)
    }
}
