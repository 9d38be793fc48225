//! One process a database: an advisory lock on a file beside it, which the kernel takes back whatever ends the
//! process. The file's text tells others who holds it: process id, then where it answers MCP requests.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::{Result, StoreError};

/// The process that has a database open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: String,
    /// Where it answers MCP requests, once it told.
    pub url: Option<String>,
}

/// Who has the database at `path` open at this moment, if anybody.
#[must_use]
pub fn owner(path: &Path) -> Option<Owner> {
    // A shared lock: two who ask at once must not take each other for an owner.
    let mut file = File::open(lock_path(path)).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Some(read(&mut file)),
    }
}

/// The lock, held as long as the value lives.
#[derive(Debug)]
pub(super) struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Takes the lock for this process.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let name = lock_path(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&name).map_err(|error| cannot(&name, &error))?;
        // Who asks for the owner holds the lock for a moment, which must not look like an owner.
        for attempt in 0..20 {
            match file.try_lock() {
                Ok(()) => {
                    let mut lock = Self { file };
                    lock.write(None).map_err(|error| cannot(&name, &error))?;
                    return Ok(lock);
                }
                Err(TryLockError::Error(error)) => return Err(cannot(&name, &error)),
                Err(TryLockError::WouldBlock) if attempt < 19 => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let Owner { pid, url } = read(&mut file);
        Err(StoreError::InUse { path: path.display().to_string(), pid, url })
    }

    /// Notes process id and address.
    pub(super) fn write(&mut self, url: Option<&str>) -> std::io::Result<()> {
        let text = format!("{}\n{}\n", std::process::id(), url.unwrap_or_default());
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

fn read(file: &mut File) -> Owner {
    let mut text = String::new();
    // Without the text, that somebody holds it still stands.
    let _ = file.rewind().and_then(|()| file.take(4096).read_to_string(&mut text));
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next().filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned();
    let url = lines.next().filter(|url| !url.is_empty()).map(str::to_owned);
    Owner { pid, url }
}

/// The lock file of the database at `path`.
#[must_use]
pub fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn cannot(path: &Path, error: &std::io::Error) -> StoreError {
    super::error::from_io(
        error,
        format!("the lock file {} cannot be written ({error}); give this user write access there", path.display()),
    )
}
