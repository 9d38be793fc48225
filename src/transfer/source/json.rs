//! Reads the elements of a large JSON array one after the other. A mistake affects only its element: the array is cut
//! at its commas before anything is parsed, and only one element is in memory at a time.

use std::io::{self, BufRead};

use serde_json::Value;

use crate::domain::lenient_json::{Mender, Repair};

/// A larger element is skipped and reported.
pub(super) const LARGEST_ELEMENT: usize = 64 * 1024 * 1024;

/// An element of the array.
#[derive(Debug)]
pub(super) struct Element {
    /// Index of the wanted member of the outermost object to which it belongs; 0 in an outermost array.
    pub member: usize,
    /// Number of the element, from 1.
    pub number: usize,
    /// Start of the element in the decoded text, for example `line 3, byte 120`.
    pub location: String,
    /// Its value, or the reason why it cannot be parsed.
    pub value: Result<Value, String>,
    /// Repairs of the text.
    pub repairs: Vec<Repair>,
}

/// A flaw of the document around the elements.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is neither an array nor an object with one of the wanted members.
    Unexpected(&'static str),
    /// It ends too early, at this location.
    Truncated(String),
    /// Text follows its end, at this location.
    TrailingText(String),
}

/// The position of the scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Before the first character.
    Start,
    /// In the outermost object, but in no wanted array.
    Object,
    /// In an array whose elements are wanted.
    Elements(usize),
    /// After the outermost value.
    End,
}

struct Scanner<'a> {
    members: &'a [&'a str],
    mender: Mender,
    scope: Scope,
    /// Number of open brackets.
    depth: usize,
    /// Depth of the elements' own brackets.
    base: usize,
    key: Option<String>,
    number: usize,
    line: u64,
    offset: u64,
    /// Line and offset of the current element.
    begin: Option<(u64, u64)>,
    oversized: bool,
    /// Whether a wanted array was found.
    entered: bool,
    trailing: Option<String>,
}

/// Passes the elements of the outermost array, or of the arrays that are `members` of the outermost object, to
/// `each`.
///
/// # Errors
/// Returns the error of the reader or of `each`.
pub(super) fn read_elements<E: From<io::Error>>(
    reader: &mut impl BufRead,
    members: &[&str],
    each: &mut dyn FnMut(Element) -> Result<(), E>,
) -> Result<Option<Flaw>, E> {
    let mut scanner = Scanner::new(members);
    loop {
        let chunk = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if chunk.is_empty() {
            return Ok(scanner.finish());
        }
        for byte in chunk {
            match scanner.push_byte(*byte) {
                Ok(Some(element)) => each(element)?,
                Ok(None) => {}
                Err(flaw) => return Ok(Some(flaw)),
            }
        }
        let used = chunk.len();
        reader.consume(used);
    }
}

impl<'a> Scanner<'a> {
    fn new(members: &'a [&'a str]) -> Self {
        let mut mender = Mender::default();
        mender.collecting = false;
        Self {
            members,
            mender,
            scope: Scope::Start,
            depth: 0,
            base: 0,
            key: None,
            number: 0,
            line: 1,
            offset: 0,
            begin: None,
            oversized: false,
            entered: false,
            trailing: None,
        }
    }

    fn location(&self) -> String {
        format_location(self.line, self.offset)
    }

    fn push_byte(&mut self, byte: u8) -> Result<Option<Element>, Flaw> {
        let was_in_string = self.mender.is_in_string();
        let structural = self.mender.push(byte);
        let is_space = !was_in_string && byte.is_ascii_whitespace();
        let found = match self.scope {
            Scope::Start if is_space => None,
            Scope::Start => {
                self.enter_document(structural)?;
                None
            }
            Scope::Object => {
                self.push_in_object(structural);
                None
            }
            Scope::Elements(member) => self.push_in_elements(member, structural, is_space),
            Scope::End => {
                if !is_space && self.trailing.is_none() {
                    self.trailing = Some(self.location());
                }
                None
            }
        };
        self.offset += 1;
        self.line += u64::from(byte == b'\n');
        Ok(found)
    }

    fn enter_document(&mut self, structural: Option<u8>) -> Result<(), Flaw> {
        self.depth = 1;
        match structural {
            Some(b'[') => self.enter_array(0),
            Some(b'{') => {
                self.scope = Scope::Object;
                self.expect_key();
            }
            _ => return Err(Flaw::Unexpected("it is no JSON")),
        }
        Ok(())
    }

    /// Begins to collect the key of a member.
    fn expect_key(&mut self) {
        self.key = None;
        self.mender.text.clear();
        self.mender.collecting = true;
    }

    fn push_in_object(&mut self, structural: Option<u8>) {
        match structural {
            Some(b':') if self.depth == 1 && self.mender.collecting => {
                let text = std::mem::take(&mut self.mender.text);
                let key = text.strip_suffix(b":").unwrap_or_default();
                self.key = serde_json::from_slice(key).ok();
                self.mender.collecting = false;
            }
            Some(b',') if self.depth == 1 => self.expect_key(),
            Some(b'[') if self.depth == 1 => {
                self.depth += 1;
                let wanted = self
                    .members
                    .iter()
                    .position(|member| self.key.as_deref() == Some(*member));
                if let Some(member) = wanted {
                    self.enter_array(member);
                }
            }
            Some(b'{' | b'[') => self.depth += 1,
            Some(b'}' | b']') => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.scope = Scope::End;
                }
            }
            _ => {}
        }
        if self.mender.text.len() > LARGEST_ELEMENT {
            self.mender.text.clear();
        }
    }

    /// Enters an array whose bracket was just read.
    fn enter_array(&mut self, member: usize) {
        self.scope = Scope::Elements(member);
        self.base = self.depth;
        self.entered = true;
        self.number = 0;
        self.begin_element();
    }

    fn begin_element(&mut self) {
        self.begin = None;
        self.oversized = false;
        self.mender.text.clear();
        self.mender.collecting = true;
        self.mender.take_repairs();
    }

    fn push_in_elements(
        &mut self,
        member: usize,
        structural: Option<u8>,
        is_space: bool,
    ) -> Option<Element> {
        let at_base = self.depth == self.base;
        match structural {
            Some(b',') if at_base => {
                let element = self.end_element(member);
                self.begin_element();
                return element;
            }
            Some(b']' | b'}') if at_base => {
                // An empty array has no element, and neither is there one after a trailing comma.
                let element = if self.begin.is_some() {
                    self.end_element(member)
                } else {
                    None
                };
                self.leave_array();
                return element;
            }
            Some(b'{' | b'[') => self.depth += 1,
            Some(b'}' | b']') => self.depth -= 1,
            _ => {}
        }
        if !is_space && self.begin.is_none() {
            self.begin = Some((self.line, self.offset));
        }
        if self.mender.text.len() > LARGEST_ELEMENT {
            self.oversized = true;
            self.mender.collecting = false;
            self.mender.text = Vec::new();
        }
        None
    }

    fn leave_array(&mut self) {
        self.depth -= 1;
        self.mender.collecting = false;
        self.mender.text = Vec::new();
        self.scope = if self.depth == 0 {
            Scope::End
        } else {
            Scope::Object
        };
    }

    /// Returns the element before the comma or bracket that was just read.
    fn end_element(&mut self, member: usize) -> Option<Element> {
        let (line, offset) = self.begin.unwrap_or((self.line, self.offset));
        self.number += 1;
        let text = &self.mender.text[..self.mender.text.len().saturating_sub(1)];
        let value = if self.oversized {
            Err(format!(
                "it is larger than {} MiB",
                LARGEST_ELEMENT / 1024 / 1024
            ))
        } else {
            serde_json::from_slice(text.trim_ascii_start())
                .map_err(|error| describe_error(&error, line, offset))
        };
        let repairs = self.mender.take_repairs();
        Some(Element {
            member,
            number: self.number,
            location: format_location(line, offset),
            value,
            repairs,
        })
    }

    fn finish(&mut self) -> Option<Flaw> {
        match self.scope {
            Scope::Start => Some(Flaw::Unexpected("it is empty")),
            Scope::End if !self.entered => {
                Some(Flaw::Unexpected("none of the expected lists is in it"))
            }
            Scope::End => self.trailing.take().map(Flaw::TrailingText),
            Scope::Object | Scope::Elements(_) => Some(Flaw::Truncated(match self.begin {
                Some((line, offset)) => {
                    format!(
                        "{}, in the element that begins at {}",
                        self.location(),
                        format_location(line, offset)
                    )
                }
                None => self.location(),
            })),
        }
    }
}

fn format_location(line: u64, offset: u64) -> String {
    format!("line {line}, byte {offset}")
}

/// Formats the parser's error with its position in the file instead of in the element.
fn describe_error(error: &serde_json::Error, line: u64, offset: u64) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    if error.line() <= 1 {
        let column = u64::try_from(error.column()).unwrap_or_default();
        return format!(
            "{reason} at line {line}, byte {}",
            offset + column.saturating_sub(1)
        );
    }
    let below = u64::try_from(error.line()).unwrap_or(1) - 1;
    format!(
        "{reason} at line {}, column {}",
        line + below,
        error.column()
    )
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use serde_json::{Value, json};

    use super::{Element, Flaw, read_elements};

    fn scan(text: &str, members: &[&str]) -> (Vec<Element>, Option<Flaw>) {
        let mut found = Vec::new();
        let mut reader = BufReader::with_capacity(5, text.as_bytes());
        let flaw = read_elements::<std::io::Error>(&mut reader, members, &mut |element| {
            found.push(element);
            Ok(())
        })
        .unwrap();
        (found, flaw)
    }

    fn values(text: &str, members: &[&str]) -> (Vec<Value>, Option<Flaw>) {
        let (found, flaw) = scan(text, members);
        (
            found
                .into_iter()
                .map(|element| element.value.unwrap())
                .collect(),
            flaw,
        )
    }

    #[test]
    fn elements_of_an_array_and_of_members_of_an_object() {
        let text = r#" [ {"a": "],["} , [1,[2]], "x,\"]" ,null, -1.5 ] "#;
        let expected = vec![
            json!({ "a": "],[" }),
            json!([1, [2]]),
            json!("x,\"]"),
            json!(null),
            json!(-1.5),
        ];
        assert_eq!(values(text, &[]), (expected, None));
        assert_eq!(values("[]", &[]), (vec![], None));
        let text = r#"{"x": {"memories": [9]}, "y": [8, "memories"], "mem\u006fries": [1, {"memories": [2]}], "z": 3}"#;
        assert_eq!(
            values(text, &["memories"]),
            (vec![json!(1), json!({ "memories": [2] })], None)
        );
        let (found, flaw) = scan(
            r#"{"entities":[{}],"relations":[{},{}]}"#,
            &["entities", "relations"],
        );
        let members: Vec<(usize, usize)> = found
            .iter()
            .map(|element| (element.member, element.number))
            .collect();
        assert_eq!((members, flaw), (vec![(0, 1), (1, 1), (1, 2)], None));
    }

    #[test]
    fn a_mistake_costs_one_element_and_is_placed() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let text = format!("[1,\n  {{\"a\":: 2}},\n{deep},\n{{\n\"b\":\n*}}, 5]");
        let (found, flaw) = scan(&text, &[]);
        assert_eq!((found.len(), flaw), (5, None));
        let wrong: Vec<String> = found
            .iter()
            .filter_map(|element| element.value.as_ref().err())
            .map(String::to_owned)
            .collect();
        assert_eq!(wrong[0], "expected value at line 2, byte 11");
        assert!(
            wrong[1].starts_with("recursion limit exceeded at line 3"),
            "{wrong:?}"
        );
        assert_eq!(wrong[2], "expected value at line 6, column 1");
        assert_eq!(found[1].location, "line 2, byte 6");
    }

    #[test]
    fn flaws_around_the_elements() {
        let (found, flaw) = values("[1,2,{\"a\"", &[]);
        assert_eq!(found, [json!(1), json!(2)]);
        assert_eq!(
            flaw,
            Some(Flaw::Truncated(
                "line 1, byte 9, in the element that begins at line 1, byte 5".to_owned()
            ))
        );
        assert_eq!(
            values("[1] x", &[]).1,
            Some(Flaw::TrailingText("line 1, byte 4".to_owned()))
        );
        assert_eq!(
            values("dear diary", &[]).1,
            Some(Flaw::Unexpected("it is no JSON"))
        );
        assert_eq!(values(" \n", &[]).1, Some(Flaw::Unexpected("it is empty")));
        let flaw = Some(Flaw::Unexpected("none of the expected lists is in it"));
        assert_eq!(values("{\"other\": 1}", &["memories"]), (vec![], flaw));
    }
}
