//! Finds terms of the vocabulary that an unknown query term may mean, because it is misspelled or unfinished.
//!
//! The vocabulary of a large memory is too long to compare with. Instead, [`SpellingCandidates`] lists the spellings
//! that are one typing error away, which the index looks up one by one, and the prefixes that find later errors and the
//! rest of a half-typed word. This module then judges the matches that a backend returns. It trusts the first letter,
//! except for a swap with the second: errors there are rare, and many words differ only in it (house, mouse). It also
//! trusts every digit: HB-1004 is not HB-1005.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Maximum number of unknown terms of a query that are looked up, the longest first.
pub const MOST_UNKNOWN: usize = 8;
/// Maximum number of terms that are read for each prefix.
pub const MOST_PER_PREFIX: usize = 48;
/// Appended to a prefix, sorts after every term that begins with the prefix.
pub const BEYOND: char = char::MAX;

/// Maximum number of terms of a query with substitutes; longer queries have enough other terms.
const MOST_TERMS: usize = 32;
/// Minimum length of a term with substitutes; shorter ones have too many similar words.
const LEAST_CHARS: usize = 4;
/// Maximum length of a term with substitutes; longer ones are not words.
const MOST_CHARS: usize = 40;
/// Minimum length for a replaced or additional letter; shorter terms mostly become other words: shoe and shop.
const OTHER_LETTERS: usize = 6;
/// Minimum length for two errors.
const TWO_ERRORS: usize = 8;
/// Minimum length of the remaining stem if the end of a term is ignored.
const LEAST_STEM: usize = 5;
/// Maximum length of the ignored end: a misspelled ending, which the stemmer could not remove.
const MOST_ENDING: usize = 4;
/// Maximum number of substitutes of a term.
const MOST_SUBSTITUTES: usize = 3;
/// Weight of a misspelling match, relative to an exact match.
const MISSPELLED: f64 = 0.9;
/// Weight of a prefix match, relative to an exact match.
const UNFINISHED: f64 = 0.8;

/// Spellings and prefixes to look up in the vocabulary for one term of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellingCandidates {
    /// Index of the term in the query.
    pub term: usize,
    /// Complete spellings.
    pub exact: Vec<String>,
    /// Spellings with any one letter between the two parts.
    pub wildcards: Vec<(String, String)>,
    /// The possible letters.
    pub letters: &'static str,
    /// Prefixes of terms; the first [`MOST_PER_PREFIX`] terms of each are read in byte order.
    pub prefixes: Vec<String>,
}

/// Returns the candidates of each term, to be used if the term is unknown.
#[must_use]
pub fn list_candidates(terms: &[String]) -> Vec<SpellingCandidates> {
    if terms.len() > MOST_TERMS {
        return Vec::new();
    }
    terms
        .iter()
        .enumerate()
        .filter_map(|(place, term)| SpellingCandidates::new(place, term))
        .collect()
}

/// Joins the parts of a word in which letters are left out, inserted or swapped.
fn spell(parts: &[&[char]]) -> String {
    parts.iter().copied().flatten().collect()
}

impl SpellingCandidates {
    fn new(term: usize, text: &str) -> Option<Self> {
        let chars: Vec<char> = text.chars().collect();
        let count = chars.len();
        let is_word = chars.iter().any(|c| c.is_alphabetic());
        if !(LEAST_CHARS..=MOST_CHARS).contains(&count) || !is_word {
            return None;
        }
        let letter = |at: usize| chars[at].is_alphabetic();
        let (mut exact, mut wildcards) = (Vec::new(), Vec::new());
        for at in 0..count {
            let (before, behind) = (&chars[..at], &chars[at + 1..]);
            if at > 0 && letter(at) && (count >= OTHER_LETTERS || chars[at] == chars[at - 1]) {
                exact.push(spell(&[before, behind]));
            }
            if at > 0 && letter(at) && count >= OTHER_LETTERS {
                wildcards.push((spell(&[before]), spell(&[behind])));
            }
            if at > 0 {
                wildcards.push((spell(&[before]), spell(&[&chars[at..]])));
            }
            if at + 1 < count && (letter(at) || letter(at + 1)) && chars[at] != chars[at + 1] {
                exact.push(spell(&[
                    before,
                    &[chars[at + 1], chars[at]],
                    &chars[at + 2..],
                ]));
            }
        }
        wildcards.push((text.to_owned(), String::new()));
        let least = LEAST_STEM.max(count.saturating_sub(MOST_ENDING));
        exact.extend((least..count.saturating_sub(1)).map(|end| spell(&[&chars[..end]])));
        exact.sort();
        exact.dedup();
        let mut prefixes = vec![text.to_owned()];
        if count >= TWO_ERRORS {
            prefixes.push(spell(&[&chars[..LEAST_STEM.max(count / 2)]]));
        }
        let letters = script_letters(&chars);
        Some(Self {
            term,
            exact,
            wildcards,
            letters,
            prefixes,
        })
    }

    /// Returns all spellings.
    pub fn list_spellings(&self) -> impl Iterator<Item = String> {
        let between = self.wildcards.iter().flat_map(|(before, behind)| {
            let letters = self.letters.chars();
            letters.map(move |letter| format!("{before}{letter}{behind}"))
        });
        self.exact.iter().cloned().chain(between)
    }
}

/// Returns the letters of a term's script that remain when accents are folded.
fn script_letters(chars: &[char]) -> &'static str {
    match chars.iter().find(|c| c.is_alphabetic()) {
        Some('\u{370}'..='\u{3ff}') => "αβγδεζηθικλμνξοπρςστυφχψω",
        Some('\u{400}'..='\u{4ff}') => "абвгдежзиклмнопрстуфхцчшщъыьэюя",
        Some('\u{0}'..='\u{24f}') => "abcdefghijklmnopqrstuvwxyz",
        _ => "",
    }
}

/// A term of the vocabulary that resembles one of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabularyMatch {
    /// Index of the term in the query.
    pub term: usize,
    /// The term in the index.
    pub found: String,
    /// Number of memories that contain it.
    pub frequency: u64,
}

/// A term of the vocabulary that replaces one of the query.
#[derive(Debug, Clone, PartialEq)]
pub struct Substitute {
    /// Index of the term in the query.
    pub term: usize,
    /// The term in the index.
    pub found: String,
    /// Number of memories that contain it.
    pub frequency: u64,
    /// Weight relative to an exact match, between 0 and 1.
    pub likeness: f64,
}

/// Selects the best matches of each unknown term. A term of the query is never a substitute, and no term replaces two.
#[must_use]
pub fn choose_substitutes(
    terms: &[String],
    frequencies: &[u64],
    matches: &[VocabularyMatch],
) -> Vec<Substitute> {
    let mut by_term: BTreeMap<usize, Vec<Substitute>> = BTreeMap::new();
    for found in matches {
        by_term
            .entry(found.term)
            .or_default()
            .extend(judge_match(found, terms, frequencies));
    }
    let mut best: BTreeMap<String, Substitute> = BTreeMap::new();
    for mut near in by_term.into_values() {
        near.sort_by(|a, b| {
            let like = b.likeness.total_cmp(&a.likeness);
            like.then_with(|| b.frequency.cmp(&a.frequency))
                .then_with(|| a.found.cmp(&b.found))
        });
        near.dedup_by(|a, b| a.found == b.found);
        for substitute in near.into_iter().take(MOST_SUBSTITUTES) {
            let known = best
                .entry(substitute.found.clone())
                .or_insert_with(|| substitute.clone());
            if known.likeness < substitute.likeness {
                *known = substitute;
            }
        }
    }
    best.into_values().collect()
}

fn judge_match(
    VocabularyMatch {
        term,
        found,
        frequency,
    }: &VocabularyMatch,
    terms: &[String],
    frequencies: &[u64],
) -> Option<Substitute> {
    let asked = terms
        .get(*term)
        .filter(|_| frequencies.get(*term) == Some(&0))?;
    if *frequency == 0 || terms.contains(found) {
        return None;
    }
    let likeness = rate_likeness(asked, found)?;
    Some(Substitute {
        term: *term,
        found: found.clone(),
        frequency: *frequency,
        likeness,
    })
}

/// Returns the weight of an index term for a requested term; `None` if it is too different.
#[must_use]
pub fn rate_likeness(asked: &str, found: &str) -> Option<f64> {
    let (asked, found): (Vec<char>, Vec<char>) = (asked.chars().collect(), found.chars().collect());
    if asked.len() < LEAST_CHARS || asked == found {
        return None;
    }
    let rated = [
        rate_prefix(&asked, &found),
        rate_misspelling(&asked, &found),
    ];
    rated.into_iter().flatten().reduce(f64::max)
}

fn have_same_digits(asked: &[char], found: &[char]) -> bool {
    let digits = |chars: &[char]| {
        chars
            .iter()
            .copied()
            .filter(|c| c.is_numeric())
            .collect::<Vec<_>>()
    };
    digits(asked) == digits(found)
}

/// Returns the weight of a term that begins with the other one.
#[expect(clippy::cast_precision_loss, reason = "terms are short")]
fn rate_prefix(asked: &[char], found: &[char]) -> Option<f64> {
    let ends_in_digit = asked.last().is_some_and(|c| c.is_numeric());
    let number_goes_on = ends_in_digit && found.get(asked.len()).is_some_and(|c| c.is_numeric());
    let unfinished = found.starts_with(asked) && !number_goes_on;
    let other_ending = asked.starts_with(found)
        && found.len() >= LEAST_STEM
        && asked.len() - found.len() <= MOST_ENDING
        && have_same_digits(asked, found);
    let (short, long) = (asked.len().min(found.len()), asked.len().max(found.len()));
    (unfinished || other_ending).then(|| UNFINISHED * short as f64 / long as f64)
}

/// Returns the weight of a term with few errors.
#[expect(clippy::cast_precision_loss, reason = "terms are short")]
fn rate_misspelling(asked: &[char], found: &[char]) -> Option<f64> {
    let forgiven = if asked.len() >= TWO_ERRORS { 2 } else { 1 };
    if !have_same_digits(asked, found) || asked.len().abs_diff(found.len()) > forgiven {
        return None;
    }
    let swapped = found.len() > 1 && asked[0] == found[1] && asked[1] == found[0];
    let errors = match () {
        () if asked.first() == found.first() => count_errors(asked, found),
        () if swapped && asked[2..] == found[2..] => 1,
        () => usize::MAX,
    };
    let long = asked.len() >= OTHER_LETTERS;
    if errors > forgiven || !(long || is_typing_error(asked, found)) {
        return None;
    }
    let alike = 1.0 - errors as f64 / asked.len().max(found.len()) as f64;
    Some(MISSPELLED * if long { alike } else { alike * alike })
}

/// Returns whether letters are swapped, doubled or missing, for terms one error apart.
fn is_typing_error(asked: &[char], found: &[char]) -> bool {
    let same = asked.iter().zip(found).take_while(|(a, b)| a == b).count();
    match asked.len().cmp(&found.len()) {
        Ordering::Less => true,
        Ordering::Equal => {
            asked.get(same) == found.get(same + 1) && asked.get(same + 1) == found.get(same)
        }
        Ordering::Greater => same > 0 && asked[same] == asked[same - 1],
    }
}

/// Counts the letters to remove, insert, replace or swap with their neighbor to turn one term into the other.
fn count_errors(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, right) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(left != right);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn slips(a: &str, b: &str) -> usize {
        count_errors(
            &a.chars().collect::<Vec<_>>(),
            &b.chars().collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_swap_is_one_slip() {
        for (a, b, expected) in [
            ("", "", 0),
            ("form", "from", 1),
            ("postgers", "postgres", 1),
            ("numbr", "number", 1),
            ("granolla", "granola", 1),
            ("syrup", "sirup", 1),
            ("maintanence", "maintenance", 2),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
            ("grüße", "grüsse", 2),
        ] {
            assert_eq!((slips(a, b), slips(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn what_is_near_counts_less_and_what_is_far_nothing() {
        let close = |asked: &str, found: &str, expected: f64| {
            let likeness = rate_likeness(asked, found).unwrap_or_else(|| panic!("{asked} {found}"));
            assert!(
                (likeness - expected).abs() < 1e-9,
                "{asked} {found}: {likeness}"
            );
        };
        close("postgers", "postgres", 0.9 * 7.0 / 8.0);
        close("maintanenc", "maintenanc", 0.9 * 0.8);
        close("ohuse", "house", 0.9 * 0.64);
        close("acess", "access", 0.9 * 25.0 / 36.0);
        close("birhc", "birch", 0.9 * 0.64);
        close("rreal", "real", 0.9 * 0.64);
        close("postgr", "postgresql", 0.8 * 0.6);
        close("developmnet", "develop", 0.8 * 7.0 / 11.0);
        close("confg2", "config2", 0.9 * 6.0 / 7.0);
        close("utf8", "utf8mb4", 0.8 * 4.0 / 7.0);
        for (asked, found) in [
            ("house", "mouse"),
            ("cat", "cats"),
            ("same", "same"),
            ("hb1004", "hb1005"),
            ("hb1004", "hb104"),
            ("hb100", "hb1004"),
            ("hb1004", "hb1040"),
            ("house", "horse"),
            ("shoe", "shop"),
            ("spend", "send"),
            ("housing", "hound"),
        ] {
            assert_eq!(rate_likeness(asked, found), None, "{asked} {found}");
        }
    }

    /// Every spelling that counts as one error is requested, and every requested spelling is accepted.
    #[test]
    fn every_single_slip_is_among_the_spellings() {
        let words = [
            "river",
            "mountain",
            "hb1004",
            "x86asm",
            "aabb",
            "überall",
            "привет",
            "v2beta",
        ];
        for word in words {
            let guess = SpellingCandidates::new(0, word).unwrap();
            let spellings: BTreeSet<String> = guess.list_spellings().collect();
            for spelling in spellings.iter().filter(|spelling| *spelling != word) {
                assert!(rate_likeness(word, spelling).is_some(), "{word} {spelling}");
            }
            let chars: Vec<char> = word.chars().collect();
            for at in 0..chars.len() {
                let mut swapped = chars.clone();
                swapped.swap(at, (at + 1).min(chars.len() - 1));
                let mut without = chars.clone();
                without.remove(at);
                for other in [swapped, without] {
                    let other: String = other.into_iter().collect();
                    let within = spellings.contains(&other)
                        || guess.prefixes.iter().any(|head| other.starts_with(head));
                    assert!(
                        rate_likeness(word, &other).is_none() || within,
                        "{word} {other}"
                    );
                }
                for letter in guess.letters.chars() {
                    let (mut more, mut replaced) = (chars.clone(), chars.clone());
                    more.insert(at, letter);
                    replaced[at] = letter;
                    for other in [more, replaced] {
                        let other: String = other.into_iter().collect();
                        assert!(
                            rate_likeness(word, &other).is_none() || spellings.contains(&other),
                            "{word} {other}"
                        );
                    }
                }
            }
        }
        assert_eq!(SpellingCandidates::new(0, "1984"), None);
        assert_eq!(SpellingCandidates::new(0, "cat"), None);
        assert_eq!(list_candidates(&vec!["unknown".to_owned(); 33]), []);
        assert_eq!(
            list_candidates(&strings(&["ab", "abcd"]))
                .iter()
                .map(|guess| guess.term)
                .collect::<Vec<_>>(),
            [1]
        );
    }

    #[test]
    fn the_best_few_replace_unknown_terms() {
        let near = |term: usize, found: &str, frequency: u64| VocabularyMatch {
            term,
            found: found.to_owned(),
            frequency,
        };
        let terms = strings(&["mountian", "known", "mountais", "river"]);
        let matches = [
            near(0, "mountain", 4),
            near(0, "mountains", 9),
            near(0, "mounted", 1),
            near(0, "gone", 1),
            near(1, "knows", 5),
            near(2, "mountain", 4),
            near(3, "river", 1),
            near(3, "riven", 0),
        ];
        let found = choose_substitutes(&terms, &[0, 3, 0, 0], &matches);
        let found: Vec<(usize, &str)> = found.iter().map(|s| (s.term, s.found.as_str())).collect();
        assert_eq!(found, [(0, "mountain"), (0, "mountains")]);
    }
}
