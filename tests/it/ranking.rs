//! Compares the ranking with cases that were recorded before its steps were separated: the same candidates must
//! result in the same terms, neighbors, scores, confidences and order.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::bm25::{CorpusStats, Lexicon, TermScore};
use cognitive_memory_mcp::domain::conversation::Turn;
use cognitive_memory_mcp::domain::ranking::{
    EntityMention, ExpandedQuery, NamedEntities, RankedHits, add_lexical_hits, extract_terms,
    merge, rank_candidates,
};
use cognitive_memory_mcp::domain::spelling::VocabularyMatch;
use cognitive_memory_mcp::domain::{Analyzer, Hit, HitContext, Language, UsageStats};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

#[derive(Deserialize)]
struct Reference {
    corpora: BTreeMap<String, BTreeMap<Uuid, Known>>,
    cases: Vec<Case>,
}

/// A memory of a corpus, apart from its text.
#[derive(Deserialize)]
struct Known {
    seq: i64,
    usage: Usage,
    context: Context,
}

#[derive(Deserialize)]
struct Usage {
    importance: f64,
    created_at: DateTime<Utc>,
    last_recalled_at: Option<DateTime<Utc>>,
    recall_count: i64,
    helpful: i64,
    not_helpful: i64,
}

#[derive(Deserialize)]
struct Context {
    project: String,
    session: Option<String>,
    turn: Option<i64>,
    speaker: Option<String>,
    length: u32,
    asks: bool,
    occurred_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Case {
    corpus: String,
    query: String,
    now: DateTime<Utc>,
    calibrated: bool,
    depth: usize,
    terms: Vec<String>,
    lexicon: RecordedLexicon,
    substitutes: Vec<RecordedSubstitute>,
    selected: Vec<RecordedTerm>,
    words: Vec<ByWords>,
    meaning: Option<Vec<ByMeaning>>,
    turns_wanted: Vec<(String, i64)>,
    turns: Vec<Neighbor>,
    mentions: Mentions,
    expected: Expected,
}

#[derive(Deserialize)]
struct RecordedLexicon {
    documents: u64,
    total_length: u64,
    document_frequencies: Vec<u64>,
    has_entities: bool,
    has_sessions: bool,
    near: Vec<Near>,
}

#[derive(Deserialize)]
struct Near {
    term: usize,
    found: String,
    frequency: u64,
}

#[derive(Deserialize)]
struct RecordedSubstitute {
    term: usize,
    found: String,
    likeness: f64,
}

#[derive(Deserialize)]
struct RecordedTerm {
    term: String,
    weight: f64,
    stands_for: Option<usize>,
}

#[derive(Deserialize)]
struct ByWords {
    id: Uuid,
    bm25: f64,
    terms: Vec<(usize, f64)>,
    exact: bool,
}

#[derive(Deserialize)]
struct ByMeaning {
    id: Uuid,
    cosine: f64,
}

#[derive(Deserialize)]
struct Neighbor {
    id: Uuid,
}

#[derive(Deserialize)]
struct Mentions {
    named: usize,
    memories: Vec<Mention>,
}

#[derive(Deserialize)]
struct Mention {
    id: Uuid,
    seq: i64,
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Expected {
    confidence: f64,
    shown: Vec<String>,
    hits: Vec<ExpectedHit>,
}

#[derive(Deserialize)]
struct ExpectedHit {
    id: Uuid,
    score: f64,
    bonus: f64,
    entities: Vec<String>,
    confidence: Option<f64>,
    shares: Value,
    channels: Value,
    exact: bool,
    factor: Option<f64>,
    terms: Vec<String>,
}

impl Known {
    fn hit(&self, id: Uuid) -> Hit {
        let usage = UsageStats {
            importance: self.usage.importance,
            created_at: self.usage.created_at,
            last_recalled_at: self.usage.last_recalled_at,
            recall_count: self.usage.recall_count,
            helpful: self.usage.helpful,
            not_helpful: self.usage.not_helpful,
        };
        let Context {
            project,
            session,
            turn,
            speaker,
            length,
            asks,
            occurred_at,
        } = &self.context;
        let turn = Turn::new(project.clone(), session.clone(), *turn);
        let context = HitContext::new(turn, speaker.clone(), *length, *asks, *occurred_at);
        Hit::new(id, self.seq, usage, context)
    }
}

fn recorded_cases() -> Reference {
    serde_json::from_str(include_str!("ranking_reference.json")).unwrap()
}

fn lexicon(case: &Case) -> Lexicon {
    let recorded = &case.lexicon;
    let near = recorded.near.iter();
    Lexicon {
        stats: CorpusStats {
            documents: recorded.documents,
            total_length: recorded.total_length,
            document_frequencies: recorded.document_frequencies.clone(),
            has_entities: recorded.has_entities,
            has_sessions: recorded.has_sessions,
        },
        matches: near
            .map(|near| VocabularyMatch {
                term: near.term,
                found: near.found.clone(),
                frequency: near.frequency,
            })
            .collect(),
    }
}

#[track_caller]
fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() < 1e-12,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn queries_expand_as_recorded() {
    let analyzer = Analyzer::new(Language::English);
    for case in recorded_cases().cases {
        let name = format!("{} ({})", case.query, case.corpus);
        assert_eq!(extract_terms(&case.query, &analyzer), case.terms, "{name}");
        let lexicon = lexicon(&case);
        let today = case.now.date_naive();
        let query = ExpandedQuery::new(&case.query, &case.terms, &lexicon, &analyzer, today);
        assert_eq!(
            query.pool_depth(case.meaning.is_some()),
            case.depth,
            "{name}"
        );
        assert_eq!(query.label_terms(), case.expected.shown, "{name}");
        assert_eq!(query.substitutes.len(), case.substitutes.len(), "{name}");
        for (found, expected) in query.substitutes.iter().zip(&case.substitutes) {
            assert_eq!(
                (found.term, &found.found),
                (expected.term, &expected.found),
                "{name}"
            );
            assert_close(found.likeness, expected.likeness, &name);
        }
        assert_eq!(query.selected.len(), case.selected.len(), "{name}");
        for (found, expected) in query.selected.iter().zip(&case.selected) {
            assert_eq!(found.term, expected.term, "{name}");
            assert_eq!(found.stands_for, expected.stands_for, "{name}");
            assert_close(found.weight, expected.weight, &name);
        }
    }
}

#[test]
fn candidates_rank_as_recorded() {
    let analyzer = Analyzer::new(Language::English);
    let Reference { corpora, cases } = recorded_cases();
    for case in cases {
        let name = format!("{} ({})", case.query, case.corpus);
        let known = |id: &Uuid| corpora[&case.corpus][id].hit(*id);
        let lexicon = lexicon(&case);
        let today = case.now.date_naive();
        let query = ExpandedQuery::new(&case.query, &case.terms, &lexicon, &analyzer, today);
        let by_words = case.words.iter().map(|one| {
            let scores = one.terms.iter();
            let scores = scores.map(|(term, score)| TermScore {
                term: *term,
                score: *score,
            });
            Hit {
                bm25: one.bm25,
                exact: one.exact,
                terms: scores.collect(),
                ..known(&one.id)
            }
        });
        let by_meaning = case.meaning.as_ref().map(|hits| {
            let hits = hits.iter();
            let hits = hits.map(|one| Hit {
                cosine: Some(one.cosine),
                ..known(&one.id)
            });
            hits.collect::<Vec<Hit>>()
        });
        let mut words: Vec<Hit> = by_words.collect();
        add_lexical_hits(&mut words, Vec::new(), &query.selected);
        let calibrated =
            case.calibrated && by_meaning.as_ref().is_some_and(|hits| !hits.is_empty());
        let mut candidates = merge(words, by_meaning, case.depth);
        let missing = candidates.missing_turns().into_iter();
        let missing: Vec<(String, i64)> = missing.map(|turn| (turn.session, turn.number)).collect();
        assert_eq!(missing, case.turns_wanted, "{name}");
        candidates.add_neighbors(case.turns.iter().map(|one| known(&one.id)).collect());
        let mentions = case.mentions.memories.iter();
        let mentions = mentions.map(|one| EntityMention {
            id: one.id,
            seq: one.seq,
            entities: one.names.clone(),
        });
        let entities = NamedEntities {
            names: case.mentions.named,
            memories: mentions.collect(),
        };
        let ranked = rank_candidates(&query, candidates, entities, calibrated, Some(case.now));
        assert_ranked(&ranked, &case.expected, &name);
    }
}

#[track_caller]
fn assert_ranked(ranked: &RankedHits, expected: &Expected, name: &str) {
    assert_close(ranked.confidence, expected.confidence, name);
    let ids = ranked.hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    let expected_ids = expected.hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    assert_eq!(ids, expected_ids, "{name}");
    for (hit, wanted) in ranked.hits.iter().zip(&expected.hits) {
        let name = format!("{name}, {}", hit.id);
        assert_close(hit.score, wanted.score, &name);
        assert_close(hit.entity_bonus, wanted.bonus, &name);
        assert_eq!(
            hit.confidence.is_some(),
            wanted.confidence.is_some(),
            "{name}"
        );
        assert_close(
            hit.confidence.unwrap_or_default(),
            wanted.confidence.unwrap_or_default(),
            &name,
        );
        assert_eq!(
            (hit.exact, &hit.entities),
            (wanted.exact, &wanted.entities),
            "{name}"
        );
        assert_eq!(
            hit.boosts.map(|boosts| boosts.total),
            wanted.factor,
            "{name}"
        );
        let labels = hit
            .terms
            .iter()
            .map(|one| &expected.shown[one.term])
            .collect::<Vec<_>>();
        assert_eq!(labels, wanted.terms.iter().collect::<Vec<_>>(), "{name}");
        let found = serde_json::to_value(&hit.components).unwrap();
        assert_same_numbers(&found, &wanted.shares, &name);
        let found = serde_json::to_value(&hit.channels).unwrap();
        assert_same_numbers(&found, &wanted.channels, &name);
    }
}

/// Compares JSON whose numbers may differ in the last digits.
#[track_caller]
fn assert_same_numbers(found: &Value, expected: &Value, name: &str) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(
                a.keys().collect::<Vec<_>>(),
                b.keys().collect::<Vec<_>>(),
                "{name}"
            );
            for (key, value) in a {
                assert_same_numbers(value, &b[key], &format!("{name}, {key}"));
            }
        }
        _ => assert_close(found.as_f64().unwrap(), expected.as_f64().unwrap(), name),
    }
}
