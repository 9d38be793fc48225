//! The part of a long text that a search matched.

use std::collections::BTreeSet;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;

/// Stands for text that was left out.
const ELLIPSIS: char = '…';
/// Most characters that an excerpt gives up in order to begin and end between words.
const MOST_SNAPPED: usize = 20;
/// Most matches that are compared.
const MOST_MATCHES: usize = 10_000;
/// Fewest characters of two excerpts; a smaller room has one.
const LEAST_FOR_TWO: usize = 160;

/// Returns at most `room` characters of `text`: those around its passage `nearest` to the query, or around most of the
/// `terms`, which are stems, or the beginning. If the terms are elsewhere than the passage, each gets half of the room.
/// Ellipses mark where text is missing.
#[must_use]
pub fn shorten_to_passage(
    text: &str,
    terms: &[&str],
    nearest: Option<&Range<usize>>,
    room: usize,
) -> String {
    let signs: Vec<char> = text.chars().collect();
    if signs.len() <= room {
        return text.to_owned();
    }
    let inner = room.saturating_sub(2);
    if inner < 2 * MOST_SNAPPED {
        return shorten_to_beginning(&signs, room);
    }
    let matches = list_matches(&signs, terms);
    let by_words = Window::with_most_terms(&matches, inner);
    let Some(passage) = nearest.and_then(|range| count_characters(text, range)) else {
        return cut_excerpt(&signs, by_words.start, room);
    };
    let around = Window::around_passage(&matches, &passage, inner);
    if by_words.terms <= around.terms || room < LEAST_FOR_TWO {
        return cut_excerpt(&signs, around.start, room);
    }
    let half = (room - 1) / 2;
    let by_words = Window::with_most_terms(&matches, half - 2).start;
    let around = Window::around_passage(&matches, &passage, half - 2).start;
    let (first, second) = (by_words.min(around), by_words.max(around));
    if second - first < half {
        return cut_excerpt(&signs, first, room);
    }
    let parts = [first, second].map(|start| cut_excerpt(&signs, start, half));
    parts.join(" ")
}

/// A range of bytes as a range of characters; `None` if the text has no such range.
fn count_characters(text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let passage = text.get(range.clone())?;
    let start = text[..range.start].chars().count();
    let leading = passage.chars().take_while(|c| c.is_whitespace()).count();
    let length = passage.trim_end().chars().count();
    Some(start + leading.min(length)..start + length)
}

/// At most `room` characters from about `start` on, with ellipses.
fn cut_excerpt(signs: &[char], start: usize, room: usize) -> String {
    if start == 0 {
        return shorten_to_beginning(signs, room);
    }
    let inner = room.saturating_sub(2);
    let start = find_next_word(signs, start.min(signs.len().saturating_sub(inner)));
    let rest: String = if start + inner >= signs.len() {
        signs[start..].iter().collect()
    } else {
        shorten_to_beginning(&signs[start..], inner + 1)
    };
    format!("{ELLIPSIS}{rest}")
}

/// The beginning, with an ellipsis, in at most `room` characters.
fn shorten_to_beginning(signs: &[char], room: usize) -> String {
    if signs.len() <= room {
        return signs.iter().collect();
    }
    let end = room.saturating_sub(1);
    let snapped = (end.saturating_sub(MOST_SNAPPED)..end)
        .rev()
        .find(|at| signs[*at].is_whitespace());
    let mut text: String = signs[..snapped.unwrap_or(end)].iter().collect();
    text.truncate(text.trim_end().len());
    if room > 0 {
        text.push(ELLIPSIS);
    }
    text
}

fn find_next_word(signs: &[char], start: usize) -> usize {
    if start == 0 || signs[start - 1].is_whitespace() {
        return start;
    }
    let space =
        (start..signs.len().min(start + MOST_SNAPPED)).find(|at| signs[*at].is_whitespace());
    space.map_or(start, |at| at + 1)
}

/// A place where a word begins with a term.
#[derive(Debug, Clone, Copy)]
struct Match {
    at: usize,
    term: usize,
}

fn list_matches(signs: &[char], terms: &[&str]) -> Vec<Match> {
    let folded: Vec<char> = signs.iter().map(|sign| fold_character(*sign)).collect();
    let stems: Vec<Vec<char>> = terms.iter().map(|term| fold_stem(term)).collect();
    let mut found = Vec::new();
    for at in 0..folded.len() {
        let inside_word = at > 0 && folded[at - 1].is_alphanumeric() && folded[at].is_lowercase();
        if inside_word {
            continue;
        }
        let matching = stems
            .iter()
            .enumerate()
            .filter(|(_, stem)| !stem.is_empty() && folded[at..].starts_with(stem));
        found.extend(matching.map(|(term, _)| Match { at, term }));
        if found.len() >= MOST_MATCHES {
            break;
        }
    }
    found
}

/// Stemmers turn a final y into i.
fn fold_stem(term: &str) -> Vec<char> {
    let mut signs: Vec<char> = term.chars().map(fold_character).collect();
    if signs.len() > 3 && signs.last() == Some(&'i') {
        signs.pop();
    }
    signs
}

/// One character for each, so that positions stay the same.
fn fold_character(sign: char) -> char {
    let base = std::iter::once(sign).nfd().next().unwrap_or(sign);
    base.to_lowercase().next().unwrap_or(base)
}

/// A part of a text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Window {
    start: usize,
    /// Number of different terms in it.
    terms: usize,
}

impl Window {
    /// The window of `room` characters with the most different terms, then the most matches. Some text before the first match
    /// is kept.
    fn with_most_terms(matches: &[Match], room: usize) -> Self {
        let (mut best, mut window) = ((0, 0), Self::default());
        for (index, first) in matches.iter().enumerate() {
            let within: Vec<usize> = matches[index..]
                .iter()
                .take_while(|one| one.at - first.at < room * 3 / 4)
                .take(100)
                .map(|one| one.term)
                .collect();
            let terms = within.iter().collect::<BTreeSet<_>>().len();
            if (terms, within.len()) > best {
                best = (terms, within.len());
                let start = first.at.saturating_sub(room / 5);
                window = Self { start, terms };
            }
        }
        window
    }

    /// The window of `room` characters that contains a passage, with some text before it.
    fn around_passage(matches: &[Match], passage: &Range<usize>, room: usize) -> Self {
        let before = (room / 5).min(room.saturating_sub(passage.len()) / 2);
        let start = passage.start.saturating_sub(before);
        let inside = matches
            .iter()
            .filter(|one| (start..start + room).contains(&one.at));
        let terms = inside.map(|one| one.term).collect::<BTreeSet<_>>().len();
        Self { start, terms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(middle: &str) -> String {
        format!(
            "{}{middle}{}",
            "Nothing of interest. ".repeat(40),
            " More of the same.".repeat(40)
        )
    }

    #[test]
    fn short_texts_stay_whole() {
        assert_eq!(
            shorten_to_passage("Tea at four.", &["tea"], None, 12),
            "Tea at four."
        );
        assert_eq!(shorten_to_passage("", &[], None, 0), "");
    }

    #[test]
    fn the_matching_passage_is_shown() {
        let text = long("The code of the safe is 4711, says Marta.");
        let shown = shorten_to_passage(&text, &["safe", "code"], None, 120);
        assert!(shown.contains("The code of the safe is 4711"), "{shown}");
        assert!(
            shown.starts_with('…') && shown.ends_with('…') && shown.chars().count() <= 120,
            "{shown}"
        );
    }

    #[test]
    fn case_accents_and_endings_do_not_matter() {
        for (word, term) in [
            ("Résumés", "resum"),
            ("PARTIES", "parti"),
            ("Schlüssel", "schlussel"),
            ("北京", "北京"),
        ] {
            let shown = shorten_to_passage(&long(word), &[term], None, 100);
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }

    #[test]
    fn a_text_without_a_match_begins_at_its_beginning() {
        let shown = shorten_to_passage(&long("x"), &["absent"], None, 60);
        assert!(
            shown.starts_with("Nothing of interest.") && shown.ends_with('…'),
            "{shown}"
        );
    }

    #[test]
    fn the_nearest_passage_is_shown_even_without_a_common_word() {
        let text = long("The safe opens with 4711, says Marta.");
        let start = text.find("The safe").unwrap();
        let nearest = start..start + "The safe opens with 4711, says Marta.".len();
        for room in [80, 120, 300] {
            let shown = shorten_to_passage(&text, &["absent"], Some(&nearest), room);
            assert!(
                shown.contains("opens with 4711, says Marta."),
                "{room}: {shown}"
            );
        }
        let beyond = text.len()..text.len() + 5;
        let shown = shorten_to_passage(&text, &[], Some(&beyond), 100);
        assert!(shown.starts_with("Nothing of interest."), "{shown}");
    }

    #[test]
    fn words_far_from_the_nearest_passage_are_shown_beside_it() {
        let text = format!(
            "{}{}",
            long("Error E18 means a blocked drain."),
            long("Marta empties the filter.")
        );
        let start = text.find("Marta").unwrap();
        let nearest = start..start + "Marta empties the filter.".len();
        let shown = shorten_to_passage(&text, &["e18", "error"], Some(&nearest), 200);
        assert!(
            shown.contains("Error E18") && shown.contains("Marta empties"),
            "{shown}"
        );
        let small = shorten_to_passage(&text, &["e18", "error"], Some(&nearest), 100);
        assert!(
            !small.contains("Error E18") && small.contains("Marta empties"),
            "{small}"
        );
    }

    #[test]
    fn no_excerpt_is_longer_than_its_room() {
        let text = long("Ein Wort, das paßt, und 北京.");
        let ranges = [
            None,
            Some(0..10),
            Some(800..840),
            Some(text.len() - 9..text.len()),
        ];
        for room in 0..220 {
            for terms in [&["passt"][..], &["nothing", "same"], &["北京"], &[]] {
                for nearest in &ranges {
                    let shown = shorten_to_passage(&text, terms, nearest.as_ref(), room);
                    assert!(shown.chars().count() <= room, "{room} {terms:?}: {shown}");
                }
            }
        }
    }
}
