//! Where values come from, and which source wins.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::flag::Flags;
use super::trust::{TrustError, User, is_transient};

/// Largest file that is read for a value.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Everything the configuration is made from; tests fill it without touching their process.
#[derive(Clone, Default)]
pub struct Sources {
    /// Values from the command line.
    pub flags: Flags,
    /// The process environment.
    pub env: BTreeMap<OsString, OsString>,
    /// Relative paths start here. No file is looked for here.
    pub working_dir: PathBuf,
    /// Whose files are trusted, beside those of root.
    pub user: User,
}

impl Sources {
    /// The sources of this process.
    pub fn of_process(flags: Flags) -> Self {
        Self {
            flags,
            env: std::env::vars_os().collect(),
            // Without a working directory relative paths fail later, each with its own message.
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

    /// A variable of the environment that is text and not empty.
    pub(super) fn env_text(&self, name: &str) -> Option<&str> {
        self.env
            .get(OsStr::new(name))?
            .to_str()
            .filter(|value| !value.is_empty())
    }

    /// A variable that must be an absolute path; the XDG specification ignores relative ones, and so does this program,
    /// since the working directory may belong to a stranger.
    pub(super) fn env_path(&self, name: &str) -> Option<&Path> {
        self.env_text(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
    }

    /// The home directory of a person. Containers set HOME to `/` for users that have none.
    pub(super) fn home(&self) -> Option<&Path> {
        self.env_path("HOME").filter(|home| *home != Path::new("/"))
    }

    /// Makes a path absolute. Relative ones start at `base`; `~/` is the home directory, since only a shell expands it.
    pub(super) fn path_from(&self, base: &Path, text: &str) -> PathBuf {
        let rest = if text == "~" {
            Some("")
        } else {
            text.strip_prefix("~/")
        };
        match (rest, self.env_text("HOME")) {
            (Some(rest), Some(home)) => self.working_dir.join(home).join(rest),
            // `join` with "." would leave a dot in what people read.
            _ if text == "." => base.to_owned(),
            _ => base.join(text.strip_prefix("./").unwrap_or(text)),
        }
    }

    /// Makes a path absolute, relative ones from the working directory.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.path_from(&self.working_dir, text)
    }

    /// A path as people know it: relative to the working directory when it lies there.
    pub(super) fn display_path(&self, path: &Path) -> String {
        let short = path
            .strip_prefix(&self.working_dir)
            .ok()
            .filter(|short| !short.as_os_str().is_empty());
        short.unwrap_or(path).display().to_string()
    }
}

// Values may be secrets, also those of variables which are not ours.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("working_dir", &self.working_dir)
            .finish()
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command line option.
    Flag(String),
    /// The process environment.
    Environment,
    /// A variable of the environment that has another name than the setting.
    Variable(&'static str),
    /// A file named by `NAME_FILE`.
    File {
        /// The file.
        path: String,
        /// The variable which names it.
        variable: String,
    },
    /// A file in systemd's credentials directory.
    Credential(String),
    /// A line of the `.env` file.
    EnvFile {
        /// The file.
        path: String,
        /// Where the assignment starts, counted from 1.
        line: usize,
    },
    /// Nothing set it.
    Default,
    /// Set to nothing on purpose, which brings the default back over lower layers.
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

/// Why a file gave no value.
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
    /// Whether another attempt later makes sense.
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

/// Reads a small regular file. Anything else could block for ever (a pipe) or never end (a device).
pub(super) fn read_file(path: &Path) -> Result<String, FileError> {
    check_kind(&fs::metadata(path)?)?;
    read_text(File::open(path)?)
}

/// Reads a small regular file that nobody but `user` and root can change.
pub(super) fn read_trusted_file(path: &Path, user: User) -> Result<String, FileError> {
    let path = user.resolve(path)?;
    check_kind(&fs::metadata(&path)?)?;
    let file = File::open(&path)?;
    // The opened file, not its name, is checked: somebody could exchange it in between.
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

/// Reads the value a file holds: its text without the line end that editors and `echo` put there.
pub(super) fn read_value(path: &Path) -> Result<String, FileError> {
    let mut text = read_file(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // Somebody meant to put something there: a secret that was never written must not mean "none".
    if text.trim().is_empty() {
        Err(FileError::Empty)
    } else {
        Ok(text)
    }
}
