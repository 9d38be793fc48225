//! Ensures that one process uses a database, with advisory locks, which the kernel releases however the process ends.
//!
//! There are two locks. The lock file next to the database identifies the owner to other processes: it contains the
//! process ID, the address of the service, and a mark that the database was created. The lock on the database file
//! itself works under every name of the file, and even if the lock file is deleted.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::with_suffix;
use crate::store::{Result, StoreError};

/// Third line of the lock file of a database that was created.
const CREATED: &str = "created";
/// Attempts to take a lock that another process may hold briefly while it looks for the owner.
const ATTEMPTS: u32 = 20;

/// The process that has a database open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: String,
    /// Address where it answers MCP requests, once it has announced it.
    pub url: Option<String>,
}

/// Returns the process that has the database at `path` open, if any.
#[must_use]
pub fn owner(path: &Path) -> Option<Owner> {
    // A shared lock, so that two processes that look for the owner do not mistake each other for it.
    let mut file = open_lock_file(&lock_path(path), OpenOptions::new().read(true)).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {
            Some(LockText::read(&mut file).owner())
        }
    }
}

/// Returns whether the lock file of `path` shows that the database existed.
pub(super) fn names_database(path: &Path) -> bool {
    open_lock_file(&lock_path(path), OpenOptions::new().read(true))
        .is_ok_and(|mut file| LockText::read(&mut file).is_of_database())
}

/// Fails if a process has the database open under another name, where its write-ahead log is, too: a reader under this
/// name would miss the contents of the log. Must not be called by a process that has the database open, because closing
/// a file releases all locks of the process on it.
///
/// # Errors
/// [`StoreError::InUse`].
pub fn refuse_other_name(path: &Path) -> Result<()> {
    let path = canonical(path);
    let is_here = owner(&path).is_some() || with_suffix(&path, "-wal").exists();
    if is_here || !path.is_file() || !has_own_locks(&path) {
        return Ok(());
    }
    match File::open(&path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => Err(in_use_elsewhere(&path)),
        _ => Ok(()),
    }
}

fn in_use_elsewhere(path: &Path) -> StoreError {
    StoreError::InUse {
        path: format!(
            "{} (under another name, or without its lock file)",
            path.display()
        ),
        pid: "unknown".to_owned(),
        url: None,
    }
}

/// Resolves symbolic links, so that every name of a file leads to the same lock file.
pub(super) fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The locks, released when the value is dropped.
#[derive(Debug)]
pub(super) struct OwnerLock {
    file: File,
    text: LockText,
    /// Never read. SQLite has its own locks on this file, and POSIX releases those of the whole process as soon as any
    /// descriptor of the file is closed. This descriptor must therefore outlive all connections.
    database: Option<File>,
}

impl OwnerLock {
    /// Locks the lock file for this process. `path` must be canonical.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let name = lock_path(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file =
            open_lock_file(&name, &mut options).map_err(|error| cannot(&name, &error))?;
        if !try_lock(&file).map_err(|error| cannot(&name, &error))? {
            let Owner { pid, url } = LockText::read(&mut file).owner();
            return Err(StoreError::InUse {
                path: path.display().to_string(),
                pid,
                url,
            });
        }
        let text = LockText {
            pid: std::process::id().to_string(),
            url: None,
            ..LockText::read(&mut file)
        };
        Ok(Self {
            file,
            text,
            database: None,
        })
    }

    /// Locks the existing database file at `path`, and records this process as the owner.
    pub(super) fn take_database(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(|error| cannot(path, &error))?;
        if has_own_locks(path) {
            if !try_lock(&file).map_err(|error| cannot(path, &error))? {
                return Err(in_use_elsewhere(path));
            }
            self.database = Some(file);
        }
        self.write()
            .map_err(|error| cannot(&lock_path(path), &error))
    }

    /// Records that the database was created, so that its absence is noticed later.
    pub(super) fn note_created(&mut self) -> std::io::Result<()> {
        self.text.created = true;
        self.write()
    }

    /// Records the address of the service.
    pub(super) fn announce(&mut self, url: &str) -> std::io::Result<()> {
        self.text.url = Some(url.to_owned());
        self.write()
    }

    fn write(&mut self) -> std::io::Result<()> {
        let LockText { pid, url, created } = &self.text;
        let created = if *created { CREATED } else { "" };
        let text = format!("{pid}\n{}\n{created}\n", url.as_deref().unwrap_or_default());
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)
    }
}

/// Tries to take the lock. A process that looks for the owner holds it briefly, which must not look like an owner.
fn try_lock(file: &File) -> std::io::Result<bool> {
    for attempt in 1..=ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Ok(false)
}

/// Returns whether `flock` on the database file is independent of SQLite's `fcntl` locks. This is the case on Linux,
/// except on file systems that map one to the other; there, our lock would lock SQLite out.
#[cfg(target_os = "linux")]
fn has_own_locks(path: &Path) -> bool {
    const NFS: u64 = 0x6969;
    const CIFS: u64 = 0xff53_4d42;
    const SMB2: u64 = 0xfe53_4d42;
    let kind = rustix::fs::statfs(path).map(|data| data.f_type as u64 & 0xffff_ffff);
    kind.is_ok_and(|kind| ![NFS, CIFS, SMB2].contains(&kind))
}

#[cfg(not(target_os = "linux"))]
fn has_own_locks(_: &Path) -> bool {
    false
}

/// Opens a lock file without following a symbolic link in its place.
fn open_lock_file(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // O_NONBLOCK, so that a FIFO in its place does not block.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options
        .open(path)
        .map_err(|error| match path.is_symlink() {
            true => std::io::Error::new(
                error.kind(),
                "it is a symbolic link, which is not followed; remove it",
            ),
            false => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file; remove it"));
    }
    Ok(file)
}

/// The contents of a lock file.
#[derive(Debug, Default)]
struct LockText {
    pid: String,
    url: Option<String>,
    created: bool,
}

impl LockText {
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        // An unreadable file counts as empty; the lock is detected without it.
        let _ = file
            .rewind()
            .and_then(|()| file.take(4096).read_to_string(&mut text));
        let mut lines = text.lines().map(|line| line.trim().to_owned());
        let pid = lines.next().unwrap_or_default();
        let url = lines.next().filter(|url| !url.is_empty());
        let created = lines.next().is_some_and(|mark| mark == CREATED);
        Self { pid, url, created }
    }

    /// Returns whether the database next to it was created. A service that announced its address had one, too: earlier
    /// versions wrote no mark.
    fn is_of_database(&self) -> bool {
        self.created || self.url.is_some()
    }

    fn owner(self) -> Owner {
        let pid = if self.pid.is_empty() {
            "unknown".to_owned()
        } else {
            self.pid
        };
        Owner { pid, url: self.url }
    }
}

/// Returns the path of the lock file of the database at `path`.
#[must_use]
pub fn lock_path(path: &Path) -> PathBuf {
    with_suffix(&canonical(path), ".lock")
}

fn cannot(path: &Path, error: &std::io::Error) -> StoreError {
    super::error::from_io(
        error,
        format!(
            "the file {} cannot be locked ({error}); give this user write access there",
            path.display()
        ),
    )
}
