//! Builds the settings from their sources: first layers, then values, then the rules between settings.

mod access;
mod database;
mod embedding;
mod file;
mod layer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use service_kit::config::{Assignment, ConfigError, HIDDEN, Problem, did_you_mean, quote_value};
use service_kit::telemetry::LogOptions;

use super::config_file::ConfigFile;
use super::setting::{self as table, DefaultValue, Kind, Parser, SETTINGS, Setting, SettingInfo};
use super::settings::{Client, Environment, Hooks, Http, ProjectLimits, Retention, Settings};
use super::source::{Origin, Sources};
use super::{APPLICATION, PREFIX};

/// Purpose for which the settings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The service. A file that cannot be trusted is an error, and so is a misspelled name in production.
    Service,
    /// A command, or `stdio` of a client, which runs in the environment of other programs. Their files and names cause
    /// warnings at most.
    Command,
}

/// Reads the settings.
///
/// # Errors
/// All problems in one error.
pub fn load(sources: &Sources, purpose: Purpose) -> Result<Settings, ConfigError> {
    read(sources, purpose).settings
}

/// A setting for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// The value without secrets.
    pub value: String,
    pub origin: Origin,
}

/// The settings with the origin of each, even if they are not valid.
#[derive(Debug, Clone)]
pub struct Reading {
    pub settings: Result<Settings, ConfigError>,
    /// All settings, in the order of the documents.
    pub entries: Vec<Entry>,
    pub files: Vec<ConfigFile>,
    /// Sentences about probable mistakes that are not errors.
    pub warnings: Vec<String>,
}

/// Reads the settings, with the details that `config show` prints.
pub fn read(sources: &Sources, purpose: Purpose) -> Reading {
    let mut loader = Loader::new(sources, purpose);
    loader.find_values(|setting| setting.is_bootstrap());
    loader.take_foreign_environment();
    let environment = loader.value(&table::ENVIRONMENT);
    loader.is_strict = purpose == Purpose::Service && environment != Some(Environment::Development);
    loader.check_names_in_environment();
    loader.read_env_file(environment);
    loader.check_names_of_credentials();
    loader.find_values(|setting| !setting.is_bootstrap());
    let settings = loader.build_settings(environment);
    loader.finish_reading(settings)
}

/// A value before parsing.
struct Found {
    value: SecretString,
    origin: Origin,
}

struct Loader<'a> {
    sources: &'a Sources,
    purpose: Purpose,
    /// Whether an unknown name with our prefix is an error.
    is_strict: bool,
    /// The `.env` file that was read.
    env_file: Option<PathBuf>,
    files: Vec<ConfigFile>,
    assignments: BTreeMap<String, Assignment>,
    found: BTreeMap<&'static str, Found>,
    cleared: BTreeMap<&'static str, Origin>,
    /// Settings with a problem of their own, which the rules between settings ignore.
    broken: BTreeSet<&'static str>,
    /// Defaults that depend on other settings.
    computed: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Whether a file could not be read for a reason that may disappear by itself.
    is_transient: bool,
}

impl<'a> Loader<'a> {
    fn new(sources: &'a Sources, purpose: Purpose) -> Self {
        Self {
            sources,
            purpose,
            is_strict: purpose == Purpose::Service,
            env_file: None,
            files: Vec::new(),
            assignments: BTreeMap::new(),
            found: BTreeMap::new(),
            cleared: BTreeMap::new(),
            broken: BTreeSet::new(),
            computed: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            is_transient: false,
        }
    }

    fn find_values(&mut self, is_wanted: impl Fn(&SettingInfo) -> bool) {
        for setting in SETTINGS.into_iter().filter(|setting| is_wanted(setting)) {
            self.find_value(setting);
        }
    }

    /// Reports a problem of a setting.
    fn report(&mut self, setting: &'static SettingInfo, remedy: impl Into<String>) {
        let found = self.found.get(setting.name);
        self.problems.push(Problem {
            name: setting.name.to_owned(),
            value: found.map(|found| quote_value(found.value.expose_secret(), setting.is_secret())),
            origin: found.map(|found| found.origin.to_string()),
            expected: setting.kind.expectation(),
            remedy: remedy.into(),
        });
        self.broken.insert(setting.name);
    }

    fn is_set(&self, setting: &SettingInfo) -> bool {
        self.found.contains_key(setting.name)
    }

    fn is_broken(&self, setting: &SettingInfo) -> bool {
        self.broken.contains(setting.name)
    }

    /// Records a default that depends on other settings, for display.
    fn note_default(&mut self, setting: &SettingInfo, value: impl Into<String>) {
        self.computed.insert(setting.name, value.into());
    }

    /// Parses a value, or a literal default. Returns `None` if there is no value, or if it was reported as a problem.
    fn value<T: Clone>(&mut self, setting: &'static Setting<T>) -> Option<T> {
        self.parse_with(setting, |text| match (&setting.parser, setting.kind) {
            (Parser::Text(parse), _) => parse(text),
            (Parser::Values(values), Kind::Choice(words)) => {
                let position = words.iter().position(|word| *word == text);
                let value = position.and_then(|position| values.get(position));
                value.cloned().ok_or_else(|| {
                    let words = words.iter().copied();
                    did_you_mean(&text.to_lowercase(), PREFIX, words).unwrap_or_default()
                })
            }
            _ => unreachable!("{} is parsed by `number` or `path`", setting.name),
        })
    }

    fn parse_with<T>(
        &mut self,
        setting: &'static SettingInfo,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.is_broken(setting) {
            return None;
        }
        let text = match (self.found.get(setting.name), setting.default) {
            (Some(found), _) => found.value.expose_secret(),
            (None, DefaultValue::Is(text)) => text,
            (None, DefaultValue::Described(_)) => return None,
        };
        let mut remedy = match parse(text) {
            Ok(value) => return Some(value),
            Err(hint) => hint,
        };
        if !remedy.is_empty() {
            remedy.push(' ');
        }
        remedy.push_str("Correct it");
        if let DefaultValue::Is(text) = setting.default {
            remedy.push_str(&format!(", or remove it for the default {text}"));
        }
        remedy.push('.');
        self.report(setting, remedy);
        None
    }

    /// Parses a number. Its type must include the limits of the table.
    fn number<T: TryFrom<u64> + Default>(&mut self, setting: &'static Setting<u64>) -> T {
        let Kind::Number { min, max, .. } = setting.kind else {
            unreachable!("{} is a number in the table", setting.name)
        };
        let number = self.parse_with(setting, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => {
                T::try_from(number).map_err(|_| "The number is too large.".to_owned())
            }
            Ok(_) => Err("The number is outside of the limits.".to_owned()),
            Err(_) => Err(String::new()),
        });
        // If there is a problem, the default is only a placeholder.
        number.unwrap_or_default()
    }

    fn path(&mut self, setting: &'static Setting<PathBuf>) -> Option<PathBuf> {
        let (sources, base) = (self.sources, self.base_directory(setting));
        self.parse_with(setting, |text| {
            if (text == "~" || text.starts_with("~/")) && sources.env_text("HOME").is_none() {
                return Err("`~` has no meaning, because HOME is not set.".to_owned());
            }
            if text.contains('\0') {
                return Err("A path has no NUL character.".to_owned());
            }
            Ok(sources.path_from(&base, text))
        })
    }

    /// Returns `None` exactly if there is a problem.
    fn build_settings(&mut self, environment: Option<Environment>) -> Option<Settings> {
        let http = self.http();
        let oauth = self.oauth();
        let listen = http.as_ref().map(|http| http.listen);
        let auth = self.auth(environment, listen, oauth.is_some());
        let client = self.client();
        let data_dir = self
            .path(&table::DATA_DIR)
            .unwrap_or_else(|| self.default_data_dir());
        let database = self.database(environment, &data_dir);
        let row_security = self.value(&table::DATABASE_ROW_SECURITY);
        let language = self.value(&table::LANGUAGE);
        let embedding = self.embedding(&data_dir);
        let log = self.log();
        let settings = Settings {
            limits: ProjectLimits {
                memories: self.number(&table::PROJECT_MAX_MEMORIES),
                bytes: self.number(&table::PROJECT_MAX_BYTES),
                entries: self.number(&table::PROJECT_MAX_ENTRIES),
            },
            database_pool: self.number(&table::DATABASE_POOL),
            tool_prefix: self.value(&table::TOOL_PREFIX).unwrap_or_default(),
            focus_capacity: self.number(&table::FOCUS_CAPACITY),
            review_days: self.number(&table::REVIEW_DAYS),
            retention: Retention {
                history_days: self.number(&table::HISTORY_DAYS),
                idempotency_days: self.number(&table::IDEMPOTENCY_DAYS),
            },
            secrets: self.value(&table::SECRETS),
            hooks: self.hooks(),
            environment: environment?,
            env_file: self.env_file.clone(),
            files: self.files.clone(),
            warnings: self.warnings.clone(),
            user: self.sources.user,
            socket_dirs: self.socket_directories(&data_dir),
            http: http?,
            auth: auth?,
            oauth,
            client: client?,
            data_dir,
            database: database?,
            row_security: row_security?,
            language: language?,
            embedding: embedding?,
            log: log?,
        };
        self.problems.is_empty().then_some(settings)
    }

    fn hooks(&mut self) -> Hooks {
        Hooks {
            tokens: self.number(&table::HOOK_TOKENS),
            prompt_tokens: self.number(&table::HOOK_PROMPT_TOKENS),
            confidence: self.number(&table::HOOK_CONFIDENCE),
            ask_turns: self.number(&table::HOOK_ASK_TURNS),
            timeout: Duration::from_millis(self.number(&table::HOOK_TIMEOUT)),
        }
    }

    fn client(&mut self) -> Option<Client> {
        let url = self.value(&table::URL);
        let token = self.value(&table::TOKEN);
        let is_broken = self.is_broken(&table::URL) || self.is_broken(&table::TOKEN);
        (!is_broken).then_some(Client { url, token })
    }

    fn http(&mut self) -> Option<Http> {
        let listen = self.value(&table::LISTEN);
        let allowed_hosts = self.value(&table::ALLOWED_HOSTS);
        let allowed_origins = self.value(&table::ALLOWED_ORIGINS);
        Some(Http {
            max_body_bytes: self.number(&table::MAX_BODY_BYTES),
            request_timeout: Duration::from_secs(self.number(&table::REQUEST_TIMEOUT)),
            drain_timeout: Duration::from_secs(self.number(&table::DRAIN_TIMEOUT)),
            listen: listen?,
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins.unwrap_or_default(),
        })
    }

    fn log(&mut self) -> Option<LogOptions> {
        let format = self.value(&table::LOG_FORMAT);
        let level = self.value(&table::LOG_LEVEL);
        let systemd_priority = self.value(&table::LOG_PREFIX);
        Some(LogOptions {
            file: self.path(&table::LOG_FILE),
            file_bytes: self.number(&table::LOG_FILE_BYTES),
            file_count: self.number(&table::LOG_FILE_COUNT),
            format: format?,
            level: level?,
            systemd_priority: systemd_priority?,
        })
    }

    /// Returns the directory by the XDG rule, or that of system services if there is no home directory.
    fn default_data_dir(&mut self) -> PathBuf {
        let sources = self.sources;
        // The XDG specification ignores relative paths.
        let xdg = sources
            .env_text("XDG_DATA_HOME")
            .filter(|path| path.starts_with('/'))
            .map(PathBuf::from);
        let home = sources
            .env_text("HOME")
            .map(|home| sources.path(home).join(".local/share"));
        let directory = xdg
            .or(home)
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join(APPLICATION);
        self.note_default(&table::DATA_DIR, directory.display().to_string());
        directory
    }

    /// Returns the possible directories of the socket of the service, except that of the embedded database.
    fn socket_directories(&self, data_dir: &Path) -> Vec<PathBuf> {
        let runtime = match self.sources.env_path("XDG_RUNTIME_DIR") {
            // After `su` this may be the directory of another user.
            Some(directory) if self.sources.user.examine(directory).is_ok() => directory.to_owned(),
            // Programs outside of a session, for example cron jobs, lack the variable.
            _ => PathBuf::from(format!("/run/user/{}", self.sources.user.uid)),
        };
        // Processes with another home directory find the second one.
        let temporary = PathBuf::from(format!("/tmp/{APPLICATION}-{}", self.sources.user.uid));
        vec![runtime.join(APPLICATION), temporary, data_dir.join("run")]
    }

    /// Returns the directory at which a relative path starts: that of the `.env` file with the setting, or else the working
    /// directory.
    fn base_directory(&self, setting: &SettingInfo) -> PathBuf {
        let origin = self.found.get(setting.name).map(|found| &found.origin);
        match (origin, self.env_file.as_deref().and_then(Path::parent)) {
            (Some(Origin::EnvFile { .. }), Some(directory)) => directory.to_owned(),
            _ => self.sources.working_dir.clone(),
        }
    }

    fn finish_reading(mut self, settings: Option<Settings>) -> Reading {
        let entries = SETTINGS
            .into_iter()
            .map(|setting| self.describe_entry(setting))
            .collect();
        // Ordered as in the documents. Problems of other names come first.
        let place = |problem: &Problem| {
            find_by_variable(&problem.name)
                .and_then(|found| SETTINGS.iter().position(|s| s.name == found.name))
        };
        self.problems.sort_by_key(place);
        let settings = match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(ConfigError::new(
                std::mem::take(&mut self.problems),
                self.is_transient,
            )),
        };
        Reading {
            settings,
            entries,
            files: self.files,
            warnings: self.warnings,
        }
    }

    fn describe_entry(&self, setting: &'static SettingInfo) -> Entry {
        let (value, origin) = match self.found.get(setting.name) {
            Some(found) if setting.is_secret() => (HIDDEN.to_owned(), found.origin.clone()),
            Some(found) => {
                let text = quote_value(found.value.expose_secret(), false);
                // Quotes are only needed for problems.
                (text[1..text.len() - 1].to_owned(), found.origin.clone())
            }
            None => {
                let value = match (self.computed.get(setting.name), &setting.default) {
                    (Some(value), _) => value.clone(),
                    (None, DefaultValue::Is(text)) => (*text).to_owned(),
                    (None, DefaultValue::Described(_)) => "-".to_owned(),
                };
                let origin = self
                    .cleared
                    .get(setting.name)
                    .map(|by| Origin::Cleared(Box::new(by.clone())));
                (value, origin.unwrap_or(Origin::Default))
            }
        };
        Entry {
            name: setting.name,
            value,
            origin,
        }
    }
}

/// Returns the setting to which a name, or a name with `_FILE`, belongs.
fn find_by_variable(name: &str) -> Option<&'static SettingInfo> {
    SETTINGS
        .into_iter()
        .find(|setting| setting.name == name || setting.file_name().as_deref() == Some(name))
}
