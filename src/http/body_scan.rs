//! A scan of a JSON body that runs before any parser and stores nothing of the body.
//!
//! Parsers allocate many times the size of a body that consists of small nested values. The scan counts values and
//! levels while the bytes arrive, so that such a body is refused before anything is allocated for it. It also finds the
//! ID of the request, which errors repeat even when the body is too large, too deep or not valid. It is not a
//! validator: what it accepts may still be invalid JSON.

use serde_json::Value;

pub(super) use crate::mcp::{MAX_CONTAINERS, MAX_VALUES};

/// Maximum nesting depth of objects and arrays.
pub(super) const MAX_DEPTH: usize = 64;
/// Maximum length of an ID that is repeated in an error.
const MAX_ID_BYTES: usize = 1024;

/// The limit that a body exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// Levels.
    Depth,
    /// Objects and arrays.
    Containers,
    /// Values.
    Values,
}

/// The position of the scan inside a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escape,
    /// After `\u`: digits seen so far, and their value.
    Unicode(u8, u16),
}

/// The part of an object that the scan is copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    Nothing,
    Key,
    Id,
}

/// The state of a scan. Bytes are pushed in pieces of any size.
#[derive(Debug)]
pub(super) struct BodyScan {
    text: Text,
    depth: usize,
    containers: usize,
    commas: usize,
    excess: Option<Excess>,
    top_is_object: bool,
    expects_key: bool,
    capture: Capture,
    key: Vec<u8>,
    id: Vec<u8>,
    /// The escape before this character was the first half of a surrogate pair.
    after_high_surrogate: bool,
    has_lone_surrogate: bool,
    strings: StringContent,
}

/// Numbers of containers and values that strings would add if they were JSON text. Arguments may be sent as such text,
/// which is parsed later.
#[derive(Debug, Default)]
struct StringContent {
    containers: usize,
    commas: usize,
    /// Bytes of `\u00` seen so far.
    matched: u8,
}

impl StringContent {
    fn push(&mut self, byte: u8) {
        match byte {
            b'[' | b'{' => self.containers += 1,
            b',' => self.commas += 1,
            // An escaped ASCII character may be a bracket, at whatever level of text inside text: `\\u005b`.
            b'2'..=b'7' if self.matched == 4 => self.containers += 1,
            _ => {}
        }
        self.matched = match (self.matched, byte) {
            (_, b'\\') => 1,
            (1, b'u') => 2,
            (2, b'0') => 3,
            (3, b'0') => 4,
            _ => 0,
        };
    }
}

impl Default for BodyScan {
    fn default() -> Self {
        Self {
            text: Text::Outside,
            depth: 0,
            containers: 0,
            commas: 0,
            excess: None,
            top_is_object: false,
            expects_key: false,
            capture: Capture::Nothing,
            key: Vec::new(),
            id: Vec::new(),
            after_high_surrogate: false,
            has_lone_surrogate: false,
            strings: StringContent::default(),
        }
    }
}

impl BodyScan {
    /// Scans the next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// Returns the limit that was exceeded first.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Returns the number of objects and arrays so far.
    pub(super) fn containers(&self) -> usize {
        self.containers
    }

    /// Returns the maximum number of values so far: each one follows a comma or the start of its container.
    pub(super) fn values(&self) -> usize {
        self.containers + self.commas
    }

    /// Returns the maximum number of objects and arrays once JSON text in strings is parsed.
    pub(super) fn possible_containers(&self) -> usize {
        (self.containers + self.strings.containers).min(MAX_CONTAINERS)
    }

    /// Returns the maximum number of values once JSON text in strings is parsed.
    pub(super) fn possible_values(&self) -> usize {
        (self.values() + self.strings.containers + self.strings.commas).min(MAX_VALUES)
    }

    /// Returns whether a string has one half of a surrogate pair without the other (`"\ud83d"`), which no parser
    /// accepts.
    pub(super) fn has_lone_surrogate(&self) -> bool {
        self.has_lone_surrogate
    }

    /// Returns the ID of the request, as far as it was read.
    pub(super) fn id(&self) -> Option<Value> {
        // A string that was cut off fails here.
        let id: Value = serde_json::from_slice(&self.id).ok()?;
        (id.is_string() || id.is_number()).then_some(id)
    }

    fn step(&mut self, byte: u8) {
        if self.text != Text::Outside {
            self.strings.push(byte);
        }
        match self.text {
            Text::Outside => self.step_outside(byte),
            Text::Inside => {
                self.copy(byte);
                match byte {
                    b'\\' => self.text = Text::Escape,
                    b'"' => {
                        self.end_character();
                        self.text = Text::Outside;
                        if self.capture == Capture::Key {
                            self.capture = Capture::Nothing;
                        }
                    }
                    _ => self.end_character(),
                }
            }
            Text::Escape => {
                self.copy(byte);
                if byte == b'u' {
                    self.text = Text::Unicode(0, 0);
                } else {
                    self.end_character();
                    self.text = Text::Inside;
                }
            }
            Text::Unicode(digits, code) => self.step_unicode(byte, digits, code),
        }
    }

    fn step_outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.text = Text::Inside;
                if self.depth == 1 && self.expects_key {
                    self.capture = Capture::Key;
                    self.key.clear();
                } else {
                    self.copy(byte);
                }
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.capture = Capture::Nothing;
                }
            }
            b',' => {
                self.commas += 1;
                self.check(self.values() > MAX_VALUES, Excess::Values);
                if self.depth == 1 {
                    self.capture = Capture::Nothing;
                    self.expects_key = self.top_is_object;
                }
            }
            b':' if self.depth == 1 && self.expects_key => {
                self.expects_key = false;
                if self.key == b"id\"" {
                    self.capture = Capture::Id;
                    self.id.clear();
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => self.copy(byte),
        }
    }

    fn open(&mut self, byte: u8) {
        if self.depth == 0 {
            self.top_is_object = byte == b'{';
            self.expects_key = self.top_is_object;
        }
        // An ID that is an object or an array is not an ID.
        if self.capture == Capture::Id {
            self.capture = Capture::Nothing;
            self.id.clear();
        }
        self.depth += 1;
        self.containers += 1;
        self.check(self.depth > MAX_DEPTH, Excess::Depth);
        self.check(self.containers > MAX_CONTAINERS, Excess::Containers);
        self.check(self.values() > MAX_VALUES, Excess::Values);
    }

    fn step_unicode(&mut self, byte: u8, digits: u8, code: u16) {
        self.copy(byte);
        let Some(digit) = char::from(byte).to_digit(16) else {
            // Not an escape; the parser reports it.
            self.text = if byte == b'"' {
                Text::Outside
            } else {
                Text::Inside
            };
            return;
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a hexadecimal digit has four bits"
        )]
        let code = (code << 4) | digit as u16;
        if digits < 3 {
            self.text = Text::Unicode(digits + 1, code);
            return;
        }
        self.text = Text::Inside;
        match code {
            0xD800..=0xDBFF => {
                self.end_character();
                self.after_high_surrogate = true;
            }
            0xDC00..=0xDFFF if self.after_high_surrogate => self.after_high_surrogate = false,
            0xDC00..=0xDFFF => self.has_lone_surrogate = true,
            _ => self.end_character(),
        }
    }

    /// Another character follows instead of the second half of a pair.
    fn end_character(&mut self) {
        self.has_lone_surrogate |= self.after_high_surrogate;
        self.after_high_surrogate = false;
    }

    fn copy(&mut self, byte: u8) {
        match self.capture {
            Capture::Nothing => {}
            Capture::Key if self.key.len() < 4 => self.key.push(byte),
            Capture::Key => {}
            Capture::Id if self.depth == 1 && self.id.len() < MAX_ID_BYTES => self.id.push(byte),
            Capture::Id => {}
        }
    }

    fn check(&mut self, passed: bool, excess: Excess) {
        if passed && self.excess.is_none() {
            self.excess = Some(excess);
        }
    }
}

/// Replaces every half of a surrogate pair that lacks the other half by the replacement character. Returns the number
/// of replacements.
pub(super) fn replace_lone_surrogates(body: &mut [u8]) -> usize {
    let mut replaced = 0;
    let mut at = 0;
    while at < body.len() {
        if body[at] != b'\\' {
            at += 1;
            continue;
        }
        match escaped_unit(body, at) {
            Some(0xD800..=0xDBFF)
                if matches!(escaped_unit(body, at + 6), Some(0xDC00..=0xDFFF)) =>
            {
                at += 12
            }
            Some(0xD800..=0xDFFF) => {
                body[at + 2..at + 6].copy_from_slice(b"fffd");
                replaced += 1;
                at += 6;
            }
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    replaced
}

/// Returns the code unit of the escape `\uXXXX` at this position.
fn escaped_unit(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scan(body: &str) -> BodyScan {
        let mut scan = BodyScan::default();
        // One byte at a time, because pieces may end anywhere.
        for byte in body.as_bytes() {
            scan.push(&[*byte]);
        }
        scan
    }

    #[test]
    fn the_id_is_found_wherever_it_is() {
        for (body, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x"}"#, json!(7)),
            (
                r#"{"method":"x","params":{"id":1,"a":[{"id":2}]},"jsonrpc":"2.0","id":"last"}"#,
                json!("last"),
            ),
            (r#"{ "id" : -3 , "method":"#, json!(-3)),
            (r#"{"id":"a\"b\\","method":"x""#, json!("a\"b\\")),
            (
                r#"{"id":"seven","params":{"text":"not closed"#,
                json!("seven"),
            ),
            (r#"{"id":1.5}"#, json!(1.5)),
            (r#"{"id":12"#, json!(12)),
            (r#"{"method":"id","id":2}"#, json!(2)),
        ] {
            assert_eq!(scan(body).id(), Some(id), "{body}");
        }
    }

    #[test]
    fn what_is_not_the_id_of_the_request_is_not_taken_for_it() {
        for body in [
            r#"{"id":null}"#,
            r#"{"id":{"id":1}}"#,
            r#"{"id":[1]}"#,
            r#"{"params":{"id":1}}"#,
            r#"[{"id":1}]"#,
            r#"{"idx":1}"#,
            r#"{"method":"id"}"#,
            r#"{"id":"12"#,
            r#""id""#,
            "",
        ] {
            assert_eq!(scan(body).id(), None, "{body}");
        }
    }

    #[test]
    fn depth_containers_and_values_have_limits() {
        let nested = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(scan(&nested(MAX_DEPTH)).excess(), None);
        assert_eq!(scan(&nested(MAX_DEPTH + 1)).excess(), Some(Excess::Depth));
        let containers = |count| format!("[{}{{}}]", "{},".repeat(count - 2));
        assert_eq!(scan(&containers(MAX_CONTAINERS)).excess(), None);
        assert_eq!(
            scan(&containers(MAX_CONTAINERS + 1)).excess(),
            Some(Excess::Containers)
        );
        let values = |count| format!("[{}1]", "1,".repeat(count - 1));
        assert_eq!(scan(&values(MAX_VALUES - 1)).excess(), None);
        assert_eq!(scan(&values(MAX_VALUES + 1)).excess(), Some(Excess::Values));
        // Brackets and commas inside strings are text.
        let text = format!("[\"{}\\\"{}\"]", "[{,".repeat(50_000), "[".repeat(100));
        assert_eq!((scan(&text).excess(), scan(&text).values()), (None, 1));
    }

    #[test]
    fn json_text_in_strings_is_estimated() {
        let possible = |body: &str| {
            let scan = scan(body);
            (scan.possible_containers(), scan.possible_values())
        };
        assert_eq!(possible(r#"{"a":"plain words"}"#), (1, 1));
        assert_eq!(possible(r#"{"a":"[{\"b\":1},2]"}"#), (3, 4));
        // Brackets that are escaped, in text and in text inside text.
        for (escaped, expected) in [
            (r"\u005b\u007b", 3),
            (r"\\u005B\\u007b", 3),
            (r"\u005cu005b", 2),
        ] {
            assert_eq!(
                possible(&format!("{{\"a\":\"{escaped}\"}}")).0,
                expected,
                "{escaped}"
            );
        }
        let text = format!("{{\"a\":\"{}\"}}", "[],".repeat(MAX_VALUES));
        assert_eq!(possible(&text), (MAX_CONTAINERS, MAX_VALUES));
        assert_eq!(scan(&text).excess(), None);
    }

    #[test]
    fn lone_surrogates_are_found_and_replaced() {
        for (body, repaired) in [
            (r#"{"a":"cut \ud83d"}"#, "{\"a\":\"cut \u{fffd}\"}"),
            (
                r#"["\ude00 \ud83d\ude00 \ud83dx \ud83d\n \ud83d\ud83d\ude00"]"#,
                "[\"\u{fffd} 😀 \u{fffd}x \u{fffd}\\n \u{fffd}😀\"]",
            ),
            (
                r#"["\uD83D\uDE00","\\ud83d","\u0041"]"#,
                r#"["😀","\\ud83d","A"]"#,
            ),
        ] {
            let expected: Value = serde_json::from_str(repaired).unwrap();
            let lone = serde_json::from_str::<Value>(body).is_err();
            assert_eq!(scan(body).has_lone_surrogate(), lone, "{body}");
            let mut bytes = body.as_bytes().to_vec();
            assert_eq!(replace_lone_surrogates(&mut bytes) > 0, lone, "{body}");
            assert_eq!(
                serde_json::from_slice::<Value>(&bytes).unwrap(),
                expected,
                "{body}"
            );
        }
    }
}
