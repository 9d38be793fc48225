//! What may be meant by a term that occurs nowhere: a misspelled one, or the beginning of one.
//!
//! The vocabulary of a large memory is too long to be compared with, so it is asked the other way round: a [`Guess`]
//! lists the spellings that one slip of the fingers away, which the index is asked for one by one, and the places of the
//! vocabulary where slips further behind and the rest of a half-typed word are found. What a backend finds there is
//! judged here. The first letter is trusted, but for a swap with the second: slips there are rare, and words that
//! differ there alone (house, mouse) are many. So is every digit: HB-1004 is not HB-1005.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::lexical::CorpusStats;

/// Most terms of a question that are guessed at, the longest of the unknown ones.
pub const MOST_UNKNOWN: usize = 8;
/// Most neighbouring terms that are read at each place of the vocabulary.
pub const MOST_NEAR: usize = 48;
/// Behind every term that begins with what is before it.
pub const BEYOND: char = char::MAX;

/// Longer questions say enough by themselves.
const MOST_TERMS: usize = 32;
/// Shorter terms have too many neighbours.
const LEAST_CHARS: usize = 4;
/// Longer ones are no words.
const MOST_CHARS: usize = 40;
/// Shorter terms with another letter, or with one too many that is no double, are mostly other words: shoe and shop.
const OTHER_LETTERS: usize = 6;
/// From here on two slips are forgiven.
const TWO_SLIPS: usize = 8;
/// What is left of a term whose end is ignored.
const LEAST_STEM: usize = 5;
/// So much of its end is ignored at most: a misspelled ending, which the stemmer could not remove.
const MOST_ENDING: usize = 4;
/// Most terms that one stands for.
const MOST_STAND_INS: usize = 3;
/// What a term of another spelling counts for, of one that is spelled alike.
const MISSPELLED: f64 = 0.9;
/// What a term counts for that only begins like the one asked for.
const UNFINISHED: f64 = 0.8;

/// Where the vocabulary is to be asked for what one term of a question may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// Place of the term in the question.
    pub term: usize,
    /// Spellings, whole.
    pub whole: Vec<String>,
    /// Spellings with any one letter between the two parts.
    pub gaps: Vec<(String, String)>,
    /// Those letters.
    pub letters: &'static str,
    /// Beginnings of neighbours, of each the first [`MOST_NEAR`] in the order of their bytes.
    pub heads: Vec<String>,
}

/// Where to look for each of `terms`, should it be unknown.
#[must_use]
pub fn guesses(terms: &[String]) -> Vec<Guess> {
    if terms.len() > MOST_TERMS {
        return Vec::new();
    }
    terms
        .iter()
        .enumerate()
        .filter_map(|(place, term)| Guess::new(place, term))
        .collect()
}

impl Guess {
    fn new(term: usize, text: &str) -> Option<Self> {
        let chars: Vec<char> = text.chars().collect();
        let count = chars.len();
        if !(LEAST_CHARS..=MOST_CHARS).contains(&count) || !chars.iter().any(|c| c.is_alphabetic())
        {
            return None;
        }
        let spell = |parts: &[&[char]]| parts.iter().copied().flatten().collect::<String>();
        let letter = |at: usize| chars[at].is_alphabetic();
        let (mut whole, mut gaps) = (Vec::new(), Vec::new());
        for at in 0..count {
            let (before, behind) = (&chars[..at], &chars[at + 1..]);
            if at > 0 && letter(at) && (count >= OTHER_LETTERS || chars[at] == chars[at - 1]) {
                whole.push(spell(&[before, behind]));
            }
            if at > 0 && letter(at) && count >= OTHER_LETTERS {
                gaps.push((spell(&[before]), spell(&[behind])));
            }
            if at > 0 {
                gaps.push((spell(&[before]), spell(&[&chars[at..]])));
            }
            if at + 1 < count && (letter(at) || letter(at + 1)) && chars[at] != chars[at + 1] {
                whole.push(spell(&[
                    before,
                    &[chars[at + 1], chars[at]],
                    &chars[at + 2..],
                ]));
            }
        }
        gaps.push((text.to_owned(), String::new()));
        let least = LEAST_STEM.max(count.saturating_sub(MOST_ENDING));
        whole.extend((least..count.saturating_sub(1)).map(|end| spell(&[&chars[..end]])));
        whole.sort();
        whole.dedup();
        let mut heads = vec![text.to_owned()];
        if count >= TWO_SLIPS {
            heads.push(spell(&[&chars[..LEAST_STEM.max(count / 2)]]));
        }
        Some(Self {
            term,
            whole,
            gaps,
            letters: letters(&chars),
            heads,
        })
    }

    /// All spellings.
    pub fn spellings(&self) -> impl Iterator<Item = String> {
        let between = self.gaps.iter().flat_map(|(before, behind)| {
            self.letters
                .chars()
                .map(move |letter| format!("{before}{letter}{behind}"))
        });
        self.whole.iter().cloned().chain(between)
    }
}

/// The letters of a term's script, as far as they are left when accents are folded.
fn letters(chars: &[char]) -> &'static str {
    match chars.iter().find(|c| c.is_alphabetic()) {
        Some('\u{370}'..='\u{3ff}') => "αβγδεζηθικλμνξοπρςστυφχψω",
        Some('\u{400}'..='\u{4ff}') => "абвгдежзиклмнопрстуфхцчшщъыьэюя",
        Some('\u{0}'..='\u{24f}') => "abcdefghijklmnopqrstuvwxyz",
        _ => "",
    }
}

/// A term of the vocabulary near to one of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// Place of the term in the question.
    pub term: usize,
    /// What is in the index.
    pub found: String,
    /// In how many memories.
    pub frequency: u64,
}

/// A term of the vocabulary that stands for one of the question.
#[derive(Debug, Clone, PartialEq)]
pub struct StandIn {
    /// Place of the term in the question.
    pub term: usize,
    /// What is in the index.
    pub found: String,
    /// In how many memories.
    pub frequency: u64,
    /// What it counts for, of one that is spelled alike; between 0 and 1.
    pub likeness: f64,
}

/// The best of what is near to each unknown term. What is asked for anyhow stands for nothing else, and nothing stands
/// for two.
#[must_use]
pub fn stand_ins(terms: &[String], stats: &CorpusStats) -> Vec<StandIn> {
    let mut by_term: BTreeMap<usize, Vec<StandIn>> = BTreeMap::new();
    for Near {
        term,
        found,
        frequency,
    } in &stats.near
    {
        let Some(asked) = terms
            .get(*term)
            .filter(|_| stats.document_frequencies.get(*term) == Some(&0))
        else {
            continue;
        };
        if let Some(likeness) =
            likeness(asked, found).filter(|_| *frequency > 0 && !terms.contains(found))
        {
            let stand_in = StandIn {
                term: *term,
                found: found.clone(),
                frequency: *frequency,
                likeness,
            };
            by_term.entry(*term).or_default().push(stand_in);
        }
    }
    let mut best: BTreeMap<String, StandIn> = BTreeMap::new();
    for mut near in by_term.into_values() {
        near.sort_by(|a, b| {
            let like = b.likeness.total_cmp(&a.likeness);
            like.then_with(|| b.frequency.cmp(&a.frequency))
                .then_with(|| a.found.cmp(&b.found))
        });
        near.dedup_by(|a, b| a.found == b.found);
        for stand_in in near.into_iter().take(MOST_STAND_INS) {
            let known = best
                .entry(stand_in.found.clone())
                .or_insert_with(|| stand_in.clone());
            if known.likeness < stand_in.likeness {
                *known = stand_in;
            }
        }
    }
    best.into_values().collect()
}

/// How much a term of the index counts for where another one is asked for; nothing where it is too far away.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "terms are short")]
pub fn likeness(asked: &str, found: &str) -> Option<f64> {
    let (a, b): (Vec<char>, Vec<char>) = (asked.chars().collect(), found.chars().collect());
    if a.len() < LEAST_CHARS || a == b {
        return None;
    }
    let digits = |chars: &[char]| {
        chars
            .iter()
            .copied()
            .filter(|c| c.is_numeric())
            .collect::<Vec<_>>()
    };
    let same_digits = digits(&a) == digits(&b);
    let (short, long) = (a.len().min(b.len()) as f64, a.len().max(b.len()) as f64);
    let mut best = None::<f64>;
    let mut take = |likeness: f64| best = Some(best.map_or(likeness, |best| best.max(likeness)));
    let number_goes_on =
        a.last().is_some_and(|c| c.is_numeric()) && b.get(a.len()).is_some_and(|c| c.is_numeric());
    if b.starts_with(&a) && !number_goes_on {
        take(UNFINISHED * short / long);
    }
    if same_digits && a.starts_with(&b) && b.len() >= LEAST_STEM && a.len() - b.len() <= MOST_ENDING
    {
        take(UNFINISHED * short / long);
    }
    let forgiven = if a.len() >= TWO_SLIPS { 2 } else { 1 };
    if same_digits && a.len().abs_diff(b.len()) <= forgiven {
        let swapped = b.len() > 1 && a[0] == b[1] && a[1] == b[0];
        let slips = match () {
            () if a.first() == b.first() => distance(&a, &b),
            () if swapped && a[2..] == b[2..] => 1,
            () => usize::MAX,
        };
        if slips <= forgiven && (a.len() >= OTHER_LETTERS || is_slip(&a, &b)) {
            let alike = 1.0 - slips as f64 / long;
            take(
                MISSPELLED
                    * if a.len() < OTHER_LETTERS {
                        alike * alike
                    } else {
                        alike
                    },
            );
        }
    }
    best
}

/// Of terms one slip apart: whether letters were swapped, doubled or left out.
fn is_slip(asked: &[char], found: &[char]) -> bool {
    let same = asked.iter().zip(found).take_while(|(a, b)| a == b).count();
    match asked.len().cmp(&found.len()) {
        Ordering::Less => true,
        Ordering::Equal => {
            asked.get(same) == found.get(same + 1) && asked.get(same + 1) == found.get(same)
        }
        Ordering::Greater => same > 0 && asked[same] == asked[same - 1],
    }
}

/// Letters left out, put in, replaced or swapped with their neighbour on the way from one to the other.
fn distance(a: &[char], b: &[char]) -> usize {
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
        distance(
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
            let likeness = likeness(asked, found).unwrap_or_else(|| panic!("{asked} {found}"));
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
            assert_eq!(likeness(asked, found), None, "{asked} {found}");
        }
    }

    /// Whatever counts as one slip is asked for, and nothing that is asked for is thrown away.
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
            let guess = Guess::new(0, word).unwrap();
            let spellings: BTreeSet<String> = guess.spellings().collect();
            for spelling in spellings.iter().filter(|spelling| *spelling != word) {
                assert!(likeness(word, spelling).is_some(), "{word} {spelling}");
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
                        || guess.heads.iter().any(|head| other.starts_with(head));
                    assert!(likeness(word, &other).is_none() || within, "{word} {other}");
                }
                for letter in guess.letters.chars() {
                    let (mut more, mut replaced) = (chars.clone(), chars.clone());
                    more.insert(at, letter);
                    replaced[at] = letter;
                    for other in [more, replaced] {
                        let other: String = other.into_iter().collect();
                        assert!(
                            likeness(word, &other).is_none() || spellings.contains(&other),
                            "{word} {other}"
                        );
                    }
                }
            }
        }
        assert_eq!(Guess::new(0, "1984"), None);
        assert_eq!(Guess::new(0, "cat"), None);
        assert_eq!(guesses(&vec!["unknown".to_owned(); 33]), []);
        assert_eq!(
            guesses(&strings(&["ab", "abcd"]))
                .iter()
                .map(|guess| guess.term)
                .collect::<Vec<_>>(),
            [1]
        );
    }

    #[test]
    fn the_best_few_stand_in_for_what_is_unknown_alone() {
        let near = |term: usize, found: &str, frequency: u64| Near {
            term,
            found: found.to_owned(),
            frequency,
        };
        let terms = strings(&["mountian", "known", "mountais", "river"]);
        let stats = CorpusStats {
            document_frequencies: vec![0, 3, 0, 0],
            near: vec![
                near(0, "mountain", 4),
                near(0, "mountains", 9),
                near(0, "mounted", 1),
                near(0, "gone", 1),
                near(1, "knows", 5),
                near(2, "mountain", 4),
                near(3, "river", 1),
                near(3, "riven", 0),
            ],
            ..CorpusStats::default()
        };
        let found = stand_ins(&terms, &stats);
        let found: Vec<(usize, &str)> = found.iter().map(|s| (s.term, s.found.as_str())).collect();
        assert_eq!(found, [(0, "mountain"), (0, "mountains")]);
    }
}
