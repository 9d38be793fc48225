//! The settings, typed: what the rest of the program sees.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::assemble::ConfigFile;
use super::credential::Credential;
use super::database::Database;
use super::trust::User;

/// Everything that can be set, valid as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Production or development.
    pub environment: Environment,
    /// The `.env` file that was read, if there was one.
    pub env_file: Option<PathBuf>,
    /// Every file that was looked for.
    pub files: Vec<ConfigFile>,
    /// What looks like a mistake but stops nothing, as sentences.
    pub warnings: Vec<String>,
    /// The user of this process.
    pub user: User,
    /// Where the socket of the service may be, apart from the directory of the embedded database.
    pub socket_dirs: Vec<PathBuf>,
    /// Listener, limits and budgets.
    pub http: Http,
    /// Who may use the service.
    pub auth: Auth,
    /// Whose access tokens are accepted beside those.
    pub oauth: Option<OAuth>,
    /// How much a project may hold.
    pub limits: ProjectLimits,
    /// How other processes on this machine find the service.
    pub client: Client,
    /// Directory of the embedded database, absolute.
    pub data_dir: PathBuf,
    /// Where memories are kept.
    pub database: Database,
    /// Most connections to the database.
    pub database_pool: u32,
    /// Whether PostgreSQL enforces the bounds of projects itself.
    pub row_security: RowSecurity,
    /// Stemmer language, one of [`LANGUAGES`](super::LANGUAGES).
    pub language: &'static str,
    /// What finds memories by meaning.
    pub embedding: Embedding,
    /// Prefix of the names of all tools; empty for none.
    pub tool_prefix: String,
    /// Items which the working memory of a session holds.
    pub focus_capacity: usize,
    /// Days that a review waits for a decision.
    pub review_days: u32,
    /// How long data beside the memories is kept.
    pub retention: Retention,
    /// What is logged, and where to.
    pub log: Log,
}

impl Settings {
    /// What may be said about the settings in a log: nothing secret.
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

/// Which set of defaults and rules holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Nothing that matters is guessed.
    Production,
    /// Everything has a default.
    Development,
}

impl Environment {
    /// The word in `ENVIRONMENT` and in the name of the `.env` file.
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
    /// Where the server listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Accepted values of the `Host` header, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Accepted values of the `Origin` header, in lower case.
    pub allowed_origins: Vec<String>,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// Longest time for requests under way at the end.
    pub drain_timeout: Duration,
}

impl Http {
    /// Where a process on the same machine reaches the server: loopback when it listens on every address.
    pub fn local_address(&self) -> SocketAddr {
        reachable(self.listen)
    }
}

/// Where a process on the same machine reaches a listener: loopback when it listens on every address.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Who may use the service.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everybody who can connect.
    None,
    /// Holders of one of these tokens, or of one in the database, or of one of the issuer.
    Tokens(Vec<Credential>),
}

/// An authorization server whose access tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth {
    /// Its identifier, as it stands in `iss`.
    pub issuer: String,
    /// What this service is called in `aud`.
    pub audience: String,
    /// The claim that names the project.
    pub project_claim: String,
}

/// How much a project may hold; 0 is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectLimits {
    /// Memories.
    pub memories: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Entities, relations, reviews, items of the working memory, each.
    pub entries: u64,
}

/// How long data beside the memories is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days for earlier versions of memories; 0 is for ever.
    pub history_days: u32,
    /// Days for idempotency keys.
    pub idempotency_days: u32,
}

/// Whether PostgreSQL enforces the bounds of projects itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowSecurity {
    /// Where the role for it can be had.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How a client of the service finds it.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Address of the MCP endpoint, when it was given.
    pub url: Option<String>,
    /// Token to show there.
    pub token: Option<SecretString>,
}

/// What finds memories by meaning.
#[derive(Debug, Clone)]
pub enum Embedding {
    /// Nothing.
    None,
    /// A model in this process.
    Local {
        /// Its name.
        model: String,
        /// Where fetched models are kept.
        dir: PathBuf,
        /// A directory or wheel that has it.
        source: Option<PathBuf>,
        /// Base address of a hub.
        hub: Option<String>,
        /// What stands before texts.
        prefixes: Prefixes,
    },
    /// An endpoint.
    Http {
        /// What it calls the model.
        model: String,
        /// Base address.
        url: String,
        /// Bearer token.
        key: Option<SecretString>,
        /// What stands before texts.
        prefixes: Prefixes,
    },
}

/// What a person wants to stand before texts that are embedded; nothing: what the model's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Before questions.
    pub query: Option<String>,
    /// Before memories.
    pub passage: Option<String>,
}

/// What is logged, and where to.
#[derive(Debug, Clone)]
pub struct Log {
    /// Form of the lines on the standard output.
    pub format: LogFormat,
    /// How much is logged.
    pub level: LogLevel,
    /// Also write to this file.
    pub file: Option<PathBuf>,
    /// Size at which the file is rotated.
    pub file_bytes: u64,
    /// Files which are kept, the current one included.
    pub file_count: u32,
    /// What stands before each line on the standard output.
    pub prefix: LogPrefix,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: LogLevel::Info,
            file: None,
            file_bytes: 10 * 1024 * 1024,
            file_count: 5,
            prefix: LogPrefix::None,
        }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Pretty` on a terminal, `Json` otherwise.
    Auto,
    /// One object a line.
    Json,
    /// For people.
    Pretty,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What is wrong but was survived.
    Warn,
    /// What was done.
    Info,
    /// How it was done.
    Debug,
    /// Everything.
    Trace,
}

/// What stands before each line on the standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPrefix {
    /// Nothing.
    None,
    /// `<N>`, the priority which systemd's journal reads.
    Sd,
}

/// The settings in a few words which may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Production or development.
    pub environment: Environment,
    /// The `.env` file that was read.
    pub env_file: Option<PathBuf>,
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Name of the database, or path of the file.
    pub database: String,
    /// `host:port` of the database server, or its socket directory.
    pub server: Option<String>,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// How many credentials there are; none when no token is asked for.
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
