//! Sentences of a paragraph, in any script.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

/// Longest piece in bytes. A longer sentence is cut at a clause, a space or a character.
pub(super) const LONGEST_PIECE: usize = 400;
/// Highest number before a period that may be an ordinal ("am 3. Mai").
const HIGHEST_ORDINAL: u32 = 31;
/// Characters of each part of an abbreviation with inner periods ("e.g.", "z.B.").
const ABBREVIATED_CHARS: usize = 2;
/// Words before a period that does not end a sentence, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "abs", "approx", "art", "av", "bspw", "bzw", "ca", "capt", "cf", "col", "dept", "dr", "dra",
    "ed", "eds", "est", "etc", "evtl", "fig", "figs", "gen", "ggf", "gov", "hr", "inkl", "jr",
    "kap", "lt", "max", "min", "mlle", "mme", "mr", "mrs", "ms", "mt", "mwst", "no", "nos", "nr",
    "op", "pag", "pp", "prof", "resp", "rev", "sec", "sen", "sgt", "sog", "sr", "sra", "st", "str",
    "tel", "usw", "vgl", "vol", "vols", "vs",
];

/// Divides a paragraph into sentences without gaps. Line breaks inside of it count as spaces.
pub(super) fn split_sentences(paragraph: &str) -> Vec<Range<usize>> {
    // One byte for another, so that positions stay the same.
    let joined = paragraph.replace(['\n', '\r'], " ");
    let mut sentences: Vec<Range<usize>> = Vec::new();
    for (start, sentence) in joined.split_sentence_bound_indices() {
        let end = start + sentence.len();
        match sentences.last_mut() {
            Some(last) if continues_sentence(&joined[last.clone()], sentence) => last.end = end,
            _ => sentences.push(start..end),
        }
    }
    sentences
}

/// Divides a prompt into statements: its lines and sentences that have a word, whether or not the next one begins with a
/// capital letter.
#[must_use]
pub fn split_statements(text: &str) -> Vec<Range<usize>> {
    let mut statements = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for sentence in split_sentences(line) {
            let range = start + sentence.start..start + sentence.end;
            statements.extend(split_before_small_letters(text, range));
        }
        start += line.len();
    }
    statements.retain(|range| text[range.clone()].chars().any(char::is_alphanumeric));
    statements
}

/// Divides a sentence after marks that end a sentence although a small letter follows.
fn split_before_small_letters(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = sentence.start;
    let marks = text[sentence.clone()].match_indices(['.', '!', '?', '…']);
    for (at, mark) in marks {
        let end = sentence.start + at + mark.len();
        let (before, next) = (&text[start..end], &text[end..sentence.end]);
        let is_small = next.trim_start().starts_with(char::is_lowercase);
        let ends = (is_small && ends_with_letter(before)) || !continues_sentence(before, next);
        if next.starts_with(char::is_whitespace) && ends {
            parts.push(start..end);
            start = end;
        }
    }
    if start < sentence.end {
        parts.push(start..sentence.end);
    }
    parts
}

/// Whether a text ends with a single capital letter and a period. Before a small letter that is no initial.
fn ends_with_letter(text: &str) -> bool {
    let last = text.split_whitespace().next_back();
    let word = last.and_then(|word| word.strip_suffix('.'));
    word.is_some_and(|word| word.chars().count() == 1 && word.chars().all(char::is_uppercase))
}

/// Whether `next` belongs to the sentence before it, which ends with an abbreviation or an ordinal, or has no word.
fn continues_sentence(before: &str, next: &str) -> bool {
    let has_word = |text: &str| text.chars().any(char::is_alphanumeric);
    if !has_word(next) || !has_word(before) {
        return true;
    }
    let Some(rest) = before.trim_end().strip_suffix('.') else {
        return false;
    };
    let separates = |c: char| c.is_whitespace() || (!c.is_alphanumeric() && c != '.');
    let word = rest.rsplit(separates).next().unwrap_or(rest);
    is_abbreviation(word) || is_ordinal(word)
}

fn is_abbreviation(word: &str) -> bool {
    let short = |part: &str| {
        let letters = part.chars().all(char::is_alphabetic);
        letters && part.chars().count() <= ABBREVIATED_CHARS && !part.is_empty()
    };
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    is_initial
        || (word.contains('.') && word.split('.').all(short))
        || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

fn is_ordinal(word: &str) -> bool {
    word.parse()
        .is_ok_and(|number: u32| number <= HIGHEST_ORDINAL)
}

/// Divides a piece that is longer than `longest` bytes without gaps: after a clause, a word or a character.
pub(super) fn cut_long_piece(text: &str, piece: Range<usize>, longest: usize) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = piece.start;
    while piece.end - start > longest {
        let end = start + find_cut(&text[start..piece.end], longest);
        pieces.push(start..end);
        start = end;
    }
    if start < piece.end {
        pieces.push(start..piece.end);
    }
    pieces
}

/// The position after at most `longest` bytes where `text` is cut, at least one character.
fn find_cut(text: &str, longest: usize) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let limit = text.floor_char_boundary(longest).max(first);
    let start = text.floor_char_boundary(limit / 2);
    let (mut clause, mut space) = (None, None);
    for (at, c) in text[start..limit].char_indices() {
        let after = start + at + c.len_utf8();
        if matches!(
            c,
            '\n' | ';' | ',' | '–' | '—' | '،' | '؛' | '、' | '，' | '；' | '：' | '।'
        ) {
            clause = Some(after);
        } else if c.is_whitespace() {
            space = Some(after);
        }
    }
    clause.or(space).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let ranges = split_sentences(text).into_iter();
        ranges.map(|range| text[range].trim()).collect()
    }

    #[test]
    fn sentences_end_where_readers_see_their_end() {
        for (text, expected) in [
            (
                "One fact. Another one! A third?",
                &["One fact.", "Another one!", "A third?"][..],
            ),
            (
                "Das ist am 3. Mai. Dr. Weber kommt, z.B. um acht.",
                &["Das ist am 3. Mai.", "Dr. Weber kommt, z.B. um acht."],
            ),
            (
                "Ask J. R. Smith vs. Mrs. Jones, e.g. Today. Done.",
                &["Ask J. R. Smith vs. Mrs. Jones, e.g. Today.", "Done."],
            ),
            (
                "Version 2.5 costs 3.50 a month. See docs.example.org for more.",
                &[
                    "Version 2.5 costs 3.50 a month.",
                    "See docs.example.org for more.",
                ],
            ),
            (
                "会议在三点。地点是北京！带电脑吗？",
                &["会议在三点。", "地点是北京！", "带电脑吗？"],
            ),
            (
                "कल बारिश होगी। छाता ले जाओ।",
                &["कल बारिश होगी।", "छाता ले जाओ।"],
            ),
            ("هل تأتي؟ نعم سآتي.", &["هل تأتي؟", "نعم سآتي."]),
            ("Он пришёл. Она ушла.", &["Он пришёл.", "Она ушла."]),
            (
                "A sentence that is\nwrapped twice\r\nby its writer. The next.",
                &[
                    "A sentence that is\nwrapped twice\r\nby its writer.",
                    "The next.",
                ],
            ),
            ("Well... perhaps.", &["Well... perhaps."]),
            ("😀😀 😀", &["😀😀 😀"]),
        ] {
            assert_eq!(sentences(text), expected, "{text}");
        }
        assert!(split_sentences("").is_empty());
    }

    #[test]
    fn a_single_letter_ends_a_statement_before_a_small_letter() {
        let statements = |text: &'static str| -> Vec<&str> {
            let ranges = split_statements(text).into_iter();
            ranges.map(|range| text[range].trim()).collect()
        };
        assert_eq!(
            statements("We chose plan B. which port is it"),
            ["We chose plan B.", "which port is it"]
        );
        assert_eq!(statements("Ask J. R. Smith"), ["Ask J. R. Smith"]);
    }

    #[test]
    fn long_pieces_are_cut_at_clauses_words_or_characters() {
        let cut = |text: &'static str, longest| -> Vec<&str> {
            let pieces = cut_long_piece(text, 0..text.len(), longest).into_iter();
            pieces.map(|piece| &text[piece]).collect()
        };
        assert_eq!(cut("short", 10), ["short"]);
        assert_eq!(cut("one two, three four", 12), ["one two,", " three four"]);
        assert_eq!(cut("one two three four", 10), ["one two ", "three four"]);
        assert_eq!(cut("aaaaaaaaaa", 4), ["aaaa", "aaaa", "aa"]);
        assert_eq!(cut("ああああ", 4), ["あ", "あ", "あ", "あ"]);
        assert_eq!(cut("あい", 1), ["あ", "い"]);
    }
}
