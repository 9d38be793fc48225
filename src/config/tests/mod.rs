use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::setting::{Kind, Section};
use super::*;

mod layer;
mod problem;
mod secret;
mod value;

mod place;

/// A directory with files, and sources that start there and contain nothing else.
struct Site {
    directory: TempDir,
    sources: Sources,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: directory.path().to_owned(),
            ..Sources::default()
        }
        .with_env("HOME", "/home/me")
        .with_env("MEMORY_CONFIG_DIR", directory.path());
        Self { directory, sources }
    }

    /// The minimal production configuration.
    fn production() -> Self {
        Self::new()
            .env("ENVIRONMENT", "production")
            .env("MEMORY_DATABASE_HOST", "db")
            .env("MEMORY_AUTH", "none")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the variable that names the directory of the settings files.
    fn unnamed() -> Self {
        let mut site = Self::new();
        site.sources
            .env
            .remove(&OsString::from("MEMORY_CONFIG_DIR"));
        let home = site.path().join("home").display().to_string();
        site.env("HOME", &home)
    }

    /// Sets a variable to the absolute path of a file in the directory.
    fn env_path(self, name: &str, path: &str) -> Self {
        let path = self.path().join(path).display().to_string();
        self.env(name, &path)
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources = self.sources.with_env(name, value);
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.sources.flags = self.sources.flags.with(name, value);
        self
    }

    fn settings(&self) -> Settings {
        load(&self.sources, Purpose::Service).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> ConfigError {
        load(&self.sources, Purpose::Service).expect_err("not a valid configuration")
    }

    /// Returns the names with problems.
    fn wrong(&self) -> Vec<String> {
        self.error()
            .problems()
            .iter()
            .map(|problem| problem.name.clone())
            .collect()
    }

    fn entry(&self, name: &str) -> (String, String) {
        let reading = read(&self.sources, Purpose::Service);
        let entry = reading
            .entries
            .iter()
            .find(|entry| entry.name == name)
            .unwrap();
        (entry.value.clone(), entry.origin.to_string())
    }

    /// Removes the directory from a text, for snapshots.
    fn neutral(&self, text: &str) -> String {
        text.replace(&self.path().display().to_string(), "DIR")
    }
}

fn entry(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
