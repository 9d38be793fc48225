//! Searching the lexical index.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::attempt::commit;
use super::corpus_sql::CORPUS_STATS;
use super::fault::Fault;
use super::row::CandidateRow;
use super::{COUNTED_POSTINGS, FilterColumns, bounded, natural, sql};
use crate::domain::Scope;
use crate::domain::lexical::{self, B, CorpusStats, K1, MAX_DOCUMENT_FREQUENCY, Part};
use crate::domain::spelling::{BEYOND, Guess, MOST_NEAR, MOST_UNKNOWN, Near};
use crate::store::{Candidate, LexicalQuery, QueryOf};

/// From so many memories on a term is common.
const COMMON: i64 = 500;
/// How long its frequency serves.
const COUNTED: Duration = Duration::from_secs(60);
/// How many of them are kept.
const MOST_COMMON: usize = 10_000;
/// Most terms whose frequencies in a memory are put into one number. Each has seven bits at least.
const FEW: usize = 9;

/// How common the common terms are: these take longest to count, change least, and come in every other question.
#[derive(Debug, Default)]
pub(super) struct Common(Mutex<HashMap<(String, String), (Instant, i64)>>);

impl Common {
    fn all(&self) -> MutexGuard<'_, HashMap<(String, String), (Instant, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frequency of each term in `projects`, where it is known.
    fn known(&self, projects: &str, terms: &[String]) -> Vec<Option<i64>> {
        let all = self.all();
        let known = |term: &String| all.get(&(projects.to_owned(), term.clone())).copied();
        terms
            .iter()
            .map(|term| {
                known(term)
                    .filter(|(at, _)| at.elapsed() < COUNTED)
                    .map(|(_, count)| count)
            })
            .collect()
    }

    /// Keeps what was counted.
    fn learn<'a>(&self, projects: &str, counted: impl Iterator<Item = (&'a String, i64)>) {
        let common: Vec<_> = counted
            .filter(|(_, frequency)| *frequency >= COMMON)
            .collect();
        if common.is_empty() {
            return;
        }
        let mut all = self.all();
        if all.len() + common.len() > MOST_COMMON {
            all.clear();
        }
        let now = Instant::now();
        all.extend(
            common
                .into_iter()
                .map(|(term, count)| ((projects.to_owned(), term.clone()), (now, count))),
        );
    }
}

pub(super) async fn corpus_stats(
    connection: &mut PgConnection,
    scope: &Scope,
    terms: &[String],
    guesses: &[Guess],
    common: &Common,
) -> Result<CorpusStats, Fault> {
    let readable: Vec<&str> = scope.readable().collect();
    let projects = readable.join("\0");
    let known = common.known(&projects, terms);
    let asked = Spellings::new(terms.len(), guesses);
    let row = sqlx::query(CORPUS_STATS)
        .bind(&readable)
        .bind(terms)
        .bind(COUNTED_POSTINGS)
        .bind(&asked.letters)
        .bind(&asked.places)
        .bind(&asked.before)
        .bind(&asked.behind)
        .bind(&asked.head_places)
        .bind(&asked.heads)
        .bind(bounded(MOST_UNKNOWN))
        .bind(bounded(MOST_NEAR))
        .bind(&asked.beyond)
        .bind(&known)
        .fetch_one(connection)
        .await?;
    let frequencies: Vec<i64> = row.try_get("frequencies")?;
    let counted = terms
        .iter()
        .zip(&frequencies)
        .zip(&known)
        .filter(|(_, known)| known.is_none());
    common.learn(
        &projects,
        counted.map(|((term, frequency), _)| (term, *frequency)),
    );
    let places: Vec<i64> = row.try_get("near_places")?;
    let (found, counts): (Vec<String>, Vec<i64>) =
        (row.try_get("near_terms")?, row.try_get("near_frequencies")?);
    let near = places
        .into_iter()
        .zip(found)
        .zip(counts)
        .map(|((place, found), count)| {
            let term = usize::try_from(place - 1).unwrap_or_default();
            Near {
                term,
                found,
                frequency: natural(count),
            }
        });
    Ok(CorpusStats {
        documents: natural(row.try_get("documents")?),
        total_length: natural(row.try_get("total_length")?),
        document_frequencies: frequencies
            .into_iter()
            .map(|n| natural(n).min(MAX_DOCUMENT_FREQUENCY))
            .collect(),
        has_entities: row.try_get("has_entities")?,
        has_sessions: row.try_get("has_sessions")?,
        near: near.collect(),
        stand_ins: Vec::new(),
    })
}

/// Guesses as the statement takes them; terms count from 1.
#[derive(Debug)]
struct Spellings<'a> {
    /// Of each term, where it may be guessed at.
    letters: Vec<Option<&'a str>>,
    places: Vec<i64>,
    before: Vec<&'a str>,
    /// Nothing where the spelling is whole.
    behind: Vec<Option<&'a str>>,
    head_places: Vec<i64>,
    heads: Vec<&'a str>,
    /// What comes behind all terms that begin like these.
    beyond: Vec<String>,
}

impl<'a> Spellings<'a> {
    fn new(terms: usize, guesses: &'a [Guess]) -> Self {
        let mut all = Self {
            letters: vec![None; terms],
            places: Vec::new(),
            before: Vec::new(),
            behind: Vec::new(),
            head_places: Vec::new(),
            heads: Vec::new(),
            beyond: Vec::new(),
        };
        for guess in guesses.iter().filter(|guess| guess.term < terms) {
            let place = bounded(guess.term + 1);
            all.letters[guess.term] = Some(guess.letters);
            let whole = guess.whole.iter().map(|whole| (whole.as_str(), None));
            let gaps = guess
                .gaps
                .iter()
                .map(|(before, behind)| (before.as_str(), Some(behind.as_str())));
            for (before, behind) in whole.chain(gaps) {
                all.places.push(place);
                all.before.push(before);
                all.behind.push(behind);
            }
            all.head_places.extend(guess.heads.iter().map(|_| place));
            all.heads.extend(guess.heads.iter().map(String::as_str));
            all.beyond
                .extend(guess.heads.iter().map(|head| format!("{head}{BEYOND}")));
        }
        all
    }
}

/// How often each term of the query occurs in a memory, as it comes from the server.
#[derive(Debug, Clone, Copy)]
enum Packing {
    /// In one number, so many bits for each term; more than `most` times counts as that.
    Together { bits: u32, most: i32 },
    /// In a number for each that occurs, with its place in the upper half.
    Each,
}

impl Packing {
    fn of(terms: usize) -> Self {
        if terms > FEW {
            return Self::Each;
        }
        let bits = (63 / terms.max(1)).min(31) as u32;
        Self::Together {
            bits,
            most: i32::MAX >> (31 - bits),
        }
    }

    /// What the statement wants to know of each term.
    fn numbers(self, terms: usize) -> Vec<i32> {
        let step = if let Self::Together { bits, .. } = self {
            bits as usize
        } else {
            1
        };
        (0..).step_by(step).take(terms).collect()
    }

    /// What each term gave to the score, in the order of the query; nothing where it cannot be told.
    fn parts(self, row: &CandidateRow, query: &LexicalQuery) -> Option<Vec<Part>> {
        let gain = |term: usize, occurrences: i64| {
            let weight = query.terms.get(term).map_or(0.0, |term| term.weight);
            lexical::part(
                weight,
                occurrences as f64,
                row.indexed_length.into(),
                query.average_length,
            )
        };
        let part = |(term, occurrences)| Part {
            term,
            gain: gain(term, occurrences),
        };
        let Self::Together { bits, most } = self else {
            let told = row
                .numbers
                .iter()
                .map(|number| ((number >> 32) as usize, number & 0xffff_ffff));
            let mut parts: Vec<Part> = told.map(part).collect();
            parts.sort_unstable_by_key(|part| part.term);
            return Some(parts);
        };
        let (together, most) = (
            row.numbers.first().copied().unwrap_or_default(),
            i64::from(most),
        );
        let occurrences = |term: usize| (together >> (term * bits as usize)) & most;
        let told = (0..query.terms.len()).map(|term| (term, occurrences(term)));
        let mut parts: Vec<Part> = told
            .filter(|(_, occurrences)| *occurrences > 0)
            .map(part)
            .collect();
        let sum: f64 = parts.iter().map(|part| part.gain).sum();
        let mut beyond = parts
            .iter_mut()
            .filter(|part| occurrences(part.term) == most);
        if let Some(part) = beyond.next() {
            // What is left of the score is its own.
            part.gain += row.candidate.score - sum;
        }
        beyond.next().is_none().then_some(parts)
    }
}

pub(super) async fn search_lexical(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &LexicalQuery,
) -> Result<Vec<Candidate>, Fault> {
    let packing = Packing::of(query.terms.len());
    // Two terms, each more than a hundred times in one text: then they are asked for one by one.
    match matches(&mut *connection, scope, query, packing).await? {
        Some(found) => Ok(found),
        None => Ok(matches(connection, scope, query, Packing::Each)
            .await?
            .unwrap_or_default()),
    }
}

/// The candidates; nothing where `packing` cannot tell what a term gave.
async fn matches(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &LexicalQuery,
    packing: Packing,
) -> Result<Option<Vec<Candidate>>, Fault> {
    let filter = FilterColumns::new(scope, &query.filter);
    let terms: Vec<&str> = query.terms.iter().map(|term| term.term.as_str()).collect();
    let weights: Vec<f64> = query
        .terms
        .iter()
        .map(|term| term.weight * (K1 + 1.0))
        .collect();
    let (statement, most) = match packing {
        Packing::Together { most, .. } => (sql::SEARCH_LEXICAL, Some(most)),
        Packing::Each => (sql::SEARCH_LEXICAL_MANY, None),
    };
    let mut statement = filter
        .bind(sqlx::query_as(statement))
        .bind(&terms)
        .bind(&weights)
        .bind(query.exact.as_slice())
        .bind(packing.numbers(terms.len()))
        .bind(K1 * (1.0 - B))
        .bind(K1 * B / query.average_length)
        .bind(bounded(query.limit))
        .bind(query.filter.as_of.code());
    if most.is_some() {
        statement = statement.bind(most);
    }
    let rows: Vec<CandidateRow> = statement.fetch_all(connection).await?;
    let candidate = |row: CandidateRow| {
        Some(Candidate {
            parts: packing.parts(&row, query)?,
            ..row.candidate
        })
    };
    Ok(rows.into_iter().map(candidate).collect())
}

/// Both, with statements that the server ends after `patience`.
pub(super) async fn quickly(
    connection: &mut PgConnection,
    scope: &Scope,
    terms: &[String],
    query: QueryOf<'_>,
    patience: Duration,
    common: &Common,
) -> Result<Vec<Candidate>, Fault> {
    // One round trip for both.
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = {}",
        patience.as_millis().max(1)
    );
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    let stats = corpus_stats(&mut transaction, scope, terms, &[], common).await?;
    let found = search_lexical(&mut transaction, scope, &query(&stats)).await?;
    commit(transaction).await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_are_read_as_far_as_they_are_counted() {
        for statement in [sql::SEARCH_LEXICAL, sql::SEARCH_LEXICAL_MANY] {
            assert!(
                statement.contains(&format!(" LIMIT {MAX_DOCUMENT_FREQUENCY}) x ")),
                "{statement}"
            );
        }
    }
}
