//! Stores a batch. The common case is one statement and one round trip; sources, supersessions and very large batches
//! need a transaction.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::attempt::{begin, commit};
use super::fault::{self, Fault};
use super::history::trim_keys;
use super::memory_sql::{self, memory_row};
use super::param::number;
use super::row::{PreviousRow, RememberRow};
use super::sql;
use super::tx::PgTx;
use crate::domain::text::PackedTerms;
use crate::domain::{Analyzer, Change, Kind, Links, Memory, NewMemory, Repeat, Restated, Scope};
use crate::store::batch::{AnalyzedBatch, AnalyzedItem, STORED_AGAIN};
use crate::store::rules::{
    ChangeRecord, ChangeTx, LinkTx, MemoryChange, QuotaTx, check_usage, plan_links,
    refuse_protected, require_all, require_sources,
};
use crate::store::statement::bind;
use crate::store::{Idempotency, Limits, Remember, Remembered, Result, StoreError};

/// Batches with more postings get a transaction with a higher time limit.
const MANY_POSTINGS: usize = 20_000;
/// Time limit of those batches, including all attempts.
pub(super) const LARGE_LIMIT: Duration = Duration::from_secs(25);
/// Time limit of the server, a little less, so that its answer arrives.
const LARGE_STATEMENT: &str = "24s";

/// A batch as parameters of the statement.
pub(super) struct Batch {
    now: DateTime<Utc>,
    analyzer: String,
    idempotency: Option<Idempotency>,
    /// For each item of the request, the rank (from 1) of the item stored for it.
    places: Vec<i32>,
    ids: Vec<Uuid>,
    /// The items to store, as elements of a JSON list, separated by commas.
    rows: String,
    hashes: Vec<Vec<u8>>,
    turns: Vec<Option<(String, i64)>>,
    /// The terms of each item to store, separated by spaces, because arrays of single terms need ten times the memory.
    terms: Vec<String>,
    /// How often each of these terms occurs.
    frequencies: Vec<String>,
    /// Number of terms of all items to store.
    postings: usize,
    /// Sources of the items to store, by rank.
    sources: Vec<Vec<Uuid>>,
    /// Sources of all items, since an unknown source is an error in any case.
    all_sources: Vec<Uuid>,
    /// Index of a stored item and the memory that it supersedes, in the order of the items.
    supersedes: Vec<(usize, Uuid)>,
    links: Vec<Links>,
    /// Fields besides the text of the items to store, by rank.
    restated: Vec<Restated>,
    /// The additions of each item of the request to an earlier item with the same text.
    repeats: Vec<Repeat>,
    /// The first item that uses the turn of an earlier one with another text, and the index of that one.
    torn_turn: Option<(usize, usize)>,
}

/// The effect of the statement if an item has additions for an existing memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// Stores nothing.
    Halt,
    /// Stores the other items, because the same transaction merges the additions.
    Merge,
}

#[derive(PartialEq, Eq, Hash)]
enum Sameness {
    Content(Kind, [u8; 32]),
    Turn(String, i64),
}

impl Batch {
    /// Collects the values of the items in arrays.
    pub(super) fn new(command: Remember, analyzer: &Analyzer) -> Result<Self> {
        let AnalyzedBatch {
            command,
            items,
            repeats,
        } = AnalyzedBatch::new(command, analyzer)?;
        let count = items.len();
        let mut batch = Self {
            now: command.now,
            analyzer: analyzer.fingerprint(),
            idempotency: command.idempotency,
            places: Vec::with_capacity(count),
            ids: Vec::with_capacity(count),
            rows: String::new(),
            hashes: Vec::with_capacity(count),
            turns: Vec::with_capacity(count),
            terms: Vec::with_capacity(count),
            frequencies: Vec::with_capacity(count),
            postings: 0,
            sources: Vec::with_capacity(count),
            all_sources: Vec::new(),
            supersedes: Vec::new(),
            links: Vec::with_capacity(count),
            restated: Vec::with_capacity(count),
            repeats,
            torn_turn: None,
        };
        let mut seen: HashMap<Sameness, i32> = HashMap::new();
        for (item, AnalyzedItem { hash, terms, .. }) in command.items.into_iter().zip(items) {
            let sameness = match (item.kind, &item.session, item.turn) {
                (Kind::Dialogue, Some(session), Some(turn)) => {
                    Some(Sameness::Turn(session.clone(), turn))
                }
                (Kind::Dialogue, ..) => None,
                (kind, ..) => Some(Sameness::Content(kind, hash)),
            };
            let place = number(batch.ids.len() + 1);
            batch.all_sources.extend(&item.sources);
            if let Some(sameness) = sameness {
                if let Some(first) = seen.get(&sameness) {
                    let at = index(*first);
                    if matches!(sameness, Sameness::Turn(..)) && batch.hashes[at] != hash {
                        batch.torn_turn = batch.torn_turn.or(Some((batch.places.len(), at)));
                    }
                    batch.places.push(*first);
                    batch
                        .supersedes
                        .extend(item.supersedes.iter().map(|old| (at, *old)));
                    batch.links[at].entities.extend(item.links.entities);
                    batch.links[at].relations.extend(item.links.relations);
                    continue;
                }
                seen.insert(sameness, place);
            }
            batch.places.push(place);
            batch.add_row(&item, place, terms.length);
            batch.add_terms(&terms);
            batch.ids.push(item.id);
            batch.hashes.push(hash.to_vec());
            batch.turns.push(item.session.zip(item.turn));
            batch.sources.push(unique(item.sources));
            batch
                .supersedes
                .extend(item.supersedes.iter().map(|old| (index(place), *old)));
            batch.links.push(item.links);
        }
        Ok(batch)
    }

    fn add_row(&mut self, item: &NewMemory, place: i32, length: u32) {
        let restated = Restated::from(item);
        // The statement fills in the project.
        let mut row = memory_row(&item.as_stored("", self.now), Some(length));
        row["n"] = place.into();
        row["adds"] = (!restated.is_empty()).into();
        if !self.rows.is_empty() {
            self.rows.push(',');
        }
        self.rows.push_str(&row.to_string());
        self.restated.push(restated);
    }

    fn add_terms(&mut self, terms: &PackedTerms) {
        let names: Vec<&str> = terms.iter().map(|(term, _)| term).collect();
        let frequencies: Vec<String> = terms.iter().map(|(_, count)| count.to_string()).collect();
        self.postings += names.len();
        self.terms.push(names.join(" "));
        self.frequencies.push(frequencies.join(" "));
    }

    /// Returns whether the batch needs the higher time limit.
    pub(super) fn large(&self) -> bool {
        self.postings > MANY_POSTINGS
    }

    fn is_simple(&self) -> bool {
        !self.large()
            && self.torn_turn.is_none()
            && self.all_sources.is_empty()
            && self.supersedes.is_empty()
            && self.links.iter().all(Links::is_empty)
    }

    /// Returns whether an item has additions for an existing memory.
    fn adds(&self, placed: &[Option<Uuid>]) -> bool {
        let known = |at: usize| placed[at].is_some_and(|id| id != self.ids[at]);
        self.restated
            .iter()
            .enumerate()
            .any(|(at, restated)| !restated.is_empty() && known(at))
    }

    fn replay(&self, previous: PreviousRow) -> Result<Vec<Remembered>, Fault> {
        match &self.idempotency {
            Some(given) if previous.request_hash != given.request_hash => {
                Err(StoreError::IdempotencyConflict {
                    key: given.key.clone(),
                }
                .into())
            }
            _ => Ok(previous
                .answer
                .into_iter()
                .map(Remembered::replayed)
                .collect()),
        }
    }
}

/// The outcome for the items: the answer, or the ID of the existing memory by rank.
enum Stored {
    Replayed(Vec<Remembered>),
    Placed(Vec<Option<Uuid>>),
}

/// The outcome of the transaction for a batch.
enum Merged {
    Replayed(Vec<Remembered>),
    Placed(Vec<Option<Uuid>>, Vec<Repeat>),
}

/// Tries once to store a batch. `collided` means that an earlier attempt met an equal memory that the statement does
/// not see.
pub(super) async fn remember(
    connection: &mut PgConnection,
    scope: &Scope,
    batch: &Batch,
    analyzer: &Analyzer,
    (collided, limits): (bool, Limits),
) -> Result<Vec<Remembered>, Fault> {
    if batch.ids.is_empty() {
        return Ok(Vec::new());
    }
    if collided {
        bind!(sqlx::query(sql::RELEASE_CLAIMS) => scope.project(), batch.now, &batch.hashes)
            .execute(&mut *connection)
            .await?;
    }
    if let Some(given) = &batch.idempotency {
        trim_keys(connection, scope, &given.key).await?;
    }
    let merged = if batch.is_simple() && !limits.any() {
        match store(connection, scope, batch, Repeats::Halt).await? {
            Stored::Replayed(answer) => return Ok(answer),
            Stored::Placed(placed) if batch.adds(&placed) => {
                in_transaction(connection, scope, batch, analyzer, limits).await?
            }
            Stored::Placed(placed) => {
                Merged::Placed(placed, vec![Repeat::default(); batch.ids.len()])
            }
        }
    } else {
        in_transaction(connection, scope, batch, analyzer, limits).await?
    };
    let (placed, mut merged) = match merged {
        Merged::Replayed(answer) => return Ok(answer),
        Merged::Placed(placed, merged) => (placed, merged),
    };
    let mut answered = vec![false; placed.len()];
    let answer = batch
        .places
        .iter()
        .zip(&batch.repeats)
        .map(|(place, repeat)| {
            let at = index(*place);
            let first = !std::mem::replace(&mut answered[at], true);
            let id = placed[at].unwrap_or(batch.ids[at]);
            let mut repeat = repeat.clone();
            if first {
                repeat.extend(std::mem::take(&mut merged[at]));
            }
            // If an ID that we generated already exists, it comes from an attempt whose answer was lost.
            Remembered {
                repeat,
                ..Remembered::new(id, first && id == batch.ids[at])
            }
        });
    Ok(answer.collect())
}

/// Runs [`in_steps`] in a transaction.
async fn in_transaction(
    connection: &mut PgConnection,
    scope: &Scope,
    batch: &Batch,
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<Merged, Fault> {
    let mut transaction = begin(connection).await?;
    let mut tx = PgTx {
        connection: &mut transaction,
        scope,
        analyzer,
        limits,
    };
    let merged = in_steps(&mut tx, batch).await?;
    commit(transaction).await?;
    Ok(merged)
}

/// Processes sources and supersessions before and after the statement.
async fn in_steps(tx: &mut PgTx<'_>, batch: &Batch) -> Result<Merged, Fault> {
    let limits = tx.limits;
    if limits.any() {
        tx.lock_usage().await?;
    }
    if batch.large() {
        let query = sqlx::query(sql::ALLOW_TIME).bind(LARGE_STATEMENT);
        tx.execute(query).await?;
    }
    if let Some(given) = &batch.idempotency {
        // The key is locked first: a retry must find the stored answer before it finds its memories superseded.
        let query = bind!(sqlx::query(sql::LOCK_KEY) => tx.scope.project(), &given.key);
        tx.execute(query).await?;
        let query = bind!(sqlx::query(sql::PREVIOUS_ANSWER) => tx.scope.project(), &given.key);
        if let Some(previous) = tx
            .fetch_optional(query, |row| PreviousRow::from_row(row))
            .await?
        {
            return Ok(Merged::Replayed(batch.replay(previous)?));
        }
    }
    require_sources(tx, &batch.all_sources).await?;
    let earlier = supersede(tx, batch).await?;
    let placed = match store(tx.connection, tx.scope, batch, Repeats::Merge).await? {
        Stored::Placed(placed) => placed,
        Stored::Replayed(answer) => return Ok(Merged::Replayed(answer)),
    };
    refuse_two_successors(batch, &placed, earlier)?;
    add_sources(tx, batch, &placed).await?;
    redirect(tx, batch, &placed).await?;
    let place = |(old, new): (&Option<Uuid>, &Uuid)| {
        Remembered::new(old.unwrap_or(*new), old.is_none_or(|old| old == *new))
    };
    let places: Vec<Remembered> = placed.iter().zip(&batch.ids).map(place).collect();
    // Links come before the merges, because an item that protects a memory still adds its entities to it.
    let links: Vec<&Links> = batch.links.iter().collect();
    let plan = plan_links(tx, &links, batch.now).await?;
    let entities = tx.write_plan(&plan, batch.now).await?;
    tx.insert_mentions(&places, &links, &entities).await?;
    let repeats = merge(tx, batch, &placed).await?;
    let is_new = placed.iter().any(Option::is_none);
    // A project over its quota may still repeat stored memories.
    if is_new || repeats.iter().any(|repeat| !repeat.merged.is_empty()) {
        let limits = Limits {
            memories: if is_new { limits.memories } else { 0 },
            ..limits
        };
        check_usage(tx, limits, (0, 0)).await?;
    }
    Ok(Merged::Placed(placed, repeats))
}

/// Adds the fields of items to existing memories. Returns the additions by rank.
async fn merge(
    tx: &mut PgTx<'_>,
    batch: &Batch,
    placed: &[Option<Uuid>],
) -> Result<Vec<Repeat>, Fault> {
    let mut repeats = vec![Repeat::default(); placed.len()];
    let known =
        |at: usize| placed[at].filter(|id| *id != batch.ids[at] && !batch.restated[at].is_empty());
    let wanted: Vec<(Uuid, usize)> = (0..placed.len())
        .filter_map(|at| Some((known(at)?, at)))
        .collect();
    if wanted.is_empty() {
        return Ok(repeats);
    }
    let ids: Vec<Uuid> = wanted.iter().map(|(id, _)| *id).collect();
    let mut changes = Vec::new();
    for before in tx.lock_memories(&ids).await? {
        let Some((_, at)) = wanted.iter().find(|(id, _)| *id == before.id) else {
            continue;
        };
        let (patch, repeat) = batch.restated[*at].merge_into(&before);
        repeats[*at] = repeat;
        let mut after = before.clone();
        if patch.apply(&mut after, batch.now) {
            changes.push(MemoryChange::new(before, after, tx.analyzer));
        }
    }
    let record = ChangeRecord {
        change: Change::Updated,
        reason: Some(STORED_AGAIN),
        now: batch.now,
    };
    if !changes.is_empty() {
        tx.rewrite_memories(&changes, &record).await?;
    }
    Ok(repeats)
}

/// Supersedes memories before the rows are stored, because a memory may replace one of the same text. Returns memories
/// that already had a successor, with that successor.
async fn supersede(tx: &mut PgTx<'_>, batch: &Batch) -> Result<HashMap<Uuid, Uuid>, Fault> {
    let mut earlier = HashMap::new();
    if batch.supersedes.is_empty() {
        return Ok(earlier);
    }
    let wanted: Vec<Uuid> = batch.supersedes.iter().map(|(_, old)| *old).collect();
    let mut memories = tx.lock_memories(&wanted).await?;
    memories.retain(|memory| memory.deleted_at.is_none());
    let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
    require_all("supersedes", &wanted, &found)?;
    refuse_protected(
        memories
            .iter()
            .filter(|memory| memory.superseded_by.is_none()),
    )?;
    let mut changes = Vec::with_capacity(memories.len());
    for before in memories {
        if let Some(by) = before.superseded_by {
            earlier.insert(before.id, by);
            continue;
        }
        let successor = batch.supersedes.iter().find(|(_, old)| *old == before.id);
        let after = Memory {
            superseded_by: successor.map(|(at, _)| batch.ids[*at]),
            version: before.version + 1,
            updated_at: batch.now,
            ..before.clone()
        };
        changes.push(MemoryChange::new(before, after, tx.analyzer));
    }
    let record = ChangeRecord {
        change: Change::Superseded,
        reason: None,
        now: batch.now,
    };
    if !changes.is_empty() {
        tx.rewrite_memories(&changes, &record).await?;
    }
    Ok(earlier)
}

/// Refuses a second successor of a memory. If the stored item itself was its successor before, an earlier attempt of
/// this request may have done it, and the request is accepted.
fn refuse_two_successors(
    batch: &Batch,
    placed: &[Option<Uuid>],
    mut successors: HashMap<Uuid, Uuid>,
) -> Result<(), Fault> {
    for (at, old) in &batch.supersedes {
        let new = placed[*at].unwrap_or(batch.ids[*at]);
        let by = *successors.entry(*old).or_insert(new);
        if by != new {
            return Err(StoreError::AlreadySuperseded { id: *old, by }.into());
        }
    }
    Ok(())
}

async fn add_sources(
    tx: &mut PgTx<'_>,
    batch: &Batch,
    placed: &[Option<Uuid>],
) -> Result<(), Fault> {
    let (mut ids, mut positions, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (at, list) in batch.sources.iter().enumerate() {
        if placed[at].is_none_or(|id| id == batch.ids[at]) {
            for (position, source) in list.iter().enumerate() {
                ids.push(batch.ids[at]);
                positions.push(number(position));
                sources.push(*source);
            }
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let query = bind!(sqlx::query(sql::ADD_SOURCES) => tx.scope.project(), ids, positions, sources);
    tx.execute(query).await.map(drop)
}

async fn redirect(tx: &mut PgTx<'_>, batch: &Batch, placed: &[Option<Uuid>]) -> Result<(), Fault> {
    let (mut ids, mut planned, mut existing) = (Vec::new(), Vec::new(), Vec::new());
    for (at, old) in &batch.supersedes {
        if let Some(other) = placed[*at].filter(|id| *id != batch.ids[*at]) {
            ids.push(*old);
            planned.push(batch.ids[*at]);
            existing.push(other);
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let query = bind!(sqlx::query(sql::REDIRECT) => tx.scope.project(), ids, planned, existing);
    tx.execute(query).await.map(drop)
}

/// Runs the statement, and creates the project first if it is new.
async fn store(
    connection: &mut PgConnection,
    scope: &Scope,
    batch: &Batch,
    repeats: Repeats,
) -> Result<Stored, Fault> {
    let mut rows = run(&mut *connection, scope, batch, repeats).await?;
    if rows.is_empty() {
        // The project does not exist yet, or the index has another analysis.
        let analyzer: Option<String> = sqlx::query_scalar(sql::META)
            .bind("analyzer")
            .fetch_optional(&mut *connection)
            .await?;
        if analyzer.as_ref() != Some(&batch.analyzer) {
            let reason = format!(
                "the index was rebuilt for the analysis {:?} by another server, this one works with {:?}: set \
                 MEMORY_LANGUAGE alike on all servers and restart this one",
                analyzer.unwrap_or_default(),
                batch.analyzer
            );
            return Err(fault::setup(reason).into());
        }
        sqlx::query(sql::CREATE_PROJECT)
            .bind(scope.project())
            .execute(&mut *connection)
            .await?;
        rows = run(&mut *connection, scope, batch, repeats).await?;
    }
    let mut placed = vec![None; batch.ids.len()];
    let mut differing: Vec<(usize, usize, Uuid)> = Vec::new();
    for row in rows {
        match row {
            RememberRow::Previous(previous) => {
                return Ok(Stored::Replayed(batch.replay(previous)?));
            }
            RememberRow::Item {
                place,
                old,
                differs,
            } => {
                placed[place] = old;
                if let Some(existing) = old.filter(|_| differs) {
                    let item = batch
                        .places
                        .iter()
                        .position(|at| index(*at) == place)
                        .unwrap_or_default();
                    differing.push((item, place, existing));
                }
            }
        }
    }
    // Turns may also conflict within the batch. The error names the first faulty item.
    differing.extend(
        batch
            .torn_turn
            .map(|(item, at)| (item, at, placed[at].unwrap_or(batch.ids[at]))),
    );
    match differing.into_iter().min() {
        Some((_, at, existing)) => {
            let (session, turn) = batch.turns[at].clone().unwrap_or_default();
            Err(StoreError::TurnExists {
                session,
                turn,
                existing,
            }
            .into())
        }
        None => Ok(Stored::Placed(placed)),
    }
}

async fn run(
    connection: &mut PgConnection,
    scope: &Scope,
    batch: &Batch,
    repeats: Repeats,
) -> Result<Vec<RememberRow>, Fault> {
    let key = batch.idempotency.as_ref().map(|given| given.key.as_str());
    let request_hash = batch
        .idempotency
        .as_ref()
        .map(|given| given.request_hash.as_slice());
    let rows = bind!(sqlx::query_as(memory_sql::REMEMBER) =>
        scope.project(), scope.actor(), batch.now, &batch.analyzer, format!("[{}]", batch.rows),
        repeats == Repeats::Halt, &batch.terms, &batch.frequencies, key, request_hash, &batch.places)
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

fn unique(ids: Vec<Uuid>) -> Vec<Uuid> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

fn index(place: i32) -> usize {
    usize::try_from(place - 1).unwrap_or_default()
}
