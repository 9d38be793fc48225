//! The value of a setting from the highest layer that has one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use service_kit::config::{HIDDEN, Problem, quote_value};

use super::{Found, Loader};
use crate::config::config_file::{ConfigFile, FileState};
use crate::config::setting::SettingInfo;
use crate::config::source::{Origin, read_value};

impl Loader<'_> {
    /// Finds the value of a setting in the highest layer that has one.
    pub(super) fn find_value(&mut self, setting: &'static SettingInfo) {
        let file_name = setting.file_name();
        let in_env = self.read_variable(setting, setting.name);
        let file_in_env = match &file_name {
            Some(name) => self.read_variable(setting, name),
            None => Ok(None),
        };
        let (Ok(in_env), Ok(file_in_env)) = (in_env, file_in_env) else {
            return;
        };
        let in_file = self.assignment(setting, setting.name);
        let file_in_file = file_name
            .as_deref()
            .and_then(|name| self.assignment(setting, name));
        if let Some(file_name) = &file_name {
            for (value, file) in [(&in_env, &file_in_env), (&in_file, &file_in_file)] {
                if let (Some(value), Some(file)) = (value, file)
                    && !value.is_empty()
                    && !file.is_empty()
                {
                    return self.report_clash(setting, file_name, &file.origin);
                }
            }
        }
        let flag = setting.flag.and_then(|flag| {
            let text = self.sources.flags.get(setting.name)?.to_owned();
            let origin = Origin::Flag(flag.to_owned());
            Some(Layer::value(text, origin))
        });
        let has_layer = flag.is_some() || in_env.is_some() || file_in_env.is_some();
        let in_env = prefer_filled(in_env, file_in_env);
        let in_file = prefer_filled(in_file, file_in_file);
        if !has_layer && !in_file.as_ref().is_some_and(|layer| layer.is_path) {
            let credential = self.find_credential(setting);
            if let Some(path) = credential {
                let origin = Origin::Credential(self.sources.display_path(&path));
                self.take_file(setting, &path, setting.name, origin.clone(), &origin);
                return;
            }
        }
        if let Some(layer) = flag.or(in_env).or(in_file) {
            self.take_layer(setting, layer);
        }
    }

    fn take_layer(&mut self, setting: &'static SettingInfo, layer: Layer) {
        if layer.text.trim().is_empty() {
            self.cleared.insert(setting.name, layer.origin);
            return;
        }
        if !layer.is_path {
            self.keep_value(setting, layer.text, layer.origin);
            return;
        }
        let variable = setting.file_name().unwrap_or_default();
        let base = match (
            &layer.origin,
            self.env_file.as_deref().and_then(Path::parent),
        ) {
            (Origin::EnvFile { .. }, Some(directory)) => directory,
            _ => &self.sources.working_dir,
        };
        let path = self.sources.path_from(base, layer.text.trim());
        let origin = Origin::File {
            path: self.sources.display_path(&path),
            variable: variable.clone(),
        };
        self.take_file(setting, &path, &variable, origin, &layer.origin);
    }

    /// Only a secret may begin or end with a space.
    fn keep_value(&mut self, setting: &'static SettingInfo, text: String, origin: Origin) {
        let value = match setting.is_secret() {
            true => SecretString::from(text),
            false => SecretString::from(text.trim()),
        };
        self.found.insert(setting.name, Found { value, origin });
    }

    fn report_clash(&mut self, setting: &'static SettingInfo, file_name: &str, origin: &Origin) {
        self.broken.insert(setting.name);
        self.problems.push(Problem {
            name: setting.name.to_owned(),
            value: Some(HIDDEN.to_owned()),
            origin: Some(origin.to_string()),
            expected: format!("{} or {file_name}, not both", setting.name),
            remedy: "Remove one of the two.".to_owned(),
        });
    }

    /// Returns an assignment of the `.env` file.
    fn assignment(&self, setting: &SettingInfo, name: &str) -> Option<Layer> {
        let assignment = self.assignments.get(name)?;
        if setting.is_bootstrap() {
            return None;
        }
        let file = self.env_file.as_deref()?;
        Some(Layer {
            text: assignment.value.clone(),
            origin: Origin::EnvFile {
                path: self.sources.display_path(file),
                line: assignment.line,
            },
            is_path: name != setting.name,
        })
    }

    fn find_credential(&self, setting: &SettingInfo) -> Option<PathBuf> {
        let path = self.credentials_directory()?.join(setting.name);
        (!setting.is_bootstrap() && !matches!(path.try_exists(), Ok(false))).then_some(path)
    }

    /// Reads a variable of the environment. Reports a problem if it is not text.
    fn read_variable(
        &mut self,
        setting: &'static SettingInfo,
        name: &str,
    ) -> Result<Option<Layer>, ()> {
        let Some(value) = self.sources.env.get(OsStr::new(name)) else {
            return Ok(None);
        };
        if let Some(text) = value.to_str() {
            return Ok(Some(Layer {
                text: text.to_owned(),
                origin: Origin::Environment,
                is_path: name != setting.name,
            }));
        }
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

    /// Reads the value from a file, which the variable `name` in `named_in` specifies.
    fn take_file(
        &mut self,
        setting: &'static SettingInfo,
        path: &Path,
        name: &str,
        origin: Origin,
        named_in: &Origin,
    ) {
        match read_value(path) {
            Ok(value) => {
                self.keep_value(setting, value, origin);
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
                    value: Some(quote_value(&self.sources.display_path(path), false)),
                    origin: Some(named_in.to_string()),
                    expected: format!(
                        "a text file that the user of the service can read, with {}",
                        setting.kind.expectation()
                    ),
                    remedy: format!("Correct the path or the file: {error}."),
                });
            }
        }
    }
}

/// Text for a setting in one layer.
struct Layer {
    text: String,
    origin: Origin,
    /// Whether the text is the path of a file with the value.
    is_path: bool,
}

impl Layer {
    fn value(text: String, origin: Origin) -> Self {
        Self {
            text,
            origin,
            is_path: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Selects between a value and a file of the same layer: an empty text yields to the other one.
fn prefer_filled(value: Option<Layer>, file: Option<Layer>) -> Option<Layer> {
    match (value, file) {
        (Some(value), Some(file)) if value.is_empty() && !file.is_empty() => Some(file),
        (value, file) => value.or(file),
    }
}
