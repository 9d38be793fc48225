//! The value of a setting from the highest layer that has one.

use std::ffi::OsStr;
use std::path::Path;

use secrecy::SecretString;

use super::{ConfigFile, FileState, Found, Reader};
use crate::config::env_file::Assignment;
use crate::config::problem::{HIDDEN, Problem, shown};
use crate::config::setting::Setting;
use crate::config::source::{Origin, read_value};

impl Reader<'_> {
    /// Finds the value of a setting in the highest layer which has one.
    pub(super) fn resolve(&mut self, setting: &'static Setting) {
        let sources = self.sources;
        let file_name = setting.file_name();
        let in_env = match self.variable(setting, setting.name) {
            Ok(value) => value,
            Err(()) => return,
        };
        let file_in_env = match file_name
            .as_deref()
            .map(|name| self.variable(setting, name))
            .transpose()
        {
            Ok(value) => value.flatten(),
            Err(()) => return,
        };
        let assigned = |name: &str| {
            self.assignments
                .get(name)
                .filter(|_| !setting.is_bootstrap())
                .cloned()
        };
        let in_file = assigned(setting.name);
        let file_in_file = file_name.as_deref().and_then(assigned);
        let origin_of = |assignment: &Assignment| Origin::EnvFile {
            path: self
                .env_file
                .as_ref()
                .map(|path| sources.display_path(path))
                .unwrap_or_default(),
            line: assignment.line,
        };

        let mut clash = None;
        if in_env.as_ref().is_some_and(|value| !value.is_empty())
            && file_in_env.as_ref().is_some_and(|value| !value.is_empty())
        {
            clash = Some(Origin::Environment);
        } else if let (Some(value), Some(file)) = (&in_file, &file_in_file)
            && !value.value.is_empty()
            && !file.value.is_empty()
        {
            clash = Some(origin_of(file));
        }
        if let (Some(origin), Some(file_name)) = (clash, &file_name) {
            self.broken.insert(setting.name);
            self.problems.push(Problem {
                name: setting.name.to_owned(),
                value: Some(HIDDEN.to_owned()),
                origin: Some(origin.to_string()),
                expected: format!("{} or {file_name}, not both", setting.name),
                remedy: "Remove one of the two.".to_owned(),
            });
            return;
        }

        // The layers from the highest to the lowest: literal values, and paths of files with the value.
        enum Layer {
            Value(String, Origin),
            Path(String, Origin),
        }
        let credential = self
            .credentials_directory()
            .filter(|_| !setting.is_bootstrap())
            .map(|directory| directory.join(setting.name));
        let mut layers = Vec::new();
        if let (Some(value), Some(flag)) = (sources.flags.get(setting.name), setting.flag) {
            layers.push(Layer::Value(
                value.to_owned(),
                Origin::Flag(flag.to_owned()),
            ));
        }
        // Within one layer an empty name gives way to the other one.
        let empty_value = in_env.as_ref().is_some_and(String::is_empty)
            && file_in_env.as_ref().is_some_and(|path| !path.is_empty());
        layers.extend(
            in_env
                .filter(|_| !empty_value)
                .map(|value| Layer::Value(value, Origin::Environment)),
        );
        layers.extend(file_in_env.map(|path| Layer::Path(path, Origin::Environment)));
        if let Some(assignment) = &file_in_file
            && (in_file.is_none() || !assignment.value.is_empty())
        {
            layers.push(Layer::Path(assignment.value.clone(), origin_of(assignment)));
        }
        let in_file = in_file
            .map(|assignment| Layer::Value(assignment.value.clone(), origin_of(&assignment)));

        if layers.is_empty()
            && let Some(path) = credential.filter(|path| !matches!(path.try_exists(), Ok(false)))
        {
            let origin = Origin::Credential(sources.display_path(&path));
            self.take_file(setting, &path, setting.name, origin.clone(), &origin);
            return;
        }
        match layers.into_iter().next().or(in_file) {
            None => {}
            Some(Layer::Value(value, origin) | Layer::Path(value, origin))
                if value.trim().is_empty() =>
            {
                self.cleared.insert(setting.name, origin);
            }
            Some(Layer::Value(value, origin)) => {
                // A password may begin or end with a space, nothing else does.
                let value = if setting.secret {
                    value
                } else {
                    value.trim().to_owned()
                };
                self.found.insert(
                    setting.name,
                    Found {
                        value: SecretString::from(value),
                        origin,
                    },
                );
            }
            Some(Layer::Path(path, named_in)) => {
                let variable = file_name.unwrap_or_default();
                let base = match (&named_in, self.env_file.as_deref().and_then(Path::parent)) {
                    (Origin::EnvFile { .. }, Some(directory)) => directory,
                    _ => &sources.working_dir,
                };
                let path = sources.path_from(base, path.trim());
                let origin = Origin::File {
                    path: sources.display_path(&path),
                    variable: variable.clone(),
                };
                self.take_file(setting, &path, &variable, origin, &named_in);
            }
        }
    }

    /// A variable of the environment; a problem when it is not text.
    fn variable(&mut self, setting: &'static Setting, name: &str) -> Result<Option<String>, ()> {
        match self
            .sources
            .env
            .get(OsStr::new(name))
            .map(|value| value.to_str())
        {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value.to_owned())),
            Some(None) => {
                self.broken.insert(setting.name);
                self.problems.push(Problem {
                    name: name.to_owned(),
                    value: Some("(not UTF-8)".to_owned()),
                    origin: Some(Origin::Environment.to_string()),
                    expected: setting.kind.expectation(),
                    remedy: "Write the value in UTF-8.".to_owned(),
                });
                Err(())
            }
        }
    }

    /// Reads the value from a file; `name` is what led to it, and `named_in` where that stands.
    fn take_file(
        &mut self,
        setting: &'static Setting,
        path: &Path,
        name: &str,
        origin: Origin,
        named_in: &Origin,
    ) {
        match read_value(path) {
            Ok(value) => {
                let value = if setting.secret {
                    value
                } else {
                    value.trim().to_owned()
                };
                self.found.insert(
                    setting.name,
                    Found {
                        value: SecretString::from(value),
                        origin,
                    },
                );
                self.files.push(ConfigFile {
                    path: self.sources.display_path(path),
                    state: FileState::Read,
                });
            }
            Err(error) => {
                self.is_transient |= error.is_transient();
                self.broken.insert(setting.name);
                self.problems.push(Problem {
                    name: name.to_owned(),
                    value: Some(shown(&self.sources.display_path(path), false)),
                    origin: Some(named_in.to_string()),
                    expected: format!(
                        "a text file which the user of the service can read, with {}",
                        setting.kind.expectation()
                    ),
                    remedy: format!("Correct the path or the file: {error}."),
                });
            }
        }
    }
}
