//! Selects the part of a long text that a search matched.

use unicode_normalization::UnicodeNormalization as _;

/// Marks text that was left out.
const ELLIPSIS: char = '…';
/// Maximum number of characters that a passage gives up to begin and end between words.
const MOST_SNAPPED: usize = 20;
/// Maximum number of matches that are compared.
const MOST_MATCHES: usize = 10_000;

/// Returns at most `room` characters of `text`: those around the most of `terms`, which are stems. Returns the
/// beginning if no term matches. Ellipses mark missing text.
#[must_use]
pub fn passage(text: &str, terms: &[&str], room: usize) -> String {
    let signs: Vec<char> = text.chars().collect();
    if signs.len() <= room {
        return text.to_owned();
    }
    let inner = room.saturating_sub(2);
    if inner < 2 * MOST_SNAPPED {
        return shortened(&signs, room);
    }
    let start = best_start(&matches(&signs, terms), inner);
    if start == 0 {
        return shortened(&signs, room);
    }
    let start = start.min(signs.len() - inner);
    let start = next_word(&signs, start);
    let end = (start + inner).min(signs.len());
    let rest: String = if end == signs.len() {
        signs[start..].iter().collect()
    } else {
        shortened(&signs[start..], inner + 1)
    };
    format!("{ELLIPSIS}{rest}")
}

/// Returns the beginning with an ellipsis, in at most `room` characters.
fn shortened(signs: &[char], room: usize) -> String {
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

fn next_word(signs: &[char], start: usize) -> usize {
    let space =
        (start..signs.len().min(start + MOST_SNAPPED)).find(|at| signs[*at].is_whitespace());
    space.map_or(start, |at| at + 1)
}

/// Returns the positions at which a word begins with a term, and the index of the term.
fn matches(signs: &[char], terms: &[&str]) -> Vec<(usize, usize)> {
    let folded: Vec<char> = signs.iter().map(|sign| fold(*sign)).collect();
    let stems: Vec<Vec<char>> = terms.iter().map(|term| stem(term)).collect();
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
        found.extend(matching.map(|(term, _)| (at, term)));
        if found.len() >= MOST_MATCHES {
            break;
        }
    }
    found
}

/// Removes a final y, because stemmers convert it to i.
fn stem(term: &str) -> Vec<char> {
    let mut signs: Vec<char> = term.chars().map(fold).collect();
    if signs.len() > 3 && signs.last() == Some(&'i') {
        signs.pop();
    }
    signs
}

/// Folds to one character each, so that positions are preserved.
fn fold(sign: char) -> char {
    let base = std::iter::once(sign).nfd().next().unwrap_or(sign);
    base.to_lowercase().next().unwrap_or(base)
}

/// Returns the start of the `room` characters that contain the most different terms, then the most matches. Some text
/// before the first match is kept.
fn best_start(matches: &[(usize, usize)], room: usize) -> usize {
    let (mut best, mut start) = ((0, 0), 0);
    for (index, (first, _)) in matches.iter().enumerate() {
        let within = || {
            matches[index..]
                .iter()
                .take_while(|(at, _)| at - first < room * 3 / 4)
                .take(100)
        };
        let mut terms: Vec<usize> = within().map(|(_, term)| *term).collect();
        let count = terms.len();
        terms.sort_unstable();
        terms.dedup();
        if (terms.len(), count) > best {
            best = (terms.len(), count);
            start = first.saturating_sub(room / 5);
        }
    }
    start
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
        assert_eq!(passage("Tea at four.", &["tea"], 12), "Tea at four.");
        assert_eq!(passage("", &[], 0), "");
    }

    #[test]
    fn the_matching_passage_is_shown() {
        let text = long("The code of the safe is 4711, says Marta.");
        let shown = passage(&text, &["safe", "code"], 120);
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
            let shown = passage(&long(word), &[term], 100);
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }

    #[test]
    fn a_text_without_a_match_begins_at_its_beginning() {
        let shown = passage(&long("x"), &["absent"], 60);
        assert!(
            shown.starts_with("Nothing of interest.") && shown.ends_with('…'),
            "{shown}"
        );
    }

    #[test]
    fn no_passage_is_longer_than_its_room() {
        let text = long("Ein Wort, das passt.");
        for room in 0..200 {
            for terms in [&["passt"][..], &["nothing", "same"], &[]] {
                let shown = passage(&text, terms, room);
                assert!(shown.chars().count() <= room, "{room} {terms:?}: {shown}");
            }
        }
    }
}
