//! Repairs invalid JSON that other programs write: `NaN` and `Infinity` become `null`, half of a surrogate pair
//! becomes U+FFFD, and raw control characters in strings are escaped.
//!
//! Processes one byte at a time, so that files of any size are supported. The input must be valid UTF-8; the parser
//! reports all other errors.

use std::fmt;

/// Maximum length of a word outside of strings; longer ones are not JSON and are not kept.
const LONGEST_TOKEN: usize = 1024;

/// A kind of repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// An escape, for example `\ud83d`, without its other half.
    LoneSurrogate,
    /// `NaN`, `Infinity`, or a number that is too large.
    NotANumber,
    /// An unescaped control character.
    ControlCharacter,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoneSurrogate => "half of a surrogate pair was replaced by U+FFFD",
            Self::NotANumber => {
                "a number that JSON does not have (NaN, Infinity or too large) was read as null"
            }
            Self::ControlCharacter => "an unescaped control character in a string was escaped",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    OutsideStrings,
    InString,
    AfterBackslash,
    InUnicodeEscape,
}

/// Reads JSON byte by byte and collects the repaired text.
#[derive(Debug)]
pub struct Mender {
    state: State,
    /// The repaired text, while `collecting`.
    pub(crate) text: Vec<u8>,
    /// Whether text is collected.
    pub(crate) collecting: bool,
    token: Vec<u8>,
    hex: Vec<u8>,
    /// The first half of a pair, whose second half may follow.
    high_surrogate: Option<u16>,
    repairs: Vec<Repair>,
}

impl Default for Mender {
    fn default() -> Self {
        Self {
            state: State::OutsideStrings,
            text: Vec::new(),
            collecting: true,
            token: Vec::new(),
            hex: Vec::new(),
            high_surrogate: None,
            repairs: Vec::new(),
        }
    }
}

impl Mender {
    /// Reads the next byte. Returns it if it is structural: a bracket, comma or colon outside of strings, or the quote
    /// that begins a string.
    pub fn push(&mut self, byte: u8) -> Option<u8> {
        match self.state {
            State::OutsideStrings => return self.push_outside(byte),
            State::InString => self.push_in_string(byte),
            State::AfterBackslash if byte == b'u' => {
                self.hex.clear();
                self.state = State::InUnicodeEscape;
            }
            State::AfterBackslash => {
                self.settle_high_surrogate();
                self.emit(&[b'\\', byte]);
                self.state = State::InString;
            }
            State::InUnicodeEscape => self.push_hex_digit(byte),
        }
        None
    }

    /// Returns whether the bytes so far end inside a string.
    #[must_use]
    pub fn is_in_string(&self) -> bool {
        self.state != State::OutsideStrings
    }

    /// Returns the kinds of repairs since the last call, each once.
    pub fn take_repairs(&mut self) -> Vec<Repair> {
        std::mem::take(&mut self.repairs)
    }

    /// Completes a word at the end of the input.
    pub fn finish(&mut self) {
        self.end_token();
    }

    fn push_outside(&mut self, byte: u8) -> Option<u8> {
        match byte {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                self.end_token();
                self.emit(&[byte]);
                Some(byte)
            }
            b'"' => {
                self.end_token();
                self.emit(&[byte]);
                self.state = State::InString;
                Some(byte)
            }
            b' ' | b'\t' | b'\n' | b'\r' => {
                self.end_token();
                self.emit(&[byte]);
                None
            }
            _ => {
                self.token.push(byte);
                if self.token.len() > LONGEST_TOKEN {
                    self.end_token();
                }
                None
            }
        }
    }

    fn push_in_string(&mut self, byte: u8) {
        if byte == b'\\' {
            self.state = State::AfterBackslash;
            return;
        }
        self.settle_high_surrogate();
        match byte {
            0..=0x1f => {
                self.note(Repair::ControlCharacter);
                self.emit_unit(u16::from(byte));
            }
            b'"' => {
                self.emit(&[byte]);
                self.state = State::OutsideStrings;
            }
            _ => self.emit(&[byte]),
        }
    }

    fn push_hex_digit(&mut self, byte: u8) {
        if !byte.is_ascii_hexdigit() {
            // Not a valid escape; the parser reports it.
            self.settle_high_surrogate();
            let hex = std::mem::take(&mut self.hex);
            self.emit(b"\\u");
            self.emit(&hex);
            self.state = State::InString;
            self.push_in_string(byte);
            return;
        }
        self.hex.push(byte);
        if self.hex.len() == 4 {
            let unit = std::str::from_utf8(&self.hex)
                .ok()
                .and_then(|hex| u16::from_str_radix(hex, 16).ok());
            self.state = State::InString;
            self.push_unit(unit.unwrap_or_default());
        }
    }

    fn push_unit(&mut self, unit: u16) {
        match (self.high_surrogate, unit) {
            (Some(high), 0xdc00..=0xdfff) => {
                self.high_surrogate = None;
                self.emit_unit(high);
                self.emit_unit(unit);
            }
            (_, 0xd800..=0xdbff) => {
                self.settle_high_surrogate();
                self.high_surrogate = Some(unit);
            }
            (_, 0xdc00..=0xdfff) => {
                self.note(Repair::LoneSurrogate);
                self.emit_unit(0xfffd);
            }
            _ => {
                self.settle_high_surrogate();
                self.emit_unit(unit);
            }
        }
    }

    /// Replaces the first half of a pair whose second half did not follow.
    fn settle_high_surrogate(&mut self) {
        if self.high_surrogate.take().is_some() {
            self.note(Repair::LoneSurrogate);
            self.emit_unit(0xfffd);
        }
    }

    fn end_token(&mut self) {
        if self.token.is_empty() {
            return;
        }
        let token = std::mem::take(&mut self.token);
        if is_no_json_number(&token) {
            self.note(Repair::NotANumber);
            self.emit(b"null");
        } else {
            self.emit(&token);
        }
        self.token = token;
        self.token.clear();
    }

    fn emit_unit(&mut self, unit: u16) {
        self.emit(format!("\\u{unit:04x}").as_bytes());
    }

    fn emit(&mut self, bytes: &[u8]) {
        if self.collecting {
            self.text.extend_from_slice(bytes);
        }
    }

    fn note(&mut self, repair: Repair) {
        if self.collecting && !self.repairs.contains(&repair) {
            self.repairs.push(repair);
        }
    }
}

/// Returns whether a word is a number for the program that wrote it, but not in JSON.
fn is_no_json_number(token: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(token) else {
        return false;
    };
    let name = token.trim_start_matches(['-', '+']).to_ascii_lowercase();
    if ["nan", "inf", "infinity"].contains(&name.as_str()) {
        return true;
    }
    let is_numeric = token.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_numeric && token.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Repairs a whole text. Also returns the kinds of repairs, each once.
#[must_use]
pub fn mend(text: &str) -> (String, Vec<Repair>) {
    let mut mender = Mender::default();
    for byte in text.bytes() {
        mender.push(byte);
    }
    mender.finish();
    let repairs = mender.take_repairs();
    (String::from_utf8_lossy(&mender.text).into_owned(), repairs)
}

/// Parses a text after repairing it.
///
/// # Errors
/// The errors of the parser.
pub fn parse(text: &str) -> serde_json::Result<serde_json::Value> {
    serde_json::from_str(text).or_else(|_| serde_json::from_str(&mend(text).0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Repair, mend, parse};

    #[test]
    fn valid_json_passes_through_unchanged() {
        let text =
            r#" {"a": [1, -2.5e10, true, null, "é \u00e9 \\u \" \ud83d\ude00 \/ NaN"], "": {}} "#;
        assert_eq!(mend(text), (text.to_owned(), Vec::new()));
    }

    #[test]
    fn numbers_that_json_does_not_have_become_null() {
        let (text, repairs) =
            mend(r#"{"a":NaN,"b":[Infinity,-Infinity, nan],"c":1e999,"d":-1e999,"e":"NaN"}"#);
        assert_eq!(
            text,
            r#"{"a":null,"b":[null,null, null],"c":null,"d":null,"e":"NaN"}"#
        );
        assert_eq!(repairs, [Repair::NotANumber]);
        assert_eq!(mend("NaN").0, "null");
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced_wherever_they_are() {
        for (broken, expected) in [
            (r#""cut \ud83d""#, "cut \u{fffd}"),
            (r#""\ude00 low""#, "\u{fffd} low"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\uD83D\\ude00""#, "\u{fffd}\\ude00"),
        ] {
            let (text, repairs) = mend(broken);
            assert_eq!(
                serde_json::from_str::<Value>(&text).unwrap(),
                json!(expected),
                "{broken}"
            );
            assert_eq!(repairs, [Repair::LoneSurrogate], "{broken}");
        }
    }

    #[test]
    fn raw_control_characters_are_escaped_and_other_mistakes_are_left_to_the_parser() {
        assert_eq!(parse("\"a\tb\nc\"").unwrap(), json!("a\tb\nc"));
        for broken in [r#"{"a":}"#, r#""\ud8zz""#, "nul", "[1,]", r#""\x""#] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
