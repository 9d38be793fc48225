//! Whole records out of the file and into it. Reading opens a connection of its own, without the lock that keeps
//! a second writer away: a running service is not in the way of an export or a backup, nor the other way round.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use async_trait::async_trait;
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use uuid::Uuid;

use super::cache::Delta;
use super::check::inspect_quickly;
use super::error::{from_sqlx, name_disk};
use super::lock::{canonical, owner};
use super::row::{self, MemoryRow};
use super::write::{self, json, micros};
use super::{
    SqliteStore, connect_options, graph_sql, hex_ids, json_numbers, port_sql, schema, sql,
    with_suffix, word_index,
};
use crate::domain::memory::content_hash;
use crate::domain::name::{name_key, name_words};
use crate::domain::{Analyzer, History, Kind, Memory, Scope};
use crate::store::port::{
    EntityName, EntityRecord, FocusRecord, FocusState, Imported, MemoryRecord, MentionRecord,
    PAGE_HISTORY_ENTRIES, Place, PortStore, Record, RelationRecord, ReviewRecord, Section,
    Snapshot, loaded_with_history, store_record,
};
use crate::store::{Finding, Result, Store, StoreError};

/// A read transaction on the file.
struct SqliteSnapshot {
    connection: SqliteConnection,
    projects: String,
}

fn failed(error: sqlx::Error) -> StoreError {
    from_sqlx(error, "reading records")
}

/// Opens the file and reads its version. SQLite creates a file of shared memory beside it unless the file is declared
/// immutable.
async fn open_to_read(path: &Path, immutable: bool) -> Result<(SqliteConnection, usize)> {
    let options = connect_options(path)
        .pragma("query_only", "ON")
        .immutable(immutable);
    let opened = options.connect().await;
    let mut connection =
        opened.map_err(|error| name_disk(from_sqlx(error, "opening the file"), path))?;
    let version = schema::version(&mut connection)
        .await
        .map_err(|error| name_disk(error, path))?;
    Ok((connection, version))
}

/// Whether nobody has the database open and all of it is in the file. Then it can also be read where its disk is full or
/// read-only, and no service could start there meanwhile.
fn is_at_rest(path: &Path) -> bool {
    let log = with_suffix(&canonical(path), "-wal");
    owner(path).is_none() && std::fs::metadata(log).map_or(true, |data| data.len() == 0)
}

/// A connection beside whoever has the file open, and the version of the schema.
pub(super) async fn open_at_any_version(path: &Path) -> Result<(SqliteConnection, usize)> {
    match open_to_read(path, false).await {
        Err(_) if is_at_rest(path) => open_to_read(path, true).await,
        opened => opened,
    }
}

/// The same for a schema that is up to date.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection> {
    if !std::fs::metadata(path).is_ok_and(|data| data.len() > 0) {
        let reason = format!("there is no database at {}", path.display());
        return Err(StoreError::Setup {
            reason,
            source: None,
        });
    }
    let (connection, version) = open_at_any_version(path).await?;
    if !schema::pending(version).is_empty() {
        let reason = format!(
            "the database {} has the older schema {version}: start the service once, or run `cognitive-memory-mcp \
             migrate`",
            path.display()
        );
        return Err(StoreError::Setup {
            reason,
            source: None,
        });
    }
    Ok(connection)
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
        after: Place,
        limit: i64,
    ) -> Result<(Vec<Record>, Place)> {
        if section == Section::Memory {
            return self.memories(after, limit).await;
        }
        let (statement, read): (_, fn(&SqliteRow) -> sqlx::Result<Record>) = match section {
            Section::Entity => (port_sql::ENTITIES, entity),
            Section::Relation => (port_sql::RELATIONS, relation),
            Section::Mention => (port_sql::MENTIONS, mention),
            Section::Focus => (port_sql::FOCUS, focus),
            Section::Archive | Section::Memory => (port_sql::ARCHIVE, focus),
            Section::Review => (port_sql::REVIEWS, review),
        };
        let mut query = sqlx::query(statement)
            .bind(&self.projects)
            .bind(after.0)
            .bind(limit);
        if section == Section::Mention {
            query = query.bind(after.1);
        }
        let rows = query
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let place = match rows.last() {
            Some(row) if section == Section::Review => Place(row.try_get(12).map_err(failed)?, 0),
            Some(row) => Place(
                row.try_get(0).map_err(failed)?,
                row.try_get(1).map_err(failed)?,
            ),
            None => after,
        };
        let records = rows
            .iter()
            .map(read)
            .collect::<sqlx::Result<_>>()
            .map_err(failed)?;
        Ok((records, place))
    }

    async fn history(&mut self, memory: &Memory, after: Place) -> Result<(Vec<History>, Place)> {
        let rows = sqlx::query(port_sql::HISTORY_AFTER)
            .bind(memory.seq)
            .bind(after.0)
            .bind(PAGE_HISTORY_ENTRIES)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let place = match rows.last() {
            Some(row) => Place(row.try_get(7).map_err(failed)?, 0),
            None => after,
        };
        let entries = rows
            .iter()
            .map(row::history)
            .collect::<sqlx::Result<_>>()
            .map_err(failed)?;
        Ok((entries, place))
    }
}

impl SqliteSnapshot {
    async fn memories(&mut self, after: Place, limit: i64) -> Result<(Vec<Record>, Place)> {
        let rows = sqlx::query(sql::EXPORT)
            .bind(&self.projects)
            .bind(after.0)
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let mut rows = rows
            .iter()
            .map(MemoryRow::read)
            .collect::<sqlx::Result<Vec<_>>>()
            .map_err(failed)?;
        let loaded = self.loaded_with_history(&rows).await?;
        rows.truncate(loaded.max(1));
        let Some(last) = rows.last().map(|row| row.memory.seq) else {
            return Ok((Vec::new(), after));
        };
        let ids: Vec<Uuid> = rows.iter().take(loaded).map(|row| row.memory.id).collect();
        let history = sqlx::query(sql::HISTORY)
            .bind(&self.projects)
            .bind(hex_ids(&ids))
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let mut history = history
            .iter()
            .map(row::history)
            .collect::<sqlx::Result<Vec<_>>>()
            .map_err(failed)?;
        history.sort_by_key(|entry| entry.version);
        let mut records: Vec<MemoryRecord> = rows
            .into_iter()
            .map(|row| MemoryRecord {
                memory: row.memory,
                history: Vec::new(),
            })
            .collect();
        let places: HashMap<Uuid, usize> = ids.into_iter().zip(0..).collect();
        for entry in history {
            if let Some(place) = places.get(&entry.memory_id) {
                records[*place].history.push(entry);
            }
        }
        let records = records
            .into_iter()
            .map(|record| Record::Memory(Box::new(record)))
            .collect();
        Ok((records, Place(last, 0)))
    }

    async fn loaded_with_history(&mut self, rows: &[MemoryRow]) -> Result<usize> {
        let numbers: Vec<i64> = rows.iter().map(|row| row.memory.seq).collect();
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

fn entity_name(row: &SqliteRow, column: usize) -> sqlx::Result<EntityName> {
    Ok(EntityName {
        name: row.try_get(column)?,
        kind: row.try_get(column + 1)?,
    })
}

fn entity(row: &SqliteRow) -> sqlx::Result<Record> {
    Ok(Record::Entity(EntityRecord {
        project: row.try_get(2)?,
        name: row.try_get(3)?,
        kind: row.try_get(4)?,
        properties: row::json::<Map<String, Value>>(row, 5)?,
        use_count: row.try_get(6)?,
        last_used_at: row::time(row, 7)?,
        created_at: row::required_time(row, 8)?,
        updated_at: row::required_time(row, 9)?,
    }))
}

fn relation(row: &SqliteRow) -> sqlx::Result<Record> {
    Ok(Record::Relation(Box::new(RelationRecord {
        project: row.try_get(2)?,
        source: entity_name(row, 3)?,
        target: entity_name(row, 5)?,
        kind: row.try_get(7)?,
        weight: row.try_get(8)?,
        properties: row::json::<Map<String, Value>>(row, 9)?,
        use_count: row.try_get(10)?,
        last_used_at: row::time(row, 11)?,
        valid_from: row::time(row, 12)?,
        valid_to: row::time(row, 13)?,
        created_at: row::required_time(row, 14)?,
        updated_at: row::required_time(row, 15)?,
    })))
}

fn mention(row: &SqliteRow) -> sqlx::Result<Record> {
    let (project, memory, entity) = (row.try_get(2)?, row.try_get(3)?, entity_name(row, 4)?);
    Ok(Record::Mention(MentionRecord {
        project,
        memory,
        entity,
    }))
}

fn focus(row: &SqliteRow) -> sqlx::Result<Record> {
    Ok(Record::Focus(FocusRecord {
        project: row.try_get(2)?,
        id: row.try_get(3)?,
        session: row.try_get(4)?,
        content: row.try_get(5)?,
        importance: row.try_get(6)?,
        created_at: row::required_time(row, 7)?,
        touched_at: row::required_time(row, 8)?,
        memory: row.try_get(11)?,
        state: match row::time(row, 9)? {
            None => FocusState::Held,
            Some(archived_at) => FocusState::Archived {
                archived_at,
                reason: row.try_get(10)?,
            },
        },
    }))
}

fn review(row: &SqliteRow) -> sqlx::Result<Record> {
    Ok(Record::Review(Box::new(ReviewRecord {
        project: row.try_get(13)?,
        review: super::review::read(row)?,
    })))
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
        // The first read is the moment of the snapshot.
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
        let open = self.opened()?;
        let analyzer = &self.analyzer;
        self.bounded(open.write(async |connection, delta| {
            let project = write::own_project(&open, connection, scope).await?;
            let mut importing = Importing {
                connection,
                delta,
                analyzer,
                project,
            };
            let mut answers = Vec::with_capacity(records.len());
            for record in records {
                answers.push(importing.record(record).await?);
            }
            Ok(answers)
        }))
        .await
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
        let open = self.opened()?;
        self.bounded(open.write(async |connection, delta| {
            sqlx::raw_sql(port_sql::CLEAR)
                .execute(connection)
                .await
                .map_err(|e| from_sqlx(e, "clearing"))?;
            delta.resized.push(0);
            Ok(())
        }))
        .await?;
        // What was counted before counts no more.
        self.close().await;
        self.prepare().await
    }

    async fn inspect(&self) -> Result<Vec<Finding>> {
        let mut connection = connect(&self.options.path).await?;
        inspect_quickly(&mut connection).await
    }
}

struct Importing<'a> {
    connection: &'a mut SqliteConnection,
    delta: &'a mut Delta,
    analyzer: &'a Analyzer,
    project: i64,
}

fn storing(error: sqlx::Error) -> StoreError {
    from_sqlx(error, "storing a record")
}

impl Importing<'_> {
    async fn record(&mut self, record: &Record) -> Result<Imported> {
        store_record!(self, record)
    }

    async fn find_memory(&mut self, id: Uuid) -> Result<Option<(i64, i64)>> {
        let found = sqlx::query_as(port_sql::FIND_MEMORY)
            .bind(id)
            .fetch_optional(&mut *self.connection)
            .await;
        found.map_err(storing)
    }

    async fn memory(
        &mut self,
        MemoryRecord { memory, history }: &MemoryRecord,
    ) -> Result<Imported> {
        if let Some((project, _)) = self.find_memory(memory.id).await? {
            return Ok(if project == self.project {
                Imported::Present
            } else {
                Imported::Refused(format!(
                    "memory {} is there already, in another project",
                    memory.id
                ))
            });
        }
        let live = memory.deleted_at.is_none();
        if live
            && memory.superseded_by.is_none()
            && memory.kind == Kind::Dialogue
            && let (Some(session), Some(turn)) = (&memory.session, memory.turn)
        {
            let taken = sqlx::query(sql::TURN)
                .bind(self.project)
                .bind(session)
                .bind(turn)
                .fetch_optional(&mut *self.connection)
                .await
                .map_err(storing)?;
            if let Some(row) = taken {
                let other: Uuid = row.try_get(0).map_err(storing)?;
                return Ok(Imported::Refused(format!(
                    "turn {turn} of session {session:?} is there already, as memory {other}"
                )));
            }
        }
        let terms = word_index::terms_of(memory, self.analyzer);
        let episode = memory.episode.as_ref();
        let seq: i64 = sqlx::query_scalar(port_sql::INSERT_MEMORY)
            .bind(memory.id)
            .bind(self.project)
            .bind(memory.kind.as_str())
            .bind(i64::from(terms.length))
            .bind(memory.importance)
            .bind(micros(memory.deleted_at))
            .bind(memory.superseded_by)
            .bind(micros(memory.valid_until))
            .bind(memory.occurred_at.timestamp_micros())
            .bind(memory.created_at.timestamp_micros())
            .bind(memory.updated_at.timestamp_micros())
            .bind(memory.version)
            .bind(memory.recall_count)
            .bind(micros(memory.last_recalled_at))
            .bind(memory.helpful)
            .bind(memory.not_helpful)
            .bind(i64::from(memory.protected))
            .bind(content_hash(&memory.content).as_slice())
            .bind(&memory.session)
            .bind(memory.turn)
            .bind(&memory.speaker)
            .bind(json(&memory.tags))
            .bind(episode.map(|episode| episode.outcome))
            .bind(episode.map(|episode| &episode.situation))
            .bind(episode.map(|episode| &episode.lesson))
            .bind(json(&memory.metadata))
            .bind(&memory.content)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(storing)?;
        if !memory.tags.is_empty() {
            sqlx::query(sql::INSERT_TAGS)
                .bind(memory.id)
                .bind(super::tag::tag_keys(&memory.tags))
                .execute(&mut *self.connection)
                .await
                .map_err(storing)?;
        }
        if !memory.sources.is_empty() {
            sqlx::query(sql::INSERT_SOURCES)
                .bind(memory.id)
                .bind(hex_ids(&write::unique(memory.sources.iter())))
                .execute(&mut *self.connection)
                .await
                .map_err(storing)?;
        }
        for entry in history {
            sqlx::query(sql::INSERT_HISTORY)
                .bind(seq)
                .bind(entry.version)
                .bind(entry.change.as_str())
                .bind(entry.old.as_ref().map(json))
                .bind(&entry.actor)
                .bind(&entry.reason)
                .bind(entry.at.timestamp_micros())
                .execute(&mut *self.connection)
                .await
                .map_err(storing)?;
        }
        if live {
            word_index::add_terms(self.connection, self.project, seq, &terms, self.delta).await?;
            write::enqueue(self.connection, seq, self.project).await?;
        }
        Ok(Imported::Created)
    }

    async fn find_entity(&mut self, name: &EntityName) -> Result<Option<i64>> {
        sqlx::query_scalar(port_sql::FIND_ENTITY)
            .bind(self.project)
            .bind(name_key(&name.name))
            .fetch_optional(&mut *self.connection)
            .await
            .map_err(storing)
    }

    async fn entity(&mut self, record: &EntityRecord) -> Result<Imported> {
        let name = EntityName {
            name: record.name.clone(),
            kind: record.kind.clone(),
        };
        if self.find_entity(&name).await?.is_some() {
            return Ok(Imported::Present);
        }
        sqlx::query(graph_sql::INSERT_ENTITY)
            .bind(self.project)
            .bind(&record.name)
            .bind(name_key(&record.name))
            .bind(name_words(&record.name))
            .bind(&record.kind)
            .bind(json(&record.properties))
            .bind(record.use_count)
            .bind(micros(record.last_used_at))
            .bind(record.created_at.timestamp_micros())
            .bind(record.updated_at.timestamp_micros())
            .execute(&mut *self.connection)
            .await
            .map_err(storing)?;
        Ok(Imported::Created)
    }

    async fn relation(&mut self, record: &RelationRecord) -> Result<Imported> {
        let (source, target) = (
            self.find_entity(&record.source).await?,
            self.find_entity(&record.target).await?,
        );
        let (Some(source), Some(target)) = (source, target) else {
            let missing = if source.is_none() {
                &record.source
            } else {
                &record.target
            };
            return Ok(Imported::Refused(format!(
                "there is no entity {:?}",
                missing.name
            )));
        };
        let done = sqlx::query(port_sql::INSERT_RELATION)
            .bind(self.project)
            .bind(source)
            .bind(target)
            .bind(&record.kind)
            .bind(record.weight)
            .bind(json(&record.properties))
            .bind(record.use_count)
            .bind(micros(record.last_used_at))
            .bind(micros(record.valid_from))
            .bind(micros(record.valid_to))
            .bind(record.created_at.timestamp_micros())
            .bind(record.updated_at.timestamp_micros())
            .execute(&mut *self.connection)
            .await
            .map_err(storing)?;
        Ok(created(done.rows_affected()))
    }

    async fn mention(&mut self, record: &MentionRecord) -> Result<Imported> {
        let memory = self
            .find_memory(record.memory)
            .await?
            .filter(|(project, _)| *project == self.project);
        let Some((_, memory)) = memory else {
            return Ok(Imported::Refused(format!(
                "there is no memory {}",
                record.memory
            )));
        };
        let Some(entity) = self.find_entity(&record.entity).await? else {
            return Ok(Imported::Refused(format!(
                "there is no entity {:?}",
                record.entity.name
            )));
        };
        let done = sqlx::query(port_sql::INSERT_MENTION)
            .bind(memory)
            .bind(entity)
            .execute(&mut *self.connection)
            .await
            .map_err(storing)?;
        Ok(created(done.rows_affected()))
    }

    async fn focus(&mut self, record: &FocusRecord) -> Result<Imported> {
        let (statement, archived_at, reason) = match &record.state {
            FocusState::Held => (port_sql::INSERT_FOCUS, None, None),
            FocusState::Archived {
                archived_at,
                reason,
            } => (port_sql::INSERT_ARCHIVE, Some(*archived_at), Some(reason)),
        };
        let done = sqlx::query(statement)
            .bind(self.project)
            .bind(record.id)
            .bind(&record.session)
            .bind(&record.content)
            .bind(record.importance)
            .bind(record.created_at.timestamp_micros())
            .bind(record.touched_at.timestamp_micros())
            .bind(micros(archived_at))
            .bind(reason)
            .bind(record.memory)
            .execute(&mut *self.connection)
            .await
            .map_err(storing)?;
        Ok(created(done.rows_affected()))
    }

    async fn review(&mut self, ReviewRecord { review, .. }: &ReviewRecord) -> Result<Imported> {
        let memory = self
            .find_memory(review.memory)
            .await?
            .filter(|(project, _)| *project == self.project);
        let Some((_, memory)) = memory else {
            return Ok(Imported::Refused(format!(
                "there is no memory {}",
                review.memory
            )));
        };
        let done = sqlx::query(port_sql::INSERT_REVIEW)
            .bind(self.project)
            .bind(review.id)
            .bind(memory)
            .bind(review.proposal.other())
            .bind(review.state.as_str())
            .bind(json(&review.proposal))
            .bind(&review.actor)
            .bind(&review.reason)
            .bind(review.created_at.timestamp_micros())
            .bind(review.expires_at.timestamp_micros())
            .bind(&review.decided_by)
            .bind(micros(review.decided_at))
            .bind(&review.decision_reason)
            .bind(review.applied_version)
            .execute(&mut *self.connection)
            .await
            .map_err(storing)?;
        Ok(created(done.rows_affected()))
    }
}

fn created(rows: u64) -> Imported {
    if rows > 0 {
        Imported::Created
    } else {
        Imported::Present
    }
}

/// Writes a complete and compact copy of the database at `from` to `to`, which must not hold anything yet. Others may
/// go on writing; the copy is that of one moment.
///
/// # Errors
/// As for any reading.
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
        .map_err(|error| from_sqlx(error, "copying the database"))?;
    connection.close().await.map_err(failed)
}
