//! Divides a text into passages of one to three sentences, each about one thing.
//!
//! An embedding is an average of its text: among several facts, each one gets lost. Passages end where sentences,
//! paragraphs, list items, table rows and lines of code end. Headings begin a passage. A short text is one passage.

use std::iter;
use std::ops::Range;

use super::sentence::{LONGEST_PIECE, cut_long_piece, split_sentences};

/// Texts of at most this many bytes are one passage.
pub const SHORT_BYTES: usize = 160;
/// Turns of a conversation of at most this many bytes are one passage: a speaker mostly talks about one thing at a time.
pub const SHORT_TURN_BYTES: usize = 400;
/// Texts of at most this many bytes also have a vector of the whole text, because their sentences are often about one thing.
const WHOLE_BYTES: usize = 300;
/// Most passages of a text. Passages of longer texts have more sentences.
pub const MOST_PASSAGES: usize = 128;
/// Sentences join a passage up to this number of bytes.
const TARGET_BYTES: usize = 100;
/// A shorter piece says too little by itself: it joins its neighbor.
const SCRAP_BYTES: usize = 25;
/// A line of at least this many bytes without an end of a sentence was wrapped by its writer.
const WRAPPED_BYTES: usize = 60;
/// Longest heading in bytes.
const HEADING_BYTES: usize = 80;

/// The passages of a text, without gaps; of a text of a few sentences, also all of it at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passages {
    /// Number of the first passage. Vectors are stored under these numbers: a short text has the number 0, and the passages
    /// of a longer text have the numbers from 1 on, which tells them from vectors of whole texts.
    pub first: u32,
    /// Their positions in the text.
    pub ranges: Vec<Range<usize>>,
}

/// Divides a text into at most [`MOST_PASSAGES`] passages, and at least one. `is_turn` states whether it is a turn of a
/// conversation.
#[must_use]
pub fn split_passages(text: &str, is_turn: bool) -> Passages {
    let short = if is_turn {
        SHORT_TURN_BYTES
    } else {
        SHORT_BYTES
    };
    if text.len() <= short {
        return Passages {
            first: 0,
            ranges: iter::once(0..text.len()).collect(),
        };
    }
    let mut ranges = group_pieces(&list_pieces(text));
    if text.len() <= WHOLE_BYTES && ranges.len() > 1 {
        ranges.push(0..text.len());
    }
    Passages { first: 1, ranges }
}

/// The position of the passage with a stored number. `None` for the whole text, and if the text has no such passage.
#[must_use]
pub fn find_passage(text: &str, number: u32) -> Option<Range<usize>> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    group_pieces(&list_pieces(text)).get(index).cloned()
}

/// A part of a text that passages do not divide.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    range: Range<usize>,
    /// Whether it begins a paragraph, a list or another block.
    begins_block: bool,
    is_heading: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKind {
    Blank,
    Heading,
    /// An item of a list.
    Item,
    /// A row of a table, or a line of code.
    Row,
    Prose,
}

#[derive(Debug, Clone)]
struct Line {
    range: Range<usize>,
    kind: LineKind,
}

fn list_pieces(text: &str) -> Vec<Piece> {
    let lines = classify_lines(text);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut begins_block = true;
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        let count = count_joined(text, &lines[at..]);
        let paragraph = line.range.start..lines[at + count - 1].range.end;
        at += count;
        if line.kind == LineKind::Blank {
            begins_block = true;
            match pieces.last_mut() {
                Some(last) => last.range.end = paragraph.end,
                None => pieces.push(Piece {
                    range: paragraph,
                    begins_block,
                    is_heading: true,
                }),
            }
            continue;
        }
        let is_heading = line.kind == LineKind::Heading;
        let sentences = match line.kind {
            LineKind::Item | LineKind::Prose => split_sentences(&text[paragraph.clone()]),
            LineKind::Blank | LineKind::Heading | LineKind::Row => {
                iter::once(0..paragraph.len()).collect()
            }
        };
        for sentence in sentences {
            let range = paragraph.start + sentence.start..paragraph.start + sentence.end;
            for range in cut_long_piece(text, range, LONGEST_PIECE) {
                pieces.push(Piece {
                    range,
                    begins_block: begins_block || is_heading,
                    is_heading,
                });
                begins_block = false;
            }
        }
    }
    pieces
}

fn classify_lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut in_code = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let is_fence = trimmed.starts_with("```") || trimmed.starts_with("~~~");
        let kind = match in_code || is_fence {
            true => LineKind::Row,
            false => classify_line(trimmed),
        };
        in_code ^= is_fence;
        lines.push(Line {
            range: start..start + line.len(),
            kind,
        });
        start += line.len();
    }
    mark_standalone_headings(text, &mut lines);
    lines
}

fn classify_line(trimmed: &str) -> LineKind {
    if trimmed.is_empty() {
        LineKind::Blank
    } else if trimmed.starts_with('|') {
        LineKind::Row
    } else if is_list_item(trimmed) {
        LineKind::Item
    } else if is_marked_heading(trimmed) {
        LineKind::Heading
    } else {
        LineKind::Prose
    }
}

/// Whether a line begins with a bullet or a number.
fn is_list_item(trimmed: &str) -> bool {
    let bullet = trimmed.strip_prefix(['-', '*', '+', '•', '–', '·', '◦']);
    let number = trimmed.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = (number.len() < trimmed.len()).then(|| number.strip_prefix(['.', ')']));
    bullet
        .or(numbered.flatten())
        .is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

/// Whether a line is a heading of Markdown, or announces what follows.
fn is_marked_heading(trimmed: &str) -> bool {
    let marks = trimmed.len() - trimmed.trim_start_matches('#').len();
    let is_markdown = (1..=6).contains(&marks) && trimmed[marks..].starts_with(' ');
    let is_bold = trimmed.starts_with("**") && trimmed.ends_with("**");
    let announces = trimmed.ends_with([':', '：']);
    trimmed.len() <= HEADING_BYTES && (is_markdown || is_bold || announces)
}

/// A short line without an end of a sentence between two blank lines is a heading.
fn mark_standalone_headings(text: &str, lines: &mut [Line]) {
    for at in 0..lines.len() {
        let is_blank = |line: Option<&Line>| line.is_none_or(|line| line.kind == LineKind::Blank);
        let alone = at
            .checked_sub(1)
            .is_none_or(|before| is_blank(lines.get(before)));
        let followed = lines
            .get(at + 1)
            .is_some_and(|line| line.kind == LineKind::Blank)
            && lines.get(at + 2).is_some();
        let content = text[lines[at].range.clone()].trim();
        if lines[at].kind == LineKind::Prose
            && alone
            && followed
            && content.len() <= HEADING_BYTES
            && !ends_sentence(content)
        {
            lines[at].kind = LineKind::Heading;
        }
    }
}

/// How many of the first `lines` form one paragraph, at least one.
fn count_joined(text: &str, lines: &[Line]) -> usize {
    let joins = |pair: &[Line]| {
        let (before, next) = (&text[pair[0].range.clone()], &text[pair[1].range.clone()]);
        let wraps = matches!(pair[0].kind, LineKind::Prose | LineKind::Item);
        let is_wrapped = || {
            !ends_sentence(before.trim()) && (before.len() >= WRAPPED_BYTES || begins_lower(next))
        };
        wraps && pair[1].kind == LineKind::Prose && is_wrapped()
    };
    1 + lines.windows(2).take_while(|pair| joins(pair)).count()
}

fn ends_sentence(line: &str) -> bool {
    let end = line.trim_end_matches(['"', '\'', ')', ']', '”', '“', '»', '*', '_']);
    end.ends_with([
        '.', '!', '?', ':', ';', '。', '！', '？', '।', '؟', '…', '۔',
    ])
}

fn begins_lower(line: &str) -> bool {
    line.trim_start().starts_with(char::is_lowercase)
}

/// Joins pieces to passages: within blocks up to the target; if there are too many, everywhere and up to more.
fn group_pieces(pieces: &[Piece]) -> Vec<Range<usize>> {
    let mut target = TARGET_BYTES;
    let mut passages = join_pieces(pieces, |passage, piece| {
        joins_passage(passage, piece, target)
    });
    while passages.len() > MOST_PASSAGES {
        target *= 2;
        passages = join_pieces(pieces, |passage, piece| {
            passage.range.len() + piece.range.len() <= target
        });
    }
    passages.into_iter().map(|passage| passage.range).collect()
}

fn join_pieces(pieces: &[Piece], joins: impl Fn(&Piece, &Piece) -> bool) -> Vec<Piece> {
    let mut passages: Vec<Piece> = Vec::new();
    for piece in pieces {
        match passages.last_mut() {
            Some(passage) if joins(passage, piece) => {
                passage.range.end = piece.range.end;
                passage.is_heading &= piece.is_heading;
            }
            _ => passages.push(piece.clone()),
        }
    }
    passages
}

fn joins_passage(passage: &Piece, piece: &Piece, target: usize) -> bool {
    let together = passage.range.len() + piece.range.len();
    let is_scrap = |range: &Range<usize>| range.len() < SCRAP_BYTES;
    if passage.is_heading {
        return together <= LONGEST_PIECE;
    }
    if piece.is_heading || together > LONGEST_PIECE {
        return false;
    }
    let room = if is_scrap(&piece.range) {
        target + SCRAP_BYTES
    } else {
        target
    };
    (!piece.begins_block && together <= room) || is_scrap(&passage.range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passages(text: &str) -> Vec<&str> {
        let ranges = group_pieces(&list_pieces(text)).into_iter();
        ranges.map(|range| text[range].trim()).collect()
    }

    #[test]
    fn short_texts_are_one_passage_with_the_number_0() {
        for text in ["", "Tea at four.", &"One. Two. ".repeat(16)] {
            let whole = Passages {
                first: 0,
                ranges: iter::once(0..text.len()).collect(),
            };
            assert_eq!(split_passages(text, false), whole);
            assert_eq!(find_passage(text, 0), None);
        }
    }

    #[test]
    fn turns_of_a_conversation_stay_whole_up_to_a_greater_length() {
        let turn = "I went to the market. It rained all day long there. ".repeat(7);
        assert_eq!(split_passages(&turn, true).first, 0);
        assert_eq!(split_passages(&turn, false).first, 1);
        assert_eq!(split_passages(&turn.repeat(2), true).first, 1);
    }

    #[test]
    fn each_fact_of_one_line_is_a_passage() {
        let facts = [
            "The heron service listens on port 8123 since the move to the new cluster in April.",
            "Marta's birthday is on the 4th of May, and she prefers lemon cake to chocolate.",
            "The boiler was serviced by Mr. Weber on 3 March, who replaced the pressure valve.",
        ];
        for joint in [" ", "\n\n", "\n"] {
            let text = facts.join(joint);
            assert_eq!(passages(&text), facts);
            let ranges = split_passages(&text, false).ranges;
            assert_eq!(ranges.last(), Some(&(0..text.len())), "a short paragraph");
            let longer = split_passages(&text.repeat(2), false).ranges;
            assert!(longer.iter().all(|range| range.len() < text.len()));
        }
        let text = facts.join(" ");
        assert_eq!(&text[find_passage(&text, 2).unwrap()].trim(), &facts[1]);
        assert_eq!(find_passage(&text, 4), None);
    }

    #[test]
    fn short_sentences_of_a_paragraph_join() {
        let text = "The gate is green. The key is under the pot. Ring twice. The dog is friendly but loud. \
                    Wi-Fi is called Heron. The password is on the fridge. Bins go out on Mondays.";
        let expected = [
            "The gate is green. The key is under the pot. Ring twice. The dog is friendly but loud. Wi-Fi is called Heron.",
            "The password is on the fridge. Bins go out on Mondays.",
        ];
        assert_eq!(passages(text), expected);
    }

    #[test]
    fn headings_begin_passages_and_items_and_rows_are_pieces() {
        let text = "# Restore a backup\n\n1. Stop the service with systemctl and wait until no process is left.\n\
                    2. Copy the archive from the vault to the folder for temporary files,\n   which needs six gigabytes.\n\n\
                    | host | port |\n|---|---|\n| heron | 8123 |\n\n```\npsql wiki < dump.sql\n```\n";
        let expected = [
            "# Restore a backup\n\n1. Stop the service with systemctl and wait until no process is left.",
            "2. Copy the archive from the vault to the folder for temporary files,\n   which needs six gigabytes.",
            "| host | port |\n|---|---|\n| heron | 8123 |",
            "```\npsql wiki < dump.sql\n```",
        ];
        assert_eq!(passages(text), expected);
    }

    #[test]
    fn texts_without_ends_of_sentences_are_cut() {
        let words = "word ".repeat(2_000);
        let joined = "x".repeat(64 * 1024);
        let chinese = "字".repeat(20_000);
        let emoji = "😀".repeat(16_000);
        for text in [&words, &joined, &chinese, &emoji] {
            let count = split_passages(text, false).ranges.len();
            assert!((10..=MOST_PASSAGES).contains(&count), "{count}");
        }
    }

    #[test]
    fn the_longest_text_has_a_bounded_number_of_passages() {
        let sentences = "Every fact counts here. ".repeat(2_730);
        let lines = "- an item of a list\n\n".repeat(3_000);
        for text in [sentences, lines] {
            let passages = split_passages(&text, false);
            assert!(passages.ranges.len() <= MOST_PASSAGES);
            assert!(passages.ranges.len() > MOST_PASSAGES / 4);
        }
    }

    proptest! {
        #[test]
        fn passages_cover_the_text_in_order(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "One fact. ", "z.B. am 3. Mai", "\n", "\n\n", "- item", "# Title\n", "```\n", "| a | b |\n", "字句。", "สวัสดี",
                    "e\u{301}", "😀", "word ", "; ", "\r\n", "\u{2028}", "  ", "a:\n", "?! ", "मराठी। ", "\u{a0}",
                ]),
                0..400,
            ),
            free in "\\PC{0,300}",
        ) {
            let text = parts.concat() + &free;
            let passages = split_passages(&text, false);
            prop_assert!((1..=MOST_PASSAGES).contains(&passages.ranges.len()));
            prop_assert_eq!(&passages, &split_passages(&text, false));
            prop_assert_eq!(passages.first, u32::from(text.len() > SHORT_BYTES));
            let mut end = 0;
            let whole = 0..text.len();
            let count = passages.ranges.len();
            for range in passages.ranges.iter().filter(|range| count == 1 || **range != whole) {
                prop_assert_eq!(range.start, end);
                prop_assert!(text.get(range.clone()).is_some());
                prop_assert!(range.end > range.start || text.is_empty());
                end = range.end;
            }
            prop_assert_eq!(end, text.len());
        }
    }
}
