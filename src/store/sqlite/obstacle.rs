//! Finds obstacles to opening a database, for the start and for `doctor`: links without a target, objects that are not
//! files, and missing databases.

use std::path::Path;

use super::lock::{canonical, lock_path, names_database};
use super::with_suffix;
use crate::store::StoreError;

/// The reason why the database at a path cannot or must not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The object found, or the evidence of a missing database.
    pub detail: String,
    /// How a person can remove the obstacle.
    pub remedy: String,
    /// Whether it may disappear by itself.
    may_pass: bool,
}

impl From<Obstacle> for StoreError {
    fn from(obstacle: Obstacle) -> Self {
        let Obstacle {
            detail,
            remedy,
            may_pass,
        } = obstacle;
        let reason = format!("{detail}; {remedy}");
        match may_pass {
            true => Self::Unavailable {
                reason,
                source: None,
            },
            false => Self::Setup {
                reason,
                source: None,
            },
        }
    }
}

/// Finds an obstacle to the database at `path`. Returns `None` also if a new database may be created there.
#[must_use]
pub fn find_obstacle(path: &Path) -> Option<Obstacle> {
    unusable_path(path).or_else(|| missing_database(path))
}

/// Finds a link without a target, or an object that is not a file in place of the database or its lock file. Such
/// objects are never opened, because a FIFO would block.
pub(super) fn unusable_path(path: &Path) -> Option<Obstacle> {
    if let Some(link) = path
        .ancestors()
        .find(|part| part.is_symlink() && !part.exists())
    {
        // A new empty database in its place would hide the one on the volume.
        let target = std::fs::read_link(link).unwrap_or_default();
        return Some(Obstacle {
            detail: format!(
                "{} is a symbolic link to {}, which is missing",
                link.display(),
                target.display()
            ),
            remedy: "mount its volume, create what it names, or remove the link".to_owned(),
            may_pass: true,
        });
    }
    let path = canonical(path);
    let other = [path.clone(), lock_path(&path)].into_iter().find(|path| {
        // Links to lock files are not followed.
        let data = std::fs::symlink_metadata(path);
        data.is_ok_and(|data| !data.is_file())
    })?;
    let kind = if other.is_symlink() {
        "a symbolic link, which is not followed"
    } else {
        "no regular file"
    };
    Some(Obstacle {
        detail: format!("{} is {kind}", other.display()),
        remedy: "move it away, or name another path for the database".to_owned(),
        may_pass: false,
    })
}

/// Finds evidence of a missing database if `path` has no file or an empty one: an unmounted volume, or a file that was
/// moved away.
pub(super) fn missing_database(path: &Path) -> Option<Obstacle> {
    let path = canonical(path);
    if size(&path) > 0 {
        return None;
    }
    let name = path.display();
    if size(&with_suffix(&path, "-wal")) > 0 {
        return Some(Obstacle {
            detail: format!(
                "the database {name} is missing or empty, but {name}-wal has changes to it"
            ),
            remedy: format!(
                "put the database file back, or restore a backup; to start with an empty memory move {name}-wal and \
                 {name}.lock away"
            ),
            may_pass: false,
        });
    }
    names_database(&path).then(|| Obstacle {
        detail: format!("the database {name} is missing or empty, but {name}.lock shows that there was one"),
        remedy: format!(
            "mount its volume, put the file back, or restore a backup; to start with an empty memory remove {name}.lock"
        ),
        may_pass: false,
    })
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path)
        .map(|data| data.len())
        .unwrap_or_default()
}
