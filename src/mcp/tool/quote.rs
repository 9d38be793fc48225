//! Stored text inside answers. A memory must not be mistaken for a line of the answer, for example a heading or another
//! memory: every line of it is marked, and names that belong on one line stay on it.

/// Marks every line of a stored text.
const MARK: &str = "> ";

/// Returns a stored text with a mark before each of its lines.
pub(super) fn quote_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut quoted = String::with_capacity(text.len() + MARK.len());
    for (index, line) in text
        .trim_end_matches(breaks_line)
        .split(breaks_line)
        .enumerate()
    {
        if index > 0 {
            quoted.push('\n');
        }
        quoted.push_str(MARK);
        quoted.push_str(line);
    }
    quoted
}

/// Returns a stored name, tag or reason on a single line.
pub(super) fn inline_text(text: &str) -> String {
    text.chars()
        .map(|c| {
            if breaks_line(c) || c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Returns the beginning of a stored text on a single line, up to `most` characters.
pub(super) fn first_chars(text: &str, most: usize) -> String {
    let mut start: String = inline_text(text.trim()).chars().take(most).collect();
    if text.trim().chars().nth(most).is_some() {
        start.push('…');
    }
    start
}

/// Returns whether some program displays the character as the end of a line.
fn breaks_line(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_marked() {
        assert_eq!(quote_lines("one"), "> one");
        assert_eq!(
            quote_lines("one\r\n# two\n\n[note 0190] three\n"),
            "> one\n> # two\n> \n> [note 0190] three"
        );
        for separator in [
            '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
        ] {
            assert_eq!(
                quote_lines(&format!("a{separator}# b")),
                "> a\n> # b",
                "{separator:?}"
            );
        }
    }

    #[test]
    fn names_stay_on_one_line() {
        assert_eq!(
            inline_text("Ada\n# Tasks\u{2028}x\u{1b}[2K"),
            "Ada # Tasks x [2K"
        );
        assert_eq!(first_chars("  one\ntwo three ", 7), "one two…");
        assert_eq!(first_chars("one", 7), "one");
    }
}
