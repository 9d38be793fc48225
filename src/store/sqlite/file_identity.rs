//! Detects whether the paths still lead to the open files. SQLite continues to write to a file that was deleted or
//! replaced, and those writes are lost when the process ends.

use std::path::{Path, PathBuf};

use super::log_state::LogState;
use super::with_suffix;
use crate::store::{Result, StoreError};

/// Smallest page size of SQLite: an open database is never shorter.
const SMALLEST_DATABASE: u64 = 512;

/// Identifies a file independently of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    fn at(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
        })
    }

    /// Other systems prevent the deletion and replacement of an open file.
    #[cfg(not(unix))]
    fn at(_: &Path) -> Option<Self> {
        Some(Self {
            device: 0,
            inode: 0,
        })
    }
}

/// The files of an open database. They remain the same while a connection is open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    database: PathBuf,
    files: Vec<(PathBuf, FileId)>,
    log: Option<LogState>,
    /// Whether the file already contained the first page, rather than only the write-ahead log.
    had_content: bool,
}

impl OpenFiles {
    /// Identifies the database at `path`, its write-ahead log and the index of the log.
    pub(super) fn of(path: &Path) -> Self {
        let paths = ["", "-wal", "-shm"].map(|suffix| with_suffix(path, suffix));
        let files = paths
            .into_iter()
            .filter_map(|path| FileId::at(&path).map(|id| (path, id)))
            .collect();
        let had_content = std::fs::metadata(path).is_ok_and(|data| data.len() >= SMALLEST_DATABASE);
        Self {
            database: path.to_owned(),
            files,
            log: LogState::of(path),
            had_content,
        }
    }

    /// Returns the path of the database.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Checks the files with eight system calls and without disk access. This takes microseconds and is cheap enough
    /// for every write.
    ///
    /// # Errors
    /// [`StoreError::FileReplaced`] if a path leads to no file or to another one, or if the database or its log was
    /// truncated.
    pub(super) fn check(&self) -> Result<()> {
        for (path, id) in &self.files {
            let what = match FileId::at(path) {
                Some(found) if found == *id => continue,
                Some(_) => "was replaced by another file",
                None => "was moved or deleted",
            };
            return Err(Self::fault(path, what));
        }
        if self.had_content
            && std::fs::metadata(&self.database).is_ok_and(|data| data.len() < SMALLEST_DATABASE)
        {
            return Err(Self::fault(&self.database, "was truncated"));
        }
        if self.log.as_ref().is_some_and(LogState::is_damaged) {
            let log = with_suffix(&self.database, "-wal");
            return Err(Self::fault(&log, "was truncated or overwritten"));
        }
        Ok(())
    }

    fn fault(path: &Path, what: &'static str) -> StoreError {
        StoreError::FileReplaced {
            path: path.display().to_string(),
            what,
        }
    }
}
