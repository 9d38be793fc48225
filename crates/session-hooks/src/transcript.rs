//! Reads the new turns of a transcript, from a position that was saved.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::fingerprint::hash_parts;
use crate::line::{Turn, read_turn};

/// Maximum length of a line; longer ones contain images or other data, and are skipped.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;
/// Number of bytes before a position that identify it.
const FINGERPRINT_BYTES: u64 = 1024;
/// Maximum total length of the texts of a batch.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// The end of what was delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Offset in bytes, always after a line.
    offset: u64,
    /// Hash of the bytes before it. Another hash means that the file was replaced.
    fingerprint: String,
    /// Number of the next turn.
    pub next_turn: u64,
    /// First number that no turn has, also if the file was replaced by a shorter one.
    pub free_turn: u64,
}

impl Position {
    /// Returns the beginning of a file whose turns get numbers after the delivered ones.
    #[must_use]
    pub fn at_new_file(&self) -> Self {
        let free_turn = self.free_turn.max(self.next_turn);
        Self {
            next_turn: free_turn,
            free_turn,
            ..Self::default()
        }
    }

    /// Returns whether a file of this length was read to its end.
    #[must_use]
    pub fn is_at(&self, length: u64) -> bool {
        self.offset == length
    }
}

/// The reason why a transcript cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    /// It does not exist.
    #[error("the transcript {0} does not exist")]
    Missing(String),
    /// It is a symbolic link, a directory, a device or a pipe.
    #[error("the transcript {0} is not a regular file")]
    Irregular(String),
    /// The system refused.
    #[error("the transcript {path} cannot be read: {source}")]
    Unreadable {
        /// Its path.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// A transcript that is being read.
#[derive(Debug)]
pub struct Transcript {
    reader: BufReader<File>,
    position: Position,
    path: String,
}

/// Turns in their order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The turns; may be empty although the file continues.
    pub turns: Vec<Turn>,
    /// Whether the end of the file was reached.
    pub is_last: bool,
}

/// The next line of a transcript.
enum Line {
    Complete,
    TooLong,
    /// The file ends, perhaps within a line that the client is writing.
    End,
}

impl Transcript {
    /// Opens a transcript at a position, or at its beginning if it was replaced since.
    ///
    /// # Errors
    /// Fails if the file is missing, unreadable, or not a regular file.
    pub fn open(path: &Path, position: Position) -> Result<Self, TranscriptError> {
        let shown = path.display().to_string();
        let file = open_regular_file(path, &shown)?;
        let unreadable = |source| TranscriptError::Unreadable {
            path: shown.clone(),
            source,
        };
        let length = file.metadata().map_err(unreadable)?.len();
        let is_same = position.offset <= length
            && fingerprint_at(&file, position.offset).map_err(unreadable)? == position.fingerprint;
        let position = if is_same {
            position
        } else {
            Position {
                free_turn: position.free_turn.max(position.next_turn),
                ..Position::default()
            }
        };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        reader
            .seek(SeekFrom::Start(position.offset))
            .map_err(unreadable)?;
        Ok(Self {
            reader,
            position,
            path: shown,
        })
    }

    /// Reads up to `limit` turns. Call [`Transcript::mark_delivered`] once they are stored.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn read_batch(&mut self, limit: usize) -> Result<Batch, TranscriptError> {
        let mut batch = Batch::default();
        let (mut line, mut bytes) = (Vec::new(), 0);
        while batch.turns.len() < limit && bytes < MAX_BATCH_BYTES {
            match self.read_line(&mut line)? {
                Line::End => {
                    batch.is_last = true;
                    break;
                }
                Line::TooLong => {}
                Line::Complete => {
                    if let Some(turn) = read_turn(&line) {
                        bytes += turn.text.len();
                        batch.turns.push(turn);
                    }
                }
            }
        }
        Ok(batch)
    }

    /// Returns the position after all lines that were read.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn position(&self) -> Result<Position, TranscriptError> {
        let fingerprint = fingerprint_at(self.reader.get_ref(), self.position.offset)
            .map_err(|source| self.unreadable(source))?;
        Ok(Position {
            fingerprint,
            ..self.position.clone()
        })
    }

    /// Takes the number of the next turn.
    pub fn take_turn_number(&mut self) -> u64 {
        let number = self.position.next_turn;
        self.position.next_turn += 1;
        self.position.free_turn = self.position.free_turn.max(self.position.next_turn);
        number
    }

    /// Takes a number that no turn of the session has, for a file that was replaced.
    pub fn take_free_number(&mut self) -> u64 {
        let number = self.position.free_turn;
        self.position.free_turn += 1;
        self.position.next_turn = self.position.free_turn;
        number
    }

    /// Reads a line without its end. An incomplete line at the end is left for the next time.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<Line, TranscriptError> {
        line.clear();
        let mut length = 0_u64;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.unreadable(source)),
            };
            if available.is_empty() {
                return Ok(Line::End);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if line.len() + part.len() <= MAX_LINE_BYTES {
                line.extend_from_slice(part);
            }
            length += part.len() as u64;
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                self.position.offset += length + 1;
                let is_whole = line.len() as u64 == length;
                return Ok(if is_whole {
                    Line::Complete
                } else {
                    Line::TooLong
                });
            }
        }
    }

    fn unreadable(&self, source: io::Error) -> TranscriptError {
        TranscriptError::Unreadable {
            path: self.path.clone(),
            source,
        }
    }
}

/// Opens a file without following a symbolic link and without waiting for the writer of a pipe.
fn open_regular_file(path: &Path, shown: &str) -> Result<File, TranscriptError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
            return Err(TranscriptError::Missing(shown.to_owned()));
        }
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Err(TranscriptError::Irregular(shown.to_owned()));
        }
        Err(error) => {
            return Err(TranscriptError::Unreadable {
                path: shown.to_owned(),
                source: error.into(),
            });
        }
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(TranscriptError::Irregular(shown.to_owned())),
        Err(source) => Err(TranscriptError::Unreadable {
            path: shown.to_owned(),
            source,
        }),
    }
}

/// Returns the hash of the bytes before an offset; an empty text at the beginning.
fn fingerprint_at(file: &File, offset: u64) -> io::Result<String> {
    if offset == 0 {
        return Ok(String::new());
    }
    let length = offset.min(FINGERPRINT_BYTES);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, offset - length)?;
    Ok(hash_parts(&[&bytes]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(text: &str) -> String {
        let turn = Turn::from_parts(None, "user", text, None).expect("a turn");
        turn.to_spool_line()
    }

    /// Reads to the end, as a delivery does, and returns the texts.
    fn read_rest(path: &Path, position: &mut Position) -> Vec<String> {
        let mut transcript = Transcript::open(path, position.clone()).expect("a transcript");
        let mut texts = Vec::new();
        loop {
            let batch = transcript.read_batch(2).expect("a batch");
            for turn in batch.turns {
                transcript.take_turn_number();
                texts.push(turn.text);
            }
            *position = transcript.position().expect("a position");
            if batch.is_last {
                return texts;
            }
        }
    }

    #[test]
    fn reading_continues_after_the_last_turn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.jsonl");
        let mut file = File::create(&path).expect("a file");
        write!(
            file,
            "{}{}not JSON\n\n{}",
            line("one"),
            line("two"),
            line("three")
        )
        .expect("written");
        let mut position = Position::default();
        assert_eq!(read_rest(&path, &mut position), ["one", "two", "three"]);
        assert_eq!(read_rest(&path, &mut position), Vec::<String>::new());
        let half = line("four");
        write!(file, "{}", &half[..10]).expect("written");
        assert_eq!(read_rest(&path, &mut position), Vec::<String>::new());
        write!(file, "{}", &half[10..]).expect("written");
        assert_eq!(read_rest(&path, &mut position), ["four"]);
        assert_eq!((position.next_turn, position.free_turn), (4, 4));
    }

    #[test]
    fn a_replaced_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, line("one") + &line("two")).expect("written");
        let mut position = Position::default();
        read_rest(&path, &mut position);
        for (content, expected) in [
            (line("new"), vec!["new"]),
            (
                line("an") + &line("unrelated") + &line("file"),
                vec!["an", "unrelated", "file"],
            ),
            (String::new(), vec![]),
        ] {
            std::fs::write(&path, content).expect("written");
            assert_eq!(read_rest(&path, &mut position), expected);
        }
        assert_eq!(position.free_turn, 3);
    }

    #[test]
    fn long_lines_are_skipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.jsonl");
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        std::fs::write(&path, format!("{long}\n{}{long}", line("kept"))).expect("written");
        assert_eq!(read_rest(&path, &mut Position::default()), ["kept"]);
    }

    #[test]
    fn other_files_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").expect("written");
        std::os::unix::fs::symlink(at("file"), at("link")).expect("a link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        for name in ["link", "pipe", "."] {
            let error = Transcript::open(&at(name), Position::default()).expect_err(name);
            assert!(matches!(error, TranscriptError::Irregular(_)), "{error}");
        }
        let error = Transcript::open(&at("none"), Position::default()).expect_err("missing");
        assert!(matches!(error, TranscriptError::Missing(_)), "{error}");
    }
}
