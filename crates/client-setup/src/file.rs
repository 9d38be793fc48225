//! Reads and replaces a client's file. Every problem is reported before anything is written, the old text is kept in a
//! backup, and the new text replaces the old one in one step.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Maximum size of a file in bytes. Claude Code stores histories in its file.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The file of a client as it was read.
#[derive(Debug)]
pub struct ClientFile {
    /// The path without symbolic links.
    path: PathBuf,
    text: Option<String>,
}

/// The reason why a file cannot be read or replaced. Each message is one line.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
    #[error("{0} is a symbolic link to a file that does not exist")]
    DanglingLink(PathBuf),
    #[error("{0} belongs to another user")]
    Foreign(PathBuf),
    #[error("{0} is read-only")]
    ReadOnly(PathBuf),
    #[error("{0} is larger than 64 MiB")]
    TooLarge(PathBuf),
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    #[error("{0} was changed by another program in the meantime; run the command again")]
    Changed(PathBuf),
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

fn io_problem<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> FileProblem + use<'a> {
    move |source| FileProblem::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

impl ClientFile {
    /// Reads a file that may not exist.
    ///
    /// # Errors
    /// Fails if the file could not be replaced later, so that no plan is made in vain.
    pub fn read(path: &Path) -> Result<Self, FileProblem> {
        let Some(link) = metadata_of(path, fs::symlink_metadata(path))? else {
            check_new_file(path)?;
            return Ok(Self {
                path: path.to_owned(),
                text: None,
            });
        };
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound && link.is_symlink() => {
                return Err(FileProblem::DanglingLink(path.to_owned()));
            }
            Err(error) => return Err(io_problem("read", path)(error)),
        };
        let metadata = fs::metadata(&target).map_err(io_problem("read", path))?;
        check_existing_file(path, &metadata)?;
        let text = Some(read_text(&target)?);
        Ok(Self { path: target, text })
    }

    /// Returns the text; `None` if the file does not exist.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Replaces the text, and keeps the old file under its name with `suffix`. Returns the path of that backup.
    ///
    /// # Errors
    /// Fails without a change if the file was changed since it was read, or cannot be written.
    pub fn replace_text(&self, text: &str, suffix: &str) -> Result<Option<PathBuf>, FileProblem> {
        let current = Self::read(&self.path)?;
        if current.text != self.text {
            return Err(FileProblem::Changed(self.path.clone()));
        }
        let Some(old) = &self.text else {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder).map_err(io_problem("create", folder))?;
            }
            write_atomically(&self.path, text, None)?;
            return Ok(None);
        };
        let metadata = fs::metadata(&self.path).map_err(io_problem("read", &self.path))?;
        let mut backup = self.path.clone().into_os_string();
        backup.push(suffix);
        let backup = PathBuf::from(backup);
        write_new(&backup, old, Some(&metadata))?;
        write_atomically(&self.path, text, Some(&metadata))?;
        Ok(Some(backup))
    }
}

fn metadata_of(
    path: &Path,
    metadata: io::Result<Metadata>,
) -> Result<Option<Metadata>, FileProblem> {
    match metadata {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_problem("read", path)(error)),
    }
}

fn read_text(path: &Path) -> Result<String, FileProblem> {
    let file = File::open(path).map_err(io_problem("read", path))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(io_problem("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(FileProblem::TooLarge(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| FileProblem::NotText(path.to_owned()))
}

fn check_existing_file(path: &Path, metadata: &Metadata) -> Result<(), FileProblem> {
    if !metadata.is_file() {
        return Err(FileProblem::NotRegular(path.to_owned()));
    }
    if !is_own(metadata) {
        return Err(FileProblem::Foreign(path.to_owned()));
    }
    if is_read_only(metadata) {
        return Err(FileProblem::ReadOnly(path.to_owned()));
    }
    if metadata.len() > LARGEST {
        return Err(FileProblem::TooLarge(path.to_owned()));
    }
    Ok(())
}

/// Checks that the nearest existing directory belongs to the user: root must not create files in the home of a person.
fn check_new_file(path: &Path) -> Result<(), FileProblem> {
    for folder in path.ancestors().skip(1) {
        let Some(metadata) = metadata_of(folder, fs::metadata(folder))? else {
            continue;
        };
        if !metadata.is_dir() {
            return Err(FileProblem::Io {
                action: "create",
                path: path.to_owned(),
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        if !is_own(&metadata) {
            return Err(FileProblem::Foreign(folder.to_owned()));
        }
        return Ok(());
    }
    Ok(())
}

#[cfg(unix)]
fn is_own(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_own(_: &Metadata) -> bool {
    true
}

/// Returns whether the owner made the file read-only. The rights of root do not matter.
#[cfg(unix)]
fn is_read_only(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const OWNER_WRITE: u32 = 0o200;
    metadata.permissions().mode() & OWNER_WRITE == 0
}

#[cfg(not(unix))]
fn is_read_only(metadata: &Metadata) -> bool {
    metadata.permissions().readonly()
}

/// Writes a text under a temporary name, and gives it its name when it is complete.
fn write_atomically(path: &Path, text: &str, like: Option<&Metadata>) -> Result<(), FileProblem> {
    let mut draft = path.to_owned().into_os_string();
    draft.push(format!(".{}.part", std::process::id()));
    let draft = PathBuf::from(draft);
    write_new(&draft, text, like)?;
    if let Err(error) = fs::rename(&draft, path) {
        let _ = fs::remove_file(&draft);
        return Err(io_problem("replace", path)(error));
    }
    sync_folder(path)
}

/// Writes a file that must not exist, with the mode and the group of another one. A partial file is removed.
fn write_new(path: &Path, text: &str, like: Option<&Metadata>) -> Result<(), FileProblem> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // The new settings may contain secrets of other servers.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io_problem("create", path))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| like.map_or(Ok(()), |like| copy_owner_and_mode(&file, like)))
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        io_problem("write", path)(error)
    })
}

#[cfg(unix)]
fn copy_owner_and_mode(file: &File, like: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let group = rustix::fs::Gid::from_raw(like.gid());
    if file.metadata()?.gid() != like.gid() {
        // A user may have left the group. The mode then protects the file for the new group as for the old one.
        let _ = rustix::fs::fchown(file, None, Some(group));
    }
    file.set_permissions(like.permissions())
}

#[cfg(not(unix))]
fn copy_owner_and_mode(file: &File, like: &Metadata) -> io::Result<()> {
    file.set_permissions(like.permissions())
}

/// Makes the name of a file durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), FileProblem> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_problem("write", folder))
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), FileProblem> {
    Ok(())
}
