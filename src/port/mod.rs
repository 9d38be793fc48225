//! Data in and out: the file format, export, import, and the readers of other programs' data.
//!
//! Depends on `domain` and the traits of `store`. Owns the invariants that a file is checked to its end before the
//! first record is stored, that memory stays bounded whatever the size of the file, that importing twice stores
//! nothing twice, and that a text is never taken for another one. To read the data of one more program, add a file in
//! [`source`].

use std::path::PathBuf;

use crate::store::StoreError;

mod conflict;
pub mod convert;
pub mod export;
mod fit;
pub mod import;
pub mod line;
mod memory_line;
pub mod source;

pub use convert::{Converted, Sink};
pub use export::{Exported, export};
pub use import::{Checked, Conflicts, Imports, Report, check, import};

/// Why data did not go in or out.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The file is not what it should be.
    #[error("{0}")]
    Problem(Problem),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The path that the caller named holds nothing that can be imported.
    #[error("{}: {reason}", path.display())]
    Input {
        /// The path.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The database's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something in a file that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `line 12`, or the name of what is wrong.
    pub place: String,
    /// What is wrong, and what is expected.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// The first problems, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first ones.
    pub first: Vec<Problem>,
    /// All.
    pub count: u64,
}

/// Problems that are kept word for word; the others are counted.
const KEPT_PROBLEMS: usize = 10_000;

impl Problems {
    /// One more.
    pub fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        if self.first.len() < KEPT_PROBLEMS {
            self.first.push(Problem {
                place: place.into(),
                text: text.into(),
            });
        }
        self.count += 1;
    }

    /// All of `other` behind these.
    pub fn extend(&mut self, other: Self) {
        let room = KEPT_PROBLEMS.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
        self.count += other.count;
    }
}
