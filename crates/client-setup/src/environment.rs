//! The places of a user's files, from explicit values, so that tests need no process environment.

use std::path::{Path, PathBuf};

/// The operating system, which determines where clients store their settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Linux,
    MacOs,
    Windows,
}

impl System {
    /// Returns the system for which the program was compiled.
    #[must_use]
    pub const fn of_build() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }
}

/// The places of a user's files.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(crate) system: System,
    pub(crate) home: PathBuf,
    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) xdg_config: PathBuf,
    /// `%APPDATA%` of Windows.
    pub(crate) app_data: PathBuf,
    pub(crate) claude_folder: Option<PathBuf>,
    pub(crate) codex_folder: PathBuf,
    pub(crate) gemini_home: PathBuf,
    programs: Vec<PathBuf>,
}

impl Environment {
    /// Derives the places from a home directory and variables with absolute paths. Relative values are ignored.
    #[must_use]
    pub fn new(
        system: System,
        home: &Path,
        variable: impl Fn(&str) -> Option<PathBuf>,
        programs: Vec<PathBuf>,
    ) -> Self {
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        let or_home = |name: &str, below: &str| absolute(name).unwrap_or_else(|| home.join(below));
        Self {
            system,
            home: home.to_owned(),
            xdg_config: or_home("XDG_CONFIG_HOME", ".config"),
            app_data: or_home("APPDATA", "AppData/Roaming"),
            claude_folder: absolute("CLAUDE_CONFIG_DIR"),
            codex_folder: or_home("CODEX_HOME", ".codex"),
            gemini_home: absolute("GEMINI_CLI_HOME").unwrap_or_else(|| home.to_owned()),
            programs,
        }
    }

    /// Returns the directory in which desktop programs store their settings.
    pub(crate) fn desktop_config(&self) -> PathBuf {
        match self.system {
            System::Linux => self.xdg_config.clone(),
            System::MacOs => self.home.join("Library/Application Support"),
            System::Windows => self.app_data.clone(),
        }
    }

    /// Returns the directory of programs that use `~/.config` on Linux and macOS.
    pub(crate) fn terminal_config(&self) -> PathBuf {
        match self.system {
            System::Windows => self.app_data.clone(),
            System::Linux | System::MacOs => self.xdg_config.clone(),
        }
    }

    /// Returns whether a directory for programs contains this one.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.programs.iter().any(|folder| {
            let path = folder.join(name);
            path.is_file() || path.with_extension("exe").is_file()
        })
    }
}
