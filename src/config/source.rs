//! The sources of values.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use service_kit::config::{TrustError, User, is_transient};

use super::APPLICATION;
use super::flag::Flags;

/// Maximum size of a file that is read for a value.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// All sources of the configuration. Tests fill it without changing their process.
#[derive(Clone, Default)]
pub struct Sources {
    pub flags: Flags,
    pub env: BTreeMap<OsString, OsString>,
    /// Start of relative paths. Settings files are never searched here.
    pub working_dir: PathBuf,
    /// Its files and those of root are trusted.
    pub user: User,
}

impl Sources {
    pub fn of_process(flags: Flags) -> Self {
        Self {
            flags,
            env: std::env::vars_os().collect(),
            // Without a working directory, relative paths fail later with messages of their own.
            working_dir: std::env::current_dir().unwrap_or_default(),
            user: User::of_process(),
        }
    }

    /// Adds a variable to the environment, for tests and tools.
    #[must_use]
    pub fn with_env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Returns a variable that is text and not empty.
    pub(super) fn env_text(&self, name: &str) -> Option<&str> {
        self.env
            .get(OsStr::new(name))?
            .to_str()
            .filter(|value| !value.is_empty())
    }

    /// Returns a variable that is an absolute path. The XDG specification ignores relative ones, and so does this program,
    /// because the working directory may belong to another user.
    pub(crate) fn env_path(&self, name: &str) -> Option<&Path> {
        self.env_text(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
    }

    /// Returns the home directory of a person. Containers set HOME to `/` for users without one.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.env_path("HOME").filter(|home| *home != Path::new("/"))
    }

    /// Returns the directory for state that is neither data nor configuration, by the XDG rule.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        let standard = || self.home().map(|home| home.join(".local/state"));
        self.env_path("XDG_STATE_HOME")
            .map(Path::to_owned)
            .or_else(standard)
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join(APPLICATION)
    }

    /// Makes a path absolute. Relative paths start at `base`, and `~/` is the home directory, because only a shell expands it.
    pub(super) fn path_from(&self, base: &Path, text: &str) -> PathBuf {
        let rest = if text == "~" {
            Some("")
        } else {
            text.strip_prefix("~/")
        };
        match (rest, self.env_text("HOME")) {
            (Some(rest), Some(home)) => self.working_dir.join(home).join(rest),
            // `join` would leave the dot in displayed paths.
            _ if text == "." => base.to_owned(),
            _ => base.join(text.strip_prefix("./").unwrap_or(text)),
        }
    }

    /// Makes a path absolute. Relative paths start at the working directory.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.path_from(&self.working_dir, text)
    }

    /// Returns a path for display, relative to the working directory if it is below it.
    pub(super) fn display_path(&self, path: &Path) -> String {
        let short = path
            .strip_prefix(&self.working_dir)
            .ok()
            .filter(|short| !short.as_os_str().is_empty());
        short.unwrap_or(path).display().to_string()
    }
}

// Values may be secrets, including those of other programs.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("working_dir", &self.working_dir)
            .finish()
    }
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(String),
    Environment,
    /// A variable of the environment with another name than the setting.
    Variable(&'static str),
    /// A file named by `NAME_FILE`.
    File {
        path: String,
        /// The variable that names the file.
        variable: String,
    },
    /// A file in systemd's credentials directory.
    Credential(String),
    /// A line of the `.env` file.
    EnvFile {
        path: String,
        /// First line of the assignment, counted from 1.
        line: usize,
    },
    Default,
    /// Set to an empty value, which restores the default over lower layers.
    Cleared(Box<Origin>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "option --{flag}"),
            Self::Environment => f.write_str("environment"),
            Self::Variable(name) => write!(f, "environment ({name})"),
            Self::File { path, variable } => write!(f, "{path} ({variable})"),
            Self::Credential(path) => write!(f, "{path} (credential)"),
            Self::EnvFile { path, line } => write!(f, "{path} line {line}"),
            Self::Default => f.write_str("default"),
            Self::Cleared(by) => write!(f, "default (empty in {by})"),
        }
    }
}

/// The reason why a file yields no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("the file does not exist")]
    Missing,
    #[error("the file cannot be read ({0})")]
    Unreadable(io::Error),
    #[error("{0}")]
    Distrusted(String),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("the file is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("the file is not UTF-8 text (line {0})")]
    NotText(usize),
    #[error("the file is empty")]
    Empty,
}

impl FileError {
    /// Returns whether a later attempt may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreadable(error) if is_transient(error))
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

impl From<TrustError> for FileError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Io(error) => error.into(),
            TrustError::Distrusted(reason) => Self::Distrusted(reason),
        }
    }
}

/// Reads a small regular file. Other files could block forever (a pipe) or never end (a device).
pub(super) fn read_file(path: &Path) -> Result<String, FileError> {
    check_kind(&fs::metadata(path)?)?;
    read_text(File::open(path)?)
}

/// Reads a small regular file that only `user` and root can change.
pub(super) fn read_trusted_file(path: &Path, user: User) -> Result<String, FileError> {
    let path = user.resolve(path)?;
    check_kind(&fs::metadata(&path)?)?;
    let file = File::open(&path)?;
    // Checks the opened file, because its name could be given to another file in between.
    user.check(&path, &file.metadata()?)?;
    read_text(file)
}

fn check_kind(metadata: &fs::Metadata) -> Result<(), FileError> {
    if metadata.is_file() {
        Ok(())
    } else {
        Err(FileError::NotAFile)
    }
}

fn read_text(file: File) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        FileError::NotText(1 + valid.iter().filter(|byte| **byte == b'\n').count())
    })
}

/// Reads the value in a file: its text without the line end of editors and `echo`.
pub(super) fn read_value(path: &Path) -> Result<String, FileError> {
    let mut text = read_file(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // A secret that was never written must not be taken for "none".
    if text.trim().is_empty() {
        Err(FileError::Empty)
    } else {
        Ok(text)
    }
}
