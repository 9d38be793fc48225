//! A query as interpreted with the lexicon: the terms to search for, and their total weight.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};

use super::boosts::BOOSTED_HITS;
use crate::domain::Analyzer;
use crate::domain::bm25::{Lexicon, POSTING_BUDGET, WeightedTerm, select_terms, total_weight};
use crate::domain::proper_name::find_proper_names;
use crate::domain::spelling::{Substitute, choose_substitutes};
use crate::domain::time_expression::NamedTimes;

/// Number of candidates that each channel contributes to the pool: a hit may rank low in one channel and still be
/// the best.
const POOL_DEPTH: usize = 200;
/// Depth if only words are searched: then only boosts can lift a hit.
const WORDS_DEPTH: usize = BOOSTED_HITS;
/// Maximum number of terms of a query.
const MOST_TERMS: usize = 256;

/// Returns the distinct terms of a query. Of too many, the longest remain, because they are the least common.
#[must_use]
pub fn extract_terms(query: &str, analyzer: &Analyzer) -> Vec<String> {
    let mut terms: Vec<String> = analyzer.terms(query).counts.into_keys().collect();
    crate::domain::bm25::keep_longest(&mut terms, MOST_TERMS);
    terms
}

/// A query with the terms to search for.
#[derive(Debug)]
pub struct ExpandedQuery<'a> {
    pub text: &'a str,
    /// All terms of the query.
    pub terms: &'a [String],
    /// Terms of the vocabulary that replace unknown ones.
    pub substitutes: Vec<Substitute>,
    /// The terms to search for, rarest first.
    pub selected: Vec<WeightedTerm>,
    pub analyzer: &'a Analyzer,
    /// The times that the text names.
    pub times: NamedTimes,
    lexicon: &'a Lexicon,
    today: NaiveDate,
}

impl<'a> ExpandedQuery<'a> {
    /// Expands a query of the day `today` with the lexicon of its `terms`.
    #[must_use]
    pub fn new(
        text: &'a str,
        terms: &'a [String],
        lexicon: &'a Lexicon,
        analyzer: &'a Analyzer,
        today: NaiveDate,
    ) -> Self {
        let frequencies = &lexicon.stats.document_frequencies;
        let substitutes = choose_substitutes(terms, frequencies, &lexicon.matches);
        let selected = select_terms(terms, &lexicon.stats, &substitutes, POSTING_BUDGET);
        Self {
            text,
            terms,
            substitutes,
            selected,
            analyzer,
            times: NamedTimes::read_question(text, today),
            lexicon,
            today,
        }
    }

    /// Returns the number of memories in scope.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.lexicon.stats.documents
    }

    /// Returns the number of candidates of each channel that are ranked together.
    #[must_use]
    pub fn pool_depth(&self, semantic: bool) -> usize {
        let lifted = semantic
            || self.lexicon.stats.has_sessions
            || !self.substitutes.is_empty()
            || self.names_time_in(self.today.year());
        if lifted { POOL_DEPTH } else { WORDS_DEPTH }
    }

    fn names_time_in(&self, year: i32) -> bool {
        !self.times.list_spans(&BTreeSet::from([year])).is_empty()
    }

    /// Returns the selected terms as hits show them: `asked~found` for a substitute.
    #[must_use]
    pub fn label_terms(&self) -> Vec<String> {
        let label = |term: &WeightedTerm| match term.stands_for {
            Some(asked) => format!("{}~{}", self.terms[asked], term.term),
            None => term.term.clone(),
        };
        self.selected.iter().map(label).collect()
    }

    /// Returns the weight of all terms except `excluded` ones and those beyond the posting budget, which do not
    /// affect the order.
    #[must_use]
    pub fn total_weight(&self, excluded: &BTreeSet<String>) -> f64 {
        let searched: BTreeSet<&String> = self.selected.iter().map(|term| &term.term).collect();
        let counted = self
            .terms
            .iter()
            .zip(&self.lexicon.stats.document_frequencies)
            .enumerate();
        let frequencies = counted
            .filter(|(_, (term, count))| **count == 0 || searched.contains(term))
            .filter(|(_, (term, _))| !excluded.contains(*term))
            .map(|(place, (_, count))| self.estimate_frequency(place, *count));
        total_weight(self.documents(), frequencies)
    }

    /// Returns the frequency of a term for its weight. A term that no memory contains weighs as much as one in a
    /// single memory, or as its best known substitute.
    fn estimate_frequency(&self, place: usize, count: u64) -> u64 {
        let substitutes = self.substitutes.iter().filter(|other| other.term == place);
        substitutes
            .map(|other| other.frequency)
            .fold(count.max(1), u64::max)
    }

    /// Returns the terms of each proper name in the query that is neither stored nor a misspelling of a stored word.
    #[must_use]
    pub fn unknown_names(&self) -> Vec<BTreeSet<String>> {
        // A prefix of a name is another name or a word: "carol" is not Caroline.
        let misspelled = |substitute: &&Substitute| {
            self.terms[substitute.term]
                .strip_prefix(&substitute.found)
                .is_none_or(|rest| rest.chars().count() < 2)
        };
        let replaced = self.substitutes.iter().filter(misspelled);
        let replaced: BTreeSet<usize> = replaced.map(|substitute| substitute.term).collect();
        let counted = self
            .terms
            .iter()
            .zip(&self.lexicon.stats.document_frequencies)
            .enumerate();
        let absent: BTreeSet<&String> = counted
            .filter(|(place, (_, count))| **count == 0 && !replaced.contains(place))
            .map(|(_, (term, _))| term)
            .collect();
        if absent.is_empty() {
            return Vec::new();
        }
        let names = find_proper_names(self.text).into_iter();
        let terms = names.map(|name| self.analyzer.terms(name).counts.into_keys().collect());
        terms
            .filter(|name: &BTreeSet<String>| name.iter().all(|term| absent.contains(term)))
            .collect()
    }
}
