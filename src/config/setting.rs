//! The one table of settings.

use std::fmt::Write as _;

mod embedding;

pub(super) use embedding::{
    EMBEDDER, EMBEDDER_KEY, EMBEDDER_URL, MODEL, MODEL_DIR, MODEL_HUB, MODEL_SOURCE,
    PASSAGE_PREFIX, QUERY_PREFIX,
};

/// Stemmer languages the service knows, `none` included.
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

/// Heading under which a setting is documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Which environment, and where its file lies.
    Environment,
    /// Listener, limits and budgets.
    Http,
    /// Who may use the service.
    Access,
    /// Where memories are kept.
    Storage,
    /// What finds memories by meaning.
    Embedding,
    /// What is logged, and where to.
    Log,
}

impl Section {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Http => "HTTP",
            Self::Access => "Access",
            Self::Storage => "Storage",
            Self::Embedding => "Embedding",
            Self::Log => "Log",
        }
    }
}

/// What a value must be; the expectation shown to people is derived from it.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// One of the listed words.
    Choice(&'static [&'static str]),
    /// A whole number within limits, with a unit for people.
    Number {
        /// Smallest accepted value.
        min: u64,
        /// Largest accepted value.
        max: u64,
        /// What is counted; may be empty.
        unit: &'static str,
    },
    /// IP address and port.
    Address,
    /// A file or directory.
    Path(&'static str),
    /// Anything else, with the expectation in words.
    Text(&'static str),
}

impl Kind {
    /// What is expected, as a phrase which completes "expected ...".
    pub fn expectation(&self) -> String {
        match self {
            Self::Choice(words) => match words {
                [first, second] => format!("`{first}` or `{second}`"),
                words => {
                    let mut text = String::from("one of ");
                    for (index, word) in words.iter().enumerate() {
                        let comma = if index == 0 { "" } else { ", " };
                        // Writing to a String does not fail.
                        let _ = write!(text, "{comma}`{word}`");
                    }
                    text
                }
            },
            Self::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, unit } => {
                format!("a whole number of {unit} from {min} to {max}")
            }
            Self::Address => {
                "an IP address and a port, such as `127.0.0.1:8765` or `[::1]:8765`".to_owned()
            }
            Self::Path(what) | Self::Text(what) => (*what).to_owned(),
        }
    }
}

/// The value when nothing sets one.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    /// This text, read like any other value.
    Is(&'static str),
    /// Nothing, or something worked out from other settings; described for people.
    Described(&'static str),
}

impl DefaultValue {
    /// The default for documents: a literal in backquotes, or the description.
    pub fn describe(&self) -> String {
        match self {
            Self::Is(text) => format!("`{text}`"),
            Self::Described(text) => (*text).to_owned(),
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in the environment and in `.env` files.
    pub name: &'static str,
    /// Where it is documented.
    pub section: Section,
    /// What it may be.
    pub kind: Kind,
    /// What it is when unset.
    pub default: DefaultValue,
    /// Whether its value is never shown, and cannot be given on the command line (which every process can see).
    pub secret: bool,
    /// Long command line option without the dashes; none for secrets.
    pub flag: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
}

impl Setting {
    /// Whether it is needed to find the other layers, and thus read from the command line and the environment only.
    pub fn is_bootstrap(&self) -> bool {
        self.section == Section::Environment
    }

    /// Name of the variable which holds the path of a file with the value.
    pub fn file_name(&self) -> Option<String> {
        (!self.is_bootstrap()).then(|| format!("{}_FILE", self.name))
    }
}

/// The setting of that name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .iter()
        .copied()
        .find(|setting| setting.name == name)
}

/// Every setting, in the order of the documents.
pub static SETTINGS: [&Setting; 49] = [
    &ENVIRONMENT,
    &CONFIG_DIR,
    &LISTEN,
    &ALLOWED_HOSTS,
    &ALLOWED_ORIGINS,
    &MAX_BODY_BYTES,
    &REQUEST_TIMEOUT,
    &DRAIN_TIMEOUT,
    &TOOL_PREFIX,
    &AUTH,
    &TOKENS,
    &OAUTH_ISSUER,
    &OAUTH_AUDIENCE,
    &OAUTH_PROJECT_CLAIM,
    &PROJECT_MAX_MEMORIES,
    &PROJECT_MAX_BYTES,
    &PROJECT_MAX_ENTRIES,
    &URL,
    &TOKEN,
    &DATA_DIR,
    &DATABASE_URL,
    &DATABASE_HOST,
    &DATABASE_PORT,
    &DATABASE_NAME,
    &DATABASE_USER,
    &DATABASE_PASSWORD,
    &DATABASE_SSLMODE,
    &DATABASE_POOL,
    &DATABASE_ROW_SECURITY,
    &LANGUAGE,
    &FOCUS_CAPACITY,
    &REVIEW_DAYS,
    &HISTORY_DAYS,
    &IDEMPOTENCY_DAYS,
    &EMBEDDER,
    &MODEL,
    &MODEL_DIR,
    &MODEL_SOURCE,
    &MODEL_HUB,
    &QUERY_PREFIX,
    &PASSAGE_PREFIX,
    &EMBEDDER_URL,
    &EMBEDDER_KEY,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &LOG_FILE,
    &LOG_FILE_BYTES,
    &LOG_FILE_COUNT,
    &LOG_PREFIX,
];

pub(super) static ENVIRONMENT: Setting = Setting {
    name: "MEMORY_ENVIRONMENT",
    section: Section::Environment,
    kind: Kind::Choice(&["production", "development"]),
    default: DefaultValue::Is("development"),
    secret: false,
    flag: Some("environment"),
    doc: "Picks `.env.production` or `.env.development`, the default database name and how strict the rules are. \
          Given on the command line or in the process environment only. Where it is not set, `ENVIRONMENT` is read; \
          values of that other than these two are for other programs and cause a warning.",
};

pub(super) static CONFIG_DIR: Setting = Setting {
    name: "MEMORY_CONFIG_DIR",
    section: Section::Environment,
    kind: Kind::Path("the absolute path of a directory"),
    default: DefaultValue::Described(
        "`$CONFIGURATION_DIRECTORY`, else `$XDG_CONFIG_HOME/cognitive-memory-mcp`, else `~/.config/cognitive-memory-mcp`, without a home `/etc/cognitive-memory-mcp`",
    ),
    secret: false,
    flag: Some("config-dir"),
    doc: "Directory with the `.env` files. Given on the command line or in the process environment only.",
};

pub(super) static LISTEN: Setting = Setting {
    name: "MEMORY_LISTEN",
    section: Section::Http,
    kind: Kind::Address,
    default: DefaultValue::Is("127.0.0.1:8765"),
    secret: false,
    flag: Some("listen"),
    doc: "Where the server listens. In a container `0.0.0.0:8765`, published on the loopback address of the host.",
};

pub(super) static ALLOWED_HOSTS: Setting = Setting {
    name: "MEMORY_ALLOWED_HOSTS",
    section: Section::Http,
    kind: Kind::Text("host names or addresses, each with or without a port, separated by commas"),
    default: DefaultValue::Is("localhost,127.0.0.1,::1"),
    secret: false,
    flag: Some("allowed-hosts"),
    doc: "Values of the `Host` header which are served; others are refused (protection against DNS rebinding). \
          The list replaces the default.",
};

pub(super) static ALLOWED_ORIGINS: Setting = Setting {
    name: "MEMORY_ALLOWED_ORIGINS",
    section: Section::Http,
    kind: Kind::Text(
        "origins such as `https://example.org` or `http://localhost:3000`, separated by commas",
    ),
    default: DefaultValue::Described("none: every browser origin is refused"),
    secret: false,
    flag: Some("allowed-origins"),
    doc: "Values of the `Origin` header which are served. Programs other than browsers send none and are not concerned.",
};

pub(super) static MAX_BODY_BYTES: Setting = Setting {
    name: "MEMORY_MAX_BODY_BYTES",
    section: Section::Http,
    kind: Kind::Number {
        min: 1024,
        max: 67_108_864,
        unit: "bytes",
    },
    default: DefaultValue::Is("4194304"),
    secret: false,
    flag: Some("max-body-bytes"),
    doc: "Largest request body.",
};

pub(super) static REQUEST_TIMEOUT: Setting = Setting {
    name: "MEMORY_REQUEST_TIMEOUT",
    section: Section::Http,
    kind: Kind::Number {
        min: 1,
        max: 600,
        unit: "seconds",
    },
    default: DefaultValue::Is("30"),
    secret: false,
    flag: Some("request-timeout"),
    doc: "Longest time for one request.",
};

pub(super) static DRAIN_TIMEOUT: Setting = Setting {
    name: "MEMORY_DRAIN_TIMEOUT",
    section: Section::Http,
    kind: Kind::Number {
        min: 0,
        max: 300,
        unit: "seconds",
    },
    default: DefaultValue::Is("20"),
    secret: false,
    flag: Some("drain-timeout"),
    doc: "Longest time for requests under way when the service is stopped. Keep it below `StopTimeout=` of the unit.",
};

pub(super) static TOOL_PREFIX: Setting = Setting {
    name: "MEMORY_TOOL_PREFIX",
    section: Section::Http,
    kind: Kind::Text(
        "up to 32 letters, digits, `_` and `-`, beginning with a letter, such as `memory_`",
    ),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("tool-prefix"),
    doc: "Prefix of the name of every tool, for clients that mix up tools of the same name from different servers.",
};

pub(super) static AUTH: Setting = Setting {
    name: "MEMORY_AUTH",
    section: Section::Access,
    kind: Kind::Choice(&["tokens", "none"]),
    default: DefaultValue::Described(
        "`tokens` when `MEMORY_TOKENS` or `MEMORY_OAUTH_ISSUER` is set; otherwise `none`, in development on a loopback address only",
    ),
    secret: false,
    flag: Some("auth"),
    doc: "Whether a client must show a token. `none` has to be set explicitly in production and on other than loopback addresses.",
};

pub(super) static TOKENS: Setting = Setting {
    name: "MEMORY_TOKENS",
    section: Section::Access,
    kind: Kind::Text(
        "one credential a line: `name token` or `name sha256:HEX`, then optionally `project=NAME` and `read=NAME,NAME`",
    ),
    default: DefaultValue::Described("none"),
    secret: true,
    flag: None,
    doc: "Bearer tokens which clients may use, beside those in the database (`token create NAME`), which need no restart. \
          Each writes and reads its project, and reads those of `read=`. Usually given by `MEMORY_TOKENS_FILE`; \
          `token new NAME` makes a line.",
};

pub(super) static OAUTH_ISSUER: Setting = Setting {
    name: "MEMORY_OAUTH_ISSUER",
    section: Section::Access,
    kind: Kind::Text(
        "the identifier of an authorization server, such as `https://login.example.org`",
    ),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("oauth-issuer"),
    doc: "Access tokens (JWT) of this OAuth 2.1 authorization server are accepted, too: with the scope `memory:read`, \
          and for changes `memory:write`. Its keys are found by its metadata.",
};

pub(super) static OAUTH_AUDIENCE: Setting = Setting {
    name: "MEMORY_OAUTH_AUDIENCE",
    section: Section::Access,
    kind: Kind::Text("what the issuer writes into `aud`, such as `https://memory.example.org/mcp`"),
    default: DefaultValue::Described("none; needed with `MEMORY_OAUTH_ISSUER`"),
    secret: false,
    flag: Some("oauth-audience"),
    doc: "Only access tokens for this audience are accepted. Use the address under which clients reach the service: \
          they are told it as the resource to ask for.",
};

pub(super) static OAUTH_PROJECT_CLAIM: Setting = Setting {
    name: "MEMORY_OAUTH_PROJECT_CLAIM",
    section: Section::Access,
    kind: Kind::Text("the name of a claim"),
    default: DefaultValue::Is("memory_project"),
    secret: false,
    flag: Some("oauth-project-claim"),
    doc: "The claim of an access token that names its project; without the claim it is `default`.",
};

pub(super) static PROJECT_MAX_MEMORIES: Setting = Setting {
    name: "MEMORY_PROJECT_MAX_MEMORIES",
    section: Section::Access,
    kind: Kind::Number {
        min: 0,
        max: 1_000_000_000,
        unit: "memories",
    },
    default: DefaultValue::Is("0"),
    secret: false,
    flag: Some("project-max-memories"),
    doc: "Most memories that a project may hold; 0 is without a limit. Deleted ones count until they are purged. \
          Set it alike on all servers of a database.",
};

pub(super) static PROJECT_MAX_BYTES: Setting = Setting {
    name: "MEMORY_PROJECT_MAX_BYTES",
    section: Section::Access,
    kind: Kind::Number {
        min: 0,
        max: 1_099_511_627_776,
        unit: "bytes",
    },
    default: DefaultValue::Is("0"),
    secret: false,
    flag: Some("project-max-bytes"),
    doc: "Most bytes of text (content, situation, lesson, metadata) that a project may hold, earlier versions in the \
          history included; 0 is without a limit. A project at its limit can still delete and purge.",
};

pub(super) static PROJECT_MAX_ENTRIES: Setting = Setting {
    name: "MEMORY_PROJECT_MAX_ENTRIES",
    section: Section::Access,
    kind: Kind::Number {
        min: 0,
        max: 1_000_000_000,
        unit: "entries",
    },
    default: DefaultValue::Is("0"),
    secret: false,
    flag: Some("project-max-entries"),
    doc: "Most entities, most relations and most reviews that a project may hold, each counted by itself; 0 is without \
          a limit. Of the working memory and its archive so many items are kept, the newest.",
};

pub(super) static URL: Setting = Setting {
    name: "MEMORY_URL",
    section: Section::Access,
    kind: Kind::Text("the address of a running service, such as `http://127.0.0.1:8765/mcp`"),
    default: DefaultValue::Described(
        "this user's service on this machine, found by its Unix socket",
    ),
    secret: false,
    flag: Some("url"),
    doc: "The service that `stdio`, `healthcheck` and the commands talk to; it receives `MEMORY_TOKEN`. When it is set, \
          they never open a database themselves. A service in a container or of another user has to be named here.",
};

pub(super) static TOKEN: Setting = Setting {
    name: "MEMORY_TOKEN",
    section: Section::Access,
    kind: Kind::Text("a token of the service that `stdio` talks to"),
    default: DefaultValue::Described("none"),
    secret: true,
    flag: None,
    doc: "The token that `stdio` and the commands send: to the service of `MEMORY_URL`, or to one that has proven by \
          its Unix socket to be this user's.",
};

pub(super) static DATA_DIR: Setting = Setting {
    name: "MEMORY_DATA_DIR",
    section: Section::Storage,
    kind: Kind::Path("the path of a directory"),
    default: DefaultValue::Described(
        "`$XDG_DATA_HOME/cognitive-memory-mcp`, else `~/.local/share/cognitive-memory-mcp`, without a home `/var/lib/cognitive-memory-mcp`",
    ),
    secret: false,
    flag: Some("data-dir"),
    doc: "The embedded database `memory.db` lies here.",
};

pub(super) static DATABASE_URL: Setting = Setting {
    name: "MEMORY_DATABASE_URL",
    section: Section::Storage,
    kind: Kind::Text("`postgres://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:PATH`"),
    default: DefaultValue::Described("none"),
    secret: true,
    flag: None,
    doc: "The database in one line. Excludes `MEMORY_DATABASE_HOST`, `_PORT`, `_NAME`, `_USER`, `_PASSWORD` and `_SSLMODE`. \
          Special characters in its parts are percent-encoded.",
};

pub(super) static DATABASE_HOST: Setting = Setting {
    name: "MEMORY_DATABASE_HOST",
    section: Section::Storage,
    kind: Kind::Text("a host name, an IP address, or the directory of a Unix socket"),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("database-host"),
    doc: "PostgreSQL is used when this is set, an embedded SQLite file otherwise. \
          Production needs this or `MEMORY_DATABASE_URL`.",
};

pub(super) static DATABASE_PORT: Setting = Setting {
    name: "MEMORY_DATABASE_PORT",
    section: Section::Storage,
    kind: Kind::Number {
        min: 1,
        max: 65535,
        unit: "",
    },
    default: DefaultValue::Is("5432"),
    secret: false,
    flag: Some("database-port"),
    doc: "Port of PostgreSQL.",
};

pub(super) static DATABASE_NAME: Setting = Setting {
    name: "MEMORY_DATABASE_NAME",
    section: Section::Storage,
    kind: Kind::Text("the name of a database, at most 63 bytes"),
    default: DefaultValue::Described(
        "`cognitive_memory` in production, `cognitive_memory_dev` in development",
    ),
    secret: false,
    flag: Some("database-name"),
    doc: "Database on the PostgreSQL server.",
};

pub(super) static DATABASE_USER: Setting = Setting {
    name: "MEMORY_DATABASE_USER",
    section: Section::Storage,
    kind: Kind::Text("the name of a role, at most 63 bytes"),
    default: DefaultValue::Is("cognitive_memory"),
    secret: false,
    flag: Some("database-user"),
    doc: "PostgreSQL role.",
};

pub(super) static DATABASE_PASSWORD: Setting = Setting {
    name: "MEMORY_DATABASE_PASSWORD",
    section: Section::Storage,
    kind: Kind::Text("a password of one line"),
    default: DefaultValue::Described("none"),
    secret: true,
    flag: None,
    doc: "Password of the role. Usually given by `MEMORY_DATABASE_PASSWORD_FILE`.",
};

pub(super) static DATABASE_SSLMODE: Setting = Setting {
    name: "MEMORY_DATABASE_SSLMODE",
    section: Section::Storage,
    kind: Kind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
    default: DefaultValue::Is("prefer"),
    secret: false,
    flag: Some("database-sslmode"),
    doc: "TLS towards PostgreSQL. Use `verify-full` across a network.",
};

pub(super) static DATABASE_POOL: Setting = Setting {
    name: "MEMORY_DATABASE_POOL",
    section: Section::Storage,
    kind: Kind::Number {
        min: 1,
        max: 100,
        unit: "connections",
    },
    default: DefaultValue::Is("8"),
    secret: false,
    flag: Some("database-pool"),
    doc: "Most connections to the database.",
};

pub(super) static DATABASE_ROW_SECURITY: Setting = Setting {
    name: "MEMORY_DATABASE_ROW_SECURITY",
    section: Section::Storage,
    kind: Kind::Choice(&["auto", "on", "off"]),
    default: DefaultValue::Is("auto"),
    secret: false,
    flag: Some("database-row-security"),
    doc: "Whether PostgreSQL itself keeps projects apart, by row-level security under a role that owns no table. \
          `auto` uses it where that role, `USER_app`, is there or can be made; `on` insists on it.",
};

pub(super) static LANGUAGE: Setting = Setting {
    name: "MEMORY_LANGUAGE",
    section: Section::Storage,
    kind: Kind::Choice(LANGUAGES),
    default: DefaultValue::Is("english"),
    secret: false,
    flag: Some("language"),
    doc: "Language whose word forms are brought together by the search; `none` takes words as they are.",
};

pub(super) static FOCUS_CAPACITY: Setting = Setting {
    name: "MEMORY_FOCUS_CAPACITY",
    section: Section::Storage,
    kind: Kind::Number {
        min: 1,
        max: 100,
        unit: "items",
    },
    default: DefaultValue::Is("10"),
    secret: false,
    flag: Some("focus-capacity"),
    doc: "How many items the working memory of a session holds; what must make room goes to its archive.",
};

pub(super) static REVIEW_DAYS: Setting = Setting {
    name: "MEMORY_REVIEW_DAYS",
    section: Section::Storage,
    kind: Kind::Number {
        min: 1,
        max: 3_650,
        unit: "days",
    },
    default: DefaultValue::Is("30"),
    secret: false,
    flag: Some("review-days"),
    doc: "How long a proposed change to a protected memory waits for `review approve` before it expires.",
};

pub(super) static HISTORY_DAYS: Setting = Setting {
    name: "MEMORY_HISTORY_DAYS",
    section: Section::Storage,
    kind: Kind::Number {
        min: 0,
        max: 36_500,
        unit: "days",
    },
    default: DefaultValue::Is("0"),
    secret: false,
    flag: Some("history-days"),
    doc: "How long earlier versions of memories are kept; 0 keeps them until the memory is purged. What was removed can \
          no longer be undone or asked for with `as_of`. The creation of a memory and its present state always stay.",
};

pub(super) static IDEMPOTENCY_DAYS: Setting = Setting {
    name: "MEMORY_IDEMPOTENCY_DAYS",
    section: Section::Storage,
    kind: Kind::Number {
        min: 1,
        max: 3_650,
        unit: "days",
    },
    default: DefaultValue::Is("7"),
    secret: false,
    flag: Some("idempotency-days"),
    doc: "How long a repeated `remember` with the same `idempotency_key` gets the first answer. A project keeps its \
          newest 10,000 keys, or fewer when their answers are longer than 4 MiB in all.",
};

pub(super) static LOG_FORMAT: Setting = Setting {
    name: "MEMORY_LOG_FORMAT",
    section: Section::Log,
    kind: Kind::Choice(&["auto", "json", "pretty"]),
    default: DefaultValue::Is("auto"),
    secret: false,
    flag: Some("log-format"),
    doc: "`json` is one object a line, `pretty` is for people; `auto` is `pretty` on a terminal and `json` otherwise.",
};

pub(super) static LOG_LEVEL: Setting = Setting {
    name: "MEMORY_LOG_LEVEL",
    section: Section::Log,
    kind: Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
    default: DefaultValue::Is("info"),
    secret: false,
    flag: Some("log-level"),
    doc: "How much this service logs. The libraries in it log warnings and errors only, whatever the level: \
          below that they print what clients sent.",
};

pub(super) static LOG_FILE: Setting = Setting {
    name: "MEMORY_LOG_FILE",
    section: Section::Log,
    kind: Kind::Path("the path of a file"),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("log-file"),
    doc: "Also write the log to this file, as JSON, rotated by size (for hosts without a journal).",
};

pub(super) static LOG_FILE_BYTES: Setting = Setting {
    name: "MEMORY_LOG_FILE_BYTES",
    section: Section::Log,
    kind: Kind::Number {
        min: 65_536,
        max: 1_073_741_824,
        unit: "bytes",
    },
    default: DefaultValue::Is("10485760"),
    secret: false,
    flag: Some("log-file-bytes"),
    doc: "Size at which the log file is rotated.",
};

pub(super) static LOG_FILE_COUNT: Setting = Setting {
    name: "MEMORY_LOG_FILE_COUNT",
    section: Section::Log,
    kind: Kind::Number {
        min: 1,
        max: 100,
        unit: "files",
    },
    default: DefaultValue::Is("5"),
    secret: false,
    flag: Some("log-file-count"),
    doc: "Log files which are kept, the current one included; older ones end in `.1`, `.2` and so on.",
};

pub(super) static LOG_PREFIX: Setting = Setting {
    name: "MEMORY_LOG_PREFIX",
    section: Section::Log,
    kind: Kind::Choice(&["none", "sd"]),
    default: DefaultValue::Is("none"),
    secret: false,
    flag: Some("log-prefix"),
    doc: "`sd` puts the priority as `<N>` before each line of the standard output, for a journal which reads it \
          (conmon from 2.2.0, or log passthrough).",
};
