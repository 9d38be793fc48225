//! A query as the lexicon interprets it: which terms are searched for, and how much of it there is to find.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};

use super::boosts::BOOSTED_HITS;
use crate::domain::Analyzer;
use crate::domain::bm25::{Lexicon, POSTING_BUDGET, WeightedTerm, select_terms, total_weight};
use crate::domain::proper_name::find_proper_names;
use crate::domain::spelling::{Substitute, choose_substitutes};
use crate::domain::time_expression::{Span, find_spans};

/// Candidates that each channel contributes to the pool: a hit may be far down in one channel and still be the best.
const POOL_DEPTH: usize = 200;
/// Smaller depth if words alone decide: then only boosts can lift a hit.
const WORDS_DEPTH: usize = BOOSTED_HITS;
/// Most terms of a query.
const MOST_TERMS: usize = 256;

/// The distinct terms of a query; of too many the longest, which are the least common.
#[must_use]
pub fn extract_terms(query: &str, analyzer: &Analyzer) -> Vec<String> {
    let mut terms: Vec<String> = analyzer.terms(query).counts.into_keys().collect();
    crate::domain::bm25::keep_longest(&mut terms, MOST_TERMS);
    terms
}

/// A query with the terms that are searched for.
#[derive(Debug)]
pub struct ExpandedQuery<'a> {
    pub text: &'a str,
    /// All its terms.
    pub terms: &'a [String],
    /// Terms of the vocabulary that replace unknown ones.
    pub substitutes: Vec<Substitute>,
    /// The terms to search for, rarest first.
    pub selected: Vec<WeightedTerm>,
    pub analyzer: &'a Analyzer,
    lexicon: &'a Lexicon,
    today: NaiveDate,
}

impl<'a> ExpandedQuery<'a> {
    /// Expands a query, asked on the day `today`, by what the lexicon knows of its `terms`.
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
            lexicon,
            today,
        }
    }

    /// Memories in scope.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.lexicon.stats.documents
    }

    /// How many candidates of each channel are ranked together.
    #[must_use]
    pub fn pool_depth(&self, semantic: bool) -> usize {
        let lifted = semantic
            || self.lexicon.stats.has_sessions
            || !self.substitutes.is_empty()
            || !self
                .find_spans(&BTreeSet::from([self.today.year()]))
                .is_empty();
        if lifted { POOL_DEPTH } else { WORDS_DEPTH }
    }

    /// The times that the query names, months without a year being of one of `years`.
    #[must_use]
    pub fn find_spans(&self, years: &BTreeSet<i32>) -> Vec<Span> {
        find_spans(self.text, self.today, years)
    }

    /// The selected terms as hits show them: `asked~found` for a substitute.
    #[must_use]
    pub fn label_terms(&self) -> Vec<String> {
        let label = |term: &WeightedTerm| match term.stands_for {
            Some(asked) => format!("{}~{}", self.terms[asked], term.term),
            None => term.term.clone(),
        };
        self.selected.iter().map(label).collect()
    }

    /// Weight of all terms except `excluded` ones and those that the posting budget dropped, which decide nothing.
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

    /// A term that no memory contains weighs as much as one in a single memory, or as its best known substitute.
    fn estimate_frequency(&self, place: usize, count: u64) -> u64 {
        let substitutes = self.substitutes.iter().filter(|other| other.term == place);
        substitutes
            .map(|other| other.frequency)
            .fold(count.max(1), u64::max)
    }

    /// The terms of each proper name in the query that is neither stored nor a misspelling of a stored word.
    #[must_use]
    pub fn unknown_names(&self) -> Vec<BTreeSet<String>> {
        // The beginning of a name is another name, or a word: "carol" is not Caroline.
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
