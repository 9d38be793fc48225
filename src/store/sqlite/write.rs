//! What writes. Each function works inside of a transaction of [`Open::write`] and leaves rows, history, index,
//! jobs and corpus figures in agreement.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::cache::Delta;
use super::change::{Told, growth, rewrite};
use super::error::{from_sqlx, is_damage, name_disk};
use super::merge::{STORED_AGAIN, merges};
use super::read::{indexed, memories};
use super::row::{self, MemoryRow};
use super::tag::tag_keys;
use super::word_index::index_entry;
use super::{Open, Writer, graph, hex_ids, json_numbers, sql};
use crate::domain::graph::{Plan, plan};
use crate::domain::memory::{content_hash, indexed_text};
use crate::domain::repeat::merge_repeats;
use crate::domain::text::Terms;
use crate::domain::validate::Invalid;
use crate::domain::{Analyzer, Change, Kind, Links, Memory, NewMemory, Repeat, Scope};
use crate::store::{Limits, Remember, Remembered, Result, StoreError, replayable};

impl Open {
    /// Carries out `work` in a transaction of its own. Whatever goes wrong, also the disappearance of the caller,
    /// leaves the database as it was.
    pub(super) async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection, &mut Delta) -> Result<T>,
    ) -> Result<T> {
        let result = self
            .write_unobserved(work)
            .await
            .map_err(|error| name_disk(error, self.files.database()));
        self.writes.observe(&result, is_damage);
        result
    }

    async fn write_unobserved<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection, &mut Delta) -> Result<T>,
    ) -> Result<T> {
        self.files.check()?;
        let mut writer = self.writer.lock().await;
        // Taken out of the slot: a caller who goes away drops it, and SQLite undoes the transaction.
        writer.connect().await?;
        let mut connection = writer.connection.take().expect("was just connected");
        let failed = |error| from_sqlx(error, "writing");
        sqlx::query(sql::BEGIN)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
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
            (Ok(_), Err(error)) => Err(failed(error)),
            (Err(error), ended) => {
                if ended.is_ok() {
                    writer.connection = Some(connection);
                }
                Err(error)
            }
        }
    }

    /// Moves the write-ahead log into the database and empties it, so that nothing purged stays there. Readers at
    /// work can keep it longer than anybody waits; then the next write tries again.
    pub(super) async fn empty_log(&self, writer: &mut Writer) -> Result<()> {
        let connection = writer.connect().await?;
        let failed = |error| from_sqlx(error, "emptying the log");
        let busy: i64 = sqlx::query_scalar(sql::CHECKPOINT)
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        self.purged.store(busy != 0, Ordering::Relaxed);
        Ok(())
    }
}

/// A batch whose texts are analysed, which is done before anybody waits for the writer.
#[derive(Debug)]
pub(super) struct Prepared {
    command: Remember,
    items: Vec<Analysed>,
    /// What later items added to earlier ones with the same text.
    repeats: Vec<Repeat>,
    analyzer: Arc<Analyzer>,
}

#[derive(Debug)]
struct Analysed {
    hash: [u8; 32],
    terms: Terms,
}

impl Prepared {
    /// What the index gained, where `answer` says that items are new.
    pub(super) fn extend(&self, delta: &mut Delta, project: i64, answer: &[Remembered]) {
        for (analysed, _) in self
            .items
            .iter()
            .zip(answer)
            .filter(|(_, place)| place.created)
        {
            delta.terms.extend(
                analysed
                    .terms
                    .counts
                    .keys()
                    .map(|term| (indexed(project, term), 1)),
            );
        }
    }

    pub(super) fn new(mut command: Remember, analyzer: Arc<Analyzer>) -> Result<Self> {
        let mut items = Vec::with_capacity(command.items.len());
        command.items.iter().try_for_each(refuse_nul)?;
        let repeats = merge_repeats(&mut command.items);
        for item in &command.items {
            let text = indexed_text(
                &item.content,
                item.speaker.as_deref(),
                &item.tags,
                item.episode.as_ref(),
            );
            items.push(Analysed {
                hash: content_hash(&item.content),
                terms: analyzer.terms(&text),
            });
        }
        Ok(Self {
            command,
            items,
            repeats,
            analyzer,
        })
    }
}

/// SQLite would store a NUL character and then not see what follows it.
fn refuse_nul(item: &NewMemory) -> Result<()> {
    let episode = item
        .episode
        .iter()
        .flat_map(|episode| [&episode.situation, &episode.lesson]);
    let texts = [&item.content]
        .into_iter()
        .chain(&item.tags)
        .chain(&item.session)
        .chain(&item.speaker)
        .chain(episode);
    for text in texts {
        if text.contains('\0') {
            return Err(Invalid::new("items", text, "text without NUL characters").into());
        }
    }
    Ok(())
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

pub(super) fn micros(time: Option<DateTime<Utc>>) -> Option<i64> {
    time.map(|time| time.timestamp_micros())
}

/// Number of the scope's own project, which is made at its first write.
pub(super) async fn own_project(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
) -> Result<i64> {
    if let Some(number) = open.project(scope.project(), connection).await? {
        return Ok(number);
    }
    sqlx::query_scalar(sql::INSERT_PROJECT)
        .bind(scope.project())
        .fetch_one(connection)
        .await
        .map_err(|error| from_sqlx(error, "creating a project"))
}

/// Stores a batch. Also tells the number of the project, which may be new.
pub(super) async fn remember(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    prepared: &Prepared,
    delta: &mut Delta,
) -> Result<(i64, Vec<Remembered>)> {
    let Prepared { command, items, .. } = prepared;
    let project = own_project(open, connection, scope).await?;
    if let Some(answer) = replay(connection, project, command).await? {
        return Ok((project, answer));
    }
    require_sources(
        open,
        connection,
        scope,
        command.items.iter().flat_map(|item| &item.sources),
    )
    .await?;
    let mut superseded = replaced(connection, project, &command.items).await?;
    let mut answer = places(connection, project, prepared, &superseded).await?;
    let merges = merges(
        connection,
        project,
        &command.items,
        &prepared.repeats,
        &mut answer,
        command.now,
    )
    .await?;
    let links: Vec<&Links> = command.items.iter().map(|item| &item.links).collect();
    let plan = if links.iter().all(|links| links.is_empty()) {
        Plan::default()
    } else {
        let (entities, relations) = graph::touched(connection, project, &links).await?;
        plan(&links, scope.project(), entities, relations, command.now)?
    };
    // Every refusal comes before the first change: others share this transaction.
    let mut successors: HashMap<Uuid, Uuid> = HashMap::new();
    for (item, place) in command.items.iter().zip(&answer) {
        for id in &item.supersedes {
            let before = superseded.get(id).and_then(|row| row.memory.superseded_by);
            let by = *successors.entry(*id).or_insert(before.unwrap_or(place.id));
            if by != place.id {
                return Err(StoreError::AlreadySuperseded { id: *id, by });
            }
        }
    }
    let protected = |id: &&Uuid| {
        superseded
            .get(*id)
            .is_some_and(|row| row.memory.protected && row.memory.superseded_by.is_none())
    };
    let protected = unique(
        command
            .items
            .iter()
            .flat_map(|item| &item.supersedes)
            .filter(protected),
    );
    if !protected.is_empty() {
        return Err(StoreError::Protected { ids: protected });
    }
    let replaced_bytes = superseded
        .values()
        .filter(|row| row.memory.superseded_by.is_none());
    let replaced_bytes: u64 = replaced_bytes
        .map(|row| history_bytes(&row.memory, None))
        .sum();
    let merged_bytes: u64 = merges
        .iter()
        .map(|(before, after)| growth(before, after, Some(STORED_AGAIN)))
        .sum();
    let grown = (replaced_bytes, merged_bytes);
    require_room(
        open,
        connection,
        scope,
        project,
        (&command.items, &answer),
        grown,
    )
    .await?;
    super::bound::require_graph(open, connection, scope, project, &plan).await?;
    // What is replaced goes first: a turn may be replaced by its correction.
    for (item, place) in command.items.iter().zip(&answer) {
        for id in &item.supersedes {
            let row = superseded
                .get_mut(id)
                .expect("all were looked up, or the command was refused");
            supersede(connection, scope, row, place.id, command.now).await?;
        }
    }
    for ((item, analysed), place) in command.items.iter().zip(items).zip(&answer) {
        if place.created {
            insert(connection, scope, project, item, analysed, command.now).await?;
        }
    }
    // Before the merges: an item that protects a memory still adds its entities to it.
    let entities = graph::write(connection, project, &plan, command.now).await?;
    for (links, place) in links.iter().zip(&answer) {
        graph::mention(connection, project, place, links, &entities).await?;
    }
    for (before, after) in &merges {
        let told = Told {
            change: Change::Updated,
            reason: Some(STORED_AGAIN),
            now: command.now,
        };
        rewrite(
            connection,
            scope,
            project,
            (before, after),
            &told,
            (&prepared.analyzer, delta),
        )
        .await?;
    }
    if let Some(idempotency) = &command.idempotency {
        sqlx::query(sql::INSERT_IDEMPOTENT)
            .bind(project)
            .bind(&idempotency.key)
            .bind(idempotency.request_hash.as_slice())
            .bind(json(&replayable(&answer)))
            .bind(command.now.timestamp_micros())
            .execute(&mut *connection)
            .await
            .map_err(|error| from_sqlx(error, "keeping an idempotency key"))?;
        super::history::trim_keys(connection, project).await?;
    }
    Ok((project, answer))
}

/// Refuses what would make the project larger than it may be; `replaced` is what the history grows by for memories that
/// are superseded, `merged` what memories that are there already and their history grow by.
async fn require_room(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    (items, answer): (&[NewMemory], &[Remembered]),
    (replaced, merged): (u64, u64),
) -> Result<()> {
    if !open.limits.any() {
        return Ok(());
    }
    let new = items
        .iter()
        .zip(answer)
        .filter(|(_, place)| place.created)
        .map(|(item, _)| item.bytes());
    let (memories, bytes) = new.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
    // A project over its limit may still be told that it knows something.
    if memories == 0 && merged == 0 {
        return Ok(());
    }
    require_space(
        open,
        connection,
        scope,
        project,
        memories,
        bytes + replaced + merged,
    )
    .await
}

/// What an entry of the history takes of the limit of bytes, when `before` is what it keeps.
pub(super) fn history_bytes(before: &Memory, reason: Option<&str>) -> u64 {
    (json(&before.snapshot()).len() + reason.map_or(0, str::len)) as u64
}

/// The same for so many memories and bytes more.
pub(super) async fn require_space(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    memories: u64,
    bytes: u64,
) -> Result<()> {
    let failed = |error| from_sqlx(error, "measuring a project");
    let (held, size): (i64, i64) = sqlx::query_as(sql::USAGE)
        .bind(project)
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    let limits = if memories > 0 {
        open.limits
    } else {
        Limits {
            memories: 0,
            ..open.limits
        }
    };
    limits.check(
        scope.project(),
        held.unsigned_abs() + memories,
        size.unsigned_abs() + bytes,
    )
}

/// The answer given before to the same idempotency key.
async fn replay(
    connection: &mut SqliteConnection,
    project: i64,
    command: &Remember,
) -> Result<Option<Vec<Remembered>>> {
    let Some(idempotency) = &command.idempotency else {
        return Ok(None);
    };
    let failed = |error| from_sqlx(error, "reading an idempotency key");
    let row = sqlx::query(sql::IDEMPOTENT)
        .bind(project)
        .bind(&idempotency.key)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<&[u8], _>(0).map_err(failed)? != idempotency.request_hash {
        return Err(StoreError::IdempotencyConflict {
            key: idempotency.key.clone(),
        });
    }
    let ids = row::ids(&row, 1).map_err(failed)?;
    Ok(Some(ids.into_iter().map(Remembered::replayed).collect()))
}

/// Refuses sources that are not live memories of a readable project.
pub(super) async fn require_sources(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    sources: impl Iterator<Item = &Uuid>,
) -> Result<()> {
    let wanted: Vec<Uuid> = unique(sources);
    if wanted.is_empty() {
        return Ok(());
    }
    let projects = open.readable(scope, connection).await?;
    let failed = |error| from_sqlx(error, "looking up sources");
    let found: HashSet<Uuid> = sqlx::query_scalar(sql::PRESENT)
        .bind(json_numbers(&projects))
        .bind(hex_ids(&wanted))
        .fetch_all(connection)
        .await
        .map_err(failed)?
        .into_iter()
        .collect();
    missing("sources", wanted, |id| found.contains(id))
}

/// What the items are to replace, by id.
async fn replaced(
    connection: &mut SqliteConnection,
    project: i64,
    items: &[NewMemory],
) -> Result<HashMap<Uuid, MemoryRow>> {
    let wanted: Vec<Uuid> = unique(items.iter().flat_map(|item| &item.supersedes));
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = memories(connection, &[project], &wanted).await?;
    let rows: HashMap<Uuid, MemoryRow> = rows
        .into_iter()
        .filter(|row| row.memory.deleted_at.is_none())
        .map(|row| (row.memory.id, row))
        .collect();
    missing("supersedes", wanted, |id| rows.contains_key(id))?;
    Ok(rows)
}

pub(super) fn unique<'a>(ids: impl Iterator<Item = &'a Uuid>) -> Vec<Uuid> {
    let mut seen = HashSet::new();
    ids.filter(|id| seen.insert(**id)).copied().collect()
}

pub(super) fn missing(
    field: &'static str,
    mut ids: Vec<Uuid>,
    found: impl Fn(&Uuid) -> bool,
) -> Result<()> {
    ids.retain(|id| !found(id));
    if ids.is_empty() {
        Ok(())
    } else {
        Err(StoreError::NotFound { field, ids })
    }
}

/// Where each item goes: to an id of its own, to that of an equal memory which stays, or to that of an equal item
/// before it.
async fn places(
    connection: &mut SqliteConnection,
    project: i64,
    Prepared { command, items, .. }: &Prepared,
    superseded: &HashMap<Uuid, MemoryRow>,
) -> Result<Vec<Remembered>> {
    let mut equal = equal(connection, project, command, items, superseded).await?;
    let mut turns: HashMap<(&str, i64), (Uuid, [u8; 32])> = HashMap::new();
    let mut places = Vec::with_capacity(items.len());
    for (item, Analysed { hash, .. }) in command.items.iter().zip(items) {
        let existing = match (item.kind, &item.session, item.turn) {
            (Kind::Dialogue, Some(session), Some(turn)) => {
                let stored = match turns.get(&(session.as_str(), turn)) {
                    Some(stored) => Some(*stored),
                    None => stored_turn(connection, project, session, turn, superseded).await?,
                };
                let (id, known) = stored.unwrap_or((item.id, *hash));
                if known != *hash {
                    return Err(StoreError::TurnExists {
                        session: session.clone(),
                        turn,
                        existing: id,
                    });
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
        places.push(Remembered::new(
            existing.unwrap_or(item.id),
            existing.is_none(),
        ));
    }
    Ok(places)
}

/// Memories that hold now, are not about to be replaced, and say the same as one of the items.
async fn equal(
    connection: &mut SqliteConnection,
    project: i64,
    command: &Remember,
    items: &[Analysed],
    superseded: &HashMap<Uuid, MemoryRow>,
) -> Result<HashMap<(Kind, [u8; 32]), Uuid>> {
    let hashes: Vec<String> = command
        .items
        .iter()
        .zip(items)
        .filter(|(item, _)| item.kind != Kind::Dialogue)
        .map(|(_, analysed)| hex(&analysed.hash))
        .collect();
    let mut equal = HashMap::new();
    if hashes.is_empty() {
        return Ok(equal);
    }
    let failed = |error| from_sqlx(error, "looking for equal memories");
    let rows = sqlx::query(sql::EQUAL)
        .bind(project)
        .bind(json(&hashes))
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    for row in &rows {
        let id: Uuid = row.try_get(0).map_err(failed)?;
        let until: Option<i64> = row.try_get(3).map_err(failed)?;
        let hash = row.try_get::<&[u8], _>(2).map_err(failed)?.try_into();
        if let Ok(hash) = hash
            && !superseded.contains_key(&id)
            && until.is_none_or(|until| until > command.now.timestamp_micros())
        {
            let key = (row::word(row, 1).map_err(failed)?, hash);
            equal.entry(key).or_insert(id);
        }
    }
    Ok(equal)
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

/// Id and content hash of a turn that is stored already.
async fn stored_turn(
    connection: &mut SqliteConnection,
    project: i64,
    session: &str,
    turn: i64,
    superseded: &HashMap<Uuid, MemoryRow>,
) -> Result<Option<(Uuid, [u8; 32])>> {
    let failed = |error| from_sqlx(error, "looking for a turn");
    let row = sqlx::query(sql::TURN)
        .bind(project)
        .bind(session)
        .bind(turn)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let id: Uuid = row.try_get(0).map_err(failed)?;
    let hash = row
        .try_get::<&[u8], _>(1)
        .map_err(failed)?
        .try_into()
        .unwrap_or_default();
    Ok(Some((id, hash)).filter(|_| !superseded.contains_key(&id)))
}

async fn insert(
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    item: &NewMemory,
    analysed: &Analysed,
    now: DateTime<Utc>,
) -> Result<()> {
    let failed = |error| from_sqlx(error, "storing a memory");
    sqlx::query(sql::INSERT_MEMORY)
        .bind(item.id)
        .bind(project)
        .bind(item.kind.as_str())
        .bind(i64::from(analysed.terms.length))
        .bind(item.importance)
        .bind(micros(item.valid_until))
        .bind(item.occurred_at.timestamp_micros())
        .bind(now.timestamp_micros())
        .bind(analysed.hash.as_slice())
        .bind(&item.session)
        .bind(item.turn)
        .bind(&item.speaker)
        .bind(json(&item.tags))
        .bind(item.episode.as_ref().map(|episode| episode.outcome))
        .bind(item.episode.as_ref().map(|episode| &episode.situation))
        .bind(item.episode.as_ref().map(|episode| &episode.lesson))
        .bind(json(&item.metadata))
        .bind(&item.content)
        .bind(scope.actor())
        .bind(index_entry(project, &analysed.terms))
        .bind(item.protected)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if !item.tags.is_empty() {
        sqlx::query(sql::INSERT_TAGS)
            .bind(item.id)
            .bind(tag_keys(&item.tags))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    if !item.sources.is_empty() {
        sqlx::query(sql::INSERT_SOURCES)
            .bind(item.id)
            .bind(hex_ids(&unique(item.sources.iter())))
            .execute(connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

async fn supersede(
    connection: &mut SqliteConnection,
    scope: &Scope,
    row: &mut MemoryRow,
    by: Uuid,
    now: DateTime<Utc>,
) -> Result<()> {
    if row.memory.superseded_by.is_some() {
        // Said twice in one list, or again after the answer to the first time was lost.
        return Ok(());
    }
    let old = row.memory.snapshot();
    row.memory.superseded_by = Some(by);
    row.memory.version += 1;
    row.memory.updated_at = now;
    save(connection, &row.memory, row.length).await?;
    note(
        connection,
        scope,
        &row.memory,
        Change::Superseded,
        &old,
        None,
        now,
    )
    .await
}

/// Writes back all fields of a row that may change.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    memory: &Memory,
    length: i64,
) -> Result<()> {
    let episode = memory.episode.as_ref();
    sqlx::query(sql::UPDATE_MEMORY)
        .bind(memory.seq)
        .bind(&memory.content)
        .bind(json(&memory.tags))
        .bind(memory.importance)
        .bind(json(&memory.metadata))
        .bind(memory.occurred_at.timestamp_micros())
        .bind(micros(memory.valid_until))
        .bind(episode.map(|episode| &episode.situation))
        .bind(episode.map(|episode| episode.outcome))
        .bind(episode.map(|episode| &episode.lesson))
        .bind(memory.version)
        .bind(memory.updated_at.timestamp_micros())
        .bind(memory.helpful)
        .bind(memory.not_helpful)
        .bind(content_hash(&memory.content).as_slice())
        .bind(length)
        .bind(memory.superseded_by)
        .bind(micros(memory.deleted_at))
        .bind(memory.protected)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, "changing a memory"))
}

/// Adds to the history of a memory, which has its new version already.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    scope: &Scope,
    memory: &Memory,
    change: Change,
    old: &Value,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(sql::INSERT_HISTORY)
        .bind(memory.seq)
        .bind(memory.version)
        .bind(change.as_str())
        .bind(json(old))
        .bind(scope.actor())
        .bind(reason)
        .bind(now.timestamp_micros())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, "writing history"))
}

pub(super) async fn run(
    connection: &mut SqliteConnection,
    statement: &'static str,
    seq: i64,
    during: &'static str,
) -> Result<()> {
    sqlx::query(statement)
        .bind(seq)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, during))
}

pub(super) async fn enqueue(
    connection: &mut SqliteConnection,
    seq: i64,
    project: i64,
) -> Result<()> {
    sqlx::query(sql::INSERT_JOB)
        .bind(seq)
        .bind(project)
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, "queueing an index job"))
}

pub(super) async fn note_recalled(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<()> {
    let projects = open.readable(scope, connection).await?;
    sqlx::query(sql::NOTE_RECALLED)
        .bind(json_numbers(&projects))
        .bind(hex_ids(ids))
        .bind(now.timestamp_micros())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, "noting a recall"))
}
