//! From sources to settings: layers first, then values, then the rules between them.

mod access;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::database::{self, Address, Database, Postgres, host_fault};
use super::env_file::{self, Assignment};
use super::problem::{ConfigError, HIDDEN, Problem, did_you_mean, shown};
use super::setting::{self as table, DefaultValue, Kind, SETTINGS, Setting};
use super::settings::{Client, Environment, Http, Log, LogFormat, LogLevel, LogPrefix, Settings};
use super::source::{Origin, Sources, read_file, read_value};

mod embedding;

/// Prefix of our names; what bears it and is no setting is a mistake.
const PREFIX: &str = "MEMORY_";

/// Names with our prefix which others put into the environment: systemd (memory pressure), Cloud Foundry and Heroku.
const FOREIGN: &[&str] = &["MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "MEMORY_LIMIT", "MEMORY_AVAILABLE"];

/// Settings which `MEMORY_DATABASE_URL` excludes.
static DATABASE_PARTS: [&Setting; 6] = [
    &table::DATABASE_HOST,
    &table::DATABASE_PORT,
    &table::DATABASE_NAME,
    &table::DATABASE_USER,
    &table::DATABASE_PASSWORD,
    &table::DATABASE_SSLMODE,
];

/// Reads the settings.
///
/// # Errors
/// Every problem there is, in one error.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    read(sources).settings
}

/// One setting as it stands, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the setting.
    pub name: &'static str,
    /// Its value, without secrets.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings with the origin of each, also when they are not valid.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The settings, or what is wrong with them.
    pub settings: Result<Settings, ConfigError>,
    /// Every setting as it stands, in the order of the documents.
    pub entries: Vec<Entry>,
    /// The `.env` file which was looked for.
    pub env_file: Option<String>,
    /// Whether it was there.
    pub env_file_found: bool,
}

/// Reads the settings and keeps what `config show` needs.
pub fn read(sources: &Sources) -> Reading {
    let mut reader = Reader::new(sources);
    reader.check_names_in_environment();
    for setting in SETTINGS.into_iter().filter(|setting| setting.is_bootstrap()) {
        reader.resolve(setting);
    }
    let environment = reader.parse(&table::ENVIRONMENT, parse_environment);
    reader.read_env_file(environment);
    reader.check_names_of_credentials();
    for setting in SETTINGS.into_iter().filter(|setting| !setting.is_bootstrap()) {
        reader.resolve(setting);
    }
    let settings = reader.settings(environment);
    reader.finish(settings)
}

/// A value as it was found.
struct Found {
    value: SecretString,
    origin: Origin,
}

struct Reader<'a> {
    sources: &'a Sources,
    /// The file's path for people, whether it was there, and its assignments by name.
    env_file: Option<(PathBuf, bool)>,
    assignments: BTreeMap<String, Assignment>,
    found: BTreeMap<&'static str, Found>,
    cleared: BTreeMap<&'static str, Origin>,
    /// Settings with a problem of their own: rules between settings leave them alone.
    broken: BTreeSet<&'static str>,
    /// Defaults which were worked out.
    worked_out: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            env_file: None,
            assignments: BTreeMap::new(),
            found: BTreeMap::new(),
            cleared: BTreeMap::new(),
            broken: BTreeSet::new(),
            worked_out: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    // ---- names -------------------------------------------------------------------------------------------------------

    fn check_names_in_environment(&mut self) {
        let names: Vec<String> = self
            .sources
            .env
            .iter()
            // A variable without a value says nothing; compose files make such for what is not set.
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .filter(|name| !FOREIGN.contains(&name.as_str()))
            .collect();
        for name in names {
            self.check_name(&name, &Origin::Environment);
        }
    }

    /// A misspelt name would be a setting that silently does nothing.
    fn check_name(&mut self, name: &str, origin: &Origin) {
        if !name.starts_with(PREFIX) || setting_of(name).is_some() {
            return;
        }
        let known: Vec<String> = SETTINGS
            .iter()
            .flat_map(|setting| [Some(setting.name.to_owned()), setting.file_name()])
            .flatten()
            .collect();
        let guess =
            did_you_mean(name, known.iter().map(String::as_str)).map(|guess| format!("{guess} ")).unwrap_or_default();
        self.problems.push(Problem {
            name: name.escape_debug().to_string(),
            // A misspelt name may hold a secret.
            value: Some(HIDDEN.to_owned()),
            origin: Some(origin.to_string()),
            expected: format!("no other names with {PREFIX} than those of the settings"),
            remedy: format!("{guess}Correct the name or remove it; docs/configuration.md lists every setting."),
        });
    }

    fn check_names_of_credentials(&mut self) {
        let Some(directory) = self.credentials_directory() else { return };
        let Ok(entries) = fs::read_dir(&directory) else { return };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        for name in names {
            let origin = Origin::Credential(self.sources.display_path(&directory.join(&name)));
            self.check_name(&name, &origin);
        }
    }

    fn credentials_directory(&self) -> Option<PathBuf> {
        self.sources.env_text("CREDENTIALS_DIRECTORY").map(|directory| self.sources.path(directory))
    }

    // ---- layers ------------------------------------------------------------------------------------------------------

    fn read_env_file(&mut self, environment: Option<Environment>) {
        // With an unknown environment any file would be a guess.
        let Some(environment) = environment else { return };
        let directory = match self.found.get(table::CONFIG_DIR.name) {
            Some(found) => self.sources.path(found.value.expose_secret()),
            None => self.sources.path("."),
        };
        let path = directory.join(format!(".env.{environment}"));
        let name = self.sources.display_path(&path);
        if self.found.contains_key(table::CONFIG_DIR.name) && !directory.is_dir() {
            self.report(&table::CONFIG_DIR, "Create the directory or correct the path.");
        }
        let text = match read_file(&path) {
            Ok(text) => text,
            Err(super::source::FileError::Missing) => {
                self.env_file = Some((path, false));
                return;
            }
            Err(error) => {
                self.problems.push(Problem {
                    name,
                    value: Some(HIDDEN.to_owned()),
                    origin: None,
                    expected: "a readable text file with lines `NAME=value`".to_owned(),
                    remedy: format!("Correct or remove it: {error}."),
                });
                self.env_file = Some((path, false));
                return;
            }
        };
        self.env_file = Some((path, true));
        let (assignments, faults) = env_file::parse(&text);
        for fault in faults {
            self.problems.push(Problem {
                name: name.clone(),
                value: Some(HIDDEN.to_owned()),
                origin: Some(format!("{name} line {}", fault.line)),
                expected: "a line `NAME=value`, a comment or an empty line".to_owned(),
                remedy: if fault.swallows {
                    "The value takes in the next assignment: a quote does not end after a backslash. Write it in single \
                     quotes, without a backslash before the last."
                } else {
                    "Correct the line; a value with spaces or special characters belongs in single quotes."
                }
                .to_owned(),
            });
        }
        for assignment in assignments {
            let origin = Origin::EnvFile { path: name.clone(), line: assignment.line };
            self.check_name(&assignment.name, &origin);
            if let Some(setting) = setting_of(&assignment.name) {
                self.check_assignment(setting, &assignment, &origin, environment);
                self.assignments.insert(assignment.name.clone(), assignment);
            }
        }
    }

    fn check_assignment(
        &mut self,
        setting: &'static Setting,
        assignment: &Assignment,
        origin: &Origin,
        environment: Environment,
    ) {
        let remedy = if let Some(first) = self.assignments.get(&assignment.name) {
            format!("Remove one of the two: line {} sets it already.", first.line)
        } else if setting.name == table::ENVIRONMENT.name && assignment.value == environment.as_str() {
            return;
        } else if setting.is_bootstrap() {
            "Remove it: this file was found by it, so it is read from the command line and the environment only."
                .to_owned()
        } else if setting.secret && assignment.substituted {
            "Put the value into single quotes: a `$` outside of them stands for a variable.".to_owned()
        } else {
            return;
        };
        self.broken.insert(setting.name);
        self.problems.push(Problem {
            name: assignment.name.clone(),
            value: Some(shown(&assignment.value, setting.secret)),
            origin: Some(origin.to_string()),
            expected: setting.kind.expectation(),
            remedy,
        });
    }

    /// Finds the value of a setting in the highest layer which has one.
    fn resolve(&mut self, setting: &'static Setting) {
        let sources = self.sources;
        let file_name = setting.file_name();
        let in_env = match self.variable(setting, setting.name) {
            Ok(value) => value,
            Err(()) => return,
        };
        let file_in_env = match file_name.as_deref().map(|name| self.variable(setting, name)).transpose() {
            Ok(value) => value.flatten(),
            Err(()) => return,
        };
        let assigned = |name: &str| self.assignments.get(name).filter(|_| !setting.is_bootstrap()).cloned();
        let in_file = assigned(setting.name);
        let file_in_file = file_name.as_deref().and_then(assigned);
        let origin_of = |assignment: &Assignment| Origin::EnvFile {
            path: self.env_file.as_ref().map(|(path, _)| sources.display_path(path)).unwrap_or_default(),
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
            layers.push(Layer::Value(value.to_owned(), Origin::Flag(flag.to_owned())));
        }
        // Within one layer an empty name gives way to the other one.
        let empty_value =
            in_env.as_ref().is_some_and(String::is_empty) && file_in_env.as_ref().is_some_and(|path| !path.is_empty());
        layers.extend(in_env.filter(|_| !empty_value).map(|value| Layer::Value(value, Origin::Environment)));
        layers.extend(file_in_env.map(|path| Layer::Path(path, Origin::Environment)));
        if let Some(assignment) = &file_in_file
            && (in_file.is_none() || !assignment.value.is_empty())
        {
            layers.push(Layer::Path(assignment.value.clone(), origin_of(assignment)));
        }
        let in_file = in_file.map(|assignment| Layer::Value(assignment.value.clone(), origin_of(&assignment)));

        if layers.is_empty()
            && let Some(path) = credential.filter(|path| !matches!(path.try_exists(), Ok(false)))
        {
            let origin = Origin::Credential(sources.display_path(&path));
            self.take_file(setting, &path, setting.name, origin.clone(), &origin);
            return;
        }
        match layers.into_iter().next().or(in_file) {
            None => {}
            Some(Layer::Value(value, origin) | Layer::Path(value, origin)) if value.trim().is_empty() => {
                self.cleared.insert(setting.name, origin);
            }
            Some(Layer::Value(value, origin)) => {
                // A password may begin or end with a space, nothing else does.
                let value = if setting.secret { value } else { value.trim().to_owned() };
                self.found.insert(setting.name, Found { value: SecretString::from(value), origin });
            }
            Some(Layer::Path(path, named_in)) => {
                let variable = file_name.unwrap_or_default();
                let path = sources.path(path.trim());
                let origin = Origin::File { path: sources.display_path(&path), variable: variable.clone() };
                self.take_file(setting, &path, &variable, origin, &named_in);
            }
        }
    }

    /// A variable of the environment; a problem when it is not text.
    fn variable(&mut self, setting: &'static Setting, name: &str) -> Result<Option<String>, ()> {
        match self.sources.env.get(OsStr::new(name)).map(|value| value.to_str()) {
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
    fn take_file(&mut self, setting: &'static Setting, path: &Path, name: &str, origin: Origin, named_in: &Origin) {
        match read_value(path) {
            Ok(value) => {
                let value = if setting.secret { value } else { value.trim().to_owned() };
                self.found.insert(setting.name, Found { value: SecretString::from(value), origin });
            }
            Err(error) => {
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

    // ---- values ------------------------------------------------------------------------------------------------------

    /// Reports the value of a setting.
    fn report(&mut self, setting: &'static Setting, remedy: impl Into<String>) {
        let found = self.found.get(setting.name);
        self.problems.push(Problem {
            name: setting.name.to_owned(),
            value: found.map(|found| shown(found.value.expose_secret(), setting.secret)),
            origin: found.map(|found| found.origin.to_string()),
            expected: setting.kind.expectation(),
            remedy: remedy.into(),
        });
        self.broken.insert(setting.name);
    }

    fn is_set(&self, setting: &Setting) -> bool {
        self.found.contains_key(setting.name)
    }

    fn is_broken(&self, setting: &Setting) -> bool {
        self.broken.contains(setting.name)
    }

    /// Reads a value, or the default when it is a literal. None: there is no value, or it is a problem by now.
    fn parse<T>(&mut self, setting: &'static Setting, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        if self.is_broken(setting) {
            return None;
        }
        let result = match (self.found.get(setting.name), &setting.default) {
            (Some(found), _) => read(found.value.expose_secret()),
            (None, DefaultValue::Is(text)) => read(text),
            (None, DefaultValue::Described(_)) => return None,
        };
        match result {
            Ok(value) => Some(value),
            Err(hint) => {
                let default = match setting.default {
                    DefaultValue::Is(text) => format!(", or remove it for the default {text}"),
                    DefaultValue::Described(_) => String::new(),
                };
                let hint = if hint.is_empty() { hint } else { format!("{hint} ") };
                self.report(setting, format!("{hint}Correct it{default}."));
                None
            }
        }
    }

    fn number(&mut self, setting: &'static Setting) -> u64 {
        let Kind::Number { min, max, .. } = setting.kind else {
            unreachable!("{} is a number in the table", setting.name)
        };
        let number = self.parse(setting, |text| match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            Ok(_) => Err("It is outside of the limits.".to_owned()),
            Err(_) => Err(String::new()),
        });
        // Only a placeholder beside a problem.
        number.unwrap_or(min)
    }

    /// One of the words of the table, by its position in `values`.
    fn choice<T: Copy>(&mut self, setting: &'static Setting, values: &[T]) -> Option<T> {
        let Kind::Choice(words) = setting.kind else { unreachable!("{} is a choice in the table", setting.name) };
        debug_assert_eq!(words.len(), values.len());
        self.parse(setting, |text| {
            let position = words.iter().position(|word| *word == text);
            position.and_then(|position| values.get(position)).copied().ok_or_else(|| {
                let lower = text.to_lowercase();
                did_you_mean(&lower, words.iter().copied()).unwrap_or_default()
            })
        })
    }

    fn path(&mut self, setting: &'static Setting) -> Option<PathBuf> {
        let sources = self.sources;
        self.parse(setting, |text| {
            if (text == "~" || text.starts_with("~/")) && sources.env_text("HOME").is_none() {
                return Err("HOME is not set, so `~` means nothing.".to_owned());
            }
            if text.contains('\0') {
                return Err("A path has no NUL character.".to_owned());
            }
            Ok(sources.path(text))
        })
    }

    /// `None` exactly when there is a problem.
    fn settings(&mut self, environment: Option<Environment>) -> Option<Settings> {
        let http = self.http();
        let oauth = self.oauth();
        let auth = self.auth(environment, http.as_ref().map(|http| http.listen), oauth.is_some());
        let limits = self.limits();
        let client = self.client();
        let data_dir = self.path(&table::DATA_DIR).unwrap_or_else(|| self.default_data_dir());
        let database = self.database(environment, &data_dir);
        let database_pool = u32::try_from(self.number(&table::DATABASE_POOL)).unwrap_or(u32::MAX);
        let row_security = self.row_security();
        let language = self.choice(&table::LANGUAGE, table::LANGUAGES);
        let embedding = self.embedding(&data_dir);
        let focus_capacity = usize::try_from(self.number(&table::FOCUS_CAPACITY)).unwrap_or(usize::MAX);
        let review_days = u32::try_from(self.number(&table::REVIEW_DAYS)).unwrap_or(u32::MAX);
        let retention = self.retention();
        let log = self.log();
        let settings = Settings {
            environment: environment?,
            env_file: self.env_file.as_ref().filter(|(_, found)| *found).map(|(path, _)| path.clone()),
            http: http?,
            auth: auth?,
            oauth,
            limits,
            client: client?,
            data_dir,
            database: database?,
            database_pool,
            row_security: row_security?,
            language: language?,
            embedding: embedding?,
            focus_capacity,
            review_days,
            retention,
            log: log?,
        };
        self.problems.is_empty().then_some(settings)
    }

    fn client(&mut self) -> Option<Client> {
        let url = self.parse(&table::URL, |text| match text.split_once("://") {
            Some(("http", rest)) if !rest.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
            Some(("https", _)) => Err("Only http is spoken; put a proxy on this machine in between.".to_owned()),
            _ => Err(String::new()),
        });
        let token = self.parse(&table::TOKEN, |text| Ok(SecretString::from(text.trim())));
        (!self.is_broken(&table::URL) && !self.is_broken(&table::TOKEN)).then_some(Client { url, token })
    }

    fn http(&mut self) -> Option<Http> {
        let listen = self.parse(&table::LISTEN, |text| {
            text.parse::<SocketAddr>().map_err(|_| match text.rsplit_once(':') {
                Some((host, port))
                    if port.parse::<u16>().is_ok() && host.chars().any(char::is_alphabetic) && !host.contains(':') =>
                {
                    "Write the address in numbers, not a name.".to_owned()
                }
                None if text.parse::<std::net::IpAddr>().is_ok() => "The port is missing.".to_owned(),
                _ => String::new(),
            })
        });
        let allowed_hosts = self.parse(&table::ALLOWED_HOSTS, |text| list(text, host_header));
        let allowed_origins = match self.is_set(&table::ALLOWED_ORIGINS) {
            true => self.parse(&table::ALLOWED_ORIGINS, |text| list(text, origin_header)),
            false => Some(Vec::new()),
        };
        let max_body_bytes = usize::try_from(self.number(&table::MAX_BODY_BYTES)).unwrap_or(usize::MAX);
        let request_timeout = Duration::from_secs(self.number(&table::REQUEST_TIMEOUT));
        let drain_timeout = Duration::from_secs(self.number(&table::DRAIN_TIMEOUT));
        Some(Http {
            listen: listen?,
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins?,
            max_body_bytes,
            request_timeout,
            drain_timeout,
        })
    }

    /// The XDG rule; without a home the place of system services.
    fn default_data_dir(&mut self) -> PathBuf {
        const NAME: &str = "cognitive-memory-mcp";
        let sources = self.sources;
        // The XDG specification ignores relative paths.
        let xdg = sources.env_text("XDG_DATA_HOME").filter(|path| path.starts_with('/')).map(PathBuf::from);
        let home = sources.env_text("HOME").map(|home| sources.path(home).join(".local/share"));
        let directory = xdg.or(home).unwrap_or_else(|| PathBuf::from("/var/lib")).join(NAME);
        self.worked_out.insert(table::DATA_DIR.name, directory.display().to_string());
        directory
    }

    fn database(&mut self, environment: Option<Environment>, data_dir: &Path) -> Option<Database> {
        let address = self.parse(&table::DATABASE_URL, database::parse);
        let host = self.parse(&table::DATABASE_HOST, |text| match host_fault(text) {
            Some(fault) => Err(fault.to_owned()),
            None => Ok(text.to_owned()),
        });
        let identifier = |text: &str| match text {
            text if text.len() > 63 => Err("It is too long.".to_owned()),
            text if text.chars().any(char::is_control) => Err("It has a control character.".to_owned()),
            text => Ok(text.to_owned()),
        };
        let port = u16::try_from(self.number(&table::DATABASE_PORT)).unwrap_or(u16::MAX);
        let name = self.parse(&table::DATABASE_NAME, identifier);
        let user = self.parse(&table::DATABASE_USER, identifier);
        let password = self.parse(&table::DATABASE_PASSWORD, |text| {
            if text.contains(['\n', '\r', '\0']) {
                return Err("It has more than one line.".to_owned());
            }
            Ok(SecretString::from(text))
        });
        let ssl_mode = self.parse(&table::DATABASE_SSLMODE, |text| {
            text.parse().map_err(|()| match table::DATABASE_SSLMODE.kind {
                Kind::Choice(words) => did_you_mean(text, words.iter().copied()).unwrap_or_default(),
                _ => String::new(),
            })
        });

        let has_address = self.is_set(&table::DATABASE_URL);
        let parts = DATABASE_PARTS.into_iter().filter(|part| self.is_set(part) && !self.is_broken(part));
        let stray: Vec<_> = match (has_address, self.is_set(&table::DATABASE_HOST)) {
            (true, _) => {
                parts.map(|part| (part, "Remove it, or MEMORY_DATABASE_URL: the address says it all.")).collect()
            }
            // Somebody thinks of a server; the memories would go into a file.
            (false, false) if !self.is_broken(&table::DATABASE_HOST) && !self.is_broken(&table::DATABASE_URL) => parts
                .map(|part| (part, "Set MEMORY_DATABASE_HOST too, or remove it: without a host nothing uses it."))
                .collect(),
            (false, _) => Vec::new(),
        };
        for (part, remedy) in stray {
            self.report(part, remedy);
        }
        if [&table::DATABASE_URL].into_iter().chain(DATABASE_PARTS).any(|setting| self.is_broken(setting)) {
            return None;
        }

        match (address, host) {
            (Some(Address::Sqlite(path)), _) => Some(Database::Sqlite { path: self.sources.path(&path) }),
            (Some(Address::Postgres(postgres)), _) => Some(Database::Postgres(*postgres)),
            (None, Some(host)) => {
                let name = match name {
                    Some(name) => name,
                    None => {
                        let name = match environment? {
                            Environment::Production => "cognitive_memory",
                            Environment::Development => "cognitive_memory_dev",
                        };
                        self.worked_out.insert(table::DATABASE_NAME.name, name.to_owned());
                        name.to_owned()
                    }
                };
                Some(Database::Postgres(Postgres {
                    host,
                    port,
                    name,
                    user: user?,
                    password,
                    ssl_mode: ssl_mode?,
                    url: None,
                    ignored: Vec::new(),
                }))
            }
            (None, None) if environment == Some(Environment::Production) => {
                self.report(
                    &table::DATABASE_HOST,
                    "Set MEMORY_DATABASE_HOST, or MEMORY_DATABASE_URL=sqlite:PATH for an embedded file: production does not guess where memories are kept.",
                );
                None
            }
            (None, None) => Some(Database::Sqlite { path: data_dir.join("memory.db") }),
        }
    }

    fn log(&mut self) -> Option<Log> {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        let format = self.choice(&table::LOG_FORMAT, &[LogFormat::Auto, LogFormat::Json, LogFormat::Pretty]);
        let level = self.choice(&table::LOG_LEVEL, &[Error, Warn, Info, Debug, Trace]);
        let file = self.path(&table::LOG_FILE);
        let file_bytes = self.number(&table::LOG_FILE_BYTES);
        let file_count = u32::try_from(self.number(&table::LOG_FILE_COUNT)).unwrap_or(u32::MAX);
        let prefix = self.choice(&table::LOG_PREFIX, &[LogPrefix::None, LogPrefix::Sd]);
        Some(Log { format: format?, level: level?, file, file_bytes, file_count, prefix: prefix? })
    }

    // ---- result ------------------------------------------------------------------------------------------------------

    fn finish(mut self, settings: Option<Settings>) -> Reading {
        let entries = SETTINGS.into_iter().map(|setting| self.entry(setting)).collect();
        // In the order of the documents; what belongs to no setting comes first.
        let place = |problem: &Problem| {
            setting_of(&problem.name).and_then(|found| SETTINGS.iter().position(|s| s.name == found.name))
        };
        self.problems.sort_by_key(place);
        let settings = match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(ConfigError::new(std::mem::take(&mut self.problems))),
        };
        Reading {
            settings,
            entries,
            env_file_found: self.env_file.as_ref().is_some_and(|(_, found)| *found),
            env_file: self.env_file.map(|(path, _)| self.sources.display_path(&path)),
        }
    }

    fn entry(&self, setting: &'static Setting) -> Entry {
        let (value, origin) = match self.found.get(setting.name) {
            Some(found) if setting.secret => (HIDDEN.to_owned(), found.origin.clone()),
            Some(found) => {
                let text = shown(found.value.expose_secret(), false);
                // Quotes only serve where something is wrong.
                (text[1..text.len() - 1].to_owned(), found.origin.clone())
            }
            None => {
                let value = match (self.worked_out.get(setting.name), &setting.default) {
                    (Some(value), _) => value.clone(),
                    (None, DefaultValue::Is(text)) => (*text).to_owned(),
                    (None, DefaultValue::Described(_)) => "-".to_owned(),
                };
                let origin = self.cleared.get(setting.name).map(|by| Origin::Cleared(Box::new(by.clone())));
                (value, origin.unwrap_or(Origin::Default))
            }
        };
        Entry { name: setting.name, value, origin }
    }
}

/// The setting to which a name, or a name with `_FILE`, belongs.
fn setting_of(name: &str) -> Option<&'static Setting> {
    SETTINGS.into_iter().find(|setting| setting.name == name || setting.file_name().as_deref() == Some(name))
}

fn parse_environment(text: &str) -> Result<Environment, String> {
    match text {
        "production" => Ok(Environment::Production),
        "development" => Ok(Environment::Development),
        text if text.starts_with("prod") => Err("Did you mean production?".to_owned()),
        text if text.starts_with("dev") => Err("Did you mean development?".to_owned()),
        _ => Err(String::new()),
    }
}

/// The items of a comma list, in lower case and without empty ones.
fn list(text: &str, read: impl Fn(&str) -> Result<(), &'static str>) -> Result<Vec<String>, String> {
    let mut items: Vec<String> = Vec::new();
    for item in text.split(',').map(|item| item.trim().to_lowercase()).filter(|item| !item.is_empty()) {
        if let Err(fault) = read(&item) {
            return Err(format!("{}: {fault}.", shown(&item, false)));
        }
        if !items.contains(&item) {
            items.push(item);
        }
    }
    if items.is_empty() { Err("There is no item in it.".to_owned()) } else { Ok(items) }
}

fn host_header(host: &str) -> Result<(), &'static str> {
    if host.contains('*') {
        return Err("name each host, there are no wildcards");
    }
    if host.contains('/') {
        return Err("write a host without scheme and path");
    }
    let (name, port) = match (host.parse::<std::net::Ipv6Addr>(), host.strip_prefix('[')) {
        (Ok(_), _) => return Ok(()),
        (Err(_), Some(rest)) => match rest.split_once(']') {
            Some((ip, "")) => (ip, None),
            Some((ip, rest)) => (ip, Some(rest.strip_prefix(':').unwrap_or("x"))),
            None => return Err("`]` is missing"),
        },
        (Err(_), None) => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("the port is not a number");
    }
    let is_ip = host.starts_with('[');
    let valid = match is_ip {
        true => name.parse::<std::net::Ipv6Addr>().is_ok(),
        false => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if valid { Ok(()) } else { Err("it is not a host name") }
}

fn origin_header(origin: &str) -> Result<(), &'static str> {
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("write an origin with its scheme, such as `https://`");
    };
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
        return Err("the scheme is not valid");
    }
    if host.contains('/') {
        return Err("an origin has no path and no slash at its end");
    }
    host_header(host)
}
