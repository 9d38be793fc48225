//! Exports and imports complete records. Reading uses a separate connection without the lock that excludes a second
//! writer, so that an export or a backup works while a service runs, and a service can start meanwhile.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use async_trait::async_trait;
use sqlx::{Connection, Row, SqliteConnection};
use uuid::Uuid;

use super::beside::connect;
use super::check::inspect_quickly;
use super::error::{Fault, from_sqlx, name_disk};
use super::memory_sql::{self, bind_memory};
use super::param::{json, micros};
use super::tx::SqliteTx;
use super::{SqliteStore, graph_sql, hex_ids, json_numbers, port_sql, sql, word_index};
use crate::domain::name::{name_key, name_words};
use crate::domain::text::Terms;
use crate::domain::{History, Memory, Review, Scope};
use crate::store::memory_columns::read_memory;
use crate::store::port::{
    EntityRecord, FocusRecord, FocusState, Imported, MemoryRecord, PAGE_HISTORY_ENTRIES, PortStore,
    Record, RecordPosition, RelationRecord, Section, Snapshot, loaded_with_history, memory_records,
};
use crate::store::rules::{Backend as _, Import, ImportTx, MemoryLocation};
use crate::store::statement::bind;
use crate::store::{Finding, Result, Store, StoreError, fields};

/// A read transaction on the file.
struct SqliteSnapshot {
    connection: SqliteConnection,
    projects: String,
}

fn failed(error: sqlx::Error) -> StoreError {
    from_sqlx(error, "reading records")
}

async fn project_names(connection: &mut SqliteConnection) -> Result<Vec<(i64, String)>> {
    sqlx::query_as(port_sql::PROJECTS)
        .fetch_all(connection)
        .await
        .map_err(failed)
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    async fn size(&mut self) -> Result<u64> {
        let size: i64 = sqlx::query_scalar(port_sql::SIZE)
            .bind(&self.projects)
            .fetch_one(&mut self.connection)
            .await
            .map_err(failed)?;
        Ok(size.unsigned_abs())
    }

    async fn page(
        &mut self,
        section: Section,
        after: RecordPosition,
        limit: i64,
    ) -> Result<(Vec<Record>, RecordPosition)> {
        if section == Section::Memory {
            return self.memories(after, limit).await;
        }
        let statement = match section {
            Section::Entity => port_sql::ENTITIES,
            Section::Relation => port_sql::RELATIONS,
            Section::Mention => port_sql::MENTIONS,
            Section::Focus => port_sql::FOCUS,
            Section::Archive | Section::Memory => port_sql::ARCHIVE,
            Section::Review => port_sql::REVIEWS,
        };
        let mut query = bind!(sqlx::query(statement) => &self.projects, after.0, limit);
        if section == Section::Mention {
            query = query.bind(after.1);
        }
        let rows = query
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let place = match rows.last() {
            Some(row) => RecordPosition(
                row.try_get("place").map_err(failed)?,
                row.try_get("place2").map_err(failed)?,
            ),
            None => after,
        };
        let records = rows
            .iter()
            .map(|row| fields::record(section, row))
            .collect::<sqlx::Result<_>>()
            .map_err(failed)?;
        Ok((records, place))
    }

    async fn history(
        &mut self,
        memory: &Memory,
        after: RecordPosition,
    ) -> Result<(Vec<History>, RecordPosition)> {
        let rows = bind!(sqlx::query(port_sql::HISTORY_AFTER) =>
            memory.seq, after.0, PAGE_HISTORY_ENTRIES)
        .fetch_all(&mut self.connection)
        .await
        .map_err(failed)?;
        let place = match rows.last() {
            Some(row) => RecordPosition(row.try_get("place").map_err(failed)?, 0),
            None => after,
        };
        let entries = rows
            .iter()
            .map(fields::history)
            .collect::<sqlx::Result<_>>()
            .map_err(failed)?;
        Ok((entries, place))
    }
}

impl SqliteSnapshot {
    async fn memories(
        &mut self,
        after: RecordPosition,
        limit: i64,
    ) -> Result<(Vec<Record>, RecordPosition)> {
        let rows = bind!(sqlx::query(sql::EXPORT) => &self.projects, after.0, limit)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let mut memories = rows
            .iter()
            .map(read_memory)
            .collect::<sqlx::Result<Vec<_>>>()
            .map_err(failed)?;
        let loaded = self.loaded_with_history(&memories).await?;
        memories.truncate(loaded.max(1));
        let Some(last) = memories.last().map(|memory| memory.seq) else {
            return Ok((Vec::new(), after));
        };
        let ids: Vec<Uuid> = memories
            .iter()
            .take(loaded)
            .map(|memory| memory.id)
            .collect();
        let history = bind!(sqlx::query(sql::HISTORY) => &self.projects, hex_ids(&ids))
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let history = history
            .iter()
            .map(fields::history)
            .collect::<sqlx::Result<Vec<_>>>()
            .map_err(failed)?;
        Ok((memory_records(memories, history), RecordPosition(last, 0)))
    }

    async fn loaded_with_history(&mut self, memories: &[Memory]) -> Result<usize> {
        let numbers: Vec<i64> = memories.iter().map(|memory| memory.seq).collect();
        let sizes: Vec<(i64, i64)> = sqlx::query_as(port_sql::HISTORY_SIZES)
            .bind(json_numbers(&numbers))
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let sizes: HashMap<i64, i64> = sizes.into_iter().collect();
        Ok(loaded_with_history(numbers.iter().map(|number| {
            sizes.get(number).copied().unwrap_or_default()
        })))
    }
}

#[async_trait]
impl PortStore for SqliteStore {
    async fn projects(&self) -> Result<Vec<String>> {
        let mut connection = connect(&self.options.path).await?;
        let names = project_names(&mut connection).await?;
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Box<dyn Snapshot>> {
        let mut connection = connect(&self.options.path).await?;
        sqlx::query(port_sql::BEGIN)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        let wanted: HashSet<&str> = scope.readable().collect();
        // The first read determines the moment of the snapshot.
        let names = project_names(&mut connection).await?;
        let numbers: Vec<i64> = names
            .into_iter()
            .filter(|(_, name)| wanted.contains(name.as_str()))
            .map(|(number, _)| number)
            .collect();
        Ok(Box::new(SqliteSnapshot {
            connection,
            projects: json_numbers(&numbers),
        }))
    }

    async fn import(&self, scope: &Scope, records: &[Record]) -> Result<Vec<Imported>> {
        self.run_rule(scope, &Import { records }).await
    }

    async fn is_empty(&self) -> Result<bool> {
        if !std::fs::metadata(&self.options.path).is_ok_and(|data| data.len() > 0) {
            return Ok(true);
        }
        let names = self.projects().await?;
        let Some(first) = names.first() else {
            return Ok(true);
        };
        let scope = Scope::new(first, "").reading(names.iter().cloned());
        Ok(self.snapshot(&scope).await?.size().await? == 0)
    }

    async fn clear(&self) -> Result<()> {
        self.write("clearing", async |connection, delta| {
            sqlx::raw_sql(port_sql::CLEAR)
                .execute(connection)
                .await
                .map_err(|e| from_sqlx(e, "clearing"))?;
            delta.resized.push(0);
            Ok(())
        })
        .await?;
        // Cached counts are no longer valid.
        self.close().await;
        self.prepare().await
    }

    async fn inspect(&self) -> Result<Vec<Finding>> {
        let mut connection = connect(&self.options.path).await?;
        let findings = inspect_quickly(&mut connection).await;
        findings.map_err(|fault| fault.explain("checking the database"))
    }
}

impl ImportTx for SqliteTx<'_> {
    async fn locate_memory(&mut self, id: Uuid) -> Result<Option<MemoryLocation>, Fault> {
        let query = sqlx::query(port_sql::FIND_MEMORY).bind(id);
        let found: Option<(i64, i64)> = self
            .fetch_optional(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .await?;
        Ok(found.map(|(project, seq)| MemoryLocation {
            is_own: project == self.project,
            seq,
        }))
    }

    async fn insert_record(&mut self, record: &MemoryRecord, terms: &Terms) -> Result<i64, Fault> {
        let MemoryRecord { memory, history } = record;
        let query = bind_memory(
            memory_sql::INSERT_MEMORY,
            memory,
            self.project,
            Some(terms.length),
            None,
        );
        let seq = self.fetch_one(query, |row| row.try_get(0)).await?;
        self.insert_lists(memory.id, &memory.tags, &memory.sources)
            .await?;
        for entry in history {
            self.insert_history(seq, entry).await?;
        }
        Ok(seq)
    }

    async fn index_records(&mut self, entering: &[(i64, Terms)]) -> Result<(), Fault> {
        for (seq, terms) in entering {
            word_index::add_terms(self.connection, self.project, *seq, terms, self.delta).await?;
            self.add_index_job(*seq).await?;
        }
        Ok(())
    }

    async fn find_entity(&mut self, name_key: &str) -> Result<Option<i64>, Fault> {
        let query = bind!(sqlx::query(port_sql::FIND_ENTITY) => self.project, name_key);
        self.fetch_optional(query, |row| row.try_get(0)).await
    }

    async fn insert_entity(&mut self, record: &EntityRecord) -> Result<(), Fault> {
        let query = bind!(sqlx::query(graph_sql::INSERT_ENTITY) =>
            self.project, &record.name, name_key(&record.name), name_words(&record.name),
            &record.kind, json(&record.properties), record.use_count, micros(record.last_used_at),
            record.created_at.timestamp_micros(), record.updated_at.timestamp_micros());
        self.execute(query).await.map(drop)
    }

    async fn insert_relation(
        &mut self,
        record: &RelationRecord,
        from: i64,
        to: i64,
    ) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_RELATION) =>
            self.project, from, to, &record.kind, record.weight, json(&record.properties),
            record.use_count, micros(record.last_used_at), micros(record.valid_from),
            micros(record.valid_to), record.created_at.timestamp_micros(),
            record.updated_at.timestamp_micros());
        Ok(self.execute(query).await? > 0)
    }

    async fn insert_focus(&mut self, record: &FocusRecord) -> Result<bool, Fault> {
        let (statement, archived_at, reason) = match &record.state {
            FocusState::Held => (port_sql::INSERT_FOCUS, None, None),
            FocusState::Archived {
                archived_at,
                reason,
            } => (port_sql::INSERT_ARCHIVE, Some(*archived_at), Some(reason)),
        };
        let query = bind!(sqlx::query(statement) =>
            self.project, record.id, &record.session, &record.content, record.importance,
            record.created_at.timestamp_micros(), record.touched_at.timestamp_micros(),
            micros(archived_at), reason, record.memory);
        Ok(self.execute(query).await? > 0)
    }

    async fn insert_decided_review(&mut self, review: &Review, memory: i64) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_REVIEW) =>
            self.project, review.id, memory, review.proposal.other(), review.state.as_str(),
            json(&review.proposal), &review.actor, &review.reason,
            review.created_at.timestamp_micros(), review.expires_at.timestamp_micros(),
            &review.decided_by, micros(review.decided_at), &review.decision_reason,
            review.applied_version);
        Ok(self.execute(query).await? > 0)
    }
}

/// Writes a complete and compact copy of the database at `from` to `to`, which must be empty or missing. Other
/// processes may continue to write; the copy shows one moment.
///
/// # Errors
/// As for any read.
pub async fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut connection = connect(from).await?;
    sqlx::query(port_sql::UNRESTRICTED)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    sqlx::query(port_sql::VACUUM_INTO)
        .bind(to.display().to_string())
        .execute(&mut connection)
        .await
        .map_err(|error| name_disk(from_sqlx(error, "copying the database"), to))?;
    connection.close().await.map_err(failed)
}
