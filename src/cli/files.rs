//! Files that commands read and write: drafts that get their final name when they are complete, and folders for this
//! user alone.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Failure, fail};
use crate::config::{Database, Settings};
use crate::domain::{Clock, SystemClock};
use crate::transfer::TransferError;

/// The first bytes of every SQLite file.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Returns a function that adds the path to an error.
pub(super) fn file_error(path: &Path) -> impl Fn(std::io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::File {
        path: path.clone(),
        source,
    }
}

/// Makes the name of a file durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), TransferError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error(folder))
}

/// Creates a folder that only this user can open.
pub(super) fn create_private_folder(path: &Path, recursive: bool) -> Result<(), TransferError> {
    let mut builder = DirBuilder::new();
    builder.recursive(recursive);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(file_error(path))
}

/// Lets only this user read a file.
pub(super) fn make_private(path: &Path) -> Result<(), TransferError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(file_error(path))?;
    }
    Ok(())
}

/// Appends a suffix to the name of a file.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the size of a file in bytes; 0 if it is not readable or not a regular file.
pub(super) fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map_or(0, |data| data.len())
}

/// Returns the file to which a path leads, without symbolic links.
pub(super) fn resolve_links(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Fails if there is no directory for a file that is to be written, or if something else has its name: a file that takes the
/// place of a device would break other programs.
pub(super) fn require_folder(file: &Path) -> Result<(), Failure> {
    if file.exists() && !file.is_file() {
        fail!(
            USAGE,
            "{} is not a regular file; name another file",
            file.display()
        );
    }
    match file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) if !folder.is_dir() => fail!(
            USAGE,
            "there is no directory {}; create it, or name another file",
            folder.display()
        ),
        _ => Ok(()),
    }
}

/// Returns a new path for temporary data next to the embedded database, because a restored database is moved from
/// there to its final path. The data directory may be on another disk.
pub(super) fn scratch_path(settings: &Settings, name: &str) -> Result<PathBuf, Failure> {
    let folder = match &settings.database {
        Database::Sqlite { path } => match resolve_links(path).parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        },
        Database::Postgres(_) => std::env::temp_dir(),
    };
    create_private_folder(&folder, true)?;
    Ok(folder.join(format!("{name}-{}", SystemClock.new_id())))
}

/// Returns whether a file of the caller is an SQLite database.
pub(super) fn is_sqlite(path: &Path) -> Result<bool, Failure> {
    if !path.exists() {
        fail!(
            USAGE,
            "there is no file {}; name one that `backup` or `export` wrote",
            path.display()
        );
    }
    if !path.is_file() {
        fail!(USAGE, "{} is not a regular file", path.display());
    }
    let mut begin = Vec::new();
    let file = File::open(path).map_err(file_error(path))?;
    file.take(SQLITE.len() as u64)
        .read_to_end(&mut begin)
        .map_err(file_error(path))?;
    Ok(begin == SQLITE)
}

/// A file for this user alone, under a temporary name until it is complete.
pub(super) struct Draft {
    path: PathBuf,
    draft: PathBuf,
    done: bool,
}

impl Draft {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            draft: with_suffix(path, &format!(".{}.part", std::process::id())),
            done: false,
        }
    }

    /// Returns the path until the draft is complete.
    pub(super) fn draft_path(&self) -> &Path {
        &self.draft
    }

    pub(super) fn create_file(&self) -> Result<File, TransferError> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.draft).map_err(file_error(&self.draft))
    }

    /// Makes the file durable and gives it its name.
    pub(super) fn finish_file(mut self) -> Result<(), TransferError> {
        let done = File::open(&self.draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&self.draft, &self.path));
        done.map_err(file_error(&self.path))?;
        self.done = true;
        sync_folder(&self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.draft);
        }
    }
}
