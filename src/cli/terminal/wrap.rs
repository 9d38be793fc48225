//! Columns of text on a terminal: its width, and its line breaks.

use unicode_segmentation::UnicodeSegmentation;

/// Returns the columns of a grapheme: two for wide East Asian characters and for pictures.
fn columns(grapheme: &str) -> usize {
    let Some(first) = grapheme.chars().next() else {
        return 0;
    };
    let wide = matches!(u32::from(first),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60
        | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

/// Returns the columns of a text.
pub(super) fn width(text: &str) -> usize {
    text.graphemes(true).map(columns).sum()
}

/// Shortens a text to `room` columns, with dots in place of missing text.
pub(super) fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for grapheme in text.graphemes(true) {
        let next = columns(grapheme);
        if used + next > room.saturating_sub(1) {
            break;
        }
        out.push_str(grapheme);
        used += next;
    }
    out.trim_end().to_owned() + "…"
}

/// Splits a line into lines of at most `room` columns, between words if possible.
pub(super) fn wrap(line: &str, room: usize) -> Vec<String> {
    let (mut lines, mut current, mut used) = (Vec::new(), String::new(), 0);
    for word in unbroken_parts(line) {
        let blank = word.trim().is_empty();
        if used + width(&word) > room && used > 0 {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            used = 0;
            if blank {
                continue;
            }
        }
        for grapheme in word.graphemes(true) {
            if used + columns(grapheme) > room && used > 0 {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push_str(grapheme);
            used += columns(grapheme);
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// Returns the parts of a line that stay together: addresses, paths and words with their punctuation.
fn unbroken_parts(line: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in line.split_word_bounds() {
        match parts.last_mut() {
            Some(last) if !may_break_between(last, word) => last.push_str(word),
            _ => parts.push(word.to_owned()),
        }
    }
    parts
}

/// Returns whether a line may end here: at white space and, in scripts without spaces, between characters, but
/// not before closing punctuation.
fn may_break_between(before: &str, after: &str) -> bool {
    const CLOSING: [char; 14] = [
        '。', '、', '，', '．', '：', '；', '！', '？', '」', '』', '）', '】', '》', '〉',
    ];
    if before.trim().is_empty() || after.trim().is_empty() {
        return true;
    }
    let is_wide = |sign: Option<&str>| sign.is_some_and(|sign| columns(sign) > 1);
    let (last, first) = (
        before.graphemes(true).next_back(),
        after.graphemes(true).next(),
    );
    (is_wide(last) || is_wide(first)) && !after.starts_with(CLOSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_punctuation_stay_with_their_words() {
        let text = "See https://example.com/a/long/path?x=1&y=2, or `serve --listen`, then /var/lib/memory.db.";
        assert_eq!(
            wrap(text, 43),
            [
                "See",
                "https://example.com/a/long/path?x=1&y=2, or",
                "`serve --listen`, then /var/lib/memory.db."
            ]
        );
        assert_eq!(
            wrap("港は深いです。船は九時", 12),
            ["港は深いで", "す。船は九時"]
        );
    }
}
