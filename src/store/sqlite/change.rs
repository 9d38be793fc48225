//! Implements the primitives of memory changes.

use std::sync::atomic::Ordering;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::memory_sql::{self, bind_memory};
use super::param::{json, tag_keys};
use super::tx::SqliteTx;
use super::word_index::{add_terms, remove_terms};
use super::{hex_ids, json_numbers, review_sql, sql};
use crate::domain::{History, Memory};
use crate::store::memory_columns::read_memory;
use crate::store::rules::{
    ChangeRecord, ChangeTx, Item, MemoryChange, QuotaTx, TurnOwner, memory_terms,
};
use crate::store::statement::bind;
use crate::store::{Result, fields};

impl QuotaTx for SqliteTx<'_> {
    /// Does nothing, because there is only one writing connection.
    async fn lock_usage(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    async fn usage(&mut self) -> Result<(u64, u64), Fault> {
        let query = sqlx::query(sql::USAGE).bind(self.project);
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
        let query = sqlx::query(statement).bind(self.project);
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }
}

impl ChangeTx for SqliteTx<'_> {
    async fn lock_memories(&mut self, ids: &[Uuid]) -> Result<Vec<Memory>, Fault> {
        let query = bind!(sqlx::query(sql::GET) => json_numbers(&[self.project]), hex_ids(ids));
        let mut memories = self.fetch_all(query, read_memory).await?;
        memories.sort_by_key(|memory| memory.seq);
        Ok(memories)
    }

    async fn find_sources(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, Fault> {
        let projects = self.open.readable(self.scope, self.connection).await?;
        let query = bind!(sqlx::query(sql::PRESENT) => json_numbers(&projects), hex_ids(ids));
        self.fetch_all(query, |row| row.try_get(0)).await
    }

    async fn turn_owners(&mut self, turns: &[(&str, i64)]) -> Result<Vec<TurnOwner>, Fault> {
        let mut owners = Vec::new();
        for (session, turn) in turns {
            let query = bind!(sqlx::query(sql::TURN) => self.project, *session, *turn);
            let owner: Option<Uuid> = self.fetch_optional(query, |row| row.try_get(0)).await?;
            owners.extend(owner.map(|id| ((*session).to_owned(), *turn, id)));
        }
        Ok(owners)
    }

    async fn rewrite_memories(
        &mut self,
        changes: &[MemoryChange],
        record: &ChangeRecord<'_>,
    ) -> Result<(), Fault> {
        for change in changes {
            self.rewrite_index(change).await?;
            self.save_memory(&change.after, change.new_length()).await?;
            self.rewrite_lists(change).await?;
            self.add_history(change, record).await?;
        }
        Ok(())
    }

    async fn save_votes(&mut self, memory: &Memory) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::VOTE) => memory.seq, memory.helpful, memory.not_helpful);
        self.execute(query).await.map(drop)
    }

    async fn purge_memories(&mut self, memories: &[Memory]) -> Result<(), Fault> {
        for memory in memories {
            if memory.deleted_at.is_none() {
                let terms = memory_terms(memory, self.analyzer);
                remove_terms(
                    self.connection,
                    self.project,
                    memory.seq,
                    &terms,
                    self.delta,
                )
                .await?;
            }
            self.run_for_memory(sql::DELETE_MEMORY, memory).await?;
        }
        self.open.purged.store(true, Ordering::Relaxed);
        self.open.vectors.forget();
        Ok(())
    }

    async fn history_from(&mut self, memory: &Memory, version: i64) -> Result<Vec<History>, Fault> {
        let query = bind!(sqlx::query(review_sql::HISTORY_FROM) => memory.seq, version);
        self.fetch_all(query, fields::history).await
    }
}

impl SqliteTx<'_> {
    /// Updates the index entry, vectors and index job of a changed memory.
    async fn rewrite_index(&mut self, change: &MemoryChange) -> Result<(), Fault> {
        let (project, memory) = (self.project, &change.after);
        if let Some(terms) = change.leaving_terms() {
            remove_terms(self.connection, project, memory.seq, terms, self.delta).await?;
        }
        if let Some(terms) = change.entering_terms() {
            add_terms(self.connection, project, memory.seq, terms, self.delta).await?;
        }
        if change.is_reworded() {
            self.run_for_memory(sql::DELETE_EMBEDDING, memory).await?;
        }
        if change.needs_embedding() {
            self.add_index_job(memory.seq).await?;
        } else if !change.is_live() {
            self.run_for_memory(sql::DELETE_JOB, memory).await?;
        }
        Ok(())
    }

    /// Writes all fields of a row that may change; the length only if it does.
    async fn save_memory(&mut self, memory: &Memory, length: Option<u32>) -> Result<(), Fault> {
        let query = bind_memory(
            memory_sql::UPDATE_MEMORY,
            memory,
            self.project,
            length,
            None,
        );
        self.execute(query).await.map(drop)
    }

    /// Replaces the stored tags and sources of a memory. Purged sources are left out.
    async fn rewrite_lists(&mut self, change: &MemoryChange) -> Result<(), Fault> {
        let (before, after) = (&change.before, &change.after);
        if before.tags != after.tags {
            let query = bind!(sqlx::query(sql::REPLACE_TAGS) => after.seq, tag_keys(&after.tags));
            self.execute(query).await?;
        }
        if before.sources != after.sources {
            self.run_for_memory(sql::DELETE_SOURCES, after).await?;
            self.insert_sources(after.id, &after.sources).await?;
        }
        Ok(())
    }

    pub(super) async fn insert_sources(&mut self, id: Uuid, sources: &[Uuid]) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT_SOURCES) => id, hex_ids(sources));
        self.execute(query).await.map(drop)
    }

    async fn add_history(
        &mut self,
        change: &MemoryChange,
        record: &ChangeRecord<'_>,
    ) -> Result<(), Fault> {
        let entry = History {
            memory_id: change.after.id,
            version: change.after.version,
            change: record.change,
            old: Some(change.before.snapshot()),
            actor: self.scope.actor().to_owned(),
            reason: record.reason.map(str::to_owned),
            at: record.now,
        };
        self.insert_history(change.after.seq, &entry).await
    }

    pub(super) async fn insert_history(&mut self, seq: i64, entry: &History) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT_HISTORY) =>
            seq, entry.version, entry.change.as_str(), entry.old.as_ref().map(json), &entry.actor,
            &entry.reason, entry.at.timestamp_micros());
        self.execute(query).await.map(drop)
    }

    pub(super) async fn add_index_job(&mut self, seq: i64) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT_JOB) => seq, self.project);
        self.execute(query).await.map(drop)
    }

    /// Runs a statement with the number of a memory as its only parameter.
    async fn run_for_memory(
        &mut self,
        statement: &'static str,
        memory: &Memory,
    ) -> Result<(), Fault> {
        let query = sqlx::query(statement).bind(memory.seq);
        self.execute(query).await.map(drop)
    }
}
