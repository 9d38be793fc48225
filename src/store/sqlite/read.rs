//! What only reads, on one of the readers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::cache::Generation;
use super::error::from_sqlx;
use super::row::{self, MemoryRow};
use super::{Open, hex_ids, json_numbers, near, sql};
use crate::domain::lexical::{self, CorpusStats, MAX_DOCUMENT_FREQUENCY, Part};
use crate::domain::spelling::Guess;
use crate::domain::{Filter, Memory, Scope};
use crate::store::{Candidate, Counts, LexicalQuery, Result};

/// A limit as SQLite takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The index's name of a project's term.
pub(super) fn indexed(project: i64, term: &str) -> String {
    format!("{project}:{term}")
}

/// Binds the arguments of [`sql::conditions`]: places 10 to 17.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {{
        let kinds: Vec<&str> = $filter.kinds.iter().map(|kind| kind.as_str()).collect();
        $query
            .bind(serde_json::to_string(&kinds).expect("texts always serialise"))
            .bind(crate::store::sqlite::tag::tag_keys(&$filter.tags))
            .bind($filter.session.as_deref())
            .bind($filter.speaker.as_deref())
            .bind($filter.since.map(|time| time.timestamp_micros()))
            .bind($filter.until.map(|time| time.timestamp_micros()))
            .bind($filter.min_importance)
            .bind($filter.now.timestamp_micros())
    }};
}
pub(super) use bind_filter;

pub(super) async fn corpus_stats(
    open: &Open,
    scope: &Scope,
    terms: &[String],
    guesses: &[Guess],
) -> Result<CorpusStats> {
    let (mut connection, projects) = open.reader(scope).await?;
    // Places in the list tell the term: one after the other, project by project.
    let names: Vec<String> = projects
        .iter()
        .flat_map(|project| terms.iter().map(|term| indexed(*project, term)))
        .collect();
    let generation = open.cache.generation();
    let mut counts = open.cache.frequencies(&names);
    let unknown: Vec<usize> = (0..names.len())
        .filter(|place| counts[*place].is_none())
        .collect();
    let wanted: Vec<&String> = unknown.iter().map(|place| &names[*place]).collect();
    let failed = |error| from_sqlx(error, "reading the corpus");
    let rows = sqlx::query(sql::CORPUS_STATS)
        .bind(json_numbers(&projects))
        .bind(serde_json::to_string(&wanted).expect("texts always serialise"))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut stats = CorpusStats {
        document_frequencies: vec![0; terms.len()],
        ..CorpusStats::default()
    };
    for row in rows {
        let place: Option<i64> = row.try_get(0).map_err(failed)?;
        let count: u64 = row
            .try_get::<Option<i64>, _>(1)
            .map_err(failed)?
            .map_or(0, i64::unsigned_abs);
        match place.and_then(|place| usize::try_from(place).ok()) {
            Some(place) => counts[unknown[place]] = Some(count),
            None => {
                stats.documents = count;
                stats.has_entities = row.try_get(3).map_err(failed)?;
                stats.has_sessions = row.try_get(4).map_err(failed)?;
                stats.total_length = row
                    .try_get::<Option<i64>, _>(2)
                    .map_err(failed)?
                    .map_or(0, i64::unsigned_abs);
            }
        }
    }
    let counted = unknown
        .iter()
        .filter_map(|place| Some((&names[*place], counts[*place]?)));
    open.cache.keep_frequencies(generation, counted);
    for (place, count) in counts.into_iter().enumerate() {
        stats.document_frequencies[place % terms.len()] += count.unwrap_or_default();
    }
    for frequency in &mut stats.document_frequencies {
        *frequency = (*frequency).min(MAX_DOCUMENT_FREQUENCY);
    }
    stats.near = near::near(
        open,
        &mut connection,
        &projects,
        terms,
        &stats.document_frequencies,
        guesses,
    )
    .await?;
    Ok(stats)
}

/// One term of the query in one memory.
#[derive(Debug)]
struct Posting {
    seq: i64,
    /// Place of the term in the query.
    term: usize,
    occurrences: f64,
    /// What it adds to the score.
    gain: f64,
}

/// A memory that has some of the query's terms.
#[derive(Debug)]
struct Scored {
    seq: i64,
    score: f64,
    /// Where its postings are.
    postings: Range<usize>,
}

pub(super) async fn search_lexical(
    open: &Open,
    scope: &Scope,
    query: &LexicalQuery,
) -> Result<Vec<Candidate>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let (postings, scored) = score(open, &mut connection, &projects, query).await?;
    let order: Vec<i64> = scored.iter().map(|hit| hit.seq).collect();
    let by_seq: HashMap<i64, &Scored> = scored.iter().map(|hit| (hit.seq, hit)).collect();
    let failed = |error| from_sqlx(error, "searching the words");
    let mut statement = sqlx::query(sql::candidates(&query.filter, &projects))
        .bind(json_numbers(&projects))
        .bind(json_numbers(&order))
        .bind(query.exact.as_slice())
        .bind(limit(query.limit));
    for _ in 5..10 {
        statement = statement.bind(None::<i64>);
    }
    let rows = bind_filter!(statement, query.filter)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut candidates = Vec::with_capacity(rows.len());
    let mut seen = HashSet::new();
    for row in &rows {
        let seq: i64 = row.try_get(1).map_err(failed)?;
        // The exact ones come first, and may come again with the others.
        if seen.insert(seq) {
            let hit = by_seq.get(&seq);
            let postings = hit.map_or(&[][..], |hit| &postings[hit.postings.clone()]);
            let parts: Vec<Part> = postings
                .iter()
                .map(|p| Part {
                    term: p.term,
                    gain: p.gain,
                })
                .collect();
            let score = hit.map_or(0.0, |hit| hit.score);
            let (id, exact) = (
                row.try_get(0).map_err(failed)?,
                row.try_get(2).map_err(failed)?,
            );
            let (standing, setting) = (
                row::standing(row).map_err(failed)?,
                row::setting(row).map_err(failed)?,
            );
            candidates.push(Candidate {
                id,
                seq,
                score,
                parts,
                exact,
                standing,
                setting,
            });
        }
    }
    candidates.sort_by(|a, b| {
        b.exact
            .cmp(&a.exact)
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| b.seq.cmp(&a.seq))
    });
    candidates.truncate(query.limit);
    Ok(candidates)
}

/// BM25 of every memory that has one of the terms, best first, with the postings it comes from. The sum is made here
/// and not in SQL, where grouping the postings and looking every memory up costs several times the reading.
async fn score(
    open: &Open,
    connection: &mut SqliteConnection,
    projects: &[i64],
    query: &LexicalQuery,
) -> Result<(Vec<Posting>, Vec<Scored>)> {
    if query.terms.is_empty() || projects.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let names: Vec<String> = projects
        .iter()
        .flat_map(|project| query.terms.iter().map(|term| indexed(*project, &term.term)))
        .collect();
    let failed = |error| from_sqlx(error, "searching the words");
    let generation = open.cache.generation();
    let rows = sqlx::query(sql::POSTINGS)
        .bind(serde_json::to_string(&names).expect("texts always serialise"))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut postings: Vec<Posting> = Vec::new();
    for row in &rows {
        let place: i64 = row.try_get(0).map_err(failed)?;
        let term = usize::try_from(place).unwrap_or_default() % query.terms.len();
        let Some(list) = row.try_get::<Option<&str>, _>(1).map_err(failed)? else {
            continue;
        };
        for seq in list
            .split(',')
            .filter_map(|number| number.parse::<i64>().ok())
        {
            match postings.last_mut() {
                Some(last) if last.term == term && last.seq == seq => last.occurrences += 1.0,
                _ => postings.push(Posting {
                    seq,
                    term,
                    occurrences: 1.0,
                    gain: 0.0,
                }),
            }
        }
    }
    postings.sort_unstable_by_key(|posting| (posting.seq, posting.term));
    let memories: Vec<i64> = postings.iter().map(|posting| posting.seq).collect();
    let lengths = lengths(open, connection, generation, &memories).await?;
    let mut scored: Vec<Scored> = Vec::new();
    for (at, (posting, length)) in postings.iter_mut().zip(lengths).enumerate() {
        let Posting {
            seq,
            term,
            occurrences,
            ..
        } = *posting;
        let part = lexical::part(
            query.terms[term].weight,
            occurrences,
            length.into(),
            query.average_length,
        );
        posting.gain = part;
        match scored.last_mut() {
            Some(last) if last.seq == seq => {
                last.score += part;
                last.postings.end = at + 1;
            }
            _ => scored.push(Scored {
                seq,
                score: part,
                postings: at..at + 1,
            }),
        }
    }
    scored.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.seq.cmp(&a.seq)));
    Ok((postings, scored))
}

/// Lengths of memories, mostly known already.
async fn lengths(
    open: &Open,
    connection: &mut SqliteConnection,
    generation: Generation,
    memories: &[i64],
) -> Result<Vec<u32>> {
    let mut lengths = open.cache.lengths(memories);
    let unknown: BTreeSet<i64> = memories
        .iter()
        .zip(&lengths)
        .filter(|(_, length)| **length == 0)
        .map(|(seq, _)| *seq)
        .collect();
    if unknown.is_empty() {
        return Ok(lengths);
    }
    let unknown: Vec<i64> = unknown.into_iter().collect();
    let failed = |error| from_sqlx(error, "reading lengths");
    let list: Option<String> = sqlx::query_scalar(sql::LENGTHS)
        .bind(json_numbers(&unknown))
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    let read: HashMap<i64, u32> = list
        .unwrap_or_default()
        .split(',')
        .filter_map(|pair| {
            let (seq, length) = pair.split_once(':')?;
            Some((seq.parse().ok()?, length.parse().ok()?))
        })
        .collect();
    for (seq, length) in memories
        .iter()
        .zip(&mut lengths)
        .filter(|(_, length)| **length == 0)
    {
        *length = read.get(seq).copied().unwrap_or_default();
    }
    open.cache
        .keep_lengths(generation, &read.into_iter().collect::<Vec<_>>());
    Ok(lengths)
}

pub(super) async fn browse(
    open: &Open,
    scope: &Scope,
    filter: &Filter,
    before: Option<i64>,
    most: usize,
) -> Result<Vec<Memory>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let mut statement = sqlx::query(sql::browse(filter, &projects))
        .bind(json_numbers(&projects))
        .bind(before)
        .bind(limit(most));
    for _ in 4..10 {
        statement = statement.bind(None::<i64>);
    }
    let failed = |error| from_sqlx(error, "listing memories");
    let rows = bind_filter!(statement, filter)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| MemoryRow::read(row).map(|row| row.memory))
        .collect::<Result<_, _>>()
        .map_err(failed)
}

pub(super) async fn get(
    open: &Open,
    scope: &Scope,
    ids: &[Uuid],
    include_deleted: bool,
) -> Result<Vec<Memory>> {
    let (mut connection, projects) = open.reader(scope).await?;
    let rows = memories(&mut connection, &projects, ids).await?;
    let mut found: HashMap<Uuid, Memory> = rows
        .into_iter()
        .filter(|row| include_deleted || row.memory.deleted_at.is_none())
        .map(|row| (row.memory.id, row.memory))
        .collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// Memories of `projects` by id, in any order and whatever their state.
pub(super) async fn memories(
    connection: &mut SqliteConnection,
    projects: &[i64],
    ids: &[Uuid],
) -> Result<Vec<MemoryRow>> {
    let failed = |error| from_sqlx(error, "reading memories");
    let rows = sqlx::query(sql::GET)
        .bind(json_numbers(projects))
        .bind(hex_ids(ids))
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(MemoryRow::read)
        .collect::<Result<_, _>>()
        .map_err(failed)
}

pub(super) async fn counts(open: &Open, scope: &Scope) -> Result<Counts> {
    let (mut connection, projects) = open.reader(scope).await?;
    let projects = json_numbers(&projects);
    let failed = |error| from_sqlx(error, "counting memories");
    let kinds = sqlx::query(sql::COUNT_KINDS)
        .bind(&projects)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let rest = sqlx::query(sql::COUNT_REST)
        .bind(&projects)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let number = |row: &sqlx::sqlite::SqliteRow, column: usize| {
        row.try_get::<i64, _>(column).map(i64::unsigned_abs)
    };
    let by_kind = kinds
        .iter()
        .map(|row| Ok((row.try_get(0)?, number(row, 1)?)))
        .collect::<Result<_, sqlx::Error>>();
    Ok(Counts {
        by_kind: by_kind.map_err(failed)?,
        deleted: number(&rest, 0).map_err(failed)?,
        superseded: number(&rest, 1).map_err(failed)?,
        index_backlog: number(&rest, 2).map_err(failed)?,
    })
}
