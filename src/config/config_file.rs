//! The files in which settings are expected.

/// A file in which settings were expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Path, relative to the working directory if it is below it.
    pub path: String,
    pub state: FileState,
}

/// The use of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    Read,
    /// The file does not exist, which is not an error.
    Missing,
    /// The file was ignored for this reason.
    Ignored(String),
}
