//! Export and import: the file format, its checks, and the readers of other programs' data.
//!
//! Depends on `domain` and the traits of `store`. Invariants: a file is checked to its end before the first record is
//! stored; memory use is limited at any file size; importing a file twice stores nothing twice; a text is never
//! mistaken for another one. To read the data of another program, add a file in [`source`].

use std::path::PathBuf;

use crate::store::StoreError;

mod check;
mod conflict;
pub mod convert;
pub mod export;
mod fit;
mod foreign_time;
pub mod format;
pub mod import;
mod report;
mod scan;
mod screen;
pub mod source;

pub use conflict::Conflicts;
pub use convert::{Converted, Sink};
pub use export::{Exported, export_snapshot};
pub use import::{Checked, Imports, check_file, import_file};
pub use report::Report;
pub use scan::{Finding, LineScanner};

/// The reason why an export or import failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file has an invalid line.
    #[error("{0}")]
    Problem(Problem),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The path of the caller contains nothing to import.
    #[error("{}: {reason}", path.display())]
    Input {
        /// The path.
        path: PathBuf,
        /// The problem and the next step.
        reason: String,
    },
    /// The error of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A part of a file that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Location, for example `line 12`.
    pub place: String,
    /// The problem and the expected value.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// The first problems and the number of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first ones.
    pub first: Vec<Problem>,
    /// Number of all problems.
    pub count: u64,
}

/// Maximum number of problems that are kept; the others are counted.
const KEPT_PROBLEMS: usize = 10_000;

impl Problems {
    /// Adds a problem.
    pub fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        if self.first.len() < KEPT_PROBLEMS {
            self.first.push(Problem {
                place: place.into(),
                text: text.into(),
            });
        }
        self.count += 1;
    }

    /// Adds all problems of `other`.
    pub fn extend(&mut self, other: Self) {
        let room = KEPT_PROBLEMS.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
        self.count += other.count;
    }
}
