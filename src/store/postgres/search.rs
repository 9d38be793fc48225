//! Searches: the lexicon, BM25, and the transaction with both for near-duplicates.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::timeout;

use super::attempt::{Effect, attempt, commit};
use super::corpus_sql::CORPUS_STATS;
use super::fault::{self, Fault};
use super::filter::FilterColumns;
use super::recent::{ScopeCounts, scope_key};
use super::row::LexicalRow;
use super::{COUNTED_POSTINGS, PostgresStore, bounded, context, natural, sql, vector};
use crate::domain::bm25::{
    B, CorpusStats, K1, Lexicon, MAX_DOCUMENT_FREQUENCY, TermScore, score_term,
};
use crate::domain::spelling::{
    BEYOND, MOST_PER_PREFIX, MOST_UNKNOWN, SpellingCandidates, VocabularyMatch,
};
use crate::domain::{Hit, Scope};
use crate::store::statement::bind;
use crate::store::{
    ContextQuery, ConversationContext, LexicalQuery, Result, SearchStore, SimilarQuery, VectorQuery,
};

/// Minimum number of memories that makes a term common. Common terms take longest to count, change least, and occur in
/// every other query.
const COMMON: i64 = 500;
/// Maximum number of terms whose frequencies in a memory are packed into one number, with at least seven bits per term.
const FEW: usize = 9;

#[async_trait]
impl SearchStore for PostgresStore {
    async fn lexicon(
        &self,
        scope: &Scope,
        terms: &[String],
        candidates: &[SpellingCandidates],
    ) -> Result<Lexicon> {
        attempt!(self.attempts(scope, "count terms", Effect::Read)?, connection => read_lexicon(connection, scope, terms, candidates, &self.counts))
    }

    async fn search_lexical(&self, scope: &Scope, query: &LexicalQuery) -> Result<Vec<Hit>> {
        attempt!(self.attempts(scope, "search", Effect::Read)?, connection => search_lexical(connection, scope, query))
    }

    async fn search_vectors(&self, scope: &Scope, query: &VectorQuery) -> Result<Vec<Hit>> {
        vector::search_vectors(self, scope, query).await
    }

    async fn context(&self, scope: &Scope, query: &ContextQuery) -> Result<ConversationContext> {
        attempt!(self.attempts(scope, "read the context", Effect::Read)?, connection => context::read_context(connection, scope, query))
    }

    async fn search_similar(&self, scope: &Scope, query: &SimilarQuery) -> Result<Vec<Hit>> {
        let mut attempts = self.attempts(scope, "search similar memories", Effect::Read)?;
        let busy = || fault::unavailable("it is busy", None);
        let mut lease = timeout(query.patience, attempts.lease())
            .await
            .map_err(|_| busy())??;
        let searching = search_similar(lease.connection(), scope, query, &self.counts);
        let outcome = attempts.run(searching).await;
        attempts
            .judge(lease, outcome)
            .await
            .unwrap_or_else(|| Err(busy()))
    }
}

async fn read_lexicon(
    connection: &mut PgConnection,
    scope: &Scope,
    terms: &[String],
    candidates: &[SpellingCandidates],
    counts: &ScopeCounts,
) -> Result<Lexicon, Fault> {
    let readable: Vec<&str> = scope.readable().collect();
    let key = scope_key(scope);
    let known: Vec<Option<i64>> = terms
        .iter()
        .map(|term| counts.common.find(&(key.clone(), term.clone())))
        .collect();
    let asked = Spellings::new(terms.len(), candidates);
    let row = bind!(sqlx::query(CORPUS_STATS) =>
        &readable, terms, COUNTED_POSTINGS, &asked.letters, &asked.places, &asked.before,
        &asked.behind, &asked.prefix_places, &asked.prefixes, bounded(MOST_UNKNOWN),
        bounded(MOST_PER_PREFIX), &asked.beyond, &known)
    .fetch_one(connection)
    .await?;
    let frequencies: Vec<i64> = row.try_get("frequencies")?;
    let counted = terms.iter().zip(&frequencies).zip(&known);
    let common = counted.filter(|((_, frequency), known)| known.is_none() && **frequency >= COMMON);
    counts
        .common
        .keep(common.map(|((term, frequency), _)| ((key.clone(), term.clone()), *frequency)));
    let documents = natural(row.try_get("documents")?);
    counts.documents.keep([(key, documents)]);
    let places: Vec<i64> = row.try_get("near_places")?;
    let (found, numbers): (Vec<String>, Vec<i64>) =
        (row.try_get("near_terms")?, row.try_get("near_frequencies")?);
    let matches = places.into_iter().zip(found).zip(numbers);
    Ok(Lexicon {
        stats: CorpusStats {
            documents,
            total_length: natural(row.try_get("total_length")?),
            document_frequencies: frequencies
                .into_iter()
                .map(|n| natural(n).min(MAX_DOCUMENT_FREQUENCY))
                .collect(),
            has_entities: row.try_get("has_entities")?,
            has_sessions: row.try_get("has_sessions")?,
        },
        matches: matches
            .map(|((place, found), number)| VocabularyMatch {
                term: usize::try_from(place - 1).unwrap_or_default(),
                found,
                frequency: natural(number),
            })
            .collect(),
    })
}

/// Spelling candidates as parameters of the statement; terms are numbered from 1.
#[derive(Debug)]
struct Spellings<'a> {
    /// The letters of each term that has candidates.
    letters: Vec<Option<&'a str>>,
    places: Vec<i64>,
    before: Vec<&'a str>,
    /// `None` for a complete spelling.
    behind: Vec<Option<&'a str>>,
    prefix_places: Vec<i64>,
    prefixes: Vec<&'a str>,
    /// The end of all terms with these prefixes.
    beyond: Vec<String>,
}

impl<'a> Spellings<'a> {
    fn new(terms: usize, candidates: &'a [SpellingCandidates]) -> Self {
        let mut all = Self {
            letters: vec![None; terms],
            places: Vec::new(),
            before: Vec::new(),
            behind: Vec::new(),
            prefix_places: Vec::new(),
            prefixes: Vec::new(),
            beyond: Vec::new(),
        };
        for one in candidates.iter().filter(|one| one.term < terms) {
            let place = bounded(one.term + 1);
            all.letters[one.term] = Some(one.letters);
            let exact = one.exact.iter().map(|whole| (whole.as_str(), None));
            let wildcards = one
                .wildcards
                .iter()
                .map(|(before, behind)| (before.as_str(), Some(behind.as_str())));
            for (before, behind) in exact.chain(wildcards) {
                all.places.push(place);
                all.before.push(before);
                all.behind.push(behind);
            }
            for prefix in &one.prefixes {
                all.prefix_places.push(place);
                all.prefixes.push(prefix);
                all.beyond.push(format!("{prefix}{BEYOND}"));
            }
        }
        all
    }
}

/// How the server packs the number of occurrences of each query term in a memory.
#[derive(Debug, Clone, Copy)]
enum Packing {
    /// In one number with `bits` bits per term; more than `most` occurrences count as `most`.
    Together { bits: u32, most: i32 },
    /// In one number per occurring term, with the term's index in the upper half.
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

    /// Returns the number by which the statement encodes each term.
    fn numbers(self, terms: usize) -> Vec<i32> {
        let step = if let Self::Together { bits, .. } = self {
            bits as usize
        } else {
            1
        };
        (0..).step_by(step).take(terms).collect()
    }

    /// Returns the score of each term in query order; `None` if the packed numbers do not determine it.
    fn unpack_scores(self, row: &LexicalRow, query: &LexicalQuery) -> Option<Vec<TermScore>> {
        let score = |(term, occurrences): (usize, i64)| TermScore {
            term,
            score: score_term(
                query.terms.get(term).map_or(0.0, |term| term.weight),
                occurrences as f64,
                row.indexed_length.into(),
                query.average_length,
            ),
        };
        let Self::Together { bits, most } = self else {
            let unpacked = row
                .numbers
                .iter()
                .map(|number| ((number >> 32) as usize, number & 0xffff_ffff));
            let mut scores: Vec<TermScore> = unpacked.map(score).collect();
            scores.sort_unstable_by_key(|score| score.term);
            return Some(scores);
        };
        let (together, most) = (
            row.numbers.first().copied().unwrap_or_default(),
            i64::from(most),
        );
        let occurrences = |term: usize| (together >> (term * bits as usize)) & most;
        let unpacked = (0..query.terms.len()).map(|term| (term, occurrences(term)));
        let mut scores: Vec<TermScore> = unpacked
            .filter(|(_, occurrences)| *occurrences > 0)
            .map(score)
            .collect();
        let sum: f64 = scores.iter().map(|score| score.score).sum();
        let mut beyond = scores
            .iter_mut()
            .filter(|score| occurrences(score.term) == most);
        if let Some(score) = beyond.next() {
            // The rest of the memory's score belongs to this term.
            score.score += row.hit.bm25 - sum;
        }
        beyond.next().is_none().then_some(scores)
    }
}

async fn search_lexical(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &LexicalQuery,
) -> Result<Vec<Hit>, Fault> {
    let packing = Packing::of(query.terms.len());
    // Two terms that each occur more than a hundred times in one text do not fit; then each gets its own number.
    match match_terms(&mut *connection, scope, query, packing).await? {
        Some(found) => Ok(found),
        None => Ok(match_terms(connection, scope, query, Packing::Each)
            .await?
            .unwrap_or_default()),
    }
}

/// Returns the hits; `None` if `packing` cannot represent the occurrences of each term.
async fn match_terms(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &LexicalQuery,
    packing: Packing,
) -> Result<Option<Vec<Hit>>, Fault> {
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
        .bind(bounded(query.limit));
    if most.is_some() {
        statement = statement.bind(most);
    }
    let rows: Vec<LexicalRow> = statement.fetch_all(connection).await?;
    let hits = rows.into_iter().map(|row| {
        let terms = packing.unpack_scores(&row, query)?;
        Some(Hit { terms, ..row.hit })
    });
    Ok(hits.collect())
}

/// Runs the lexicon and the resulting search. The server aborts statements that take too long.
async fn search_similar(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &SimilarQuery,
    counts: &ScopeCounts,
) -> Result<Vec<Hit>, Fault> {
    // One round trip for both.
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = {}",
        query.patience.as_millis().max(1)
    );
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    let lexicon = read_lexicon(&mut transaction, scope, &query.terms, &[], counts).await?;
    let search = query.plan_search(&lexicon.stats);
    let found = search_lexical(&mut transaction, scope, &search).await?;
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
