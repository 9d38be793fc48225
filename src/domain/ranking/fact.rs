//! Facts that short notes state, and which of them are versions of one fact.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::phrase::{NormalText, list_change_phrases};
use crate::domain::proper_name::{find_owner, list_bare_words, list_inner_names};
use crate::domain::{Analyzer, Kind, Memory};

/// Maximum length in bytes of a text that states a single fact.
const MOST_BYTES: usize = 400;
/// Minimum similarity of two versions.
const LEAST_SIMILARITY: f64 = 0.6;
/// Minimum similarity of a note that replaces another one for sure.
const SURE_SIMILARITY: f64 = 0.7;
/// Number of first characters that two forms of a long name have in common.
const NAME_BEGINNING: usize = 5;
/// Contribution of the tags if all are the same.
const SAME_TAGS: f64 = 0.3;
/// Contribution of the tags if a memory has none.
const UNKNOWN_TAGS: f64 = 0.1;
/// Contribution of a name in common, such as the former value that a newer note mentions, if all tags are the same.
const NAME_IN_COMMON: f64 = 0.1;
/// Contribution of words that report a change.
const REPORTED_CHANGE: f64 = 0.1;
/// Minimum time between two versions. Notes of the same hour are parts of one report.
const LEAST_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// The properties of a short note by which its other versions are recognized.
#[derive(Debug, Clone)]
pub struct StatedFact {
    project: String,
    content: String,
    pub(super) occurred_at: DateTime<Utc>,
    terms: BTreeSet<String>,
    tags: BTreeSet<String>,
}

impl StatedFact {
    pub(super) fn read_memory(memory: &Memory, analyzer: &Analyzer) -> Self {
        Self {
            project: memory.project.clone(),
            content: memory.content.clone(),
            occurred_at: memory.occurred_at,
            terms: analyzer.terms(&memory.content).counts.into_keys().collect(),
            tags: memory.tags.iter().map(|tag| tag.to_lowercase()).collect(),
        }
    }

    /// Returns whether both seem to state the same fact at different times. Names that the question `asked` for, in lower
    /// case, do not count as names in common, because all facts about them contain them.
    pub(super) fn is_version_of(&self, other: &Self, asked: &[String]) -> bool {
        self.resembles(other, asked, LEAST_SIMILARITY)
    }

    /// Returns whether the newer one of both replaces the older one for sure.
    pub(super) fn is_sure_version_of(&self, other: &Self, asked: &[String]) -> bool {
        self.resembles(other, asked, SURE_SIMILARITY)
    }

    fn resembles(&self, other: &Self, asked: &[String], least: f64) -> bool {
        let (older, newer) = if self.occurred_at < other.occurred_at {
            (self, other)
        } else {
            (other, self)
        };
        if older.project != newer.project || !are_apart(older.occurred_at, newer.occurred_at) {
            return false;
        }
        let common = older.terms.intersection(&newer.terms).count();
        let shorter = older.terms.len().min(newer.terms.len());
        if common == 0 {
            return false;
        }
        let similarity = share_of(common, shorter) + older.compare_tags(newer);
        // The rest takes longer than these, and matters for few pairs.
        if similarity + NAME_IN_COMMON + REPORTED_CHANGE < least
            || !older.shares_owner(newer)
            || !newer.shares_owner(older)
        {
            return false;
        }
        if similarity >= least {
            return true;
        }
        let mut rest = 0.0;
        if newer.reports_change() {
            rest += REPORTED_CHANGE;
        }
        if older.tags == newer.tags && older.shares_name(newer, asked) {
            rest += NAME_IN_COMMON;
        }
        similarity + rest >= least
    }

    /// Returns whether the newer note contains a name of this one that was not asked for.
    fn shares_name(&self, newer: &Self, asked: &[String]) -> bool {
        let words: BTreeSet<String> = list_bare_words(&newer.content).collect();
        list_inner_names(&self.content)
            .flat_map(list_bare_words)
            .any(|name| words.contains(&name) && !asked.contains(&name))
    }

    fn reports_change(&self) -> bool {
        NormalText::new(&self.content).contains_any(list_change_phrases())
    }

    /// Returns whether the text or a tag contains a name or another form of it, such as Postgres for PostgreSQL.
    pub(super) fn contains_name(&self, name: &str) -> bool {
        let beginning = name.char_indices().nth(NAME_BEGINNING);
        let beginning = beginning.map_or(name, |(end, _)| &name[..end]);
        let is_form = |word: &String| {
            word == name || (beginning.len() < name.len() && word.starts_with(beginning))
        };
        self.terms.iter().chain(&self.tags).any(is_form)
    }

    /// Returns whether the other fact is about the same owner, if this one begins with an owner ("Ben's passport").
    fn shares_owner(&self, other: &Self) -> bool {
        let owner = find_owner(&self.content).map(str::to_lowercase);
        owner.is_none_or(|owner| list_bare_words(&other.content).any(|word| word == owner))
    }

    /// Returns how many of these terms the text contains.
    pub(super) fn count_terms(&self, terms: &BTreeSet<String>) -> usize {
        self.terms.intersection(terms).count()
    }

    pub(super) fn contains_term(&self, term: &str) -> bool {
        self.terms.contains(term)
    }

    fn compare_tags(&self, other: &Self) -> f64 {
        if self.tags.is_empty() || other.tags.is_empty() {
            return UNKNOWN_TAGS;
        }
        let common = self.tags.intersection(&other.tags).count();
        SAME_TAGS * share_of(common, self.tags.union(&other.tags).count())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a short text has few terms")]
fn share_of(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Returns whether enough time passed from one version to the next.
fn are_apart(earlier: DateTime<Utc>, later: DateTime<Utc>) -> bool {
    later - earlier >= LEAST_INTERVAL
}

/// The first and the last of several times.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeRange {
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl TimeRange {
    pub(super) fn new(time: DateTime<Utc>) -> Self {
        Self {
            first: time,
            last: time,
        }
    }

    pub(super) fn extend_to(&mut self, time: DateTime<Utc>) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }

    /// Returns whether a version may be older or newer than a fact of this time.
    pub(super) fn allows_versions_of(&self, time: DateTime<Utc>) -> bool {
        are_apart(self.first, time) || are_apart(time, self.last)
    }
}

/// Returns whether a memory states a fact: no turn, no episode and no long text.
fn states_fact(memory: &Memory) -> bool {
    let is_statement = matches!(memory.kind, Kind::Note | Kind::Insight);
    is_statement && memory.turn.is_none() && memory.content.len() <= MOST_BYTES
}

/// Returns the facts of which several versions are among `memories`. Analyzes only the texts that have a possible version
/// by project and time, because the analysis takes longer than everything else.
#[must_use]
pub fn find_versions(memories: &[&Memory], analyzer: &Analyzer) -> HashMap<Uuid, StatedFact> {
    let statements = memories.iter().copied();
    let statements: Vec<&Memory> = statements.filter(|memory| states_fact(memory)).collect();
    let ranges = find_time_ranges(&statements);
    let has_possible_version = |memory: &Memory| {
        let range = ranges.get(memory.project.as_str());
        range.is_some_and(|range| range.allows_versions_of(memory.occurred_at))
    };
    let mut facts: Vec<(Uuid, StatedFact)> = statements
        .into_iter()
        .filter(|memory| has_possible_version(memory))
        .map(|memory| (memory.id, StatedFact::read_memory(memory, analyzer)))
        .collect();
    let mut has_version = list_places_with_version(&facts).into_iter();
    facts.retain(|_| has_version.next().unwrap_or_default());
    facts.into_iter().collect()
}

/// Returns the times of the memories of each project.
fn find_time_ranges<'m>(memories: &[&'m Memory]) -> HashMap<&'m str, TimeRange> {
    let mut ranges: HashMap<&str, TimeRange> = HashMap::new();
    for memory in memories {
        let start = TimeRange::new(memory.occurred_at);
        let range = ranges.entry(&memory.project).or_insert(start);
        range.extend_to(memory.occurred_at);
    }
    ranges
}

/// Returns for each fact whether another one is a version of it.
fn list_places_with_version(facts: &[(Uuid, StatedFact)]) -> Vec<bool> {
    let mut has_version = vec![false; facts.len()];
    for (at, (_, fact)) in facts.iter().enumerate() {
        for (other, (_, other_fact)) in facts.iter().enumerate().skip(at + 1) {
            if fact.is_version_of(other_fact, &[]) {
                (has_version[at], has_version[other]) = (true, true);
            }
        }
    }
    has_version
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Language;

    fn note(number: u128, content: &str, time: &str) -> Memory {
        Memory {
            id: Uuid::from_u128(number),
            project: "p".to_owned(),
            kind: Kind::Note,
            content: content.to_owned(),
            occurred_at: time.parse().unwrap(),
            ..Memory::default()
        }
    }

    fn fact(content: &str, tags: &[&str], date: &str) -> StatedFact {
        let memory = Memory {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..note(1, content, &format!("{date}T00:00:00Z"))
        };
        StatedFact::read_memory(&memory, &Analyzer::new(Language::English))
    }

    #[test]
    fn versions_share_words_and_tags_and_differ_in_time() {
        let lead = fact(
            "Ines Calder leads the platform team.",
            &["people", "work"],
            "2025-06-02",
        );
        let next = "New lead of the platform team as of this week: Nkechi Obi.";
        let is_version = |content: &str, tags: &[&str], date: &str| {
            fact(content, tags, date).is_version_of(&lead, &[])
        };
        assert!(is_version(next, &["people", "work"], "2026-08-17"));
        let fewer_words = "Lead of the platform: Nkechi Obi.";
        assert!(is_version(fewer_words, &["people", "work"], "2026-08-17"));
        assert!(!is_version(fewer_words, &["sports"], "2026-08-17"));
        assert!(
            !is_version(next, &["people", "work"], "2025-06-02"),
            "the same time"
        );
        let other = "Ines Calder plays the cello in the town orchestra.";
        assert!(
            !is_version(other, &["people", "music"], "2026-08-17"),
            "another attribute"
        );
        let elsewhere = StatedFact {
            project: "other".to_owned(),
            ..fact(next, &["people", "work"], "2026-08-17")
        };
        assert!(!elsewhere.is_version_of(&lead, &[]), "another project");
    }

    #[test]
    fn a_note_that_names_the_former_value_is_a_version() {
        let older = fact(
            "Parcels are sent with Blue Courier.",
            &["shop"],
            "2025-06-02",
        );
        let newer = |content: &str| fact(content, &["shop"], "2026-08-17");
        let naming = newer("Blue went bankrupt, Orient takes the boxes and letters.");
        assert!(naming.is_version_of(&older, &[]));
        assert!(!naming.is_sure_version_of(&older, &[]));
        assert!(
            !naming.is_version_of(&older, &["blue".to_owned()]),
            "every answer has the name that was asked for"
        );
        let common = newer("The parcels are heavy, so use the big trolley downstairs.");
        assert!(!common.is_version_of(&older, &[]), "no name in common");
    }

    #[test]
    fn facts_of_different_owners_are_no_versions() {
        let mine = fact(
            "The passport is valid until June 2027.",
            &["travel"],
            "2025-06-02",
        );
        let bens = fact(
            "Ben's passport is valid until March 2030.",
            &["travel"],
            "2025-07-02",
        );
        let later = fact(
            "Now Ben has a passport until May 2035.",
            &["travel"],
            "2030-03-02",
        );
        assert!(!bens.is_version_of(&mine, &[]) && !mine.is_version_of(&bens, &[]));
        assert!(later.is_version_of(&bens, &[]));
    }

    #[test]
    fn a_tag_names_the_subject_of_a_fact() {
        let moved = fact("All pipelines run on Forgejo.", &["CI"], "2026-08-17");
        assert!(moved.contains_name("ci") && moved.contains_name("forgejo"));
        assert!(!moved.contains_name("heron"));
    }

    #[test]
    fn turns_episodes_and_long_texts_state_no_single_fact() {
        let reads = |change: fn(&mut Memory)| {
            let mut memory = Memory {
                kind: Kind::Note,
                ..Memory::default()
            };
            change(&mut memory);
            states_fact(&memory)
        };
        assert!(reads(|_| {}));
        assert!(!reads(|memory| memory.kind = Kind::Dialogue));
        assert!(!reads(|memory| memory.kind = Kind::Episode));
        assert!(!reads(|memory| memory.turn = Some(1)));
        assert!(!reads(|memory| memory.content = "a fact ".repeat(100)));
    }

    #[test]
    fn only_facts_with_versions_are_found() {
        let analyzer = Analyzer::new(Language::English);
        let (old, new) = ("The port of Heron is 8080.", "The port of Heron is 9090.");
        let memories = [
            note(1, old, "2026-01-10T08:00:00Z"),
            note(2, new, "2026-04-10T08:00:00Z"),
            note(3, "Heron needs two nodes.", "2026-02-01T08:00:00Z"),
            Memory {
                project: "other".to_owned(),
                ..note(4, new, "2026-05-10T08:00:00Z")
            },
            Memory {
                kind: Kind::Episode,
                ..note(5, new, "2026-06-10T08:00:00Z")
            },
        ];
        let found = |memories: &[Memory]| {
            let memories: Vec<&Memory> = memories.iter().collect();
            let facts = find_versions(&memories, &analyzer);
            let mut ids: Vec<u128> = facts.keys().map(|id| id.as_u128()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(found(&memories), [1, 2]);
        assert!(found(&memories[1..]).is_empty());
        let same_report = [
            note(1, old, "2026-01-10T08:00:00Z"),
            note(2, new, "2026-01-10T08:59:59Z"),
        ];
        assert!(found(&same_report).is_empty());
        assert!(found(&[]).is_empty());
    }
}
