//! Finds terms of the vocabulary that resemble unknown query terms. The vocabulary is read only for unknown terms;
//! separate statements are fine because there are no round trips to save.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::{Row, SqliteConnection};

use super::error::Fault;
use super::read::{indexed, limit};
use super::{Open, sql};
use crate::domain::spelling::{
    BEYOND, MOST_PER_PREFIX, MOST_UNKNOWN, SpellingCandidates, VocabularyMatch,
};
use crate::store::Result;
use crate::store::statement::bind;

/// Returns the matches of the `unknown` candidates, longest terms first.
pub(super) async fn find_matches(
    open: &Open,
    connection: &mut SqliteConnection,
    projects: &[i64],
    terms: &[String],
    mut unknown: Vec<&SpellingCandidates>,
) -> Result<Vec<VocabularyMatch>, Fault> {
    unknown.sort_by_key(|one| (Reverse(terms[one.term].chars().count()), one.term));
    unknown.truncate(MOST_UNKNOWN);
    let mut matches = Vec::new();
    for candidates in unknown {
        let spellings: BTreeSet<String> = candidates.list_spellings().collect();
        let mut wanted = keep_existing(open, connection, projects, spellings).await?;
        for prefix in &candidates.prefixes {
            wanted.extend(list_beginning(connection, projects, prefix).await?);
        }
        let wanted: Vec<&String> = wanted.iter().collect();
        let counts = count_memories(connection, projects, &wanted).await?;
        let found = wanted
            .into_iter()
            .zip(counts)
            .filter(|(_, frequency)| *frequency > 0);
        matches.extend(found.map(|(found, frequency)| VocabularyMatch {
            term: candidates.term,
            found: found.clone(),
            frequency,
        }));
    }
    Ok(matches)
}

/// Number of vocabulary terms that are read per statement.
const PORTION: usize = 50_000;
/// Time that one query spends on reading the vocabulary; the next query continues.
const PATIENCE: Duration = Duration::from_millis(500);

/// Returns those terms that may be in the index of one of the projects. Looking each up in the index takes a hundred
/// times as long as here.
async fn keep_existing(
    open: &Open,
    connection: &mut SqliteConnection,
    projects: &[i64],
    terms: BTreeSet<String>,
) -> Result<BTreeSet<String>, Fault> {
    let names: Vec<String> = terms
        .iter()
        .flat_map(|term| projects.iter().map(|project| indexed(*project, term)))
        .collect();
    let start = Instant::now();
    while let Some(from) = open
        .cache
        .follow_vocabulary()
        .filter(|_| start.elapsed() < PATIENCE)
    {
        let row = bind!(sqlx::query(sql::VOCABULARY_PORTION) => from, limit(PORTION))
            .fetch_one(&mut *connection)
            .await?;
        let all: Option<String> = row.try_get(0)?;
        let last: Option<String> = row.try_get(1)?;
        let all = all.unwrap_or_default();
        let whole = all.split_ascii_whitespace().count() < PORTION;
        open.cache
            .keep_vocabulary(all.split_ascii_whitespace(), last.filter(|_| !whole));
    }
    let known = open
        .cache
        .may_have(&names)
        .unwrap_or_else(|| vec![true; names.len()]);
    let known = known
        .chunks(projects.len().max(1))
        .map(|known| known.contains(&true));
    Ok(terms
        .into_iter()
        .zip(known)
        .filter(|(_, known)| *known)
        .map(|(term, _)| term)
        .collect())
}

/// Returns the first terms that begin with `prefix`.
async fn list_beginning(
    connection: &mut SqliteConnection,
    projects: &[i64],
    prefix: &str,
) -> Result<Vec<String>, Fault> {
    let mut all = BTreeSet::new();
    for project in projects {
        let from = indexed(*project, prefix);
        let found: Vec<String> = bind!(sqlx::query_scalar(sql::VOCABULARY) =>
            &from, format!("{from}{BEYOND}"), limit(MOST_PER_PREFIX))
        .fetch_all(&mut *connection)
        .await?;
        let project = indexed(*project, "");
        all.extend(
            found
                .iter()
                .filter_map(|term| term.strip_prefix(&project))
                .map(str::to_owned),
        );
    }
    Ok(all.into_iter().take(MOST_PER_PREFIX).collect())
}

/// Counts the memories that contain each of the terms.
async fn count_memories(
    connection: &mut SqliteConnection,
    projects: &[i64],
    terms: &[&String],
) -> Result<Vec<u64>, Fault> {
    let names: Vec<String> = projects
        .iter()
        .flat_map(|project| terms.iter().map(|term| indexed(*project, term)))
        .collect();
    let rows = sqlx::query(sql::COUNT_TERMS)
        .bind(serde_json::to_string(&names).expect("texts always serialise"))
        .fetch_all(connection)
        .await?;
    let mut counts = vec![0; terms.len()];
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        counts[place % terms.len()] += row.try_get::<i64, _>(1)?.unsigned_abs();
    }
    Ok(counts)
}
