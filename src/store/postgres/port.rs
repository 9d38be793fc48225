//! Exports and imports complete records. An export is one repeatable-read transaction on a separate connection, an
//! import is one transaction per batch; both work while the service runs.

use async_trait::async_trait;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use uuid::Uuid;

use super::attempt::{Effect, LONG, attempt};
use super::fault::{self, Fault};
use super::memory_sql::{self, memory_row, time_text};
use super::param::json;
use super::row_security::View;
use super::tx::PgTx;
use super::{PostgresStore, port_sql, sql};
use crate::domain::name::{name_key, name_words};
use crate::domain::text::Terms;
use crate::domain::{Change, History, Memory, Review, Scope};
use crate::store::check::describe_index_counts;
use crate::store::memory_columns::read_memory;
use crate::store::port::{
    EntityRecord, FocusRecord, FocusState, Imported, MemoryRecord, PAGE_HISTORY_ENTRIES, PortStore,
    Record, RecordPosition, RelationRecord, Section, Snapshot, loaded_with_history, memory_records,
};
use crate::store::rules::{Import, ImportTx, MemoryLocation};
use crate::store::statement::bind;
use crate::store::{Finding, Result, StoreError, Subject, fields};

/// A transaction that sees the database at one moment.
struct PostgresSnapshot {
    connection: PgConnection,
    options: PgConnectOptions,
    projects: Vec<String>,
}

impl PostgresSnapshot {
    fn failed(&self, error: sqlx::Error) -> StoreError {
        fault::translate(&self.options, "read records", error)
    }

    async fn rows(
        &mut self,
        section: Section,
        after: RecordPosition,
        limit: i64,
    ) -> sqlx::Result<(Vec<Record>, RecordPosition)> {
        let statement = match section {
            Section::Memory => return self.memories(after, limit).await,
            Section::Entity => port_sql::ENTITIES,
            Section::Relation => port_sql::RELATIONS,
            Section::Mention => port_sql::MENTIONS,
            Section::Focus => port_sql::FOCUS,
            Section::Archive => port_sql::ARCHIVE,
            Section::Review => port_sql::REVIEWS,
        };
        let mut query = bind!(sqlx::query(statement) => &self.projects, after.0, limit);
        if section == Section::Mention {
            query = query.bind(after.1);
        }
        let rows = query.fetch_all(&mut self.connection).await?;
        let place = match rows.last() {
            Some(row) => RecordPosition(row.try_get("place")?, row.try_get("place2")?),
            None => after,
        };
        let records = rows.iter().map(|row| fields::record(section, row));
        Ok((records.collect::<sqlx::Result<_>>()?, place))
    }

    async fn memories(
        &mut self,
        after: RecordPosition,
        limit: i64,
    ) -> sqlx::Result<(Vec<Record>, RecordPosition)> {
        let rows = bind!(sqlx::query(sql::EXPORT) => &self.projects, after.0, limit)
            .fetch_all(&mut self.connection)
            .await?;
        let mut memories: Vec<Memory> =
            rows.iter().map(read_memory).collect::<sqlx::Result<_>>()?;
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
        let history = bind!(sqlx::query(port_sql::HISTORY) => &self.projects, &ids)
            .fetch_all(&mut self.connection)
            .await?;
        let history = history
            .iter()
            .map(fields::history)
            .collect::<sqlx::Result<_>>()?;
        Ok((memory_records(memories, history), RecordPosition(last, 0)))
    }

    async fn loaded_with_history(&mut self, memories: &[Memory]) -> sqlx::Result<usize> {
        let ids: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        let sizes: Vec<(Uuid, i64)> = sqlx::query_as(port_sql::HISTORY_SIZES)
            .bind(&ids)
            .fetch_all(&mut self.connection)
            .await?;
        let sizes: HashMap<Uuid, i64> = sizes.into_iter().collect();
        Ok(loaded_with_history(
            ids.iter()
                .map(|id| sizes.get(id).copied().unwrap_or_default()),
        ))
    }

    async fn entries(
        &mut self,
        memory: &Memory,
        after: RecordPosition,
    ) -> sqlx::Result<(Vec<History>, RecordPosition)> {
        let rows = bind!(sqlx::query(port_sql::HISTORY_AFTER) =>
            memory.id, after.0, PAGE_HISTORY_ENTRIES)
        .fetch_all(&mut self.connection)
        .await?;
        let place = match rows.last() {
            Some(row) => RecordPosition(row.try_get("place")?, 0),
            None => after,
        };
        let entries = rows
            .iter()
            .map(fields::history)
            .collect::<sqlx::Result<_>>()?;
        Ok((entries, place))
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    async fn size(&mut self) -> Result<u64> {
        let size = sqlx::query_scalar(port_sql::SIZE)
            .bind(&self.projects)
            .fetch_one(&mut self.connection)
            .await;
        size.map(super::natural).map_err(|error| self.failed(error))
    }

    async fn page(
        &mut self,
        section: Section,
        after: RecordPosition,
        limit: i64,
    ) -> Result<(Vec<Record>, RecordPosition)> {
        self.rows(section, after, limit)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn history(
        &mut self,
        memory: &Memory,
        after: RecordPosition,
    ) -> Result<(Vec<History>, RecordPosition)> {
        self.entries(memory, after)
            .await
            .map_err(|error| self.failed(error))
    }
}

#[async_trait]
impl PortStore for PostgresStore {
    async fn projects(&self) -> Result<Vec<String>> {
        attempt!(self.attempts(View::All, "list projects", Effect::Read)?, connection => async {
            Ok(sqlx::query_scalar(port_sql::PROJECTS).fetch_all(connection).await?)
        })
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Box<dyn Snapshot>> {
        let connection = self.connect().await?;
        let projects = scope.readable().map(str::to_owned).collect();
        let mut snapshot = PostgresSnapshot {
            connection,
            options: self.options.clone(),
            projects,
        };
        for statement in [port_sql::BEGIN, port_sql::PATIENT] {
            let begun = sqlx::query(statement)
                .execute(&mut snapshot.connection)
                .await;
            begun.map_err(|error| snapshot.failed(error))?;
        }
        Ok(Box::new(snapshot))
    }

    async fn import(&self, scope: &Scope, records: &[Record]) -> Result<Vec<Imported>> {
        // Repeatable, because existing records are left unchanged.
        let mut attempts = self
            .attempts(View::All, "import", Effect::Repeatable)?
            .with_limit(LONG);
        attempt!(attempts, connection => self.apply_rule(connection, scope, &Import { records }))
    }

    async fn is_empty(&self) -> Result<bool> {
        let projects = self.projects().await?;
        let Some(first) = projects.first() else {
            return Ok(true);
        };
        let scope = Scope::new(first, "").reading(projects.iter().cloned());
        Ok(self.snapshot(&scope).await?.size().await? == 0)
    }

    async fn clear(&self) -> Result<()> {
        let mut attempts = self
            .attempts(View::All, "clear", Effect::Repeatable)?
            .with_limit(LONG);
        attempt!(attempts, connection => async {
            sqlx::query(port_sql::CLEAR).execute(connection).await?;
            Ok(())
        })
    }

    async fn inspect(&self) -> Result<Vec<Finding>> {
        let mut connection = self.connect().await?;
        let row = self
            .within("check the index", LONG, async {
                sqlx::query(port_sql::PATIENT)
                    .execute(&mut connection)
                    .await?;
                sqlx::query(sql::UNLIMITED).execute(&mut connection).await?;
                let row = sqlx::query(port_sql::UNINDEXED)
                    .fetch_one(&mut connection)
                    .await?;
                Ok::<(i64, i64, i64), Fault>((
                    row.try_get("missing")?,
                    row.try_get("stray")?,
                    row.try_get("corpus")?,
                ))
            })
            .await?;
        let (missing, stray, corpus) = row;
        if missing + stray + corpus == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![Finding::new(
            Subject::WordIndex,
            describe_index_counts(missing, stray, corpus),
            super::check::REBUILD_INDEX,
        )])
    }
}

impl ImportTx for PgTx<'_> {
    async fn locate_memory(&mut self, id: Uuid) -> Result<Option<MemoryLocation>, Fault> {
        let query = sqlx::query(port_sql::FIND_MEMORY).bind(id);
        let found: Option<(String, i64)> = self
            .fetch_optional(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .await?;
        Ok(found.map(|(project, seq)| MemoryLocation {
            is_own: project == self.scope.project(),
            seq,
        }))
    }

    async fn insert_record(&mut self, record: &MemoryRecord, terms: &Terms) -> Result<i64, Fault> {
        let MemoryRecord { memory, history } = record;
        // The creation is stored in the row of the memory.
        let (created, later): (Vec<&History>, Vec<&History>) = history
            .iter()
            .partition(|entry| entry.change == Change::Created);
        let creator = created.first().map_or("import", |entry| &entry.actor);
        let row = memory_row(memory, Some(terms.length));
        let query = bind!(sqlx::query(memory_sql::INSERT_MEMORY) =>
            self.scope.project(), Value::from(vec![row]).to_string(), creator);
        let seq = self.fetch_one(query, |row| row.try_get(0)).await?;
        if memory.recall_count > 0 {
            let query = bind!(sqlx::query(port_sql::INSERT_STATISTIC) =>
                self.scope.project(), seq, memory.recall_count,
                memory.last_recalled_at.unwrap_or(memory.created_at));
            self.execute(query).await?;
        }
        if !memory.sources.is_empty() {
            let query = bind!(sqlx::query(port_sql::INSERT_SOURCES) =>
                self.scope.project(), seq, &memory.sources);
            self.execute(query).await?;
        }
        if !later.is_empty() {
            let rows: Vec<Value> = later.iter().map(|entry| history_row(entry)).collect();
            let query = bind!(sqlx::query(port_sql::INSERT_HISTORY) =>
                self.scope.project(), seq, Value::from(rows).to_string());
            self.execute(query).await?;
        }
        Ok(seq)
    }

    async fn index_records(&mut self, entering: &[(i64, Terms)]) -> Result<(), Fault> {
        let entering: Vec<(i64, &Terms)> =
            entering.iter().map(|(seq, terms)| (*seq, terms)).collect();
        let queued: Vec<i64> = entering.iter().map(|(seq, _)| *seq).collect();
        self.add_terms(&entering, &queued).await?;
        self.count_corpus(&entering, &[]).await
    }

    async fn find_entity(&mut self, name_key: &str) -> Result<Option<i64>, Fault> {
        let query = bind!(sqlx::query(port_sql::FIND_ENTITY) => self.scope.project(), name_key);
        self.fetch_optional(query, |row| row.try_get(0)).await
    }

    async fn insert_entity(&mut self, record: &EntityRecord) -> Result<(), Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_ENTITY) =>
            self.scope.project(), &record.name, name_key(&record.name), name_words(&record.name),
            &record.kind, json(&record.properties), record.use_count, record.last_used_at,
            record.created_at, record.updated_at);
        self.execute(query).await.map(drop)
    }

    async fn insert_relation(
        &mut self,
        record: &RelationRecord,
        from: i64,
        to: i64,
    ) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_RELATION) =>
            self.scope.project(), from, to, &record.kind, record.weight, json(&record.properties),
            record.use_count, record.last_used_at, record.valid_from, record.valid_to,
            record.created_at, record.updated_at);
        Ok(self.execute(query).await? > 0)
    }

    async fn insert_focus(&mut self, record: &FocusRecord) -> Result<bool, Fault> {
        let statement = match record.state {
            FocusState::Held => port_sql::INSERT_FOCUS,
            FocusState::Archived { .. } => port_sql::INSERT_ARCHIVE,
        };
        let mut query = bind!(sqlx::query(statement) =>
            self.scope.project(), record.id, &record.session, &record.content, record.importance,
            record.created_at, record.touched_at, record.memory);
        if let FocusState::Archived {
            archived_at,
            reason,
        } = &record.state
        {
            query = query.bind(archived_at).bind(reason);
        }
        Ok(self.execute(query).await? > 0)
    }

    async fn insert_decided_review(&mut self, review: &Review, memory: i64) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_REVIEW) =>
            self.scope.project(), review.id, memory, review.proposal.other(), review.state.as_str(),
            json(&review.proposal), &review.actor, &review.reason, review.created_at,
            review.expires_at, &review.decided_by, review.decided_at, &review.decision_reason,
            review.applied_version);
        Ok(self.execute(query).await? > 0)
    }
}

fn history_row(entry: &History) -> Value {
    serde_json::json!({
        "version": entry.version,
        "change": entry.change.as_str(),
        "old": entry.old,
        "actor": entry.actor,
        "reason": entry.reason,
        "at": time_text(entry.at),
    })
}
