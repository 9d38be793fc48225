//! The files in which settings are expected.

/// A file in which settings were expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Relative to the working directory if it is below it.
    pub path: String,
    pub state: FileState,
}

/// How a file was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    Read,
    /// The file does not exist, which is not an error.
    Missing,
    /// For this reason.
    Ignored(String),
}
