//! Removes from a turn the parts that must not or need not be stored.

use std::ops::Range;

/// Tag of text that the user excludes from the memory.
const PRIVATE: &str = "private";
/// Tags of text that the client adds to messages, and that nobody wrote.
const ADDED_BY_CLIENT: [&str; 7] = [
    "system-reminder",
    "local-command-caveat",
    "local-command-stdout",
    "local-command-stderr",
    "command-name",
    "command-message",
    "environment_context",
];

/// Returns the text without `<private>…</private>` and without text that the client added. A `<private>` that is never
/// closed extends to the end.
#[must_use]
pub fn clean_text(text: &str) -> String {
    let mut cleaned = remove_private(text);
    for tag in ADDED_BY_CLIENT {
        cleaned = remove_closed(&cleaned, tag);
    }
    cleaned.trim().to_owned()
}

/// Removes the private parts, which may be nested.
fn remove_private(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let (mut depth, mut from) = (0_usize, 0);
    while let Some((tag, opens)) = next_tag(text, from, PRIVATE) {
        if depth == 0 {
            kept.push_str(&text[from..tag.start]);
        }
        match (opens, depth) {
            (true, _) => depth += 1,
            // A closing tag alone is text.
            (false, 0) => kept.push_str(&text[tag.clone()]),
            (false, _) => depth -= 1,
        }
        from = tag.end;
    }
    if depth == 0 {
        kept.push_str(&text[from..]);
    }
    kept
}

/// Removes the parts between an opening and the next closing tag. An opening tag without a closing one is text.
fn remove_closed(text: &str, name: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    while let Some((open, true)) = next_tag(text, from, name) {
        let Some(close) = find_closing_tag(text, open.end, name) else {
            break;
        };
        kept.push_str(&text[from..open.start]);
        from = close.end;
    }
    kept.push_str(&text[from..]);
    kept
}

fn find_closing_tag(text: &str, mut from: usize, name: &str) -> Option<Range<usize>> {
    while let Some((tag, opens)) = next_tag(text, from, name) {
        if !opens {
            return Some(tag);
        }
        from = tag.end;
    }
    None
}

/// Finds the next `<name>` or `</name>`, in any case and with spaces before the `>`. Returns whether it opens.
fn next_tag(text: &str, from: usize, name: &str) -> Option<(Range<usize>, bool)> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(found) = text.get(at..)?.find('<') {
        let start = at + found;
        let opens = bytes.get(start + 1) != Some(&b'/');
        let word = start + 1 + usize::from(!opens);
        let matches = bytes
            .get(word..word + name.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(name.as_bytes()));
        if matches {
            let spaces = bytes[word + name.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            let end = word + name.len() + spaces;
            if bytes.get(end) == Some(&b'>') {
                return Some((start..end + 1, opens));
            }
        }
        at = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_parts_are_removed() {
        for (text, expected) in [
            ("a <private>b</private> c", "a  c"),
            ("a <PRIVATE >b</Private> c", "a  c"),
            ("a <private>b <private>c</private> d</private> e", "a  e"),
            ("a <private>b", "a"),
            ("a </private> b", "a </private> b"),
            ("<private>all</private>", ""),
            ("a < b and <privateer>", "a < b and <privateer>"),
            ("ü<private>é</private>ö", "üö"),
        ] {
            assert_eq!(clean_text(text), expected, "{text}");
        }
    }

    #[test]
    fn text_of_the_client_is_removed() {
        let text = "<system-reminder>date</system-reminder>\nFix the test <system-reminder> please";
        assert_eq!(clean_text(text), "Fix the test <system-reminder> please");
        let command = "<command-name>/x</command-name><command-message>x</command-message>Run it";
        assert_eq!(clean_text(command), "Run it");
    }

    proptest::proptest! {
        #[test]
        fn no_private_text_remains(before in "[a-z <>/]{0,20}", after in "[a-z ]{0,20}") {
            let text = format!("{before}<private>SECRET</private>{after}");
            proptest::prop_assert!(!clean_text(&text).contains("SECRET"));
        }
    }
}
