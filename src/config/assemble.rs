//! From sources to settings: layers first, then values, then the rules between them.

mod access;
mod embedding;
mod file;
mod layer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::database::{self, Address, Database, Postgres, host_fault};
use super::env_file::Assignment;
use super::problem::{ConfigError, HIDDEN, Problem, did_you_mean, shown};
use super::setting::{self as table, DefaultValue, Kind, SETTINGS, Setting};
use super::settings::{Client, Environment, Http, Log, LogFormat, LogLevel, LogPrefix, Settings};
use super::source::{Origin, Sources};

/// Name of our directory below the standard ones.
const APPLICATION: &str = "cognitive-memory-mcp";

/// Settings which `MEMORY_DATABASE_URL` excludes.
static DATABASE_PARTS: [&Setting; 6] = [
    &table::DATABASE_HOST,
    &table::DATABASE_PORT,
    &table::DATABASE_NAME,
    &table::DATABASE_USER,
    &table::DATABASE_PASSWORD,
    &table::DATABASE_SSLMODE,
];

/// What the settings are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The service: a file that cannot be trusted is an error, and in production so is a misspelt name.
    Service,
    /// A command or a client's `stdio`, which runs in the directory and environment of other programs: what is theirs
    /// causes a warning at most.
    Command,
}

/// Reads the settings.
///
/// # Errors
/// Every problem there is, in one error.
pub fn load(sources: &Sources, purpose: Purpose) -> Result<Settings, ConfigError> {
    read(sources, purpose).settings
}

/// A file that was looked for, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path, relative to the working directory if it is there.
    pub path: String,
    /// What became of it.
    pub state: FileState,
}

/// The outcome for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Settings were read from it.
    Read,
    /// It does not exist, which is no mistake.
    Missing,
    /// It was left alone, for this reason.
    Ignored(String),
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
    /// The files that were looked for.
    pub files: Vec<ConfigFile>,
    /// What looks like a mistake but stops nothing, as sentences.
    pub warnings: Vec<String>,
}

/// Reads the settings and keeps what `config show` needs.
pub fn read(sources: &Sources, purpose: Purpose) -> Reading {
    let mut reader = Reader::new(sources, purpose);
    for setting in SETTINGS
        .into_iter()
        .filter(|setting| setting.is_bootstrap())
    {
        reader.resolve(setting);
    }
    reader.take_foreign_environment();
    let environment = reader.parse(&table::ENVIRONMENT, parse_environment);
    reader.is_strict = purpose == Purpose::Service && environment != Some(Environment::Development);
    reader.check_names_in_environment();
    reader.read_env_file(environment);
    reader.check_names_of_credentials();
    for setting in SETTINGS
        .into_iter()
        .filter(|setting| !setting.is_bootstrap())
    {
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
    purpose: Purpose,
    /// Whether a name that begins like ours and is no setting is an error.
    is_strict: bool,
    /// The `.env` file, if it was read, and its assignments by name.
    env_file: Option<PathBuf>,
    files: Vec<ConfigFile>,
    assignments: BTreeMap<String, Assignment>,
    found: BTreeMap<&'static str, Found>,
    cleared: BTreeMap<&'static str, Origin>,
    /// Settings with a problem of their own: rules between settings leave them alone.
    broken: BTreeSet<&'static str>,
    /// Defaults which were worked out.
    worked_out: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// Whether a file could not be read for a reason that may go away by itself.
    is_transient: bool,
}

impl<'a> Reader<'a> {
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
            worked_out: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            is_transient: false,
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
    fn parse<T>(
        &mut self,
        setting: &'static Setting,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
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
                let hint = if hint.is_empty() {
                    hint
                } else {
                    format!("{hint} ")
                };
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
        let Kind::Choice(words) = setting.kind else {
            unreachable!("{} is a choice in the table", setting.name)
        };
        debug_assert_eq!(words.len(), values.len());
        self.parse(setting, |text| {
            let position = words.iter().position(|word| *word == text);
            position
                .and_then(|position| values.get(position))
                .copied()
                .ok_or_else(|| {
                    let lower = text.to_lowercase();
                    did_you_mean(&lower, words.iter().copied()).unwrap_or_default()
                })
        })
    }

    fn path(&mut self, setting: &'static Setting) -> Option<PathBuf> {
        let (sources, base) = (self.sources, self.base_directory(setting));
        self.parse(setting, |text| {
            if (text == "~" || text.starts_with("~/")) && sources.env_text("HOME").is_none() {
                return Err("HOME is not set, so `~` means nothing.".to_owned());
            }
            if text.contains('\0') {
                return Err("A path has no NUL character.".to_owned());
            }
            Ok(sources.path_from(&base, text))
        })
    }

    /// `None` exactly when there is a problem.
    fn settings(&mut self, environment: Option<Environment>) -> Option<Settings> {
        let http = self.http();
        let oauth = self.oauth();
        let auth = self.auth(
            environment,
            http.as_ref().map(|http| http.listen),
            oauth.is_some(),
        );
        let limits = self.limits();
        let client = self.client();
        let data_dir = self
            .path(&table::DATA_DIR)
            .unwrap_or_else(|| self.default_data_dir());
        let database = self.database(environment, &data_dir);
        let database_pool = u32::try_from(self.number(&table::DATABASE_POOL)).unwrap_or(u32::MAX);
        let row_security = self.row_security();
        let language = self.choice(&table::LANGUAGE, table::LANGUAGES);
        let embedding = self.embedding(&data_dir);
        let tool_prefix = self
            .parse(&table::TOOL_PREFIX, access::tool_prefix)
            .unwrap_or_default();
        let focus_capacity =
            usize::try_from(self.number(&table::FOCUS_CAPACITY)).unwrap_or(usize::MAX);
        let review_days = u32::try_from(self.number(&table::REVIEW_DAYS)).unwrap_or(u32::MAX);
        let retention = self.retention();
        let log = self.log();
        let settings = Settings {
            environment: environment?,
            env_file: self.env_file.clone(),
            files: self.files.clone(),
            warnings: self.warnings.clone(),
            user: self.sources.user,
            socket_dirs: self.socket_directories(&data_dir),
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
            tool_prefix,
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
            Some(("https", _)) => {
                Err("Only http is spoken; put a proxy on this machine in between.".to_owned())
            }
            _ => Err(String::new()),
        });
        let token = self.parse(&table::TOKEN, |text| Ok(SecretString::from(text.trim())));
        (!self.is_broken(&table::URL) && !self.is_broken(&table::TOKEN))
            .then_some(Client { url, token })
    }

    fn http(&mut self) -> Option<Http> {
        let listen = self.parse(&table::LISTEN, |text| {
            text.parse::<SocketAddr>()
                .map_err(|_| match text.rsplit_once(':') {
                    Some((host, port))
                        if port.parse::<u16>().is_ok()
                            && host.chars().any(char::is_alphabetic)
                            && !host.contains(':') =>
                    {
                        "Write the address in numbers, not a name.".to_owned()
                    }
                    None if text.parse::<std::net::IpAddr>().is_ok() => {
                        "The port is missing.".to_owned()
                    }
                    _ => String::new(),
                })
        });
        let allowed_hosts = self.parse(&table::ALLOWED_HOSTS, |text| list(text, host_header));
        let allowed_origins = match self.is_set(&table::ALLOWED_ORIGINS) {
            true => self.parse(&table::ALLOWED_ORIGINS, |text| list(text, origin_header)),
            false => Some(Vec::new()),
        };
        let max_body_bytes =
            usize::try_from(self.number(&table::MAX_BODY_BYTES)).unwrap_or(usize::MAX);
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
        self.worked_out
            .insert(table::DATA_DIR.name, directory.display().to_string());
        directory
    }

    /// Where the socket of the service may be, apart from the directory of the embedded database.
    fn socket_directories(&self, data_dir: &Path) -> Vec<PathBuf> {
        let runtime = match self.sources.env_path("XDG_RUNTIME_DIR") {
            // After `su` it may be the directory of another user.
            Some(directory) if self.sources.user.examine(directory).is_ok() => directory.to_owned(),
            // Programs that were not started by the session, such as cron jobs, lack the variable.
            _ => PathBuf::from(format!("/run/user/{}", self.sources.user.uid)),
        };
        // The last but one is found by processes with another home directory, too.
        let temporary = PathBuf::from(format!("/tmp/{APPLICATION}-{}", self.sources.user.uid));
        vec![runtime.join(APPLICATION), temporary, data_dir.join("run")]
    }

    /// Where a relative path in a setting starts: beside the `.env` file which has it, or in the working directory.
    fn base_directory(&self, setting: &Setting) -> PathBuf {
        let origin = self.found.get(setting.name).map(|found| &found.origin);
        match (origin, self.env_file.as_deref().and_then(Path::parent)) {
            (Some(Origin::EnvFile { .. }), Some(directory)) => directory.to_owned(),
            _ => self.sources.working_dir.clone(),
        }
    }

    fn database(&mut self, environment: Option<Environment>, data_dir: &Path) -> Option<Database> {
        let address = self.parse(&table::DATABASE_URL, database::parse);
        let host = self.parse(&table::DATABASE_HOST, |text| match host_fault(text) {
            Some(fault) => Err(fault.to_owned()),
            None => Ok(text.to_owned()),
        });
        let identifier = |text: &str| match text {
            text if text.len() > 63 => Err("It is too long.".to_owned()),
            text if text.chars().any(char::is_control) => {
                Err("It has a control character.".to_owned())
            }
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
            text.parse()
                .map_err(|()| match table::DATABASE_SSLMODE.kind {
                    Kind::Choice(words) => {
                        did_you_mean(text, words.iter().copied()).unwrap_or_default()
                    }
                    _ => String::new(),
                })
        });

        let has_address = self.is_set(&table::DATABASE_URL);
        let parts = DATABASE_PARTS
            .into_iter()
            .filter(|part| self.is_set(part) && !self.is_broken(part));
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
        if [&table::DATABASE_URL]
            .into_iter()
            .chain(DATABASE_PARTS)
            .any(|setting| self.is_broken(setting))
        {
            return None;
        }

        match (address, host) {
            (Some(Address::Sqlite(path)), _) => Some(Database::Sqlite {
                path: self
                    .sources
                    .path_from(&self.base_directory(&table::DATABASE_URL), &path),
            }),
            (Some(Address::Postgres(postgres)), _) => Some(Database::Postgres(*postgres)),
            (None, Some(host)) => {
                let name = match name {
                    Some(name) => name,
                    None => {
                        let name = match environment? {
                            Environment::Production => "cognitive_memory",
                            Environment::Development => "cognitive_memory_dev",
                        };
                        self.worked_out
                            .insert(table::DATABASE_NAME.name, name.to_owned());
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
            (None, None) => Some(Database::Sqlite {
                path: data_dir.join("memory.db"),
            }),
        }
    }

    fn log(&mut self) -> Option<Log> {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        let format = self.choice(
            &table::LOG_FORMAT,
            &[LogFormat::Auto, LogFormat::Json, LogFormat::Pretty],
        );
        let level = self.choice(&table::LOG_LEVEL, &[Error, Warn, Info, Debug, Trace]);
        let file = self.path(&table::LOG_FILE);
        let file_bytes = self.number(&table::LOG_FILE_BYTES);
        let file_count = u32::try_from(self.number(&table::LOG_FILE_COUNT)).unwrap_or(u32::MAX);
        let prefix = self.choice(&table::LOG_PREFIX, &[LogPrefix::None, LogPrefix::Sd]);
        Some(Log {
            format: format?,
            level: level?,
            file,
            file_bytes,
            file_count,
            prefix: prefix?,
        })
    }

    // ---- result ------------------------------------------------------------------------------------------------------

    fn finish(mut self, settings: Option<Settings>) -> Reading {
        let entries = SETTINGS
            .into_iter()
            .map(|setting| self.entry(setting))
            .collect();
        // In the order of the documents; what belongs to no setting comes first.
        let place = |problem: &Problem| {
            setting_of(&problem.name)
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

/// The setting to which a name, or a name with `_FILE`, belongs.
fn setting_of(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .into_iter()
        .find(|setting| setting.name == name || setting.file_name().as_deref() == Some(name))
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
fn list(
    text: &str,
    read: impl Fn(&str) -> Result<(), &'static str>,
) -> Result<Vec<String>, String> {
    let mut items: Vec<String> = Vec::new();
    for item in text
        .split(',')
        .map(|item| item.trim().to_lowercase())
        .filter(|item| !item.is_empty())
    {
        if let Err(fault) = read(&item) {
            return Err(format!("{}: {fault}.", shown(&item, false)));
        }
        if !items.contains(&item) {
            items.push(item);
        }
    }
    if items.is_empty() {
        Err("There is no item in it.".to_owned())
    } else {
        Ok(items)
    }
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
        (Err(_), None) => host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("the port is not a number");
    }
    let is_ip = host.starts_with('[');
    let valid = match is_ip {
        true => name.parse::<std::net::Ipv6Addr>().is_ok(),
        false => {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if valid {
        Ok(())
    } else {
        Err("it is not a host name")
    }
}

fn origin_header(origin: &str) -> Result<(), &'static str> {
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("write an origin with its scheme, such as `https://`");
    };
    if scheme.is_empty()
        || !scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    {
        return Err("the scheme is not valid");
    }
    if host.contains('/') {
        return Err("an origin has no path and no slash at its end");
    }
    host_header(host)
}
