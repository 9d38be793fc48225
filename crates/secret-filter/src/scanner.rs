//! Applies the table of rules: one pass over the text finds the keywords, and only rules with a keyword in the text
//! are compiled and searched.

use std::sync::{LazyLock, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use crate::rule::{RULES, Rule};
use crate::secret::Secret;

/// Maximum size of the cache of one compiled rule.
const CACHE_BYTES: usize = 256 * 1024;

static COMPILED: [OnceLock<Regex>; RULES.len()] = [const { OnceLock::new() }; RULES.len()];

static KEYWORDS: LazyLock<Keywords> = LazyLock::new(Keywords::new);

/// The keywords of all rules, with the rule of each.
struct Keywords {
    finder: AhoCorasick,
    owners: Vec<usize>,
}

impl Keywords {
    fn new() -> Self {
        let pairs = RULES
            .iter()
            .enumerate()
            .flat_map(|(rule, row)| row.keywords.iter().map(move |keyword| (rule, *keyword)));
        let (owners, words): (Vec<usize>, Vec<&str>) = pairs.unzip();
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&words)
            .expect("the keywords of the table are short");
        Self { finder, owners }
    }

    /// Returns for each rule whether one of its keywords occurs in the text.
    fn select_rules(&self, text: &str) -> [bool; RULES.len()] {
        let mut selected = [false; RULES.len()];
        for found in self.finder.find_overlapping_iter(text) {
            selected[self.owners[found.pattern().as_usize()]] = true;
        }
        selected
    }
}

/// Finds the credentials that match a rule of the table.
pub(crate) fn scan_known_formats(text: &str) -> Vec<Secret> {
    let selected = KEYWORDS.select_rules(text);
    let mut found = Vec::new();
    for (index, rule) in RULES.iter().enumerate().filter(|(at, _)| selected[*at]) {
        collect_matches(rule, compiled_pattern(index, rule), text, &mut found);
    }
    found
}

fn collect_matches(rule: &Rule, pattern: &Regex, text: &str, found: &mut Vec<Secret>) {
    for captures in pattern.captures_iter(text.as_bytes()) {
        let secret = captures.name("secret").or_else(|| captures.get(0));
        let Some(range) = secret.map(|secret| secret.range()) else {
            continue;
        };
        let whole = text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end);
        if (rule.accept)(&text[whole.clone()]) {
            found.push(Secret {
                range: whole,
                rule: rule.name,
            });
        }
    }
}

/// Returns the pattern of a rule. Patterns work on bytes, so that `\b` and `\w` concern ASCII only: a token that
/// follows a Japanese character begins at a boundary.
fn compiled_pattern(index: usize, rule: &Rule) -> &'static Regex {
    COMPILED[index].get_or_init(|| {
        RegexBuilder::new(rule.pattern)
            .unicode(false)
            .dfa_size_limit(CACHE_BYTES)
            .build()
            .expect("a test compiles every pattern of the table")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_has_a_keyword() {
        for (index, rule) in RULES.iter().enumerate() {
            compiled_pattern(index, rule);
            assert!(!rule.keywords.is_empty(), "{}", rule.name);
        }
    }
}
