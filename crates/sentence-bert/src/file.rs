//! Reading of a model's files, with errors that name the file.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Deserialize;

/// The file with the weights, of the model and of each dense module.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Remedy if the weights are in PyTorch's own file, which is a program and is not run.
pub const SAVE_AGAIN: &str =
    "load the model with sentence-transformers, save it again, and use that folder";

/// Reads a JSON file of the model. Returns `None` if the file does not exist.
pub(crate) fn read_optional<T: for<'de> Deserialize<'de>>(
    folder: &Path,
    name: &str,
) -> io::Result<Option<T>> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| with_file_name(name, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_file_name(name, error)),
    }
}

/// Returns an error of damaged data that begins with the name of the file.
pub(crate) fn with_file_name(file: &str, error: impl fmt::Display) -> io::Error {
    invalid_data(format!("{file}: {error}"))
}

/// Returns an error of damaged data.
pub(crate) fn invalid_data(what: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}
