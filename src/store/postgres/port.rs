//! Whole records out of the database and into it. An export is one repeatable-read transaction on a connection of its
//! own, an import one transaction a batch; both work while the service runs.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::attempt::{Effect, attempt, begin, commit};
use super::fault::{self, Fault};
use super::remember::{json, number};
use super::review::ReviewRow;
use super::row::{HistoryRow, MemoryRow};
use super::row_security::View;
use super::{PostgresStore, change, graph_sql, port_sql, sql};
use crate::domain::memory::content_hash;
use crate::domain::name::{name_key, name_words};
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Change, History, Kind, Memory, Scope};
use crate::store::port::{
    EntityName, EntityRecord, FocusRecord, FocusState, Imported, MemoryRecord, MentionRecord,
    PAGE_HISTORY_ENTRIES, Place, PortStore, Record, RelationRecord, ReviewRecord, Section,
    Snapshot, loaded_with_history, store_record,
};
use crate::store::{Finding, Result, StoreError, Subject};

/// Time for a batch of an import, and for a look at the whole index.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// A transaction that sees one moment.
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
        after: Place,
        limit: i64,
    ) -> sqlx::Result<(Vec<Record>, Place)> {
        let (statement, read): (_, fn(&PgRow) -> sqlx::Result<Record>) = match section {
            Section::Memory => return self.memories(after, limit).await,
            Section::Entity => (port_sql::ENTITIES, entity),
            Section::Relation => (port_sql::RELATIONS, relation),
            Section::Mention => (port_sql::MENTIONS, mention),
            Section::Focus => (port_sql::FOCUS, focus),
            Section::Archive => (port_sql::ARCHIVE, focus),
            Section::Review => (port_sql::REVIEWS, review),
        };
        let mut query = sqlx::query(statement)
            .bind(&self.projects)
            .bind(after.0)
            .bind(limit);
        if section == Section::Mention {
            query = query.bind(after.1);
        }
        let rows = query.fetch_all(&mut self.connection).await?;
        let place = match rows.last() {
            Some(row) => Place(row.try_get("place")?, row.try_get("place2")?),
            None => after,
        };
        Ok((rows.iter().map(read).collect::<sqlx::Result<_>>()?, place))
    }

    async fn memories(&mut self, after: Place, limit: i64) -> sqlx::Result<(Vec<Record>, Place)> {
        let rows = sqlx::query(sql::EXPORT)
            .bind(&self.projects)
            .bind(after.0)
            .bind(limit)
            .fetch_all(&mut self.connection)
            .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let MemoryRow(memory) = MemoryRow::from_row(row)?;
            records.push(MemoryRecord {
                memory,
                history: Vec::new(),
            });
        }
        let loaded = self.loaded_with_history(&records).await?;
        records.truncate(loaded.max(1));
        let Some(last) = records.last().map(|record| record.memory.seq) else {
            return Ok((Vec::new(), after));
        };
        let ids: Vec<Uuid> = records
            .iter()
            .take(loaded)
            .map(|record| record.memory.id)
            .collect();
        let mut history: Vec<History> = sqlx::query_as(port_sql::HISTORY)
            .bind(&self.projects)
            .bind(&ids)
            .fetch_all(&mut self.connection)
            .await?
            .into_iter()
            .map(|row: HistoryRow| row.0)
            .collect();
        history.sort_by_key(|entry| entry.version);
        let places: HashMap<Uuid, usize> = ids.into_iter().zip(0..).collect();
        for entry in history {
            if let Some(place) = places.get(&entry.memory_id) {
                records[*place].history.push(entry);
            }
        }
        Ok((
            records
                .into_iter()
                .map(|record| Record::Memory(Box::new(record)))
                .collect(),
            Place(last, 0),
        ))
    }

    async fn loaded_with_history(&mut self, records: &[MemoryRecord]) -> sqlx::Result<usize> {
        let ids: Vec<Uuid> = records.iter().map(|record| record.memory.id).collect();
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
        after: Place,
    ) -> sqlx::Result<(Vec<History>, Place)> {
        let rows = sqlx::query(port_sql::HISTORY_AFTER)
            .bind(memory.id)
            .bind(after.0)
            .bind(PAGE_HISTORY_ENTRIES)
            .fetch_all(&mut self.connection)
            .await?;
        let place = match rows.last() {
            Some(row) => Place(row.try_get("place")?, 0),
            None => after,
        };
        let entries = rows
            .iter()
            .map(|row| HistoryRow::from_row(row).map(|row| row.0))
            .collect::<sqlx::Result<_>>()?;
        Ok((entries, place))
    }
}

fn object(row: &PgRow) -> sqlx::Result<Map<String, Value>> {
    Ok(match row.try_get("properties")? {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}

fn entity(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record::Entity(EntityRecord {
        project: row.try_get("project")?,
        name: row.try_get("name")?,
        kind: row.try_get("type")?,
        properties: object(row)?,
        use_count: row.try_get("use_count")?,
        last_used_at: row.try_get("last_used_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    }))
}

fn relation(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record::Relation(Box::new(RelationRecord {
        project: row.try_get("project")?,
        source: EntityName {
            name: row.try_get("source")?,
            kind: row.try_get("source_type")?,
        },
        target: EntityName {
            name: row.try_get("target")?,
            kind: row.try_get("target_type")?,
        },
        kind: row.try_get("type")?,
        weight: row.try_get("weight")?,
        properties: object(row)?,
        use_count: row.try_get("use_count")?,
        last_used_at: row.try_get("last_used_at")?,
        valid_from: row.try_get("valid_from")?,
        valid_to: row.try_get("valid_to")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })))
}

fn mention(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record::Mention(MentionRecord {
        project: row.try_get("project")?,
        memory: row.try_get("memory")?,
        entity: EntityName {
            name: row.try_get("name")?,
            kind: row.try_get("type")?,
        },
    }))
}

fn focus(row: &PgRow) -> sqlx::Result<Record> {
    Ok(Record::Focus(FocusRecord {
        project: row.try_get("project")?,
        id: row.try_get("id")?,
        session: row.try_get("session")?,
        content: row.try_get("content")?,
        importance: row.try_get("importance")?,
        created_at: row.try_get("created_at")?,
        touched_at: row.try_get("touched_at")?,
        memory: row.try_get("memory_id")?,
        state: match row.try_get::<Option<DateTime<Utc>>, _>("archived_at")? {
            None => FocusState::Held,
            Some(archived_at) => FocusState::Archived {
                archived_at,
                reason: row.try_get("reason")?,
            },
        },
    }))
}

fn review(row: &PgRow) -> sqlx::Result<Record> {
    let ReviewRow(review) = ReviewRow::from_row(row)?;
    Ok(Record::Review(Box::new(ReviewRecord {
        project: row.try_get("project")?,
        review,
    })))
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
        after: Place,
        limit: i64,
    ) -> Result<(Vec<Record>, Place)> {
        self.rows(section, after, limit)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn history(&mut self, memory: &Memory, after: Place) -> Result<(Vec<History>, Place)> {
        self.entries(memory, after)
            .await
            .map_err(|error| self.failed(error))
    }
}

#[async_trait]
impl PortStore for PostgresStore {
    async fn projects(&self) -> Result<Vec<String>> {
        let mut attempts = self.attempts(View::All, "list projects", Effect::Read)?;
        attempt!(attempts, connection => async {
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
        // Repeatable: what is there already is left alone.
        let mut attempts = self
            .attempts(View::All, "import", Effect::Repeatable)?
            .with_limit(LONG);
        attempt!(attempts, connection => import(connection, scope, records, &self.analyzer))
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
        let detail = format!(
            "the word index disagrees with the memories: {missing} memories are missing, entries of {stray} deleted ones \
             are left over, and the totals of {corpus} projects are wrong"
        );
        Ok(vec![Finding::new(
            Subject::WordIndex,
            detail,
            super::check::REBUILD_INDEX,
        )])
    }
}

async fn import(
    connection: &mut PgConnection,
    scope: &Scope,
    records: &[Record],
    analyzer: &Analyzer,
) -> Result<Vec<Imported>, Fault> {
    let mut transaction = begin(connection).await?;
    sqlx::query(sql::CREATE_PROJECT)
        .bind(scope.project())
        .execute(&mut *transaction)
        .await?;
    if records
        .iter()
        .any(|record| matches!(record, Record::Entity(_) | Record::Relation(_)))
    {
        // Whether a relation is there already is asked for, not enforced by a key: one that ended and began again has
        // a row for each time. So whoever writes to the graph of a project takes turns, as in `graph`.
        sqlx::query(graph_sql::LOCK)
            .bind(scope.project())
            .execute(&mut *transaction)
            .await?;
    }
    let mut importing = Importing {
        connection: &mut transaction,
        scope,
        analyzer,
        live: Vec::new(),
    };
    let mut answers = Vec::with_capacity(records.len());
    for record in records {
        answers.push(importing.record(record).await?);
    }
    importing.index().await?;
    commit(transaction).await?;
    Ok(answers)
}

struct Importing<'a> {
    connection: &'a mut PgConnection,
    scope: &'a Scope,
    analyzer: &'a Analyzer,
    /// New memories that recall is to find.
    live: Vec<(Memory, Terms)>,
}

impl Importing<'_> {
    async fn record(&mut self, record: &Record) -> Result<Imported, Fault> {
        store_record!(self, record)
    }

    async fn find_memory(&mut self, id: Uuid) -> Result<Option<(String, i64)>, Fault> {
        Ok(sqlx::query_as(port_sql::FIND_MEMORY)
            .bind(id)
            .fetch_optional(&mut *self.connection)
            .await?)
    }

    async fn memory(
        &mut self,
        MemoryRecord { memory, history }: &MemoryRecord,
    ) -> Result<Imported, Fault> {
        if let Some((project, _)) = self.find_memory(memory.id).await? {
            return Ok(if project == self.scope.project() {
                Imported::Present
            } else {
                Imported::Refused(format!(
                    "memory {} is there already, in another project",
                    memory.id
                ))
            });
        }
        let claim = memory.deleted_at.is_none()
            && memory.superseded_by.is_none()
            && memory.kind == Kind::Dialogue
            && memory.session.is_some()
            && memory.turn.is_some();
        if claim {
            let taken: Option<Uuid> = sqlx::query_scalar(port_sql::FIND_TURN)
                .bind(self.scope.project())
                .bind(&memory.session)
                .bind(memory.turn)
                .fetch_optional(&mut *self.connection)
                .await?;
            if let Some(other) = taken {
                return Ok(Imported::Refused(format!(
                    "turn {} of session {:?} is there already, as memory {other}",
                    memory.turn.unwrap_or_default(),
                    memory.session.as_deref().unwrap_or_default()
                )));
            }
        }
        let terms = change::terms(self.analyzer, memory);
        let creator = history
            .first()
            .filter(|entry| entry.change == Change::Created);
        let episode = memory.episode.as_ref();
        let seq: i64 = sqlx::query_scalar(port_sql::INSERT_MEMORY)
            .bind(self.scope.project())
            .bind(memory.id)
            .bind(memory.kind.as_str())
            .bind(&memory.content)
            .bind(content_hash(&memory.content).as_slice())
            .bind(number(terms.length as usize))
            .bind(&memory.tags)
            .bind(memory.importance)
            .bind(json(&memory.metadata))
            .bind(memory.occurred_at)
            .bind(memory.created_at)
            .bind(creator.map_or("import", |entry| entry.actor.as_str()))
            .bind(memory.updated_at)
            .bind(memory.valid_until)
            .bind(memory.superseded_by)
            .bind(memory.deleted_at)
            .bind(memory.version)
            .bind(&memory.session)
            .bind(memory.turn)
            .bind(&memory.speaker)
            .bind(episode.map(|episode| &episode.situation))
            .bind(episode.map(|episode| episode.outcome))
            .bind(episode.map(|episode| &episode.lesson))
            .bind(memory.helpful)
            .bind(memory.not_helpful)
            .bind(memory.protected)
            .bind(claim.then_some(true))
            .fetch_one(&mut *self.connection)
            .await?;
        if memory.recall_count > 0 {
            sqlx::query(port_sql::INSERT_STATISTIC)
                .bind(self.scope.project())
                .bind(seq)
                .bind(memory.recall_count)
                .bind(memory.last_recalled_at.unwrap_or(memory.created_at))
                .execute(&mut *self.connection)
                .await?;
        }
        if !memory.sources.is_empty() {
            sqlx::query(port_sql::INSERT_SOURCES)
                .bind(self.scope.project())
                .bind(seq)
                .bind(&memory.sources)
                .execute(&mut *self.connection)
                .await?;
        }
        self.history(seq, history).await?;
        if memory.deleted_at.is_none() {
            self.live.push((
                Memory {
                    seq,
                    ..memory.clone()
                },
                terms,
            ));
        }
        Ok(Imported::Created)
    }

    async fn history(&mut self, seq: i64, history: &[History]) -> Result<(), Fault> {
        // The creation is in the row itself.
        let later: Vec<&History> = history
            .iter()
            .filter(|entry| entry.change != Change::Created)
            .collect();
        if later.is_empty() {
            return Ok(());
        }
        let old: Vec<String> = later.iter().map(|entry| json(&entry.old)).collect();
        sqlx::query(port_sql::INSERT_HISTORY)
            .bind(self.scope.project())
            .bind(seq)
            .bind(later.iter().map(|entry| entry.version).collect::<Vec<_>>())
            .bind(
                later
                    .iter()
                    .map(|entry| entry.change.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(&old)
            .bind(
                later
                    .iter()
                    .map(|entry| entry.actor.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                later
                    .iter()
                    .map(|entry| entry.reason.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(later.iter().map(|entry| entry.at).collect::<Vec<_>>())
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn index(&mut self) -> Result<(), Fault> {
        if self.live.is_empty() {
            return Ok(());
        }
        let live: Vec<(&Memory, &Terms)> = self
            .live
            .iter()
            .map(|(memory, terms)| (memory, terms))
            .collect();
        change::index(&mut *self.connection, self.scope, &live, true).await?;
        let length = live.iter().map(|(_, terms)| i64::from(terms.length)).sum();
        change::count(
            &mut *self.connection,
            self.scope,
            change::size(live.len()),
            length,
        )
        .await
    }

    async fn find_entity(&mut self, name: &EntityName) -> Result<Option<i64>, Fault> {
        Ok(sqlx::query_scalar(port_sql::FIND_ENTITY)
            .bind(self.scope.project())
            .bind(name_key(&name.name))
            .fetch_optional(&mut *self.connection)
            .await?)
    }

    async fn entity(&mut self, record: &EntityRecord) -> Result<Imported, Fault> {
        let name = EntityName {
            name: record.name.clone(),
            kind: record.kind.clone(),
        };
        if self.find_entity(&name).await?.is_some() {
            return Ok(Imported::Present);
        }
        sqlx::query(port_sql::INSERT_ENTITY)
            .bind(self.scope.project())
            .bind(&record.name)
            .bind(name_key(&record.name))
            .bind(name_words(&record.name))
            .bind(&record.kind)
            .bind(json(&record.properties))
            .bind(record.use_count)
            .bind(record.last_used_at)
            .bind(record.created_at)
            .bind(record.updated_at)
            .execute(&mut *self.connection)
            .await?;
        Ok(Imported::Created)
    }

    async fn relation(&mut self, record: &RelationRecord) -> Result<Imported, Fault> {
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
            .bind(self.scope.project())
            .bind(source)
            .bind(target)
            .bind(&record.kind)
            .bind(record.weight)
            .bind(json(&record.properties))
            .bind(record.use_count)
            .bind(record.last_used_at)
            .bind(record.valid_from)
            .bind(record.valid_to)
            .bind(record.created_at)
            .bind(record.updated_at)
            .execute(&mut *self.connection)
            .await?;
        Ok(created(done.rows_affected()))
    }

    async fn mention(&mut self, record: &MentionRecord) -> Result<Imported, Fault> {
        let memory = self
            .find_memory(record.memory)
            .await?
            .filter(|(project, _)| project == self.scope.project());
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
            .bind(self.scope.project())
            .bind(memory)
            .bind(entity)
            .execute(&mut *self.connection)
            .await?;
        Ok(created(done.rows_affected()))
    }

    async fn focus(&mut self, record: &FocusRecord) -> Result<Imported, Fault> {
        let statement = match record.state {
            FocusState::Held => port_sql::INSERT_FOCUS,
            FocusState::Archived { .. } => port_sql::INSERT_ARCHIVE,
        };
        let mut query = sqlx::query(statement)
            .bind(self.scope.project())
            .bind(record.id)
            .bind(&record.session)
            .bind(&record.content)
            .bind(record.importance)
            .bind(record.created_at)
            .bind(record.touched_at)
            .bind(record.memory);
        if let FocusState::Archived {
            archived_at,
            reason,
        } = &record.state
        {
            query = query.bind(archived_at).bind(reason);
        }
        Ok(created(
            query.execute(&mut *self.connection).await?.rows_affected(),
        ))
    }

    async fn review(
        &mut self,
        ReviewRecord { review, .. }: &ReviewRecord,
    ) -> Result<Imported, Fault> {
        let memory = self
            .find_memory(review.memory)
            .await?
            .filter(|(project, _)| project == self.scope.project());
        let Some((_, memory)) = memory else {
            return Ok(Imported::Refused(format!(
                "there is no memory {}",
                review.memory
            )));
        };
        let done = sqlx::query(port_sql::INSERT_REVIEW)
            .bind(self.scope.project())
            .bind(review.id)
            .bind(memory)
            .bind(review.proposal.other())
            .bind(review.state.as_str())
            .bind(json(&review.proposal))
            .bind(&review.actor)
            .bind(&review.reason)
            .bind(review.created_at)
            .bind(review.expires_at)
            .bind(&review.decided_by)
            .bind(review.decided_at)
            .bind(&review.decision_reason)
            .bind(review.applied_version)
            .execute(&mut *self.connection)
            .await?;
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
