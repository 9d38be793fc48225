//! Translates SQLite's result codes to [`StoreError`].

use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;
use sqlx::Error;

use super::with_suffix;
use crate::store::StoreError;

/// The reason why work on the database failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The answer of the store is an error; the database works.
    Answer(StoreError),
    /// A statement failed.
    Sql(Error),
}

impl Fault {
    /// The error for the caller. `during` names the work.
    pub(super) fn explain(self, during: &'static str) -> StoreError {
        match self {
            Self::Answer(error) => error,
            Self::Sql(error) => from_sqlx(error, during),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

// Primary result codes, https://www.sqlite.org/rescode.html
const PERM: u32 = 3;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const NOMEM: u32 = 7;
const READONLY: u32 = 8;
const INTERRUPT: u32 = 9;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANTOPEN: u32 = 14;
const NOTADB: u32 = 26;

/// Translates the error of a failed statement, with advice for a person.
pub(super) fn from_sqlx(source: Error, during: &'static str) -> StoreError {
    let unavailable = |reason: &str, source| StoreError::Unavailable {
        reason: reason.to_owned(),
        source: Some(source),
    };
    let setup = |reason: &str, source| StoreError::Setup {
        reason: reason.to_owned(),
        source: Some(source),
    };
    match primary_code(&source) {
        Some(FULL) => unavailable(
            "the disk of the embedded database is full; free space there",
            source,
        ),
        Some(IOERR) => unavailable(
            "the disk of the embedded database reported an error; check it",
            source,
        ),
        Some(BUSY | LOCKED) => unavailable(
            "another program keeps the embedded database locked; close it",
            source,
        ),
        Some(INTERRUPT) => unavailable("the statement took too long and was ended", source),
        Some(NOMEM) => unavailable("there is not enough memory for the statement", source),
        Some(READONLY | PERM) => setup(
            "the embedded database is read-only; give this user write access to the file and its folder",
            source,
        ),
        Some(CANTOPEN) => setup(
            "the embedded database cannot be opened; check that the path is right and this user may write there",
            source,
        ),
        Some(NOTADB) => setup(
            "the file is not a SQLite database; name another file, or move this one away to start with an empty memory",
            source,
        ),
        Some(CORRUPT) => setup(
            "the embedded database is damaged; stop the service and restore the file from a backup",
            source,
        ),
        Some(_) => StoreError::Internal { during, source },
        None => match source {
            Error::PoolTimedOut => {
                unavailable("all connections to the embedded database are busy", source)
            }
            Error::PoolClosed | Error::WorkerCrashed => {
                unavailable("the connection to the embedded database is closed", source)
            }
            Error::Io(ref error) if is_passing(error) => unavailable(
                "the embedded database cannot be opened, because the system lacks resources",
                source,
            ),
            Error::Io(_) => setup(
                "the embedded database cannot be opened; check the path and the rights",
                source,
            ),
            _ => StoreError::Internal { during, source },
        },
    }
}

/// Translates an error of the file system to a failure with `reason`.
pub(super) fn from_io(error: &std::io::Error, reason: String) -> StoreError {
    match is_passing(error) {
        true => StoreError::Unavailable {
            reason,
            source: None,
        },
        false => StoreError::Setup {
            reason,
            source: None,
        },
    }
}

/// Returns whether an error of the file system may disappear by itself, for example a disk that is full, read-only
/// after a fault or not mounted, or a lack of file descriptors. Such errors justify a retry; all others need a person.
fn is_passing(error: &std::io::Error) -> bool {
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::ROFS,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::STALE,
        Errno::NOTCONN,
        Errno::HOSTDOWN,
        Errno::TIMEDOUT,
        Errno::NODEV,
        Errno::NXIO,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

/// Adds the path of the database to an error whose cause is its disk. SQLite reports a file that it cannot open or
/// write without the cause, so this function asks the file system whether the cause may disappear.
pub(super) fn name_disk(error: StoreError, path: &Path) -> StoreError {
    let (StoreError::Unavailable {
        source: Some(source),
        ..
    }
    | StoreError::Setup {
        source: Some(source),
        ..
    }) = &error
    else {
        return error;
    };
    let path_shown = path.display();
    let reason = match primary_code(source) {
        Some(FULL) => format!("the disk with {path_shown} is full; free space there"),
        Some(IOERR) => format!(
            "the disk with {path_shown} reported an error; check that it is not full, then look at the kernel's log"
        ),
        Some(READONLY) if !needs_person(path) => {
            format!(
                "the disk with {path_shown} is read-only; mount it for writing, then look at the kernel's log"
            )
        }
        Some(CANTOPEN) if !needs_person(path) => format!(
            "{path_shown} cannot be opened; check that its disk is mounted for writing and that the process has free file \
             descriptors (`ulimit -n`)"
        ),
        _ => return error,
    };
    match error {
        StoreError::Unavailable { source, .. } | StoreError::Setup { source, .. } => {
            StoreError::Unavailable { reason, source }
        }
        other => other,
    }
}

/// Returns whether something at `path` prevents this user from writing until a person changes it. Opens no file,
/// because closing one would release SQLite's locks on it.
fn needs_person(path: &Path) -> bool {
    let is_other_than_file =
        |path: &Path| std::fs::metadata(path).is_ok_and(|data| !data.is_file());
    let is_forbidden =
        |path: &Path, is_required: bool| match rustix::fs::access(path, Access::WRITE_OK) {
            Ok(()) => false,
            Err(Errno::NOENT) => is_required,
            Err(errno) => !is_passing(&errno.into()),
        };
    let side_files = ["-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix));
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    is_other_than_file(path)
        || is_forbidden(path, true)
        || is_forbidden(folder, true)
        || side_files
            .iter()
            .any(|file| is_other_than_file(file) || is_forbidden(file, false))
}

/// Returns whether the error means that the file is damaged.
pub(super) fn is_damage(error: &StoreError) -> bool {
    let source = match error {
        StoreError::Setup {
            source: Some(source),
            ..
        }
        | StoreError::Unavailable {
            source: Some(source),
            ..
        } => source,
        _ => return false,
    };
    matches!(primary_code(source), Some(CORRUPT | NOTADB))
}

fn primary_code(error: &Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Returns the error for a store that is not prepared or is closed.
pub(super) fn not_open() -> StoreError {
    StoreError::Unavailable {
        reason: "the embedded database is not open".to_owned(),
        source: None,
    }
}

/// Returns the error for a statement that exceeded its time limit.
pub(super) fn too_slow() -> StoreError {
    StoreError::Unavailable {
        reason: "the embedded database did not answer in time".to_owned(),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_file_system_that_pass_are_worth_another_attempt() {
        let is_setup = |errno: Errno| match from_io(&errno.into(), "reason".to_owned()) {
            StoreError::Unavailable { reason, .. } if reason == "reason" => false,
            StoreError::Setup { reason, .. } if reason == "reason" => true,
            other => panic!("{other:?}"),
        };
        for errno in [
            Errno::ROFS,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOSPC,
            Errno::IO,
            Errno::NOTCONN,
        ] {
            assert!(!is_setup(errno), "{errno}");
        }
        for errno in [
            Errno::ACCESS,
            Errno::PERM,
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::ISDIR,
        ] {
            assert!(is_setup(errno), "{errno}");
        }
    }
}
