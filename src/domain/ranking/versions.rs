//! Versions of a fact: notes that give the same attribute of the same entity at different times, without `supersedes`.
//!
//! Two short notes are versions if they have most words and tags in common, or somewhat fewer if the newer one reports a
//! change ("now", "no longer"). The newest version comes first, unless the question names a time or asks for history.
//! Versions only move in front of the best-ranked one, so memories about other facts keep their order.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use uuid::Uuid;

use super::fact::{StatedFact, TimeRange};
use super::hit::Hit;
use super::phrase::NormalText;
use crate::domain::Analyzer;
use crate::domain::proper_name::{find_proper_names, list_bare_words};
use crate::domain::time_expression::{Span, find_time_words};

/// Number of best hits among which versions are looked for.
const COMPARED_HITS: usize = 20;
/// Minimum score of a version, as a share of the score of the best hit.
const LEAST_SCORE: f64 = 0.3;

/// The order of the versions of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionOrder {
    NewestFirst,
    OldestFirst,
    /// The second newest first, then older ones, and the newest last.
    PreviousFirst,
    /// The newest version before this day first.
    ValidBefore(NaiveDate),
    /// As ranked, because the question is about the past but does not say which.
    AsRanked,
}

impl VersionOrder {
    /// Derives the order from a question that names the times `spans`.
    fn from_question(question: &str, spans: &[Span], today: NaiveDate) -> Self {
        let text = NormalText::new(question);
        if let Some(span) = find_period(question, spans, today) {
            let end = if text.asks_before() {
                span.from
            } else {
                span.to
            };
            return Self::ValidBefore(end);
        }
        if text.asks_for_first() {
            Self::OldestFirst
        } else if text.asks_for_previous() {
            Self::PreviousFirst
        } else if text.asks_about_past() {
            Self::AsRanked
        } else {
            Self::NewestFirst
        }
    }

    /// Sorts versions given newest first.
    fn sort_versions(self, versions: &mut [(DateTime<Utc>, usize)]) {
        match self {
            Self::NewestFirst | Self::AsRanked => {}
            Self::OldestFirst => versions.reverse(),
            Self::PreviousFirst => versions.rotate_left(1),
            Self::ValidBefore(day) => {
                let later = versions.partition_point(|(time, _)| time.date_naive() >= day);
                versions.rotate_left(later);
                let earlier = versions.len() - later;
                versions[earlier..].reverse();
            }
        }
    }
}

/// Returns the first of the times that has begun, or a year in a form that is too vague to rank by ("at Christmas 2025").
/// The beginning of a year ends with January.
fn find_period(question: &str, spans: &[Span], today: NaiveDate) -> Option<Span> {
    let named = spans.iter().copied().find(|span| span.from <= today);
    let mut period = named.or_else(|| find_bare_year(question, today))?;
    let is_year = NaiveDate::from_ymd_opt(period.from.year() + 1, 1, 1) == Some(period.to)
        && period.from.ordinal() == 1;
    if is_year && NormalText::new(question).names_start_of_year() {
        period.to = period.from + Months::new(1);
    }
    Some(period)
}

/// Finds a past year anywhere in a question.
fn find_bare_year(question: &str, today: NaiveDate) -> Option<Span> {
    let words = question.split(|c: char| !c.is_alphanumeric());
    let years = words.filter(|word| word.len() == 4);
    let mut past = years.filter_map(|word| read_past_year(word, today));
    let year = past.next()?;
    Some(Span {
        from: NaiveDate::from_ymd_opt(year, 1, 1)?,
        to: NaiveDate::from_ymd_opt(year + 1, 1, 1)?,
    })
}

fn read_past_year(word: &str, today: NaiveDate) -> Option<i32> {
    let year = word.parse().ok()?;
    (1_900..=today.year()).contains(&year).then_some(year)
}

/// The versions that a question asks for.
#[derive(Debug)]
pub struct VersionQuestion {
    order: VersionOrder,
    /// The term of each proper name in the question.
    names: Vec<String>,
    /// The terms with digits: numbers and identifiers such as "web-1".
    numbers: BTreeSet<String>,
    /// The names in lower case.
    asked: Vec<String>,
    /// The terms of the event before which the fact was valid ("before the move to Leeds").
    event: BTreeSet<String>,
}

impl VersionQuestion {
    /// Reads a question that names the times `spans`.
    #[must_use]
    pub fn new(question: &str, analyzer: &Analyzer, spans: &[Span], today: NaiveDate) -> Self {
        let terms_of = |text: &str| analyzer.terms(text).counts.into_keys();
        let order = VersionOrder::from_question(question, spans, today);
        let event: BTreeSet<String> = match order {
            VersionOrder::PreviousFirst => NormalText::new(question)
                .find_text_after_before()
                .map_or_else(BTreeSet::new, |text| terms_of(text).collect()),
            _ => BTreeSet::new(),
        };
        // The names of an event are in the note that reports it, and not in those before.
        let is_of_event =
            |name: &str| !event.is_empty() && terms_of(name).all(|term| event.contains(&term));
        let mut names = find_proper_names(question);
        names.retain(|name| !is_of_event(name));
        Self {
            order,
            names: names
                .iter()
                .filter_map(|name| find_longest(terms_of(name)))
                .collect(),
            numbers: find_numbers(question, analyzer, today),
            asked: names.into_iter().flat_map(list_bare_words).collect(),
            event,
        }
    }

    /// Returns the order, as far as the facts show when the event of the question happened.
    fn resolve_order<'f>(&self, facts: impl Iterator<Item = &'f StatedFact>) -> VersionOrder {
        let counted = facts.map(|fact| (fact.count_terms(&self.event), fact.occurred_at));
        let reports: Vec<(usize, DateTime<Utc>)> = counted
            .filter(|(count, _)| *count > 0 && 2 * count >= self.event.len())
            .collect();
        let most = reports.iter().map(|(count, _)| *count).max();
        let best = reports.iter().filter(|(count, _)| Some(*count) == most);
        let first = best.map(|(_, time)| *time).min();
        first.map_or(self.order, |time| {
            VersionOrder::ValidBefore(time.date_naive())
        })
    }

    /// Returns whether both facts have the entities of the question in common: if one contains its names and the other
    /// none of them, the other is about another entity, and likewise for any of its numbers.
    fn asks_about_both(&self, a: &StatedFact, b: &StatedFact) -> bool {
        let named = |fact: &StatedFact| -> Vec<bool> {
            let names = self.names.iter();
            names.map(|name| fact.contains_name(name)).collect()
        };
        let (in_a, in_b) = (named(a), named(b));
        let any = |in_fact: &[bool]| in_fact.contains(&true);
        let shares_name = in_a.iter().zip(&in_b).any(|(a, b)| *a && *b);
        let same_entity = shares_name || !(any(&in_a) || any(&in_b));
        let contains_same = |number: &String| a.contains_term(number) == b.contains_term(number);
        same_entity && self.numbers.iter().all(contains_same)
    }
}

/// Returns the longest term: the whole of an identifier that also has terms for its parts.
fn find_longest(terms: impl Iterator<Item = String>) -> Option<String> {
    terms.max_by_key(String::len)
}

/// Returns the terms with digits that are no times.
fn find_numbers(question: &str, analyzer: &Analyzer, today: NaiveDate) -> BTreeSet<String> {
    let terms_of = |text: &str| analyzer.terms(text).counts.into_keys();
    let has_digit = |term: &String| term.contains(|c: char| c.is_ascii_digit());
    let mut numbers: BTreeSet<String> = terms_of(question).filter(has_digit).collect();
    if !numbers.is_empty() {
        for time in find_time_words(question).flat_map(terms_of) {
            numbers.remove(&time);
        }
        numbers.retain(|number| read_past_year(number, today).is_none());
    }
    numbers
}

/// Returns the number of best hits that can be versions of a fact.
#[must_use]
pub fn count_compared(hits: &[Hit]) -> usize {
    let best = hits.first().map_or(0.0, |hit| hit.score);
    let compared = hits.iter().take(COMPARED_HITS);
    compared
        .take_while(|hit| hit.score >= LEAST_SCORE * best)
        .count()
}

/// Returns the places of the best hits that can be versions of each other as far as their context shows, so that the
/// others need not be read.
#[must_use]
pub fn list_comparable(hits: &[Hit]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count_compared(hits)).collect();
    places.retain(|place| hits[*place].context.turn.is_none());
    let Some(first) = places.first() else {
        return places;
    };
    let time_of = |place: usize| hits[place].context.occurred_at;
    let mut range = TimeRange::new(time_of(*first));
    for place in &places {
        range.extend_to(time_of(*place));
    }
    // The time of a hit that only an entity led to is unknown.
    let all_known = places.iter().all(|place| hits[*place].confidence.is_some());
    places.retain(|place| !all_known || range.allows_versions_of(time_of(*place)));
    places
}

/// Moves the preferred versions of each fact in front of the one that ranks best, and marks older versions with the ID
/// of the newest. Hits beyond [`count_compared`] and hits without a fact keep their order.
#[must_use]
pub fn order_versions(
    mut hits: Vec<Hit>,
    facts: &HashMap<Uuid, StatedFact>,
    question: &VersionQuestion,
) -> Vec<Hit> {
    let rest = hits.split_off(count_compared(&hits));
    let relations = Relations::new(&hits, facts, question);
    let order = question.resolve_order(hits.iter().filter_map(|hit| facts.get(&hit.id)));
    relations.mark_older_versions(&mut hits);
    let is_exact: Vec<bool> = hits.iter().map(|hit| hit.exact).collect();
    let mut waiting: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(waiting.len() + rest.len());
    for (at, is_exact) in is_exact.into_iter().enumerate() {
        if waiting[at].is_none() {
            continue;
        }
        if !is_exact && order != VersionOrder::AsRanked {
            let is_waiting = |place: usize| waiting[place].is_some();
            for place in relations.list_preferred(at, order, is_waiting) {
                ordered.extend(waiting[place].take());
            }
        }
        ordered.extend(waiting[at].take());
    }
    ordered.extend(rest);
    ordered
}

/// The versions of each of the best hits.
struct Relations {
    /// Time of the fact of each hit, if it states one.
    times: Vec<Option<DateTime<Utc>>>,
    /// Positions of the other versions of each hit.
    versions: Vec<Vec<usize>>,
}

impl Relations {
    /// Compares each pair of facts once.
    fn new(hits: &[Hit], facts: &HashMap<Uuid, StatedFact>, question: &VersionQuestion) -> Self {
        let stated: Vec<Option<&StatedFact>> = hits.iter().map(|hit| facts.get(&hit.id)).collect();
        let asked = &question.asked;
        let mut versions = vec![Vec::new(); hits.len()];
        let mut replacements = vec![Vec::new(); hits.len()];
        for at in 0..hits.len() {
            for other in at + 1..hits.len() {
                let Some((a, b)) = stated[at].zip(stated[other]) else {
                    continue;
                };
                if !a.is_version_of(b, asked) || !question.asks_about_both(a, b) {
                    continue;
                }
                versions[at].push(other);
                versions[other].push(at);
                if a.is_sure_version_of(b, asked) {
                    let (older, newer) = if a.occurred_at < b.occurred_at {
                        (at, other)
                    } else {
                        (other, at)
                    };
                    replacements[older].push(newer);
                }
            }
        }
        let times = stated.iter().map(|fact| Some(fact.as_ref()?.occurred_at));
        let mut relations = Self {
            times: times.collect(),
            versions,
        };
        relations.add_later_replacements(&replacements);
        relations
    }

    /// Adds the notes that replace the newest version of a fact, although they have no words in common with older ones:
    /// Jenkins was replaced by GitLab, and GitLab by Forgejo.
    fn add_later_replacements(&mut self, replacements: &[Vec<usize>]) {
        let direct = self.versions.clone();
        for (at, versions) in direct.iter().enumerate() {
            let newest_of = |places: &[usize]| -> Option<usize> {
                places
                    .iter()
                    .copied()
                    .max_by_key(|place| self.times[*place])
            };
            let mut newest =
                newest_of(versions).filter(|place| self.times[*place] > self.times[at]);
            let mut added = Vec::new();
            while let Some(replaced) = newest {
                newest = newest_of(&replacements[replaced]);
                added.extend(newest);
            }
            for later in added {
                self.versions[at].push(later);
                self.versions[later].push(at);
            }
        }
        for versions in &mut self.versions {
            versions.sort_unstable();
            versions.dedup();
        }
    }

    fn mark_older_versions(&self, hits: &mut [Hit]) {
        let ids: Vec<Uuid> = hits.iter().map(|hit| hit.id).collect();
        for (at, hit) in hits.iter_mut().enumerate() {
            let newer = self.versions[at].iter().copied();
            let newer = newer.filter(|other| self.times[*other] > self.times[at]);
            let newest = newer.max_by_key(|other| self.times[*other]);
            hit.newer_version = newest.map(|other| ids[other]);
        }
    }

    /// Returns the positions of the waiting versions that come before the hit at `at`.
    fn list_preferred(
        &self,
        at: usize,
        order: VersionOrder,
        is_waiting: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        if self.versions[at].is_empty() {
            return Vec::new();
        }
        let later = self.versions[at].iter().copied();
        let later = later.filter(|place| *place > at && is_waiting(*place));
        let mut versions: Vec<(DateTime<Utc>, usize)> = std::iter::once(at)
            .chain(later)
            .filter_map(|place| Some((self.times[place]?, place)))
            .collect();
        versions.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        order.sort_versions(&mut versions);
        let places = versions.into_iter().map(|(_, place)| place);
        places.take_while(|place| *place != at).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::conversation::{HitContext, Turn};
    use crate::domain::ranking::UsageStats;
    use crate::domain::{Kind, Language, Memory};

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn fact(content: &str, date: &str) -> StatedFact {
        let memory = Memory {
            project: "p".to_owned(),
            kind: Kind::Note,
            content: content.to_owned(),
            occurred_at: day(date).and_time(chrono::NaiveTime::MIN).and_utc(),
            ..Memory::default()
        };
        StatedFact::read_memory(&memory, &Analyzer::new(Language::English))
    }

    /// Returns hits with these scores, numbered from 1 in this order.
    fn hits(scores: &[f64]) -> Vec<Hit> {
        let hit = |(number, score): (u32, &f64)| {
            let context = HitContext::default();
            let id = Uuid::from_u128(number.into());
            Hit {
                score: *score,
                ..Hit::new(id, i64::from(number), UsageStats::default(), context)
            }
        };
        (1..).zip(scores).map(hit).collect()
    }

    fn by_id(facts: Vec<StatedFact>) -> HashMap<Uuid, StatedFact> {
        let ids = (1_u32..).map(|number| Uuid::from_u128(number.into()));
        ids.zip(facts).collect()
    }

    fn numbers(hits: &[Hit]) -> Vec<i64> {
        hits.iter().map(|hit| hit.seq).collect()
    }

    fn asking(order: VersionOrder) -> VersionQuestion {
        VersionQuestion {
            order,
            names: Vec::new(),
            numbers: BTreeSet::new(),
            asked: Vec::new(),
            event: BTreeSet::new(),
        }
    }

    fn ports() -> HashMap<Uuid, StatedFact> {
        by_id(vec![
            fact("The port of Heron is 8080.", "2026-01-10"),
            fact("Heron needs two nodes.", "2026-02-01"),
            fact("The port of Heron is 9090.", "2026-04-10"),
            fact("The port of Heron is 7070.", "2026-09-10"),
        ])
    }

    #[test]
    fn the_version_that_the_question_asks_for_comes_first() {
        for (order, expected) in [
            (VersionOrder::NewestFirst, [4, 3, 1, 2]),
            (VersionOrder::OldestFirst, [1, 2, 3, 4]),
            (VersionOrder::PreviousFirst, [3, 1, 2, 4]),
            (VersionOrder::ValidBefore(day("2026-05-01")), [3, 1, 2, 4]),
            (VersionOrder::ValidBefore(day("2025-05-01")), [1, 2, 3, 4]),
            (VersionOrder::AsRanked, [1, 2, 3, 4]),
        ] {
            let ordered = order_versions(hits(&[2.0, 1.5, 1.4, 1.0]), &ports(), &asking(order));
            assert_eq!(numbers(&ordered), expected, "{order:?}");
        }
    }

    #[test]
    fn the_version_before_an_event_comes_first() {
        let analyzer = Analyzer::new(Language::English);
        let facts = || {
            by_id(vec![
                fact(
                    "The address of the Bristol office is now 5 Tidewater Street.",
                    "2026-03-02",
                ),
                fact(
                    "The address of the Bristol office is 14 Gannet Row.",
                    "2025-01-15",
                ),
                fact(
                    "The address of the Bristol office is on a sign in a new colour.",
                    "2026-06-04",
                ),
            ])
        };
        for (question, first) in [
            (
                "What was the address of the Bristol office before the move to Tidewater Street?",
                2,
            ),
            (
                "What was the address of the Bristol office before the sign got a new colour?",
                1,
            ),
        ] {
            let question = VersionQuestion::new(question, &analyzer, &[], day("2026-10-01"));
            let ordered = order_versions(hits(&[2.0, 1.5, 1.4]), &facts(), &question);
            assert_eq!(numbers(&ordered)[0], first, "{question:?}");
        }
    }

    #[test]
    fn a_later_replacement_is_a_version_of_the_first_value() {
        let facts = by_id(vec![
            fact("CI runs on Jenkins", "2025-01-20"),
            fact("CI left Jenkins, GitLab runs CI now", "2025-09-09"),
            fact("Moved from GitLab to Forgejo now", "2026-05-11"),
        ]);
        let question = asking(VersionOrder::NewestFirst);
        let ordered = order_versions(hits(&[2.0, 1.5, 1.4]), &facts, &question);
        assert_eq!(numbers(&ordered)[0], 3);
        let newer = ordered.last().and_then(|hit| hit.newer_version);
        assert_eq!(newer, Some(Uuid::from_u128(3)));
    }

    #[test]
    fn hits_that_state_no_fact_keep_their_places() {
        let question = asking(VersionOrder::PreviousFirst);
        let ordered = order_versions(hits(&[2.0, 1.5]), &HashMap::new(), &question);
        assert_eq!(numbers(&ordered), [1, 2]);
    }

    #[test]
    fn older_versions_name_the_newest() {
        let ordered = order_versions(
            hits(&[2.0, 1.5, 1.4, 1.0]),
            &ports(),
            &asking(VersionOrder::AsRanked),
        );
        let newer: Vec<Option<u128>> = ordered
            .iter()
            .map(|hit| hit.newer_version.map(|id| id.as_u128()))
            .collect();
        assert_eq!(newer, [Some(4), None, Some(4), None]);
    }

    #[test]
    fn weak_and_exact_hits_keep_their_places() {
        let weak = order_versions(
            hits(&[2.0, 1.5, 0.5, 0.4]),
            &ports(),
            &asking(VersionOrder::NewestFirst),
        );
        assert_eq!(numbers(&weak), [1, 2, 3, 4]);
        let mut exact = hits(&[2.0, 1.5, 1.4, 1.0]);
        exact[0].exact = true;
        let exact = order_versions(exact, &ports(), &asking(VersionOrder::NewestFirst));
        assert_eq!(numbers(&exact), [1, 2, 4, 3]);
    }

    #[test]
    fn facts_about_other_entities_than_those_of_the_question_are_no_versions() {
        let analyzer = Analyzer::new(Language::English);
        let are_versions = |question: &str, older: &str, newer: &str| {
            let question = VersionQuestion::new(question, &analyzer, &[], day("2026-10-01"));
            let (older, newer) = (fact(older, "2026-01-01"), fact(newer, "2026-05-01"));
            older.is_version_of(&newer, &question.asked) && question.asks_about_both(&older, &newer)
        };
        let (ben, rosa) = (
            "Ben goes to Elm Primary School.",
            "Rosa goes to Elm Primary School.",
        );
        assert!(!are_versions("Which school does Ben go to?", ben, rosa));
        assert!(are_versions("Which school is that?", ben, rosa));
        let (one, two) = (
            "Server web-1 has 16 GB of memory.",
            "Server web-2 has 32 GB of memory.",
        );
        assert!(!are_versions("How much memory does web-1 have?", one, two));
        let one_now = "Server web-1 has 32 GB of memory now.";
        assert!(are_versions(
            "How much memory does web-1 have?",
            one,
            one_now
        ));
    }

    #[test]
    fn hits_are_comparable_if_their_times_are_apart() {
        let minute = |minute: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
        let comparable = |minutes: &[i64], change: fn(&mut Vec<Hit>)| {
            let mut hits = hits(&vec![1.0; minutes.len()]);
            for (hit, at) in hits.iter_mut().zip(minutes) {
                hit.context.occurred_at = minute(*at);
                hit.confidence = Some(0.5);
            }
            change(&mut hits);
            list_comparable(&hits)
        };
        assert_eq!(comparable(&[0, 30, 60], |_| {}), [0, 2]);
        assert_eq!(comparable(&[70, 30, 0], |_| {}), [0, 2]);
        assert!(comparable(&[0, 30, 59], |_| {}).is_empty());
        assert!(comparable(&[], |_| {}).is_empty());
        let unknown = comparable(&[0, 0], |hits| hits[1].confidence = None);
        assert_eq!(unknown, [0, 1], "an unknown time may be any");
        let turns = comparable(&[0, 90, 180], |hits| {
            let turn = Turn::new("p".to_owned(), Some("s".to_owned()), Some(1));
            hits[1].context.turn = turn;
        });
        assert_eq!(turns, [0, 2], "turns state no single fact");
        let weak = comparable(&[0, 90, 180], |hits| hits[2].score = 0.1);
        assert_eq!(weak, [0, 1]);
    }

    #[test]
    fn the_question_determines_the_order() {
        let today = day("2026-10-01");
        let order = |question: &str| {
            let spans =
                crate::domain::time_expression::find_spans(question, today, &[2025, 2026].into());
            VersionOrder::from_question(question, &spans, today)
        };
        for question in [
            "Which port does Heron listen on?",
            "Was kostet der Stellplatz?",
            "heron port",
            "Quel est le port de Heron ?",
        ] {
            assert_eq!(order(question), VersionOrder::NewestFirst, "{question}");
        }
        for question in [
            "What did we use for CI originally?",
            "Wer leitete das Team am Anfang?",
        ] {
            assert_eq!(order(question), VersionOrder::OldestFirst, "{question}");
        }
        for question in [
            "Where did the dumps go before?",
            "Wo war die Haftpflicht vorher?",
        ] {
            assert_eq!(order(question), VersionOrder::PreviousFirst, "{question}");
        }
        assert_eq!(order("Who was the lead?"), VersionOrder::AsRanked);
        for (question, end) in [
            ("Which port was it in February 2026?", "2026-03-01"),
            ("Which port was it in summer 2025?", "2025-09-01"),
            ("Which port was it at Christmas 2025?", "2026-01-01"),
            ("Which port was it at the start of 2026?", "2026-02-01"),
            ("Welchen Port hatte es Anfang 2026?", "2026-02-01"),
            ("Which port did it have before March 2026?", "2026-03-01"),
            ("Which port did it have in March?", "2026-04-01"),
            ("Welchen Port hatte es im Jahr 2025?", "2026-01-01"),
        ] {
            assert_eq!(
                order(question),
                VersionOrder::ValidBefore(day(end)),
                "{question}"
            );
        }
    }
}
