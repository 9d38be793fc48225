//! Detects whether the write-ahead log still contains everything that was committed to it. SQLite does not notice if
//! another program truncates or overwrites the log: it continues to write after the former end, and readers find
//! nothing before it.
//!
//! The file `-shm`, which the connections share, contains the number of pages in the log
//! (<https://sqlite.org/walformat.html>). It is read through a descriptor that stays open, because closing one would
//! release SQLite's locks on the file.

use std::fs::File;
use std::path::Path;

use super::with_suffix;

/// Length of one of the two equal headers of the index.
const INDEX_HEADER: usize = 48;
/// Length of the header of the log.
const LOG_HEADER: usize = 32;
/// Length of the header of each page in the log.
const FRAME_HEADER: u64 = 24;

/// The log and its index, as they were when the database was opened.
#[derive(Debug)]
pub(super) struct LogState {
    log: File,
    index: File,
}

/// The required contents of the log.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    /// Random bytes that change with each pass through the log.
    salt: [u8; 8],
    length: u64,
}

impl LogState {
    /// Opens the log of the database at `path`, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let log = File::open(with_suffix(path, "-wal")).ok()?;
        let index = File::open(with_suffix(path, "-shm")).ok()?;
        Some(Self { log, index })
    }

    /// Returns whether committed pages are missing from the log. Needs four system calls.
    pub(super) fn is_damaged(&self) -> bool {
        let Some(expected) = self.read_index() else {
            return false;
        };
        // Another process may legitimately have emptied the log in between.
        !self.contains(&expected) && self.read_index().as_ref() == Some(&expected)
    }

    /// Reads the required contents of the log. Returns `None` if it may be empty, or if the index is being written.
    fn read_index(&self) -> Option<Expected> {
        let mut headers = [0; 2 * INDEX_HEADER];
        read_exact_at(&self.index, &mut headers).ok()?;
        let (first, second) = headers.split_at(INDEX_HEADER);
        let is_initialised = first[12] != 0;
        let pages = u32::from_ne_bytes(first[16..20].try_into().ok()?);
        if first != second || !is_initialised || pages == 0 {
            return None;
        }
        let page_size = match u16::from_ne_bytes(first[14..16].try_into().ok()?) {
            1 => 65_536,
            size => u64::from(size),
        };
        let length = LOG_HEADER as u64 + u64::from(pages) * (FRAME_HEADER + page_size);
        let salt = first[32..40].try_into().ok()?;
        Some(Expected { salt, length })
    }

    fn contains(&self, expected: &Expected) -> bool {
        let mut header = [0; LOG_HEADER];
        let is_readable = read_exact_at(&self.log, &mut header).is_ok();
        let is_long_enough = self
            .log
            .metadata()
            .is_ok_and(|data| data.len() >= expected.length);
        is_readable && is_long_enough && header[16..24] == expected.salt
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, 0)
}

/// Other systems prevent the truncation of an open file.
#[cfg(not(unix))]
fn read_exact_at(_: &File, _: &mut [u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
