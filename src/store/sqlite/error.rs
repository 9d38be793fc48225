//! SQLite's result codes as [`StoreError`], in one place.

use std::path::Path;

use sqlx::Error;

use crate::store::StoreError;

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

/// What a failed statement means to the caller, and what a person can do about it.
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
            Error::Io(_) => setup(
                "the embedded database cannot be opened; check the path and the rights",
                source,
            ),
            _ => StoreError::Internal { during, source },
        },
    }
}

/// An error of the file system. Some go away by themselves, such as a disk that is full or mounted read-only after a fault,
/// or no free file descriptor: those are worth another attempt, all others need a person.
pub(super) fn from_io(error: &std::io::Error, reason: String) -> StoreError {
    use rustix::io::Errno;
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::ROFS,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::STALE,
    ];
    match Errno::from_io_error(error) {
        Some(errno) if passing.contains(&errno) => StoreError::Unavailable {
            reason,
            source: None,
        },
        _ => StoreError::Setup {
            reason,
            source: None,
        },
    }
}

/// The same error, with the path of the database where a person has to look after its disk.
pub(super) fn name_disk(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Unavailable {
        source: Some(source),
        ..
    } = &error
    else {
        return error;
    };
    let reason = match primary_code(source) {
        Some(FULL) => format!(
            "the disk that holds {} is full; free space there",
            path.display()
        ),
        Some(IOERR) => format!(
            "the disk that holds {} reported an error; check that it is not full, then look at the kernel's log",
            path.display()
        ),
        _ => return error,
    };
    match error {
        StoreError::Unavailable { source, .. } => StoreError::Unavailable { reason, source },
        other => other,
    }
}

/// Whether the error says that the file is damaged.
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

/// The store was not prepared yet, or was closed.
pub(super) fn not_open() -> StoreError {
    StoreError::Unavailable {
        reason: "the embedded database is not open".to_owned(),
        source: None,
    }
}

/// A statement ran out of its time.
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
        use rustix::io::Errno;
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
