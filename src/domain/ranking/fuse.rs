//! Fuses words, meaning, the surrounding conversation and time into one score.
//!
//! Every component is a share of the best in the pool, and the score is their weighted sum: a memory's own words and
//! meaning, those of the neighboring turns, the share of the query that its session covers, whether it happened at a
//! time of the query, and whether the query names its speaker. A named speaker is worth as much as the name in the text
//! of a note. Short turns and turns that ask a question lose a little, because they seldom answer. Memories outside of
//! conversations have no neighbors and lose nothing. The constants were fitted to questions about long conversations;
//! see docs/recall.md.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Datelike;

use super::hit::{Hit, ScoreComponent};
use super::query::ExpandedQuery;
use crate::domain::bm25::TermScore;
use crate::domain::conversation::{HitContext, list_name_terms};
use crate::domain::time_expression::{Span, find_time_words, nearness_to};

/// Weights of a term 1, 2 or 3 turns before.
const BEFORE: [f64; 3] = [0.4, 0.5, 0.1];
/// Weights of a term 1, 2 or 3 turns after.
const AFTER: [f64; 3] = [0.3, 0.3, 0.1];
/// Weight of a term in the preceding turn if it asks a question: an answer implies the words of its question.
const ASKED: f64 = 1.0;
/// Weight of the share of the query that the session covers.
const SESSION_WORDS: f64 = 0.3;
/// A best cosine below this value is not significant: among any texts some are nearest.
const UNSURE_COSINE: f64 = 0.15;
/// Range above [`UNSURE_COSINE`] in which the weight of meaning increases to its full value.
const SURE_RANGE: f64 = 0.2;
/// Words get their full weight next to meaning if the best memory covers this share of the query, and less below,
/// because a stray word must not outrank the same meaning.
const FULL_COVERAGE: f64 = 0.75;
/// Terms of a memory whose words belong together. Longer memories have several passages.
const SHORT_LENGTH: f64 = 20.0;
/// Growth of the coverage that full weight needs, with the logarithm of the length.
const SCATTERING: f64 = 0.5;
/// Weight of the memory's own meaning.
const MEANING: f64 = 0.4;
/// Weight of the mean meaning of the neighboring turns.
const MEANING_AROUND: f64 = 0.6;
/// Weights within that mean, 1 and 2 turns away.
const AROUND_STEPS: [f64; 2] = [0.6, 0.4];
/// Without neighbors, this share of the own meaning replaces that mean.
const ALONE: f64 = 0.5;
/// Weight of the best meaning in the session.
const SESSION_MEANING: f64 = 0.3;
/// Weight of the time.
const TIME: f64 = 1.0;
/// Weight of the speaker.
const SPEAKER: f64 = 0.2;
/// Maximum loss of a short turn.
const SHORT_LOSS: f64 = 0.4;
/// Minimum number of terms of a turn that is not short.
const FULL_LENGTH: f64 = 30.0;
/// Loss of a turn that asks a question.
const ASKING_LOSS: f64 = 0.1;
/// Number of hits inspected on each side. More than three, because a position may also have replaced turns.
const MOST_INSPECTED: usize = 8;
/// Maximum distance at which turns affect each other.
const REACH: i64 = 3;

/// The properties of a query that fusion needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FusionQuery {
    /// For each selected term, whether it is a speaker's name. In spoken turns a name is usually a form of address, so
    /// it scores 0 there; the turns of the named speaker gain instead.
    pub is_speaker_name: Vec<bool>,
    /// Speakers named in the query, with the indexes of the terms that name them.
    pub speakers: BTreeMap<String, Vec<usize>>,
    /// Times named in the query.
    pub spans: Vec<Span>,
    /// Weight of all terms except those of names and times, whether found or not; 0 if unknown.
    pub total_weight: f64,
    /// Terms that `total_weight` leaves out: the words of a text need not contain its speaker or time.
    pub excluded: BTreeSet<String>,
    /// Terms of the names of all speakers that the query names.
    pub speaker_terms: BTreeSet<String>,
}

impl FusionQuery {
    /// Finds the speakers of the pool and the times that the query names.
    #[must_use]
    pub fn new(query: &ExpandedQuery<'_>, pool: &[Hit]) -> Self {
        let speakers = find_named_speakers(query, pool);
        let speaker_terms: BTreeSet<String> = speakers.values().flatten().cloned().collect();
        // If the query contains nothing else, the names are the query.
        let only_names = query.terms.iter().all(|term| speaker_terms.contains(term));
        let mut excluded = if only_names {
            BTreeSet::new()
        } else {
            speaker_terms.clone()
        };
        let is_name = |term: &String| excluded.contains(term);
        let is_speaker_name = query
            .selected
            .iter()
            .map(|term| is_name(&term.term))
            .collect();
        let named_by = |names: BTreeSet<String>| {
            let terms = query.selected.iter().enumerate();
            let naming = terms.filter(|(_, term)| names.contains(&term.term));
            naming.map(|(index, _)| index).collect()
        };
        let speakers = speakers
            .into_iter()
            .map(|(speaker, names)| (speaker.to_owned(), named_by(names)));
        let speakers = speakers.collect();
        let years = pool.iter().map(|hit| hit.context.occurred_at.year());
        let spans = query.times.list_spans(&years.collect());
        if !spans.is_empty() {
            let words = find_time_words(query.text);
            excluded.extend(words.flat_map(|word| query.analyzer.terms(word).counts.into_keys()));
        }
        let total_weight = query.total_weight(&excluded);
        Self {
            is_speaker_name,
            speakers,
            spans,
            total_weight,
            excluded,
            speaker_terms,
        }
    }

    /// Returns whether the query contains a name that no text and no speaker has.
    #[must_use]
    pub fn names_nobody_known(&self, query: &ExpandedQuery<'_>) -> bool {
        query
            .unknown_names()
            .iter()
            .any(|name| name.is_disjoint(&self.speaker_terms))
    }

    fn names_speaker_of(&self, context: &HitContext) -> Option<&[usize]> {
        let speaker = context.speaker.as_ref()?;
        self.speakers.get(speaker).map(Vec::as_slice)
    }

    /// Returns whether a term is the name of a speaker.
    fn is_name(&self, term: usize) -> bool {
        self.is_speaker_name.get(term).copied().unwrap_or_default()
    }
}

/// Finds the speakers of the pool that the query names, each with the terms of the name.
fn find_named_speakers<'a>(
    query: &ExpandedQuery<'_>,
    pool: &'a [Hit],
) -> BTreeMap<&'a str, BTreeSet<String>> {
    let speakers: BTreeSet<&str> = pool
        .iter()
        .filter_map(|hit| hit.context.speaker.as_deref())
        .collect();
    let named = speakers
        .into_iter()
        .map(|speaker| (speaker, list_name_terms(speaker, query.analyzer)));
    named
        .filter(|(_, names)| query.terms.iter().any(|term| names.contains(term)))
        .collect()
}

/// Scores the hits: sets their components, damping, coverage and score.
pub fn fuse(hits: &mut [Hit], query: &FusionQuery) {
    let turns = TurnOrder::new(hits);
    let terms = count_terms(hits, query);
    let (meaning, has_cosines) = normalize_cosines(hits);
    let sessions = SessionScores::new(&turns, &terms, &meaning, query.is_speaker_name.len());
    let surroundings: Vec<Surroundings> = (0..hits.len())
        .map(|at| Surroundings::new(at, hits, &turns, &terms, &meaning, query))
        .collect();
    let best_coverage = surroundings
        .iter()
        .map(|one| one.coverage)
        .fold(0.0, f64::max);
    let trust = if has_cosines && query.total_weight > 0.0 {
        let covered = hits.iter().zip(&surroundings);
        let covered = covered.map(|(hit, around)| around.coverage / scatter_words(&hit.context));
        let best_covered = covered.fold(0.0, f64::max);
        (best_covered / (query.total_weight * FULL_COVERAGE)).min(1.0)
    } else {
        1.0
    };
    let scale = WordScale {
        trust,
        best_coverage,
        best_session: sessions.best_words(),
    };
    for (at, hit) in hits.iter_mut().enumerate() {
        let session = turns.session[at];
        let topic = SessionShare {
            words: SESSION_WORDS * scale.of_session(sessions.words[session]),
            meaning: SESSION_MEANING * sessions.meaning[session],
        };
        let components =
            list_components(hit, &surroundings[at], meaning[at], &topic, &scale, query);
        hit.damping = damp_turn(&hit.context);
        hit.score = hit.damping * components.iter().map(|(_, share)| share).sum::<f64>();
        hit.components = components
            .into_iter()
            .filter(|(_, share)| *share > 0.0)
            .collect();
        hit.coverage = surroundings[at].nameless;
    }
}

/// How many times as much of a query a memory must cover as a short one, because a long text has words of the query by
/// chance, scattered over its passages. The neighbors of turns were taken into account when the coverage was fitted.
fn scatter_words(context: &HitContext) -> f64 {
    if context.turn.is_some() {
        return 1.0;
    }
    let excess = f64::from(context.length) / SHORT_LENGTH;
    1.0 + SCATTERING * excess.max(1.0).ln()
}

/// Contribution of a session to each of its memories.
struct SessionShare {
    words: f64,
    meaning: f64,
}

/// The best word scores of the pool, to which other memories are compared.
struct WordScale {
    trust: f64,
    best_coverage: f64,
    best_session: f64,
}

impl WordScale {
    fn of_coverage(&self, value: f64) -> f64 {
        self.divide(value, self.best_coverage)
    }

    fn of_session(&self, value: f64) -> f64 {
        self.divide(value, self.best_session)
    }

    fn divide(&self, value: f64, by: f64) -> f64 {
        if by > 0.0 {
            self.trust * value / by
        } else {
            0.0
        }
    }
}

fn list_components(
    hit: &Hit,
    around: &Surroundings,
    meaning: f64,
    session: &SessionShare,
    scale: &WordScale,
    query: &FusionQuery,
) -> [(ScoreComponent, f64); 6] {
    let alone = if around.meaning.is_none() {
        MEANING_AROUND * ALONE
    } else {
        0.0
    };
    // A memory outside of sessions is treated as a session of its own.
    let (own_words, own_topic, shared) = if hit.context.turn.is_some() {
        (0.0, 0.0, session.words + session.meaning)
    } else {
        (session.words, session.meaning, 0.0)
    };
    let words_around = scale.of_coverage(around.coverage - around.own);
    let named = query.names_speaker_of(&hit.context).is_some();
    let time = nearness_to(hit.context.occurred_at.date_naive(), &query.spans);
    [
        (
            ScoreComponent::Words,
            scale.of_coverage(around.own) + own_words,
        ),
        (
            ScoreComponent::Meaning,
            (MEANING + alone) * meaning + own_topic,
        ),
        (
            ScoreComponent::Around,
            words_around + MEANING_AROUND * around.meaning.unwrap_or_default(),
        ),
        (ScoreComponent::Session, shared),
        (ScoreComponent::Time, TIME * time),
        (ScoreComponent::Speaker, if named { SPEAKER } else { 0.0 }),
    ]
}

/// Returns the factor for short turns and turns that ask a question.
fn damp_turn(context: &HitContext) -> f64 {
    if context.turn.is_none() {
        return 1.0;
    }
    let full = f64::from(context.length).ln_1p() / FULL_LENGTH.ln_1p();
    let damping = 1.0 - SHORT_LOSS * (1.0 - full.min(1.0));
    if context.asks {
        damping * (1.0 - ASKING_LOSS)
    } else {
        damping
    }
}

/// Turns of the pool in the order of their conversations, so that neighbors are next to each other.
struct TurnOrder {
    order: Vec<usize>,
    /// Position of each hit in that order.
    position: Vec<Option<usize>>,
    /// Session of each hit; each memory outside of conversations has its own.
    session: Vec<usize>,
    sessions: usize,
}

impl TurnOrder {
    fn new(hits: &[Hit]) -> Self {
        let turn = |at: usize| hits[at].context.turn.as_ref();
        let mut order: Vec<usize> = (0..hits.len()).filter(|at| turn(*at).is_some()).collect();
        order.sort_by_key(|at| turn(*at));
        let mut position = vec![None; hits.len()];
        let mut session = vec![usize::MAX; hits.len()];
        let mut sessions = 0;
        let conversation = |at: usize| turn(at).map(|turn| (&turn.project, &turn.session));
        for (index, at) in order.iter().enumerate() {
            let follows = index > 0 && conversation(order[index - 1]) == conversation(*at);
            sessions += usize::from(!follows);
            position[*at] = Some(index);
            session[*at] = sessions - 1;
        }
        for own in session.iter_mut().filter(|session| **session == usize::MAX) {
            *own = sessions;
            sessions += 1;
        }
        Self {
            order,
            position,
            session,
            sessions,
        }
    }

    /// Returns the neighbors of a hit with their distance, which is negative before it.
    fn find_neighbors(&self, hits: &[Hit], at: usize) -> Vec<(i64, usize)> {
        let (Some(position), Some(turn)) = (self.position[at], &hits[at].context.turn) else {
            return Vec::new();
        };
        let distance = |other: &usize| {
            let number = hits[*other].context.turn.as_ref()?.number;
            let distance = number.saturating_sub(turn.number);
            let near = self.session[*other] == self.session[at] && distance.abs() <= REACH;
            near.then_some((distance, *other))
        };
        let before = self.order[..position]
            .iter()
            .rev()
            .take(MOST_INSPECTED)
            .map_while(distance);
        let after = self.order[position + 1..]
            .iter()
            .take(MOST_INSPECTED)
            .map_while(distance);
        before
            .chain(after)
            .filter(|(distance, _)| *distance != 0)
            .collect()
    }
}

/// Returns the BM25 score per hit and term. Speaker names score 0 in spoken turns; if a note contains the name, every
/// turn of that speaker gets the note's score for it.
fn count_terms(hits: &[Hit], query: &FusionQuery) -> Vec<Vec<TermScore>> {
    let is_spoken = |hit: &Hit| hit.context.speaker.is_some();
    let mut noted = vec![0.0_f64; query.is_speaker_name.len()];
    for hit in hits.iter().filter(|hit| !is_spoken(hit)) {
        for term in hit.terms.iter().filter(|term| query.is_name(term.term)) {
            noted[term.term] = noted[term.term].max(term.score);
        }
    }
    let count = |hit: &Hit| {
        let counts = |term: &&TermScore| {
            term.term < noted.len() && !(is_spoken(hit) && query.is_name(term.term))
        };
        let naming = query
            .names_speaker_of(&hit.context)
            .unwrap_or_default()
            .iter();
        let said = naming
            .filter(|term| query.is_name(**term) && noted[**term] > 0.0)
            .map(|term| TermScore {
                term: *term,
                score: noted[*term],
            });
        hit.terms
            .iter()
            .filter(counts)
            .copied()
            .chain(said)
            .collect()
    };
    hits.iter().map(count).collect()
}

/// Scales the meaning of each hit from the worst candidate (0) to the best (1), less if even the best is far. Also
/// returns whether there is any meaning.
fn normalize_cosines(hits: &[Hit]) -> (Vec<f64>, bool) {
    let cosines = || hits.iter().filter_map(|hit| hit.cosine);
    let low = cosines().fold(f64::INFINITY, f64::min);
    let high = cosines().fold(f64::NEG_INFINITY, f64::max);
    let sure = ((high - UNSURE_COSINE) / SURE_RANGE).clamp(0.0, 1.0);
    let share = |cosine: f64| {
        sure * if high > low {
            (cosine - low) / (high - low)
        } else {
            1.0
        }
    };
    (
        hits.iter()
            .map(|hit| hit.cosine.map_or(0.0, share))
            .collect(),
        high.is_finite(),
    )
}

/// The best scores of each session.
struct SessionScores {
    /// Sum of the best score of each term.
    words: Vec<f64>,
    meaning: Vec<f64>,
}

impl SessionScores {
    fn new(turns: &TurnOrder, counted: &[Vec<TermScore>], meaning: &[f64], terms: usize) -> Self {
        let mut best = vec![0.0_f64; turns.sessions * terms];
        let mut best_meaning = vec![0.0_f64; turns.sessions];
        for (at, session) in turns.session.iter().enumerate() {
            for term in &counted[at] {
                let known = &mut best[session * terms + term.term];
                *known = known.max(term.score);
            }
            best_meaning[*session] = best_meaning[*session].max(meaning[at]);
        }
        let words =
            (0..turns.sessions).map(|session| best[session * terms..][..terms].iter().sum());
        Self {
            words: words.collect(),
            meaning: best_meaning,
        }
    }

    fn best_words(&self) -> f64 {
        self.words.iter().copied().fold(0.0, f64::max)
    }
}

/// A memory together with its neighboring turns.
struct Surroundings {
    /// BM25 of its own terms.
    own: f64,
    /// BM25 with the weighted terms of the neighboring turns.
    coverage: f64,
    /// The same sum without speaker names.
    nameless: f64,
    /// Weighted mean of the meaning of the neighboring turns, if known.
    meaning: Option<f64>,
}

impl Surroundings {
    fn new(
        at: usize,
        hits: &[Hit],
        turns: &TurnOrder,
        terms: &[Vec<TermScore>],
        meaning: &[f64],
        query: &FusionQuery,
    ) -> Self {
        let mut scores = vec![0.0_f64; query.is_speaker_name.len()];
        for term in &terms[at] {
            scores[term.term] = term.score;
        }
        let own = scores.iter().sum();
        let (mut sum, mut weights) = (0.0, 0.0);
        for (distance, other) in turns.find_neighbors(hits, at) {
            let step = usize::try_from(distance.abs() - 1).unwrap_or_default();
            let weight = match distance {
                -1 if hits[other].context.asks => ASKED,
                ..0 => BEFORE[step],
                _ => AFTER[step],
            };
            for term in &terms[other] {
                scores[term.term] = scores[term.term].max(weight * term.score);
            }
            if let Some(weight) = AROUND_STEPS.get(step) {
                sum += weight * meaning[other];
                weights += weight;
            }
        }
        let nameless = scores
            .iter()
            .zip(&query.is_speaker_name)
            .filter(|(_, name)| !**name);
        Self {
            own,
            coverage: scores.iter().sum(),
            nameless: nameless.map(|(score, _)| score).sum(),
            meaning: (weights > 0.0).then(|| sum / weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use uuid::Uuid;

    use super::*;
    use crate::domain::conversation::Turn;
    use crate::domain::ranking::UsageStats;

    /// Returns the context of a note, or of a turn of a conversation.
    fn context(number: Option<i64>, length: u32, asks: bool) -> HitContext {
        let turn = Turn::new("p".to_owned(), Some("s".to_owned()), number);
        HitContext::new(turn, None, length, asks, DateTime::UNIX_EPOCH)
    }

    fn hit(terms: &[(usize, f64)], cosine: Option<f64>, context: &HitContext) -> Hit {
        let terms = terms.iter().map(|(term, score)| TermScore {
            term: *term,
            score: *score,
        });
        Hit {
            terms: terms.collect(),
            cosine,
            ..Hit::new(
                Uuid::nil(),
                0,
                UsageStats::new(DateTime::UNIX_EPOCH),
                context.clone(),
            )
        }
    }

    /// Returns a query of two terms.
    fn query() -> FusionQuery {
        FusionQuery {
            is_speaker_name: vec![false; 2],
            ..FusionQuery::default()
        }
    }

    fn scores(hits: impl Into<Vec<Hit>>, query: &FusionQuery) -> Vec<f64> {
        let mut hits = hits.into();
        fuse(&mut hits, query);
        hits.iter().map(|hit| hit.score).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn an_answer_has_the_words_of_its_question() {
        let turns = [
            context(Some(1), 30, true),
            context(Some(2), 30, false),
            context(Some(3), 30, false),
        ];
        let terms: [&[(usize, f64)]; 3] = [&[(0, 2.0)], &[], &[]];
        let hits = [0, 1, 2].map(|at| hit(terms[at], None, &turns[at]));
        // Coverage 2, 2 and 1; the session covers all of it.
        assert_close(&scores(hits, &query()), &[1.3 * 0.9, 1.3, 0.5 + 0.3]);
        let plain = context(Some(1), 30, false);
        let hits = [hit(&[(0, 2.0)], None, &plain), hit(&[], None, &turns[1])];
        assert_close(&scores(hits, &query()), &[1.3, 0.4 + 0.3]);
    }

    #[test]
    fn memories_outside_of_conversations_have_no_surroundings_and_lose_nothing() {
        let note = context(None, 1, true);
        let mut hits = [
            hit(&[(0, 3.0)], Some(0.6), &note),
            hit(&[(1, 1.5)], Some(0.4), &note),
            hit(&[], Some(0.2), &note),
        ];
        fuse(&mut hits, &query());
        // Meaning is 1, 0.5 and 0 and weighs 0.4 + 0.6 / 2 + 0.3.
        assert_close(
            &hits.each_ref().map(|hit| hit.score),
            &[2.3, 0.65 + 0.5, 0.0],
        );
        let components: Vec<_> = hits[0].components.keys().collect();
        assert_eq!(
            components,
            [&ScoreComponent::Words, &ScoreComponent::Meaning]
        );
    }

    #[test]
    fn stray_words_count_less_beside_meaning() {
        let note = context(None, 5, false);
        let query = FusionQuery {
            total_weight: 6.0,
            ..query()
        };
        let scores = |cosines: [Option<f64>; 2]| {
            let hits = [
                hit(&[(0, 1.0)], cosines[0], &note),
                hit(&[], cosines[1], &note),
            ];
            scores(hits, &query)
        };
        // A sixth of the query is covered, of the three quarters that the full weight needs.
        assert_close(&scores([Some(0.2), Some(0.6)]), &[1.3 / 4.5, 1.0]);
        assert_close(&scores([None, None]), &[1.3, 0.0]);
    }

    #[test]
    fn words_of_long_memories_count_less_beside_meaning() {
        let query = FusionQuery {
            total_weight: 4.0,
            ..query()
        };
        let scores = |length: u32, turn: Option<i64>| {
            let context = context(turn, length, false);
            let hits = [
                hit(&[(0, 1.5)], Some(0.2), &context),
                hit(&[], Some(0.6), &context),
            ];
            scores(hits, &query)[0]
        };
        // Half of what full weight needs.
        assert_close(&[scores(20, None)], &[1.3 / 2.0]);
        let scattered = 1.0 + 0.5 * 5.0_f64.ln();
        assert_close(&[scores(100, None)], &[1.3 / 2.0 / scattered]);
        assert_close(&[scores(100, Some(1))], &[scores(30, Some(1))]);
    }

    #[test]
    fn meaning_around_counts_and_a_low_best_cosine_does_not() {
        let turns = [1, 2, 4].map(|number| context(Some(number), 30, false));
        let scores = |cosines: [f64; 3]| {
            scores(
                [0, 1, 2].map(|at| hit(&[], Some(cosines[at]), &turns[at])),
                &query(),
            )
        };
        // Meaning is 1, 0.5, 0. The first has the second as neighbor; the second has the first and, two away, the
        // third.
        let around = [0.5, (0.6 * 1.0 + 0.4 * 0.0) / 1.0, 0.5];
        let expected = [
            0.4 + 0.6 * around[0] + 0.3,
            0.2 + 0.6 * around[1] + 0.3,
            0.6 * around[2] + 0.3,
        ];
        assert_close(&scores([0.8, 0.5, 0.2]), &expected);
        assert_close(&scores([0.14, 0.05, 0.0]), &[0.0; 3]);
        assert_close(&scores([0.25, 0.25, 0.25]), &[0.5 * 1.3; 3]);
    }

    #[test]
    fn named_speakers_gain_what_a_note_has_for_their_name() {
        let both = [(0, 1.0), (1, 1.0)];
        let half = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Days::new(1);
        let query = FusionQuery {
            is_speaker_name: vec![true, false],
            speakers: BTreeMap::from([("Ada".to_owned(), vec![0])]),
            spans: vec![Span {
                from: half,
                to: half + chrono::Days::new(1),
            }],
            ..FusionQuery::default()
        };
        let time = (-1.0_f64 / 7.0).exp();
        let spoken_by = |name: &str| HitContext {
            speaker: Some(name.to_owned()),
            ..context(None, 5, false)
        };
        let (ada, ben) = (
            hit(&both[1..], None, &spoken_by("Ada")),
            hit(&both, None, &spoken_by("Ben")),
        );
        let note = hit(&both, None, &context(None, 5, false));
        // Without a note that contains it, the name is worth nothing in addition to the speaker.
        let found = scores([ada.clone(), ben.clone()], &query);
        assert_close(&found, &[1.3 + time + 0.2, 1.3 + time]);
        // With such a note, all turns of the speaker have the name.
        let mut hits = [ada, ben, note];
        fuse(&mut hits, &query);
        let expected = [1.3 + time + 0.2, 0.65 + time, 1.3 + time];
        assert_close(&hits.each_ref().map(|hit| hit.score), &expected);
        let coverage = hits.each_ref().map(|hit| hit.coverage);
        assert_close(&coverage, &[1.0; 3]);
    }

    #[test]
    fn short_turns_lose_and_nothing_has_no_score() {
        let short = hit(&[(0, 1.0), (1, 1.0)], None, &context(Some(1), 1, false));
        let expected = 1.3 * (1.0 - 0.4 * (1.0 - 2.0_f64.ln() / 31.0_f64.ln()));
        assert_close(&scores([short], &query()), &[expected]);
        assert_close(&scores([], &query()), &[]);
    }
}
