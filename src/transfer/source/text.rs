//! Decodes text files of other programs to UTF-8: with or without a byte order mark, UTF-16, and with invalid bytes.
//! Bytes that cannot be decoded become U+FFFD, and their positions are recorded.

use crate::domain::count::count_of;
use std::io::{self, BufRead, Read};

const CHUNK_BYTES: usize = 64 * 1024;
/// Maximum number of listed positions of invalid bytes.
const LISTED_PLACES: usize = 10;
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big_endian: bool },
}

/// Decodes the bytes of another reader.
pub struct TextReader<R> {
    raw: R,
    encoding: Option<Encoding>,
    /// Bytes that are not decoded yet.
    input: Vec<u8>,
    /// Offset of `input` in the file.
    offset: u64,
    output: Vec<u8>,
    position: usize,
    ended: bool,
    undecodable: u64,
    first_undecodable: Vec<u64>,
}

impl<R> std::fmt::Debug for TextReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextReader")
            .field("encoding", &self.encoding)
            .field("offset", &self.offset)
            .finish()
    }
}

impl<R: Read> TextReader<R> {
    /// Reads from the beginning of a file.
    pub fn new(raw: R) -> Self {
        Self {
            raw,
            encoding: None,
            input: Vec::new(),
            offset: 0,
            output: Vec::new(),
            position: 0,
            ended: false,
            undecodable: 0,
            first_undecodable: Vec::new(),
        }
    }

    /// Describes the bytes so far that could not be decoded.
    #[must_use]
    pub fn undecodable(&self) -> Option<String> {
        let first = self.first_undecodable.first()?;
        let places: Vec<String> = self
            .first_undecodable
            .iter()
            .skip(1)
            .map(u64::to_string)
            .collect();
        let mut text = format!("byte {first}");
        for place in places {
            text.push_str(", byte ");
            text.push_str(&place);
        }
        let more = self
            .undecodable
            .saturating_sub(self.first_undecodable.len() as u64);
        if more > 0 {
            text.push_str(&format!(" and {}", count_of(more, "more place")));
        }
        let encoding = if self.encoding == Some(Encoding::Utf8) {
            "UTF-8"
        } else {
            "UTF-16"
        };
        Some(format!("{text}: invalid {encoding} was replaced by U+FFFD"))
    }

    fn fill_output(&mut self) -> io::Result<()> {
        self.output.clear();
        self.position = 0;
        self.read_chunk()?;
        // The first four bytes determine the encoding.
        while self.encoding.is_none() && self.input.len() < 4 && !self.ended {
            self.read_chunk()?;
        }
        let encoding = match self.encoding {
            Some(encoding) => encoding,
            None => self.detect_encoding(),
        };
        let decoded = match encoding {
            Encoding::Utf8 => self.decode_utf8(),
            Encoding::Utf16 { big_endian } => self.decode_utf16(big_endian),
        };
        self.input.drain(..decoded);
        self.offset += decoded as u64;
        Ok(())
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let before = self.input.len();
        self.input.resize(before + CHUNK_BYTES, 0);
        let read = loop {
            match self.raw.read(&mut self.input[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.input.truncate(before + *read.as_ref().unwrap_or(&0));
        self.ended |= read? == 0;
        Ok(())
    }

    fn detect_encoding(&mut self) -> Encoding {
        let (encoding, mark) = match *self.input.as_slice() {
            [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
            [0xff, 0xfe, ..] => (Encoding::Utf16 { big_endian: false }, 2),
            [0xfe, 0xff, ..] => (Encoding::Utf16 { big_endian: true }, 2),
            // ASCII characters, with one of which JSON and Markdown begin.
            [1..=0x7f, 0, 1..=0x7f, 0, ..] => (Encoding::Utf16 { big_endian: false }, 0),
            [0, 1..=0x7f, 0, 1..=0x7f, ..] => (Encoding::Utf16 { big_endian: true }, 0),
            _ => (Encoding::Utf8, 0),
        };
        self.input.drain(..mark);
        self.offset += mark as u64;
        self.encoding = Some(encoding);
        encoding
    }

    /// Decodes the input to the output; returns the number of decoded bytes.
    fn decode_utf8(&mut self) -> usize {
        let mut done = 0;
        while done < self.input.len() {
            match std::str::from_utf8(&self.input[done..]) {
                Ok(_) => {
                    self.output.extend_from_slice(&self.input[done..]);
                    done = self.input.len();
                }
                Err(error) => {
                    self.output
                        .extend_from_slice(&self.input[done..done + error.valid_up_to()]);
                    done += error.valid_up_to();
                    let length = match error.error_len() {
                        Some(length) => length,
                        None if self.ended => self.input.len() - done,
                        // The rest of the character is in the next chunk.
                        None => return done,
                    };
                    self.replace_undecodable(done);
                    done += length;
                }
            }
        }
        done
    }

    fn decode_utf16(&mut self, big_endian: bool) -> usize {
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if big_endian {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            }
        };
        let mut whole = self.input.len() / 2 * 2;
        let ends_in_pair =
            whole >= 2 && (0xd800..0xdc00).contains(&unit(&self.input[whole - 2..whole]));
        if ends_in_pair && !self.ended {
            whole -= 2;
        }
        let units: Vec<u16> = self.input[..whole].chunks_exact(2).map(unit).collect();
        let mut done = 0;
        let mut buffer = [0; 4];
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok(character) => {
                    self.output
                        .extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                    done += character.len_utf16() * 2;
                }
                Err(_) => {
                    self.replace_undecodable(done);
                    done += 2;
                }
            }
        }
        if self.ended && whole < self.input.len() {
            self.replace_undecodable(done);
            return self.input.len();
        }
        done
    }

    fn replace_undecodable(&mut self, at: usize) {
        self.output.extend_from_slice(REPLACEMENT);
        self.undecodable += 1;
        if self.first_undecodable.len() < LISTED_PLACES {
            self.first_undecodable.push(self.offset + at as u64);
        }
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for TextReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position >= self.output.len() && !(self.ended && self.input.is_empty()) {
            self.fill_output()?;
        }
        Ok(&self.output[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.output.len());
    }
}

/// A line of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum TextLine {
    /// A line without its line end.
    Whole(String),
    /// A line that exceeds the limit; the rest of it was skipped.
    TooLong,
}

/// Reads the next line of at most `limit` bytes of valid text.
///
/// # Errors
/// Fails if the reader fails.
pub fn next_line(reader: &mut impl BufRead, limit: usize) -> io::Result<Option<TextLine>> {
    let line = next_raw_line(reader, limit)?;
    Ok(line.map(|line| match line.bytes {
        Some(bytes) => TextLine::Whole(String::from_utf8_lossy(&bytes).into_owned()),
        None => TextLine::TooLong,
    }))
}

/// A line as it is in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct RawLine {
    /// The line without its line end; `None` if it exceeds the limit.
    pub bytes: Option<Vec<u8>>,
    /// Whether it has a line end, which the last line of a truncated file lacks.
    pub is_terminated: bool,
    /// Number of bytes in the file.
    pub length: u64,
}

/// Reads the next line and keeps at most `limit` bytes of it in memory.
///
/// # Errors
/// Fails if the reader fails.
pub fn next_raw_line(
    reader: &mut (impl BufRead + ?Sized),
    limit: usize,
) -> io::Result<Option<RawLine>> {
    let mut line = RawLine {
        bytes: Some(Vec::new()),
        is_terminated: false,
        length: 0,
    };
    while !line.is_terminated {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            break;
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        match &mut line.bytes {
            Some(bytes) if bytes.len() + part.len() <= limit => bytes.extend_from_slice(part),
            bytes => *bytes = None,
        }
        line.is_terminated = end.is_some();
        let used = part.len() + usize::from(end.is_some());
        line.length += used as u64;
        reader.consume(used);
    }
    if line.length == 0 {
        return Ok(None);
    }
    if let Some(bytes) = &mut line.bytes
        && bytes.last() == Some(&b'\r')
    {
        bytes.pop();
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::{TextLine, TextReader, next_line};

    /// Returns one byte at a time, so that every character is cut.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn decode(bytes: &[u8]) -> (String, Option<String>) {
        let mut whole = TextReader::new(bytes);
        let mut text = String::new();
        whole.read_to_string(&mut text).unwrap();
        let mut trickle = TextReader::new(Trickle(bytes));
        let mut again = String::new();
        trickle.read_to_string(&mut again).unwrap();
        assert_eq!(
            (&text, whole.undecodable()),
            (&again, trickle.undecodable())
        );
        (text, whole.undecodable())
    }

    fn utf16(text: &str, big_endian: bool, mark: bool) -> Vec<u8> {
        let mark = if mark { "\u{feff}" } else { "" };
        let units = format!("{mark}{text}");
        let bytes = |unit: u16| {
            if big_endian {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        units.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        let text = "{\"a\": \"Zürich 世界 \u{1f600}\"}\n";
        assert_eq!(decode(text.as_bytes()), (text.to_owned(), None));
        assert_eq!(
            decode(format!("\u{feff}{text}").as_bytes()),
            (text.to_owned(), None)
        );
        for big_endian in [false, true] {
            for mark in [false, true] {
                assert_eq!(
                    decode(&utf16(text, big_endian, mark)),
                    (text.to_owned(), None),
                    "{big_endian} {mark}"
                );
            }
        }
        assert_eq!(decode(b""), (String::new(), None));
        assert_eq!(decode(b"x"), ("x".to_owned(), None));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_placed() {
        let (text, told) = decode(b"caf\xe9 \xf0\x9f\x98 end \xc3");
        assert_eq!(text, "caf\u{fffd} \u{fffd} end \u{fffd}");
        assert_eq!(
            told.unwrap(),
            "byte 3, byte 5, byte 13: invalid UTF-8 was replaced by U+FFFD"
        );
        let (text, told) = decode(&[0xff, 0xfe, b'a', 0, 0x3d, 0xd8, b'b', 0, b'c']);
        assert_eq!(
            (text.as_str(), told.unwrap().starts_with("byte 4, byte 8: ")),
            ("a\u{fffd}b\u{fffd}", true)
        );
        assert!(
            decode(&[0xff; 50])
                .1
                .unwrap()
                .contains("and 40 more places")
        );
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let mut reader =
            std::io::BufReader::with_capacity(7, &b"one\r\n0123456789012345\n\nlast"[..]);
        let whole = |text: &str| Some(TextLine::Whole(text.to_owned()));
        assert_eq!(next_line(&mut reader, 10).unwrap(), whole("one"));
        assert_eq!(next_line(&mut reader, 10).unwrap(), Some(TextLine::TooLong));
        assert_eq!(next_line(&mut reader, 10).unwrap(), whole(""));
        assert_eq!(next_line(&mut reader, 10).unwrap(), whole("last"));
        assert_eq!(next_line(&mut reader, 10).unwrap(), None);
    }
}
