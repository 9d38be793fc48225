//! Writes. Each function runs inside a transaction of [`Open::write`] and keeps rows, history, index, jobs and corpus
//! sizes consistent.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::cache::Delta;
use super::error::{Fault, is_damage, name_disk};
use super::memory_sql::{self, Beside, bind_memory};
use super::merge::merges;
use super::param::{json, tag_keys};
use super::read::indexed;
use super::row;
use super::tx::{SqliteTx, own_project};
use super::word_index::index_entry;
use super::{Open, Writer, hex_ids, json_numbers, sql};
use crate::domain::{Analyzer, Change, Kind, Links, Memory, NewMemory, Scope};
use crate::store::batch::{AnalyzedBatch, AnalyzedItem, STORED_AGAIN};
use crate::store::rules::{
    ChangeRecord, ChangeTx, LinkTx, MemoryChange, check_usage, plan_links, refuse_protected,
    require_all, require_sources, rewrite_memory,
};
use crate::store::statement::bind;
use crate::store::{Limits, Remember, Remembered, Result, StoreError, replayable};

impl Open {
    /// Executes `work` in a new transaction. Any failure, including cancellation of the caller, leaves the database
    /// unchanged. `during` names the work in errors.
    pub(super) async fn write<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection, &mut Delta) -> Result<T, Fault>,
    ) -> Result<T> {
        let result = self
            .write_unobserved(work)
            .await
            .map_err(|fault| name_disk(fault.explain(during), self.files.database()));
        self.writes.observe(&result, is_damage);
        result
    }

    async fn write_unobserved<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection, &mut Delta) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.files.check()?;
        let mut writer = self.writer.lock().await;
        // Taken out of the slot: a cancelled caller drops the connection, and SQLite rolls back.
        writer.connect().await?;
        let mut connection = writer.connection.take().expect("was just connected");
        sqlx::query(sql::BEGIN).execute(&mut connection).await?;
        let mut delta = Delta::default();
        let result = work(&mut connection, &mut delta).await;
        let end = if result.is_ok() {
            sql::COMMIT
        } else {
            sql::ROLLBACK
        };
        let committing = self.cache.commit(&delta);
        let ended = sqlx::query(end).execute(&mut connection).await;
        match (result, ended) {
            (Ok(value), Ok(_)) => {
                committing.done();
                writer.connection = Some(connection);
                self.files.check()?;
                if self.purged.load(Ordering::Relaxed) {
                    self.empty_log(&mut writer).await?;
                }
                Ok(value)
            }
            (Ok(_), Err(error)) => Err(error.into()),
            (Err(error), ended) => {
                if ended.is_ok() {
                    writer.connection = Some(connection);
                }
                Err(error)
            }
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that no purged data remains there. Active
    /// readers can delay this beyond the time limit; then the next write tries again.
    pub(super) async fn empty_log(&self, writer: &mut Writer) -> Result<(), Fault> {
        let connection = writer.connect().await?;
        let busy: i64 = sqlx::query_scalar(sql::CHECKPOINT)
            .fetch_one(connection)
            .await?;
        self.purged.store(busy != 0, Ordering::Relaxed);
        Ok(())
    }
}

impl AnalyzedBatch {
    /// Records the changes of the index for items that `answer` reports as new.
    pub(super) fn extend(&self, delta: &mut Delta, project: i64, answer: &[Remembered]) {
        let new = self.items.iter().zip(answer);
        for (item, _) in new.filter(|(_, place)| place.created) {
            let terms = item.terms.iter();
            delta
                .terms
                .extend(terms.map(|(term, _)| (indexed(project, term), 1)));
        }
    }
}

/// Stores a batch. Also returns the number of the project, which may be new.
pub(super) async fn remember(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    (batch, analyzer): (&AnalyzedBatch, &Analyzer),
    delta: &mut Delta,
) -> Result<(i64, Vec<Remembered>), Fault> {
    let project = own_project(open, connection, scope).await?;
    let mut tx = SqliteTx {
        open,
        connection,
        delta,
        scope,
        analyzer,
        project,
    };
    Ok((project, tx.remember(batch).await?))
}

impl SqliteTx<'_> {
    async fn remember(&mut self, batch: &AnalyzedBatch) -> Result<Vec<Remembered>, Fault> {
        let command = &batch.command;
        if let Some(answer) = self.earlier_answer(command).await? {
            return Ok(answer);
        }
        let sources: Vec<Uuid> = command
            .items
            .iter()
            .flat_map(|item| item.sources.iter().copied())
            .collect();
        require_sources(self, &sources).await?;
        let mut superseded = self.superseded_memories(&command.items).await?;
        let mut answer = self.find_places(batch, &superseded).await?;
        let merges = merges(self, batch, &mut answer).await?;
        let links: Vec<&Links> = command.items.iter().map(|item| &item.links).collect();
        // Every refusal must come before the first change, because other commands share this transaction.
        let plan = plan_links(self, &links, command.now).await?;
        refuse_two_successors(&command.items, &answer, &superseded)?;
        refuse_protected(
            superseded
                .iter()
                .filter(|memory| memory.superseded_by.is_none()),
        )?;
        self.require_room(&batch.items, &answer, &superseded, &merges)
            .await?;
        // Memories are replaced first, because a correction may take the turn of the memory that it replaces.
        for (item, place) in command.items.iter().zip(&answer) {
            for id in &item.supersedes {
                self.supersede(&mut superseded, *id, place.id, command.now)
                    .await?;
            }
        }
        for ((item, analyzed), place) in command.items.iter().zip(&batch.items).zip(&answer) {
            if place.created {
                self.insert_memory(item, analyzed, command.now).await?;
            }
        }
        // Links come before the merges, because an item that protects a memory still adds its entities to it.
        let entities = self.write_plan(&plan, command.now).await?;
        for (links, place) in links.iter().zip(&answer) {
            self.insert_mentions(place, links, &entities).await?;
        }
        let record = ChangeRecord {
            change: Change::Updated,
            reason: Some(STORED_AGAIN),
            now: command.now,
        };
        for (before, after) in merges {
            rewrite_memory(self, before, after, &record).await?;
        }
        self.keep_answer(command, &answer).await?;
        Ok(answer)
    }

    /// Stores the answer under the idempotency key of the request.
    async fn keep_answer(
        &mut self,
        command: &Remember<NewMemory>,
        answer: &[Remembered],
    ) -> Result<(), Fault> {
        let Some(idempotency) = &command.idempotency else {
            return Ok(());
        };
        let query = bind!(sqlx::query(sql::INSERT_IDEMPOTENT) =>
            self.project, &idempotency.key, idempotency.request_hash.to_vec(),
            json(&replayable(answer)), command.now.timestamp_micros());
        self.execute(query).await?;
        super::history::trim_keys(self.connection, self.project).await
    }

    /// Fails if a batch would exceed the quotas of the project.
    async fn require_room(
        &mut self,
        items: &[AnalyzedItem],
        answer: &[Remembered],
        superseded: &[Memory],
        merges: &[(Memory, Memory)],
    ) -> Result<(), Fault> {
        let limits = self.open.limits;
        if !limits.any() {
            return Ok(());
        }
        let new = items.iter().zip(answer).filter(|(_, place)| place.created);
        let (memories, bytes) = new.fold((0, 0), |(count, sum), (item, _)| {
            (count + 1, sum + item.bytes)
        });
        // A project over its quota may still repeat stored memories.
        if memories == 0 && merges.is_empty() {
            return Ok(());
        }
        let replaced = superseded
            .iter()
            .filter(|memory| memory.superseded_by.is_none());
        let replaced: u64 = replaced.map(|memory| history_bytes(memory, None)).sum();
        let merged: u64 = merges
            .iter()
            .map(|(before, after)| {
                (after.bytes() + history_bytes(before, Some(STORED_AGAIN)))
                    .saturating_sub(before.bytes())
            })
            .sum();
        let limits = Limits {
            memories: if memories > 0 { limits.memories } else { 0 },
            ..limits
        };
        check_usage(self, limits, (memories, bytes + replaced + merged)).await
    }

    /// Returns the earlier answer to the same idempotency key.
    async fn earlier_answer(
        &mut self,
        command: &Remember<NewMemory>,
    ) -> Result<Option<Vec<Remembered>>, Fault> {
        let Some(idempotency) = &command.idempotency else {
            return Ok(None);
        };
        let query = bind!(sqlx::query(sql::IDEMPOTENT) => self.project, &idempotency.key);
        let found: Option<(Vec<u8>, Vec<Uuid>)> = self
            .fetch_optional(query, |row| Ok((row.try_get(0)?, row::ids(row, 1)?)))
            .await?;
        match found {
            None => Ok(None),
            Some((hash, _)) if hash != idempotency.request_hash => {
                Err(StoreError::IdempotencyConflict {
                    key: idempotency.key.clone(),
                }
                .into())
            }
            Some((_, ids)) => Ok(Some(ids.into_iter().map(Remembered::replayed).collect())),
        }
    }

    /// Returns the memories that the items replace.
    async fn superseded_memories(&mut self, items: &[NewMemory]) -> Result<Vec<Memory>, Fault> {
        let wanted = unique(items.iter().flat_map(|item| &item.supersedes));
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut memories = self.lock_memories(&wanted).await?;
        memories.retain(|memory| memory.deleted_at.is_none());
        let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        require_all("supersedes", &wanted, &found)?;
        Ok(memories)
    }

    /// Determines the target of each item: a new ID, the ID of an equal memory that remains, or the ID of an equal
    /// earlier item.
    async fn find_places(
        &mut self,
        batch: &AnalyzedBatch,
        superseded: &[Memory],
    ) -> Result<Vec<Remembered>, Fault> {
        let mut equal = self.equal_memories(batch, superseded).await?;
        let mut turns: HashMap<(&str, i64), (Uuid, [u8; 32])> = HashMap::new();
        let mut places = Vec::with_capacity(batch.items.len());
        for (item, AnalyzedItem { hash, .. }) in batch.command.items.iter().zip(&batch.items) {
            let existing = match (item.kind, &item.session, item.turn) {
                (Kind::Dialogue, Some(session), Some(turn)) => {
                    let stored = match turns.get(&(session.as_str(), turn)) {
                        Some(stored) => Some(*stored),
                        None => self.stored_turn(session, turn, superseded).await?,
                    };
                    let (id, known) = stored.unwrap_or((item.id, *hash));
                    if known != *hash {
                        return Err(StoreError::TurnExists {
                            session: session.clone(),
                            turn,
                            existing: id,
                        }
                        .into());
                    }
                    turns.insert((session, turn), (id, known));
                    stored.map(|(id, _)| id)
                }
                (Kind::Dialogue, ..) => None,
                (kind, ..) => {
                    let existing = equal.get(&(kind, *hash)).copied();
                    equal.entry((kind, *hash)).or_insert(item.id);
                    existing
                }
            };
            let created = existing.is_none();
            places.push(Remembered::new(existing.unwrap_or(item.id), created));
        }
        Ok(places)
    }

    /// Returns memories that are currently valid, are not about to be replaced, and equal one of the items.
    async fn equal_memories(
        &mut self,
        batch: &AnalyzedBatch,
        superseded: &[Memory],
    ) -> Result<HashMap<(Kind, [u8; 32]), Uuid>, Fault> {
        let items = batch.command.items.iter().zip(&batch.items);
        let hashes: Vec<String> = items
            .filter(|(item, _)| item.kind != Kind::Dialogue)
            .map(|(_, analyzed)| hex(&analyzed.hash))
            .collect();
        let mut equal = HashMap::new();
        if hashes.is_empty() {
            return Ok(equal);
        }
        let query = bind!(sqlx::query(sql::EQUAL) => self.project, json(&hashes));
        let found: Vec<(Uuid, Kind, Vec<u8>, Option<i64>)> = self
            .fetch_all(query, |row| {
                Ok((
                    row.try_get(0)?,
                    row::word(row, 1)?,
                    row.try_get(2)?,
                    row.try_get(3)?,
                ))
            })
            .await?;
        let now = batch.command.now.timestamp_micros();
        for (id, kind, hash, until) in found {
            let stays = !superseded.iter().any(|memory| memory.id == id);
            if let Ok(hash) = hash.try_into()
                && stays
                && until.is_none_or(|until| until > now)
            {
                equal.entry((kind, hash)).or_insert(id);
            }
        }
        Ok(equal)
    }

    /// Returns ID and content hash of a stored turn.
    async fn stored_turn(
        &mut self,
        session: &str,
        turn: i64,
        superseded: &[Memory],
    ) -> Result<Option<(Uuid, [u8; 32])>, Fault> {
        let query = bind!(sqlx::query(sql::TURN) => self.project, session, turn);
        let found: Option<(Uuid, Vec<u8>)> = self
            .fetch_optional(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .await?;
        let stays = |id: Uuid| !superseded.iter().any(|memory| memory.id == id);
        Ok(found
            .filter(|(id, _)| stays(*id))
            .map(|(id, hash)| (id, hash.try_into().unwrap_or_default())))
    }

    async fn insert_memory(
        &mut self,
        item: &NewMemory,
        analyzed: &AnalyzedItem,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let memory = item.as_stored(self.scope.project(), now);
        let length = Some(analyzed.terms.length);
        let beside = Beside {
            actor: self.scope.actor(),
            index_entry: index_entry(self.project, analyzed.terms.iter()),
        };
        let query = bind_memory(
            memory_sql::REMEMBER,
            &memory,
            self.project,
            length,
            Some(beside),
        );
        self.execute(query).await?;
        self.insert_lists(item.id, &item.tags, &item.sources).await
    }

    /// Stores the tags and sources of a new memory.
    pub(super) async fn insert_lists(
        &mut self,
        id: Uuid,
        tags: &[String],
        sources: &[Uuid],
    ) -> Result<(), Fault> {
        if !tags.is_empty() {
            let query = bind!(sqlx::query(sql::INSERT_TAGS) => id, tag_keys(tags));
            self.execute(query).await?;
        }
        if !sources.is_empty() {
            self.insert_sources(id, &unique(sources.iter())).await?;
        }
        Ok(())
    }

    /// Marks a memory as replaced. Repeating the replacement is accepted: it was named twice in one list, or again
    /// after the answer to the first request was lost.
    async fn supersede(
        &mut self,
        superseded: &mut [Memory],
        id: Uuid,
        by: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let memory = superseded
            .iter_mut()
            .find(|memory| memory.id == id && memory.superseded_by.is_none());
        let Some(memory) = memory else {
            return Ok(());
        };
        let before = memory.clone();
        memory.superseded_by = Some(by);
        memory.version += 1;
        memory.updated_at = now;
        let record = ChangeRecord {
            change: Change::Superseded,
            reason: None,
            now,
        };
        let change = MemoryChange::new(before, memory.clone(), self.analyzer);
        self.rewrite_memories(&[change], &record).await
    }
}

/// Fails if a memory would get a second successor.
fn refuse_two_successors(
    items: &[NewMemory],
    answer: &[Remembered],
    superseded: &[Memory],
) -> Result<(), Fault> {
    let mut successors: HashMap<Uuid, Uuid> = superseded
        .iter()
        .filter_map(|memory| Some((memory.id, memory.superseded_by?)))
        .collect();
    for (item, place) in items.iter().zip(answer) {
        for id in &item.supersedes {
            let by = *successors.entry(*id).or_insert(place.id);
            if by != place.id {
                return Err(StoreError::AlreadySuperseded { id: *id, by }.into());
            }
        }
    }
    Ok(())
}

/// Returns the bytes of a history entry that count against the quota if it stores `before`.
fn history_bytes(before: &Memory, reason: Option<&str>) -> u64 {
    (json(&before.snapshot()).len() + reason.map_or(0, str::len)) as u64
}

fn unique<'a>(ids: impl Iterator<Item = &'a Uuid>) -> Vec<Uuid> {
    let mut seen = HashSet::new();
    ids.filter(|id| seen.insert(**id)).copied().collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(super) async fn note_recalled(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let projects = open.readable(scope, connection).await?;
    bind!(sqlx::query(sql::NOTE_RECALLED) =>
        json_numbers(&projects), hex_ids(ids), now.timestamp_micros())
    .execute(connection)
    .await?;
    Ok(())
}
