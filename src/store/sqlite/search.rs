//! Searches on the reading connections: the lexicon, BM25, and the context of candidates.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};

use super::cache::Generation;
use super::error::{Fault, too_slow};
use super::filter::bind_filter;
use super::read::{indexed, limit};
use super::{Open, SqliteStore, context, json_numbers, sql, vector, vocabulary};
use crate::domain::Scope;
use crate::domain::bm25::{CorpusStats, Lexicon, MAX_DOCUMENT_FREQUENCY, TermScore, score_term};
use crate::domain::ranking::Hit;
use crate::domain::spelling::SpellingCandidates;
use crate::store::statement::bind;
use crate::store::{
    ContextQuery, ConversationContext, LexicalQuery, Result, SearchStore, SimilarQuery,
    VectorQuery, fields,
};

#[async_trait]
impl SearchStore for SqliteStore {
    async fn lexicon(
        &self,
        scope: &Scope,
        terms: &[String],
        candidates: &[SpellingCandidates],
    ) -> Result<Lexicon> {
        let open = self.opened()?;
        self.bounded(
            "reading the corpus",
            read_lexicon(&open, scope, terms, candidates),
        )
        .await
    }

    async fn search_lexical(&self, scope: &Scope, query: &LexicalQuery) -> Result<Vec<Hit>> {
        let open = self.opened()?;
        self.bounded("searching the words", search_lexical(&open, scope, query))
            .await
    }

    async fn search_vectors(&self, scope: &Scope, query: &VectorQuery) -> Result<Vec<Hit>> {
        let open = self.opened()?;
        self.bounded(
            "searching vectors",
            vector::search_vectors(&open, scope, query),
        )
        .await
    }

    async fn context(&self, scope: &Scope, query: &ContextQuery) -> Result<ConversationContext> {
        let open = self.opened()?;
        self.bounded(
            "reading the context",
            context::read_context(&open, scope, query),
        )
        .await
    }

    async fn search_similar(&self, scope: &Scope, query: &SimilarQuery) -> Result<Vec<Hit>> {
        let open = self.opened()?;
        let searching = async {
            let lexicon = read_lexicon(&open, scope, &query.terms, &[]).await?;
            search_lexical(&open, scope, &query.plan_search(&lexicon.stats)).await
        };
        // A statement whose caller stops waiting ends here.
        tokio::time::timeout(query.patience, searching)
            .await
            .unwrap_or_else(|_| Err(too_slow().into()))
            .map_err(|fault| fault.explain("searching the words"))
    }
}

/// Returns the size of the corpus and the counts of the terms, with matches for unknown terms.
async fn read_lexicon(
    open: &Open,
    scope: &Scope,
    terms: &[String],
    candidates: &[SpellingCandidates],
) -> Result<Lexicon, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let stats = read_stats(open, &mut connection, &projects, terms).await?;
    let unknown = candidates.iter();
    let unknown = unknown.filter(|one| stats.document_frequencies.get(one.term) == Some(&0));
    let matches =
        vocabulary::find_matches(open, &mut connection, &projects, terms, unknown.collect())
            .await?;
    Ok(Lexicon { stats, matches })
}

async fn read_stats(
    open: &Open,
    connection: &mut SqliteConnection,
    projects: &[i64],
    terms: &[String],
) -> Result<CorpusStats, Fault> {
    // The index in the list identifies the term; projects follow one another.
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
    let rows = bind!(sqlx::query(sql::CORPUS_STATS) =>
        json_numbers(projects), serde_json::to_string(&wanted).expect("texts always serialise"))
    .fetch_all(connection)
    .await?;
    let mut stats = CorpusStats {
        document_frequencies: vec![0; terms.len()],
        ..CorpusStats::default()
    };
    for row in rows {
        let place: Option<i64> = row.try_get(0)?;
        let count: Option<i64> = row.try_get(1)?;
        let count = count.map_or(0, i64::unsigned_abs);
        match place.and_then(|place| usize::try_from(place).ok()) {
            Some(place) => counts[unknown[place]] = Some(count),
            None => {
                let length: Option<i64> = row.try_get(2)?;
                stats.documents = count;
                stats.total_length = length.map_or(0, i64::unsigned_abs);
                stats.has_entities = row.try_get(3)?;
                stats.has_sessions = row.try_get(4)?;
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
    Ok(stats)
}

/// One term of the query in one memory.
#[derive(Debug)]
struct Posting {
    seq: i64,
    /// Index of the term in the query.
    term: usize,
    occurrences: f64,
    score: f64,
}

/// A memory that contains some of the terms.
#[derive(Debug)]
struct Scored {
    seq: i64,
    score: f64,
    /// Range of its postings.
    postings: Range<usize>,
}

async fn search_lexical(
    open: &Open,
    scope: &Scope,
    query: &LexicalQuery,
) -> Result<Vec<Hit>, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let (postings, scored) = score_memories(open, &mut connection, &projects, query).await?;
    let order: Vec<i64> = scored.iter().map(|hit| hit.seq).collect();
    let by_seq: HashMap<i64, &Scored> = scored.iter().map(|hit| (hit.seq, hit)).collect();
    let mut statement = bind!(sqlx::query(sql::candidates(&query.filter, &projects)) =>
        json_numbers(&projects), json_numbers(&order), query.exact.as_slice(), limit(query.limit));
    for _ in 5..10 {
        statement = statement.bind(None::<i64>);
    }
    let rows = bind_filter!(statement, query.filter)
        .fetch_all(&mut *connection)
        .await?;
    let mut hits = Vec::with_capacity(rows.len());
    let mut seen = HashSet::new();
    for row in &rows {
        let mut hit = fields::hit(row)?;
        // Exact hits come first, and may be repeated among the others.
        if !seen.insert(hit.seq) {
            continue;
        }
        hit.exact = row.try_get("exact")?;
        if let Some(scored) = by_seq.get(&hit.seq) {
            let postings = postings[scored.postings.clone()].iter();
            hit.terms = postings
                .map(|p| TermScore {
                    term: p.term,
                    score: p.score,
                })
                .collect();
            hit.bm25 = scored.score;
        }
        hits.push(hit);
    }
    hits.sort_by(|a, b| {
        b.exact
            .cmp(&a.exact)
            .then_with(|| b.bm25.total_cmp(&a.bm25))
            .then_with(|| b.seq.cmp(&a.seq))
    });
    hits.truncate(query.limit);
    Ok(hits)
}

/// Returns the BM25 score of every memory that contains one of the terms, best first, with its postings. The sum is
/// computed here, because grouping the postings in SQL and looking up every memory costs several times as much as
/// reading them.
async fn score_memories(
    open: &Open,
    connection: &mut SqliteConnection,
    projects: &[i64],
    query: &LexicalQuery,
) -> Result<(Vec<Posting>, Vec<Scored>), Fault> {
    if query.terms.is_empty() || projects.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let names: Vec<String> = projects
        .iter()
        .flat_map(|project| query.terms.iter().map(|term| indexed(*project, &term.term)))
        .collect();
    let generation = open.cache.generation();
    let rows = sqlx::query(sql::POSTINGS)
        .bind(serde_json::to_string(&names).expect("texts always serialise"))
        .fetch_all(&mut *connection)
        .await?;
    let mut postings: Vec<Posting> = Vec::new();
    for row in &rows {
        let place: i64 = row.try_get(0)?;
        let term = usize::try_from(place).unwrap_or_default() % query.terms.len();
        let Some(list) = row.try_get::<Option<&str>, _>(1)? else {
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
                    score: 0.0,
                }),
            }
        }
    }
    postings.sort_unstable_by_key(|posting| (posting.seq, posting.term));
    let memories: Vec<i64> = postings.iter().map(|posting| posting.seq).collect();
    let lengths = read_lengths(open, connection, generation, &memories).await?;
    let mut scored: Vec<Scored> = Vec::new();
    for (at, (posting, length)) in postings.iter_mut().zip(lengths).enumerate() {
        let Posting {
            seq,
            term,
            occurrences,
            ..
        } = *posting;
        let score = score_term(
            query.terms[term].weight,
            occurrences,
            length.into(),
            query.average_length,
        );
        posting.score = score;
        match scored.last_mut() {
            Some(last) if last.seq == seq => {
                last.score += score;
                last.postings.end = at + 1;
            }
            _ => scored.push(Scored {
                seq,
                score,
                postings: at..at + 1,
            }),
        }
    }
    scored.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.seq.cmp(&a.seq)));
    Ok((postings, scored))
}

/// Returns the lengths of memories, most of which are cached.
async fn read_lengths(
    open: &Open,
    connection: &mut SqliteConnection,
    generation: Generation,
    memories: &[i64],
) -> Result<Vec<u32>, Fault> {
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
    let list: Option<String> = sqlx::query_scalar(sql::LENGTHS)
        .bind(json_numbers(&unknown))
        .fetch_one(connection)
        .await?;
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
