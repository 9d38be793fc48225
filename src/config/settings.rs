//! The settings as types, for the rest of the program.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use service_kit::config::User;
use service_kit::telemetry::LogOptions;

use super::config_file::ConfigFile;
use super::credential::Credential;
use super::database::Database;

/// All settings, valid in combination.
#[derive(Debug, Clone)]
pub struct Settings {
    pub environment: Environment,
    /// The `.env` file that was read.
    pub env_file: Option<PathBuf>,
    /// Files in which settings were expected.
    pub files: Vec<ConfigFile>,
    /// Sentences about probable mistakes that are not errors.
    pub warnings: Vec<String>,
    /// The user of this process.
    pub user: User,
    /// Possible directories of the socket of the service, except that of the embedded database.
    pub socket_dirs: Vec<PathBuf>,
    pub http: Http,
    pub auth: Auth,
    /// Issuer of further access tokens.
    pub oauth: Option<OAuth>,
    pub limits: ProjectLimits,
    pub client: Client,
    /// Directory of the embedded database, absolute.
    pub data_dir: PathBuf,
    pub database: Database,
    /// Maximum number of connections to the database.
    pub database_pool: u32,
    pub row_security: RowSecurity,
    /// Stemmer language, one of [`LANGUAGES`](super::LANGUAGES).
    pub language: &'static str,
    pub embedding: Embedding,
    /// Prefix of all tool names; may be empty.
    pub tool_prefix: String,
    /// Maximum number of items in the working memory of a session.
    pub focus_capacity: usize,
    /// Days until a review expires.
    pub review_days: u32,
    pub retention: Retention,
    /// `None` masks credentials in imports, and refuses them elsewhere.
    pub secrets: Option<SecretHandling>,
    pub hooks: Hooks,
    pub log: LogOptions,
}

impl Settings {
    /// Returns a summary for the log, without secrets.
    pub fn summary(&self) -> Summary {
        Summary {
            environment: self.environment,
            env_file: self.env_file.clone(),
            backend: self.database.backend(),
            database: self.database.name(),
            server: self.database.server(),
            listen: self.http.listen,
            credentials: match &self.auth {
                Auth::None => None,
                Auth::Tokens(credentials) => Some(credentials.len()),
            },
        }
    }
}

/// Selects defaults and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Important settings have no defaults.
    Production,
    Development,
}

impl Environment {
    /// Returns the word in `ENVIRONMENT` and in the name of the `.env` file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Listener, limits and budgets.
#[derive(Debug, Clone)]
pub struct Http {
    /// Port 0 selects a free one.
    pub listen: SocketAddr,
    /// Accepted values of the `Host` header, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Accepted values of the `Origin` header, in lower case.
    pub allowed_origins: Vec<String>,
    /// Maximum size of a request body.
    pub max_body_bytes: usize,
    pub request_timeout: Duration,
    /// Maximum time for requests in progress when the service stops.
    pub drain_timeout: Duration,
}

impl Http {
    /// Returns the address for processes on the same machine.
    pub fn local_address(&self) -> SocketAddr {
        reachable(self.listen)
    }
}

/// Returns the address at which a process on the same machine reaches a listener: loopback if it listens on all addresses.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Clients that may use the service.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Every client that can connect.
    None,
    /// Clients with one of these tokens, with one in the database, or with one of the issuer.
    Tokens(Vec<Credential>),
}

/// An authorization server whose access tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth {
    /// Its identifier, as in `iss`.
    pub issuer: String,
    /// Identifier of this service in `aud`.
    pub audience: String,
    /// The claim that names the project.
    pub project_claim: String,
}

/// Quotas of a project; 0 means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectLimits {
    pub memories: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Entities, relations, reviews and items of the working memory, each.
    pub entries: u64,
}

/// Retention of data other than current memories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days for earlier versions of memories; 0 means no limit.
    pub history_days: u32,
    /// Days for idempotency keys.
    pub idempotency_days: u32,
}

/// The handling of credentials in text that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretHandling {
    /// Replaced by marks.
    Mask,
    /// Refused.
    Refuse,
    /// Stored.
    Allow,
}

/// The behaviour of `hook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hooks {
    /// Maximum number of tokens added at the start of a session.
    pub tokens: usize,
    /// Maximum number of tokens added to a prompt.
    pub prompt_tokens: usize,
    /// Minimum confidence of memories added to a prompt, in percent.
    pub confidence: u8,
    /// Number of prompts after which the model is asked to store what matters; 0 means never.
    pub ask_turns: u64,
    pub timeout: Duration,
}

/// Whether PostgreSQL's row-level security separates projects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowSecurity {
    /// Enabled if the role for it exists or can be created.
    #[default]
    Auto,
    On,
    Off,
}

/// How a client finds the service.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Address of the MCP endpoint.
    pub url: Option<String>,
    /// Token for it.
    pub token: Option<SecretString>,
}

/// The words of `MEMORY_EMBEDDER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmbedderKind {
    Local,
    Http,
    None,
}

/// Source of embeddings.
#[derive(Debug, Clone)]
pub enum Embedding {
    None,
    /// A model in this process.
    Local {
        model: String,
        /// Directory of downloaded models.
        dir: PathBuf,
        /// A directory or wheel with the model.
        source: Option<PathBuf>,
        /// Base address of a hub.
        hub: String,
        prefixes: Prefixes,
        calibration: Option<Calibration>,
    },
    /// An endpoint.
    Http {
        model: String,
        url: String,
        key: Option<SecretString>,
        prefixes: Prefixes,
        calibration: Option<Calibration>,
    },
}

/// Text before embedded texts. `None` uses the prompts in the files of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    pub query: Option<String>,
    pub passage: Option<String>,
}

/// Translates the cosines of a model: `(cosine - offset) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    pub offset: f64,
    pub scale: f64,
}

/// A summary of the settings for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub environment: Environment,
    pub env_file: Option<PathBuf>,
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Name of the database, or path of the file.
    pub database: String,
    /// `host:port` of the database server, or its socket directory.
    pub server: Option<String>,
    /// Address of the listener.
    pub listen: SocketAddr,
    /// Number of credentials; `None` if no token is required.
    pub credentials: Option<usize>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} environment, database {}",
            self.environment, self.database
        )?;
        match &self.server {
            Some(server) => write!(f, " on {server} (PostgreSQL)")?,
            None => write!(f, " (SQLite)")?,
        }
        write!(f, ", listening on {}, ", self.listen)?;
        match self.credentials {
            Some(1) => write!(f, "1 credential"),
            Some(count) => write!(f, "{count} credentials"),
            None => write!(f, "no authentication"),
        }
    }
}
