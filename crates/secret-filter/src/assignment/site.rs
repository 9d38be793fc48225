//! Finds pairs of a name and a value: around `=`, `:` and `=>`, between quotes that a comma separates, and in markup.

use std::ops::Range;

/// Maximum number of bytes in which a name is searched before a separator.
const LONGEST_NAME: usize = 48;
/// Maximum number of blanks and quotes between a separator and the value.
const LONGEST_GAP: usize = 12;
/// Maximum length of a value; a longer one is data.
const LONGEST_VALUE: usize = 1024;
/// Maximum distance between the name and the value of `name: API_KEY, value: …`.
const LONGEST_PAIR: usize = 120;

/// A name, and the place behind its separator, where the value follows.
pub(super) struct Site {
    pub(super) name: Range<usize>,
    after: usize,
}

/// A value, and whether it begins on the line after its name.
pub(super) struct SiteValue {
    pub(super) range: Range<usize>,
    pub(super) is_on_next_line: bool,
}

/// Returns the names in a text that a separator follows.
pub(super) fn find_sites(text: &str) -> impl Iterator<Item = Site> {
    text.bytes()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'=' | b':' | b',' | b'>'))
        .filter_map(move |(at, separator)| read_site(text, at, separator))
}

fn read_site(text: &str, at: usize, separator: u8) -> Option<Site> {
    let name = find_name(text, at)?;
    let is_possible = match separator {
        b',' => is_quote_before(text, at) && is_quote_after(text, at + 1),
        // A path such as `Token::new`.
        b':' => !text[..at].ends_with(':') && !text[at + 1..].starts_with(':'),
        b'>' => text[..name.start].ends_with('<'),
        _ => true,
    };
    is_possible.then(|| Site {
        name: replace_generic_name(text, name, separator),
        after: at + 1,
    })
}

impl Site {
    /// Reads the value; `None` if there is none, or one that is too long.
    pub(super) fn read_value(&self, text: &str) -> Option<SiteValue> {
        find_value(text, self.after)
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`' | b'\\')
}

fn is_quote_before(text: &str, at: usize) -> bool {
    text[..at]
        .trim_end_matches(' ')
        .bytes()
        .last()
        .is_some_and(is_quote)
}

fn is_quote_after(text: &str, at: usize) -> bool {
    text[at..]
        .trim_start_matches(' ')
        .bytes()
        .next()
        .is_some_and(is_quote)
}

/// Returns the words directly before a position, behind which quotes, brackets and a remark in parentheses may follow.
fn find_name(text: &str, at: usize) -> Option<Range<usize>> {
    let from = text.ceil_char_boundary(at.saturating_sub(LONGEST_NAME));
    let before = &text[from..at];
    let mut end = before.trim_end_matches(is_decoration).len();
    if before[..end].ends_with(')') {
        let remark = before[..end].rfind('(')?;
        end = before[..remark].trim_end_matches(is_decoration).len();
    }
    let is_other = |c: char| !(c.is_alphanumeric() || "_-. ".contains(c));
    let start = before[..end].rfind(is_other).map_or(0, |place| {
        place + before[place..].chars().next().map_or(1, char::len_utf8)
    });
    (start < end).then(|| from + start..from + end)
}

fn is_decoration(c: char) -> bool {
    " \t\"'`\\]*=:?".contains(c)
}

/// Returns the name of what follows if the word before the separator is a type (`const API_KEY: &str = …`) or the word
/// `value` (`name: API_KEY, value: …`).
fn replace_generic_name(text: &str, name: Range<usize>, separator: u8) -> Range<usize> {
    let word = text[name.clone()].trim();
    if word.eq_ignore_ascii_case("value") {
        return find_paired_name(text, name.start).unwrap_or(name);
    }
    if separator != b'=' {
        return name;
    }
    let from = text.ceil_char_boundary(name.start.saturating_sub(LONGEST_NAME));
    let is_type = |c: char| c.is_alphanumeric() || "_&<>'[ ".contains(c);
    let before = text[from..name.start].trim_end_matches(is_type);
    match before.strip_suffix(':') {
        Some(named) if !named.ends_with(':') => find_name(text, from + named.len()).unwrap_or(name),
        _ => name,
    }
}

fn find_paired_name(text: &str, at: usize) -> Option<Range<usize>> {
    let from = text.ceil_char_boundary(at.saturating_sub(LONGEST_PAIR));
    let before = &text[from..at];
    let label = ["name", "Name", "key", "Key"]
        .iter()
        .flat_map(|label| before.match_indices(label))
        .map(|(place, label)| place + label.len())
        .filter(|end| is_separator_next(&before[*end..]))
        .max()?;
    let value = find_value(text, from + label)?.range;
    (value.end <= at).then_some(value)
}

fn is_separator_next(text: &str) -> bool {
    text.trim_start_matches(['"', '\'', '\\', ' '])
        .starts_with(['=', ':'])
}

/// Returns the value at a position.
fn find_value(text: &str, at: usize) -> Option<SiteValue> {
    let end = text.floor_char_boundary(text.len().min(at + LONGEST_GAP + LONGEST_VALUE));
    let after = &text[at..end];
    let gap = after.find(|c: char| !(is_decoration(c) || "\r\n>".contains(c)))?;
    let between = &after[..gap];
    let lines = between.matches('\n').count();
    if gap > LONGEST_GAP || lines > 1 {
        return None;
    }
    let quote = between.chars().rev().find(|c| "\"'`".contains(*c));
    let rest = &after[gap..];
    let length = match quote {
        Some(quote) => quoted_length(rest, quote)?,
        None => bare_length(rest),
    };
    (length > 0 && length < LONGEST_VALUE).then(|| SiteValue {
        range: at + gap..at + gap + length,
        is_on_next_line: lines > 0,
    })
}

/// Returns the length of a value up to its closing quote. A value with blanks is a sentence.
fn quoted_length(rest: &str, quote: char) -> Option<usize> {
    let end = rest.find(|c: char| c == quote || c.is_whitespace())?;
    let length = rest[..end].trim_end_matches('\\').len();
    rest[end..].starts_with(quote).then_some(length)
}

/// Returns the length of a value without quotes, which may contain punctuation but does not end with it.
fn bare_length(rest: &str) -> usize {
    let is_end = |c: char| c.is_whitespace() || "\"'`<>|\\".contains(c);
    let value = &rest[..rest.find(is_end).unwrap_or(rest.len())];
    let value = &value[..find_next_pair(value).unwrap_or(value.len())];
    let mut value = value.trim_end_matches(['.', ',', ';', ':', '*', '。', '、', '，']);
    for (opening, closing) in [('(', ')'), ('[', ']'), ('{', '}')] {
        if !value.contains(opening) {
            value = value.trim_end_matches(closing);
        }
    }
    value.trim_end_matches(['.', ',', ';']).len()
}

/// Returns the place of a separator that begins another pair: `&lang=de`, `;Encrypt=true`.
fn find_next_pair(value: &str) -> Option<usize> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || "_-. ".contains(c);
    value
        .char_indices()
        .filter(|(_, c)| "&;,".contains(*c))
        .map(|(at, _)| at)
        .find(|at| {
            let next = &value[at + 1..];
            let name = next.find(|c| !is_name_char(c)).unwrap_or(next.len());
            name > 0 && next[name..].starts_with('=')
        })
}
