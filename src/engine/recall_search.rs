//! Searching by words and by meaning, and making one ranking of both and of what stands around.
//!
//! Words and meaning at the same time, neither waiting for the other, then the turns around the best of both;
//! `domain::fusion` says what each is worth. The ranking adds what a memory gains by the entities it mentions, and
//! multiplies by how it stands. Meaning is an addition: where there is no embedder, or it does not answer in time, the
//! words are searched alone, and the answer says so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use chrono::{Datelike, NaiveDate};
use tokio::sync::watch;
use uuid::Uuid;

use super::past::Past;
use super::rank::{self, Found, Ranked};
use super::{Call, Engine, EngineError};
use crate::domain::conversation::{Turn, name_terms};
use crate::domain::evidence::{Evidence, Nearness, doubtful, proper_names, strange, unsure};
use crate::domain::fusion::{Channel, Member, Place, Question, Share, fuse, preliminary};
use crate::domain::graph::names_in;
use crate::domain::lexical::{
    CorpusStats, POSTING_BUDGET, WeightedTerm, keep_best, select_terms, total_weight,
};
use crate::domain::memory::content_hash;
use crate::domain::spelling::{StandIn, guesses, stand_ins};
use crate::domain::time_expression::{nearness, spans, time_words};
use crate::domain::{Analyzer, AsOf, Filter, Memory, Scope};
use crate::embed::{Model, QueryVector};
use crate::store::graph::Named;
use crate::store::{
    Around, AroundQuery, Candidate, LexicalQuery, Neighbour, SemanticCandidate, VectorQuery,
};

/// Most ranked hits that paging reaches.
pub(super) const MAX_RANKED: usize = 1_000;
/// Most terms of a query; the longest ones carry the least chance of being common.
const MAX_QUERY_TERMS: usize = 256;
/// How far down each channel is read: a hit may be far down in one and still be the best of all. What pages beyond
/// read further comes behind these, so that all pages are of one list.
const DEPTH: usize = 200;
/// The same where words decide alone: nothing but its standing lifts a memory then.
const DEPTH_OF_WORDS: usize = rank::DEPTH;
/// Around so many of the best candidates one looks for further turns.
const LOOK_AROUND: usize = 100;
/// How far away from them.
const AROUND: i64 = 2;
/// Among any texts some are nearest. A memory outside of conversations that shares no word with the question, and no time
/// that the question names, is a hit only from this cosine on.
const LEAST_COSINE: f64 = 0.15;
/// From so many memories on, how many there are exactly changes nothing about how the nearest are looked for.
const MANY: u64 = 50_000;
/// The model whose cosines are known well enough to say how sure an answer is.
const KNOWN_MODEL: &str = "all-MiniLM-L6-v2";

/// Hits, best first.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) hits: Vec<Ranked>,
    /// Terms that were searched for, which the hits refer to; `asked~found` where one stands for another.
    pub(super) terms: Vec<String>,
    /// How sure one can be that the question is answered at all, from 0 to 1.
    pub(super) confidence: f64,
    /// Whether the question is almost certainly about something else.
    pub(super) strange: bool,
    /// Memories that were changed since the time asked about, as they were.
    pub(super) past: Vec<Memory>,
    pub(super) notes: Vec<String>,
}

impl Engine {
    /// The best `wanted` hits and, where there are more, at least one more.
    pub(super) async fn find(
        &self,
        call: &Call,
        query: &str,
        filter: &Filter,
        wanted: usize,
    ) -> Result<Ranking, EngineError> {
        let mut terms: Vec<String> = self.analyzer.terms(query).counts.into_keys().collect();
        if terms.len() > MAX_QUERY_TERMS {
            terms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
            terms.truncate(MAX_QUERY_TERMS);
        }
        let limit = |depth: usize| {
            if wanted < depth {
                depth
            } else {
                MAX_RANKED + 1
            }
        };
        let size = Size::known(&self.large, &call.scope);
        let by_words = self.by_words(call, query, &terms, filter, limit, &size);
        let by_meaning = async {
            Ok(self
                .by_meaning(call, query, filter, limit(DEPTH), &size)
                .await)
        };
        let (by_words, by_meaning) = tokio::try_join!(by_words, by_meaning)?;
        let ByWords {
            stats,
            past,
            depth,
            lexical,
            candidates: mut words,
        } = by_words;
        let mut notes = past.notes();
        let (meaning, mut calibrated) = match by_meaning {
            Ok(Some((model, candidates))) => (Some(candidates), model.id.contains(KNOWN_MODEL)),
            Ok(None) => (None, false),
            Err(reason) => {
                notes.push(format!("Searched by words alone: {reason}."));
                (None, false)
            }
        };
        if !past.memories.is_empty() {
            let found = words.iter().map(|hit| &hit.setting);
            let found = found
                .chain(meaning.iter().flatten().map(|hit| &hit.setting))
                .map(|setting| setting.project);
            let project = if call.scope.readable().count() == 1 {
                found.into_iter().next()
            } else {
                None
            };
            words.extend(past.candidates(&lexical, project.unwrap_or_default()));
        }
        if !past.memories.is_empty() || !stats.stand_ins.is_empty() {
            for hit in &mut words {
                hit.score -= keep_best(&mut hit.parts, &lexical.terms);
            }
            words.sort_by(|a, b| {
                b.exact
                    .cmp(&a.exact)
                    .then_with(|| b.score.total_cmp(&a.score))
                    .then_with(|| b.seq.cmp(&a.seq))
            });
        }
        let meaning_found = meaning.as_ref().is_some_and(|meaning| !meaning.is_empty());
        let names = if stats.has_entities {
            names_in(query)
        } else {
            Vec::new()
        };
        let pool = Pool::new(depth, words, meaning);
        let Around {
            turns,
            named: mentioned,
        } = self
            .around(call, filter, pool.places_around(), names)
            .await?;
        // Without any vector there is no nearness.
        calibrated &= meaning_found;
        let found_as = |term: &WeightedTerm| match term.stands_for {
            Some(asked) => format!("{}~{}", terms[asked], term.term),
            None => term.term.clone(),
        };
        let shown: Vec<String> = lexical.terms.iter().map(found_as).collect();
        let searched: Vec<String> = lexical.terms.into_iter().map(|term| term.term).collect();
        // Terms that the budget dropped decide nothing.
        let dropped: HashSet<&String> = terms
            .iter()
            .zip(&stats.document_frequencies)
            .filter(|(term, frequency)| **frequency > 0 && !searched.contains(term))
            .map(|(term, _)| term)
            .collect();
        // Nobody knows how rare a word is that is nowhere stored: it weighs as much as one that is there once, or as
        // what stands for it.
        let mut once: Vec<u64> = stats
            .document_frequencies
            .iter()
            .map(|frequency| (*frequency).max(1))
            .collect();
        for near in &stats.stand_ins {
            once[near.term] = once[near.term].max(near.frequency);
        }
        let once = CorpusStats {
            document_frequencies: once,
            ..stats.clone()
        };
        let total = |apart: &BTreeSet<String>| {
            total_weight(&terms, &once, |term| {
                apart.contains(term) || dropped.iter().any(|other| *other == term)
            })
        };
        // What the graph knows is no stranger.
        let strangers = if mentioned.memories.is_empty() {
            self.strangers(query, &terms, &stats)
        } else {
            Vec::new()
        };
        let (today, memories) = (filter.now.date_naive(), stats.documents);
        let asked = Asked {
            query,
            terms: &terms,
            searched,
            strangers,
            today,
            total,
            calibrated,
            memories,
        };
        // How a memory stood at an earlier time is not known.
        let now = (filter.as_of == AsOf::Present).then_some(filter.now);
        let (first, rest, confidence) = pool.with(turns).found(&asked, &self.analyzer);
        let mut hits = rank::rank(first, mentioned, now);
        let ranked: HashSet<Uuid> = hits.iter().map(|hit| hit.candidate.id).collect();
        let rest: Vec<Found> = rest
            .into_iter()
            .filter(|hit| !ranked.contains(&hit.candidate.id))
            .collect();
        hits.extend(rank::rank(rest, Named::default(), None));
        // Nearness in another model may be an answer, but nobody knows how near is near.
        let judged = calibrated || !meaning_found;
        if judged && unsure(confidence) && !hits.is_empty() {
            let note = if doubtful(confidence) {
                "Nothing stored seems to answer this; these are only the nearest."
            } else {
                "Weak matches only; check whether they answer the question."
            };
            notes.push(note.to_owned());
        }
        let strange = judged && strange(confidence);
        Ok(Ranking {
            hits,
            terms: shown,
            confidence,
            strange,
            past: past.memories,
            notes,
        })
    }

    /// Counts, then searches.
    async fn by_words(
        &self,
        call: &Call,
        query: &str,
        terms: &[String],
        filter: &Filter,
        limit: impl Fn(usize) -> usize,
        size: &Size,
    ) -> Result<ByWords, EngineError> {
        let by_meaning = self.desk.embedder().is_some();
        let guesses = guesses(terms);
        let mut stats = call
            .database(self.store.corpus_stats_near(&call.scope, terms, &guesses))
            .await?;
        size.tell(&self.large, &call.scope, stats.documents);
        let near = stats.near.iter().map(|near| near.found.clone());
        let past = self
            .look_back(
                call,
                filter,
                &terms.iter().cloned().chain(near).collect::<Vec<_>>(),
            )
            .await?;
        past.add_to(&mut stats, terms);
        stats.stand_ins = stand_ins(terms, &stats);
        let today = filter.now.date_naive();
        let lifted = stats.has_sessions
            || !stats.stand_ins.is_empty()
            || !spans(query, today, &BTreeSet::from([today.year()])).is_empty();
        let depth = if lifted || by_meaning {
            DEPTH
        } else {
            DEPTH_OF_WORDS
        };
        let lexical = LexicalQuery {
            terms: select_terms(terms, &stats, POSTING_BUDGET),
            average_length: stats.average_length(),
            exact: content_hash(query),
            filter: filter.clone(),
            limit: limit(depth),
        };
        let candidates = call
            .database(self.store.search_lexical(&call.scope, &lexical))
            .await?;
        Ok(ByWords {
            stats,
            past,
            depth,
            lexical,
            candidates,
        })
    }

    /// Nothing where embedding is off. An error says why there is nothing, and is no reason not to answer.
    async fn by_meaning(
        &self,
        call: &Call,
        query: &str,
        filter: &Filter,
        limit: usize,
        size: &Size,
    ) -> Result<Option<(Model, Vec<SemanticCandidate>)>, String> {
        let Some(QueryVector { model, vector }) = self.desk.query(query).await? else {
            return Ok(None);
        };
        let documents = size.documents().await;
        let nearest = VectorQuery {
            model: model.id.clone(),
            vector,
            filter: filter.clone(),
            limit,
            documents,
        };
        let found = call
            .database(self.store.search_vectors(&call.scope, &nearest))
            .await;
        found
            .map(|found| Some((model, found)))
            .map_err(|error| error.to_string())
    }

    /// The terms of each name in the question that no text has, nor one that it may be a misspelling of.
    fn strangers(
        &self,
        query: &str,
        terms: &[String],
        stats: &CorpusStats,
    ) -> Vec<BTreeSet<String>> {
        // The beginning of a name is another name, or a word: "carol" is not Caroline.
        let misspelled = |stand_in: &&StandIn| {
            terms[stand_in.term]
                .strip_prefix(&stand_in.found)
                .is_none_or(|rest| rest.chars().count() < 2)
        };
        let guessed: BTreeSet<usize> = stats
            .stand_ins
            .iter()
            .filter(misspelled)
            .map(|stand_in| stand_in.term)
            .collect();
        let absent: BTreeSet<&String> = (terms.iter().zip(&stats.document_frequencies).enumerate())
            .filter(|(place, (_, frequency))| **frequency == 0 && !guessed.contains(place))
            .map(|(_, (term, _))| term)
            .collect();
        if absent.is_empty() {
            return Vec::new();
        }
        let names = proper_names(query)
            .into_iter()
            .map(|name| self.analyzer.terms(name).counts.into_keys().collect());
        names
            .filter(|name: &BTreeSet<String>| name.iter().all(|term| absent.contains(term)))
            .collect()
    }

    /// Turns near to those that were found, and memories that mention entities named in the query.
    async fn around(
        &self,
        call: &Call,
        filter: &Filter,
        turns: Vec<Turn>,
        names: Vec<String>,
    ) -> Result<Around, EngineError> {
        if turns.is_empty() && names.is_empty() {
            return Ok(Around::default());
        }
        let query = AroundQuery {
            turns,
            names,
            mentioning: rank::MENTIONING,
            filter: filter.clone(),
        };
        Ok(call
            .database(self.store.around(&call.scope, &query))
            .await?)
    }
}

/// Scopes with more memories than [`MANY`], and how many there were last time.
pub(super) type Large = Mutex<HashMap<BTreeSet<String>, u64>>;

/// How many memories are in scope, which the search by meaning wants to know: as soon as they are counted, and at once
/// where there were many last time.
struct Size(watch::Sender<Option<u64>>);

impl Size {
    fn known(large: &Large, scope: &Scope) -> Self {
        let large = large.lock().unwrap_or_else(PoisonError::into_inner);
        let known = large.get(&scope.readable().map(str::to_owned).collect::<BTreeSet<_>>());
        Self(watch::Sender::new(known.copied()))
    }

    fn tell(&self, large: &Large, scope: &Scope, documents: u64) {
        let before = self.0.send_replace(Some(documents));
        if documents >= MANY || before.is_some() {
            let mut large = large.lock().unwrap_or_else(PoisonError::into_inner);
            let scope = scope.readable().map(str::to_owned).collect();
            if documents < MANY {
                large.remove(&scope);
            } else {
                large.insert(scope, documents);
            }
        }
    }

    async fn documents(&self) -> u64 {
        let mut told = self.0.subscribe();
        let counted = told.wait_for(Option::is_some).await;
        counted
            .ok()
            .and_then(|documents| *documents)
            .unwrap_or_default()
    }
}

/// What the search by words found, and what it knows of the question.
struct ByWords {
    stats: CorpusStats,
    past: Past,
    /// How many candidates of a channel are ranked together.
    depth: usize,
    lexical: LexicalQuery,
    candidates: Vec<Candidate>,
}

fn speakers<'a>(all: impl Iterator<Item = Option<&'a str>>) -> BTreeSet<&'a str> {
    all.flatten().collect()
}

/// Speakers that a question names, and all terms by which it could.
#[derive(Debug, Default)]
struct NamedSpeakers<'a> {
    /// Each with the terms of its name.
    speakers: BTreeMap<&'a str, BTreeSet<String>>,
    terms: BTreeSet<String>,
}

fn named<'a>(
    speakers: &BTreeSet<&'a str>,
    terms: &[String],
    analyzer: &Analyzer,
) -> NamedSpeakers<'a> {
    let mut named = NamedSpeakers::default();
    for speaker in speakers {
        let names = name_terms(speaker, analyzer);
        if terms.iter().any(|term| names.contains(term)) {
            named.terms.extend(names.iter().cloned());
            named.speakers.insert(speaker, names);
        }
    }
    // Where nothing else is asked, the names are the question.
    if terms.iter().all(|term| named.terms.contains(term)) {
        named.terms.clear();
    }
    named
}

/// The question as it is ranked.
struct Asked<'a, F> {
    query: &'a str,
    terms: &'a [String],
    /// Those that were searched for.
    searched: Vec<String>,
    /// The terms of each name that no text has.
    strangers: Vec<BTreeSet<String>>,
    today: NaiveDate,
    /// The weight of all terms but for some.
    total: F,
    /// Whether there are cosines, and of the known model.
    calibrated: bool,
    /// How many are in scope.
    memories: u64,
}

/// What words know of a memory, with its cosine and its places in the channels.
type Entry = (Candidate, Option<f64>, BTreeMap<Channel, Place>);

/// What the channels found.
#[derive(Debug)]
struct Pool {
    /// How many of each channel are ranked together.
    depth: usize,
    /// Best first, more than that where pages beyond are read.
    words: Vec<Candidate>,
    meaning: Option<Vec<SemanticCandidate>>,
    /// Turns around them.
    turns: Vec<Candidate>,
}

impl Pool {
    fn new(depth: usize, words: Vec<Candidate>, meaning: Option<Vec<SemanticCandidate>>) -> Self {
        Self {
            depth,
            words,
            meaning,
            turns: Vec::new(),
        }
    }

    fn meaning(&self) -> &[SemanticCandidate] {
        self.meaning.as_deref().unwrap_or_default()
    }

    /// Places in conversations that are near to the best candidates and of which nothing is known.
    fn places_around(&self) -> Vec<Turn> {
        let words = || {
            self.words
                .iter()
                .take(self.depth)
                .map(|hit| (hit.id, hit.score, &hit.setting))
        };
        let meaning = || {
            self.meaning()
                .iter()
                .take(self.depth)
                .map(|hit| (hit.id, hit.cosine, &hit.setting))
        };
        let turns: HashMap<Uuid, &Turn> = words()
            .chain(meaning())
            .filter_map(|(id, _, setting)| Some((id, setting.turn.as_ref()?)))
            .collect();
        if turns.is_empty() {
            return Vec::new();
        }
        let scores = |hits: &mut dyn Iterator<Item = (Uuid, f64)>| hits.collect::<Vec<_>>();
        let scores = preliminary(
            &scores(&mut words().map(|(id, score, _)| (id, score))),
            &scores(&mut meaning().map(|(id, score, _)| (id, score))),
        );
        let mut best: Vec<(Uuid, f64)> = scores.into_iter().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(&a.0)));
        let mut seen: HashSet<(i64, &str, i64)> = turns
            .values()
            .map(|turn| (turn.project, turn.session.as_str(), turn.number))
            .collect();
        let mut wanted = Vec::new();
        for turn in best
            .iter()
            .filter_map(|(id, _)| turns.get(id))
            .take(LOOK_AROUND)
        {
            for distance in (-AROUND..=AROUND).filter(|distance| *distance != 0) {
                let number = turn.number.saturating_add(distance);
                if seen.insert((turn.project, &turn.session, number)) {
                    wanted.push(Turn {
                        number,
                        ..(*turn).clone()
                    });
                }
            }
        }
        wanted
    }

    fn with(self, turns: Vec<Neighbour>) -> Self {
        let known: HashSet<Uuid> = self
            .words
            .iter()
            .map(|hit| hit.id)
            .chain(self.meaning().iter().map(|hit| hit.id))
            .collect();
        let turns = turns.into_iter().filter(|turn| !known.contains(&turn.id));
        let turns = turns.map(|turn| Candidate {
            id: turn.id,
            seq: turn.seq,
            score: 0.0,
            parts: Vec::new(),
            exact: false,
            standing: turn.standing,
            setting: turn.setting,
        });
        Self {
            turns: turns.collect(),
            ..self
        }
    }

    /// What is ranked together, what comes behind it, and how sure the best answer is.
    fn found(
        self,
        asked: &Asked<'_, impl Fn(&BTreeSet<String>) -> f64>,
        analyzer: &Analyzer,
    ) -> (Vec<Found>, Vec<Found>, f64) {
        let hybrid = self.meaning.is_some();
        let mut entries: HashMap<Uuid, Entry> = HashMap::new();
        let mut first: HashSet<Uuid> = self.turns.iter().map(|turn| turn.id).collect();
        first.extend(self.words.iter().take(self.depth).map(|hit| hit.id));
        first.extend(self.meaning().iter().take(self.depth).map(|hit| hit.id));
        for (hit, rank) in self.words.into_iter().zip(1..) {
            let place = (
                Channel::Words,
                Place {
                    rank,
                    score: hit.score,
                },
            );
            // An exact text without a common term has no place among the words.
            let places = (hybrid && !hit.parts.is_empty()).then_some(place);
            entries.insert(hit.id, (hit, None, places.into_iter().collect()));
        }
        for (hit, rank) in self.meaning.into_iter().flatten().zip(1..) {
            let SemanticCandidate {
                id,
                seq,
                cosine,
                standing,
                setting,
            } = hit;
            let (_, known, places) = entries.entry(id).or_insert_with(|| {
                let candidate = Candidate {
                    id,
                    seq,
                    score: 0.0,
                    parts: Vec::new(),
                    exact: false,
                    standing,
                    setting,
                };
                (candidate, None, BTreeMap::new())
            });
            *known = Some(cosine);
            places.insert(
                Channel::Meaning,
                Place {
                    rank,
                    score: cosine,
                },
            );
        }
        entries.extend(
            self.turns
                .into_iter()
                .map(|turn| (turn.id, (turn, None, BTreeMap::new()))),
        );
        let mut entries: Vec<Entry> = entries.into_values().collect();
        // The pool first, in an order that does not depend on how it was found.
        entries.sort_by_key(|(hit, ..)| (!first.contains(&hit.id), std::cmp::Reverse(hit.seq)));
        let rest = entries.split_off(first.len());

        let speakers = speakers(
            entries
                .iter()
                .map(|(hit, ..)| hit.setting.speaker.as_deref()),
        );
        let named = named(&speakers, asked.terms, analyzer);
        let names: Vec<bool> = asked
            .searched
            .iter()
            .map(|term| named.terms.contains(term))
            .collect();
        let days: Vec<NaiveDate> = entries
            .iter()
            .map(|(hit, ..)| hit.setting.occurred_at.date_naive())
            .collect();
        let spans = spans(
            asked.query,
            asked.today,
            &days.iter().map(Datelike::year).collect(),
        );
        // Of each speaker that the question names the terms by which it does.
        let called: BTreeMap<&str, Vec<usize>> = named
            .speakers
            .iter()
            .map(|(speaker, names)| {
                let searched = asked.searched.iter().enumerate();
                (
                    *speaker,
                    searched
                        .filter(|(_, term)| names.contains(*term))
                        .map(|(at, _)| at)
                        .collect(),
                )
            })
            .collect();
        let members: Vec<Member<'_>> = entries
            .iter()
            .zip(&days)
            .map(|((hit, cosine, _), day)| Member {
                parts: &hit.parts,
                cosine: *cosine,
                setting: &hit.setting,
                named: hit
                    .setting
                    .speaker
                    .as_deref()
                    .and_then(|speaker| called.get(speaker))
                    .map(Vec::as_slice),
                time: nearness(*day, &spans),
            })
            .collect();
        // Who said it and when it happened is known without any word of the text.
        let mut apart = named.terms.clone();
        if !spans.is_empty() {
            apart.extend(
                time_words(asked.query).flat_map(|word| analyzer.terms(word).counts.into_keys()),
            );
        }
        let total = (asked.total)(&apart);
        let fused = fuse(
            &members,
            Question {
                names: &names,
                total,
            },
        );
        let known = |name: &BTreeSet<String>| {
            named
                .speakers
                .values()
                .any(|names| !names.is_disjoint(name))
        };
        let stranger = asked.strangers.iter().any(|name| !known(name));
        let mut cosines: Vec<f64> = entries
            .iter()
            .filter_map(|(_, cosine, _)| *cosine)
            .collect();
        cosines.sort_by(|a, b| b.total_cmp(a));
        let (least, third) = (
            cosines.last().copied(),
            cosines.get(2).or(cosines.last()).copied(),
        );
        let sure = |cosine: Option<f64>, coverage: f64| {
            let nearness = cosine.zip(third).filter(|_| asked.calibrated);
            let nearness = nearness.map(|(cosine, third)| Nearness { cosine, third });
            // Where nothing is asked but who and when, all of it is covered.
            let whole = if apart.is_empty() { 0.0 } else { 1.0 };
            let coverage = if total > 0.0 { coverage / total } else { whole };
            Evidence {
                nearness,
                coverage,
                stranger,
                memories: asked.memories,
            }
            .confidence()
        };
        let exact = entries.iter().any(|(hit, ..)| hit.exact);
        let answer = if exact {
            1.0
        } else {
            sure(
                cosines.first().copied(),
                fused.iter().map(|fused| fused.coverage).fold(0.0, f64::max),
            )
        };
        let mut last = f64::INFINITY;
        let first: Vec<Found> = entries
            .into_iter()
            .zip(fused)
            .filter(|((hit, cosine, _), fused)| {
                let by_words = !hit.parts.is_empty() || hit.setting.turn.is_some() || hit.exact;
                let by_time = fused.shares.contains_key(&Share::Time);
                by_words || by_time || cosine.is_some_and(|cosine| cosine >= LEAST_COSINE)
            })
            .map(|((candidate, cosine, places), fused)| {
                last = last.min(fused.score);
                let confidence = if candidate.exact {
                    1.0
                } else {
                    sure(cosine.or(least), fused.coverage)
                };
                let candidate = Candidate {
                    score: fused.score,
                    ..candidate
                };
                Found {
                    candidate,
                    places,
                    shares: fused.shares,
                    confidence,
                }
            })
            .collect();
        (first, behind(rest, last.min(1.0), &sure, least), answer)
    }
}

/// What comes behind the pool, with scores below `last`.
fn behind(
    rest: Vec<Entry>,
    last: f64,
    sure: &dyn Fn(Option<f64>, f64) -> f64,
    least: Option<f64>,
) -> Vec<Found> {
    let words: Vec<(Uuid, f64)> = rest.iter().map(|(hit, ..)| (hit.id, hit.score)).collect();
    let meaning: Vec<(Uuid, f64)> = rest
        .iter()
        .filter_map(|(hit, cosine, _)| Some((hit.id, (*cosine)?)))
        .collect();
    let scores = preliminary(&words, &meaning);
    let kept = rest.into_iter().filter(|(hit, cosine, _)| {
        !hit.parts.is_empty() || cosine.is_some_and(|cosine| cosine >= LEAST_COSINE)
    });
    kept.map(|(candidate, cosine, places)| {
        let confidence = sure(cosine.or(least), candidate.score);
        // The sum of two shares is at most 2.
        let score = last * scores.get(&candidate.id).copied().unwrap_or_default() / 2.0;
        Found {
            candidate: Candidate { score, ..candidate },
            places,
            shares: BTreeMap::new(),
            confidence,
        }
    })
    .collect()
}
