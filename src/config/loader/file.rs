//! The `.env` file: its directory, its trustworthiness, and its lines. Also checks names with our prefix, which other
//! programs use as well.

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use service_kit::config::{
    Assignment, Fault, HIDDEN, Problem, TrustError, did_you_mean, parse_env_file, quote_value,
};

use super::{APPLICATION, Found, Loader, Purpose, find_by_variable};
use crate::config::PREFIX;
use crate::config::config_file::{ConfigFile, FileState};
use crate::config::setting::{self as table, SETTINGS, SettingInfo};
use crate::config::settings::Environment;
use crate::config::source::{FileError, Origin, read_trusted_file};

/// The variable of many programs that is read if ours is not set.
const FOREIGN_ENVIRONMENT: &str = "ENVIRONMENT";

/// Directory for the settings of system services and containers.
const SYSTEM_DIRECTORY: &str = "/etc";

/// Names with our prefix that systemd (memory pressure), Cloud Foundry and Heroku put into the environment.
const FOREIGN: &[&str] = &[
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "MEMORY_LIMIT",
    "MEMORY_AVAILABLE",
];

/// A directory that may have an `.env` file.
struct Directory {
    path: PathBuf,
    /// Whether the directory was named explicitly, so that it must exist.
    is_named: bool,
}

impl Loader<'_> {
    // ---- names -------------------------------------------------------------------------------------------------------

    /// Uses `ENVIRONMENT` if `MEMORY_ENVIRONMENT` is not set. Other programs have other values for it.
    pub(super) fn take_foreign_environment(&mut self) {
        let name = table::ENVIRONMENT.name;
        if self.found.contains_key(name)
            || self.cleared.contains_key(name)
            || self.is_broken(&table::ENVIRONMENT)
        {
            return;
        }
        let Some(value) = self
            .sources
            .env
            .get(std::ffi::OsStr::new(FOREIGN_ENVIRONMENT))
        else {
            return;
        };
        let value = value.to_string_lossy();
        match value.trim() {
            "" => {}
            known @ ("production" | "development") => {
                let origin = Origin::Variable(FOREIGN_ENVIRONMENT);
                self.found.insert(name, Found { value: SecretString::from(known), origin });
            }
            other => self.warnings.push(format!(
                "{FOREIGN_ENVIRONMENT}={} belongs to other programs and was ignored: this program uses the development \
                 environment. Set MEMORY_ENVIRONMENT to production or development to choose.",
                quote_value(other, false)
            )),
        }
    }

    pub(super) fn check_names_in_environment(&mut self) {
        let names: Vec<String> = self
            .sources
            .env
            .iter()
            // Compose files create empty variables for unset ones.
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .filter(|name| !FOREIGN.contains(&name.as_str()))
            .collect();
        for name in names {
            self.check_name(&name, &Origin::Environment);
        }
    }

    /// Reports an unknown name with our prefix, because a misspelled setting would silently have no effect.
    fn check_name(&mut self, name: &str, origin: &Origin) {
        if !name.starts_with(PREFIX) || find_by_variable(name).is_some() {
            return;
        }
        let known: Vec<String> = SETTINGS
            .iter()
            .flat_map(|setting| [Some(setting.name.to_owned()), setting.file_name()])
            .flatten()
            .collect();
        let guess = did_you_mean(name, PREFIX, known.iter().map(String::as_str))
            .map(|guess| format!("{guess} "))
            .unwrap_or_default();
        let name = name.escape_debug().to_string();
        if !self.is_strict {
            let warning = format!(
                "{name} ({origin}) is not a setting of this program and was ignored. {guess}"
            );
            self.warnings.push(warning.trim_end().to_owned());
            return;
        }
        self.problems.push(Problem {
            name,
            // A misspelled name may have a secret value.
            value: Some(HIDDEN.to_owned()),
            origin: Some(origin.to_string()),
            expected: format!("no names with {PREFIX} other than those of the settings"),
            remedy: format!(
                "{guess}Correct the name or remove it; docs/configuration.md lists every setting."
            ),
        });
    }

    pub(super) fn check_names_of_credentials(&mut self) {
        let Some(directory) = self.credentials_directory() else {
            return;
        };
        let Ok(entries) = fs::read_dir(&directory) else {
            return;
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for name in names {
            let origin = Origin::Credential(self.sources.display_path(&directory.join(&name)));
            self.check_name(&name, &origin);
        }
    }

    /// systemd always sets an absolute path. A relative one would lead into the working directory.
    pub(super) fn credentials_directory(&self) -> Option<PathBuf> {
        self.sources
            .env_path("CREDENTIALS_DIRECTORY")
            .map(Path::to_owned)
    }

    // ---- the directory -----------------------------------------------------------------------------------------------

    /// Returns the directory of the `.env` file, or `None` if its path is a problem.
    fn find_directory(&mut self, file_name: &str) -> Option<Directory> {
        if self.is_broken(&table::CONFIG_DIR) {
            return None;
        }
        if let Some(found) = self.found.get(table::CONFIG_DIR.name) {
            let text = found.value.expose_secret().to_owned();
            let path = self.sources.path(&text);
            let is_option = matches!(found.origin, Origin::Flag(_));
            let in_home =
                (text == "~" || text.starts_with("~/")) && self.sources.env_path("HOME").is_some();
            if !is_option && !text.starts_with('/') && !in_home {
                let remedy = "Write an absolute path: a relative one would name another directory wherever a program \
                              is started. The option --config-dir takes relative paths.";
                self.report(&table::CONFIG_DIR, remedy);
                return None;
            }
            return Some(Directory {
                path,
                is_named: true,
            });
        }
        if let Some(path) = self.systemd_directory(file_name) {
            let value = SecretString::from(path.display().to_string());
            let origin = Origin::Variable("CONFIGURATION_DIRECTORY");
            self.found
                .insert(table::CONFIG_DIR.name, Found { value, origin });
            return Some(Directory {
                path,
                is_named: false,
            });
        }
        let user = match (
            self.sources.env_path("XDG_CONFIG_HOME"),
            self.sources.home(),
        ) {
            (Some(directory), _) => Some(directory.to_owned()),
            (None, home) => home.map(|home| home.join(".config")),
        };
        let path = user
            .unwrap_or_else(|| PathBuf::from(SYSTEM_DIRECTORY))
            .join(APPLICATION);
        self.note_default(&table::CONFIG_DIR, path.display().to_string());
        Some(Directory {
            path,
            is_named: false,
        })
    }

    /// Returns the first configuration directory of the unit that has the file, or else the first.
    fn systemd_directory(&self, file_name: &str) -> Option<PathBuf> {
        let list = self.sources.env_text("CONFIGURATION_DIRECTORY")?;
        let directories: Vec<&Path> = list
            .split(':')
            .map(Path::new)
            .filter(|path| path.is_absolute())
            .collect();
        let with_file = directories
            .iter()
            .find(|path| fs::symlink_metadata(path.join(file_name)).is_ok());
        with_file
            .or(directories.first())
            .map(|path| path.to_path_buf())
    }

    /// Many programs read the file in the working directory, so people expect this one to do so.
    fn mention_working_directory(&mut self, directory: &Path, file_name: &str) {
        let working_dir = &self.sources.working_dir;
        if working_dir == directory || fs::symlink_metadata(working_dir.join(file_name)).is_err() {
            return;
        }
        let reason = format!(
            "files in the working directory are not read; the directory in use is {}, and --config-dir selects another",
            directory.display()
        );
        self.note_file(&working_dir.join(file_name), FileState::Ignored(reason));
    }

    fn note_file(&mut self, path: &Path, state: FileState) {
        self.files.push(ConfigFile {
            path: self.sources.display_path(path),
            state,
        });
    }

    /// Reports a file or directory that another user could have written.
    fn report_distrusted(&mut self, path: &Path, reason: &str) {
        self.note_file(path, FileState::Ignored(reason.to_owned()));
        let name = self.sources.display_path(path);
        let uid = self.sources.user.uid;
        let remedy = "make it writable by you alone (chmod go-w) and owned by you or root (chown)";
        match self.purpose {
            Purpose::Command => self.warnings.push(format!(
                "{name} was ignored: {reason}. To use it, {remedy}."
            )),
            Purpose::Service => self.problems.push(Problem {
                name,
                value: Some(HIDDEN.to_owned()),
                origin: None,
                expected: format!("a file or directory that only user {uid} and root can change"),
                remedy: format!("It is not trusted: {reason}. To use it, {remedy}."),
            }),
        }
    }

    /// Returns whether the directory exists and can be trusted.
    fn is_usable(&mut self, directory: &Directory) -> bool {
        let Directory { path, is_named } = directory;
        match self.sources.user.examine(path) {
            Ok(_) if path.is_dir() => true,
            Err(TrustError::Distrusted(reason)) => {
                self.report_distrusted(path, &reason);
                false
            }
            Err(TrustError::Io(error)) if !is_missing(&error) => {
                self.report_unreadable(path, &error.into());
                false
            }
            _ if *is_named => {
                self.report(
                    &table::CONFIG_DIR,
                    "Create the directory or correct the path.",
                );
                false
            }
            _ => true,
        }
    }

    // ---- the file ----------------------------------------------------------------------------------------------------

    pub(super) fn read_env_file(&mut self, environment: Option<Environment>) {
        // Without a known environment, the choice of a file would be a guess.
        let Some(environment) = environment else {
            return;
        };
        let file_name = format!(".env.{environment}");
        let Some(directory) = self.find_directory(&file_name) else {
            return;
        };
        self.mention_working_directory(&directory.path, &file_name);
        if !self.is_usable(&directory) {
            return;
        }
        let path = directory.path.join(file_name);
        match read_trusted_file(&path, self.sources.user) {
            Ok(text) => {
                self.note_file(&path, FileState::Read);
                self.env_file = Some(path.clone());
                self.take_lines(&self.sources.display_path(&path), &text, environment);
            }
            Err(FileError::Missing) => self.note_file(&path, FileState::Missing),
            Err(FileError::Distrusted(reason)) => self.report_distrusted(&path, &reason),
            Err(error) => self.report_unreadable(&path, &error),
        }
    }

    fn report_unreadable(&mut self, path: &Path, error: &FileError) {
        self.is_transient |= error.is_transient();
        self.note_file(path, FileState::Ignored(error.to_string()));
        self.problems.push(Problem {
            name: self.sources.display_path(path),
            value: Some(HIDDEN.to_owned()),
            origin: None,
            expected: "a readable text file with lines `NAME=value`".to_owned(),
            remedy: format!("Correct or remove it: {error}."),
        });
    }

    fn take_lines(&mut self, file: &str, text: &str, environment: Environment) {
        let (assignments, faults) = parse_env_file(text);
        for fault in faults {
            self.report_line(file, &fault);
        }
        for assignment in assignments {
            let origin = Origin::EnvFile {
                path: file.to_owned(),
                line: assignment.line,
            };
            self.check_name(&assignment.name, &origin);
            if assignment.name == FOREIGN_ENVIRONMENT && assignment.value != environment.as_str() {
                self.warnings.push(format!(
                    "{FOREIGN_ENVIRONMENT} ({origin}) was ignored: this file is read in the {environment} environment"
                ));
            }
            if let Some(setting) = find_by_variable(&assignment.name) {
                self.check_assignment(setting, &assignment, &origin, environment);
                self.assignments.insert(assignment.name.clone(), assignment);
            }
        }
    }

    /// Lines of other programs may have any syntax, but a line of ours must not be lost.
    fn report_line(&mut self, file: &str, fault: &Fault) {
        let origin = format!("{file} line {}", fault.line);
        let is_ours = fault
            .names
            .iter()
            .any(|name| find_by_variable(name).is_some());
        let is_foreign =
            !fault.names.is_empty() && !fault.names.iter().any(|name| name.starts_with(PREFIX));
        if !is_ours && (is_foreign || !self.is_strict) {
            self.warnings.push(format!(
                "{origin} was ignored: it is not an assignment that this program can read"
            ));
            return;
        }
        self.problems.push(Problem {
            name: file.to_owned(),
            value: Some(HIDDEN.to_owned()),
            origin: Some(origin),
            expected: "a line `NAME=value`, a comment or an empty line".to_owned(),
            remedy: if fault.swallows {
                "The value includes the next assignment, because a quote does not end after a backslash. Put the value into \
                 single quotes, without a backslash before the last."
            } else {
                "Correct the line; a value with spaces or special characters belongs in single quotes."
            }
            .to_owned(),
        });
    }

    fn check_assignment(
        &mut self,
        setting: &'static SettingInfo,
        assignment: &Assignment,
        origin: &Origin,
        environment: Environment,
    ) {
        let remedy = if let Some(first) = self.assignments.get(&assignment.name) {
            format!(
                "Remove one of the two: line {} sets it already.",
                first.line
            )
        } else if setting.name == table::ENVIRONMENT.name
            && assignment.value == environment.as_str()
        {
            return;
        } else if setting.is_bootstrap() {
            "Remove it: it selects this file, so it is read from the command line and the environment only."
                .to_owned()
        } else if setting.is_secret() && assignment.substituted {
            "Put the value into single quotes: a `$` outside of them begins the name of a variable."
                .to_owned()
        } else {
            return;
        };
        self.broken.insert(setting.name);
        self.problems.push(Problem {
            name: assignment.name.clone(),
            value: Some(quote_value(&assignment.value, setting.is_secret())),
            origin: Some(origin.to_string()),
            expected: setting.kind.expectation(),
            remedy,
        });
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}
