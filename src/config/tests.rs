use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::setting::{Kind, Section};
use super::*;

mod place;

/// A directory with files, and sources that start there and contain nothing else.
struct Site {
    directory: TempDir,
    sources: Sources,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: directory.path().to_owned(),
            ..Sources::default()
        }
        .with_env("HOME", "/home/me")
        .with_env("MEMORY_CONFIG_DIR", directory.path());
        Self { directory, sources }
    }

    /// The minimal production configuration.
    fn production() -> Self {
        Self::new()
            .env("ENVIRONMENT", "production")
            .env("MEMORY_DATABASE_HOST", "db")
            .env("MEMORY_AUTH", "none")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes the variable that names the directory of the settings files.
    fn unnamed() -> Self {
        let mut site = Self::new();
        site.sources
            .env
            .remove(&OsString::from("MEMORY_CONFIG_DIR"));
        let home = site.path().join("home").display().to_string();
        site.env("HOME", &home)
    }

    /// Sets a variable to the absolute path of a file in the directory.
    fn env_path(self, name: &str, path: &str) -> Self {
        let path = self.path().join(path).display().to_string();
        self.env(name, &path)
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources = self.sources.with_env(name, value);
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.sources.flags = self.sources.flags.with(name, value);
        self
    }

    fn settings(&self) -> Settings {
        load(&self.sources, Purpose::Service).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> ConfigError {
        load(&self.sources, Purpose::Service).expect_err("not a valid configuration")
    }

    /// Returns the names with problems.
    fn wrong(&self) -> Vec<String> {
        self.error()
            .problems()
            .iter()
            .map(|problem| problem.name.clone())
            .collect()
    }

    fn entry(&self, name: &str) -> (String, String) {
        let reading = read(&self.sources, Purpose::Service);
        let entry = reading
            .entries
            .iter()
            .find(|entry| entry.name == name)
            .unwrap();
        (entry.value.clone(), entry.origin.to_string())
    }

    /// Removes the directory from a text, for snapshots.
    fn neutral(&self, text: &str) -> String {
        text.replace(&self.path().display().to_string(), "DIR")
    }
}

fn entry(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

// ---- the table -----------------------------------------------------------------------------------------------------

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == to_markdown(),
        "docs/configuration.md is out of date; recreate it with: cargo run -- config markdown > docs/configuration.md"
    );
}

#[test]
fn the_table_is_sound() {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    for entry in SETTINGS {
        assert_eq!(
            names.iter().filter(|name| **name == entry.name).count(),
            1,
            "{} twice",
            entry.name
        );
        assert!(entry.name.starts_with("MEMORY_"), "{}", entry.name);
        assert!(
            !entry
                .file_name()
                .is_some_and(|file| names.contains(&file.as_str())),
            "{}_FILE is a setting",
            entry.name
        );
        let flag = entry
            .name
            .trim_start_matches("MEMORY_")
            .to_lowercase()
            .replace('_', "-");
        assert_eq!(
            entry.flag,
            entry.flag.map(|_| flag.as_str()),
            "{}",
            entry.name
        );
        assert!(
            !entry.doc.contains('|') && !entry.kind.expectation().contains('|'),
            "{} breaks the table",
            entry.name
        );
        assert!(entry.doc.ends_with('.'), "{}", entry.name);
    }
    let sections: Vec<Section> = SETTINGS.iter().map(|setting| setting.section).collect();
    assert!(sections.is_sorted(), "settings of a section stand together");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let settings = Site::new().settings();
    let defaults = LogOptions::default();
    assert_eq!(settings.log.file_bytes, defaults.file_bytes);
    assert_eq!(settings.log.file_count, defaults.file_count);
    assert_eq!(
        (
            settings.log.format,
            settings.log.level,
            settings.log.systemd_priority
        ),
        (defaults.format, defaults.level, defaults.systemd_priority)
    );
}

// ---- defaults and types --------------------------------------------------------------------------------------------

#[test]
fn nothing_has_to_be_set_in_development() {
    let settings = Site::new().settings();
    assert_eq!(settings.environment, Environment::Development);
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8765");
    assert_eq!(
        settings.http.allowed_hosts,
        ["localhost", "127.0.0.1", "::1"]
    );
    assert!(settings.http.allowed_origins.is_empty());
    assert_eq!(settings.http.max_body_bytes, 4 * 1024 * 1024);
    assert_eq!(
        (
            settings.http.request_timeout.as_secs(),
            settings.http.drain_timeout.as_secs()
        ),
        (30, 20)
    );
    assert!(matches!(settings.auth, Auth::None));
    assert_eq!(
        settings.data_dir,
        Path::new("/home/me/.local/share/cognitive-memory-mcp")
    );
    assert!(
        matches!(&settings.database, Database::Sqlite { path } if *path == settings.data_dir.join("memory.db"))
    );
    assert_eq!((settings.database_pool, settings.language), (8, "english"));
    assert_eq!(
        settings.summary().to_string(),
        "development environment, database /home/me/.local/share/cognitive-memory-mcp/memory.db (SQLite), listening on 127.0.0.1:8765, no authentication"
    );
}

#[test]
fn everything_can_be_set() {
    let site = Site::new()
        .env("ENVIRONMENT", "production")
        .env("MEMORY_LISTEN", "[::]:80")
        .env(
            "MEMORY_ALLOWED_HOSTS",
            "Memory.Example, [::1]:80,::1, memory.example:8080,",
        )
        .env(
            "MEMORY_ALLOWED_ORIGINS",
            "https://App.example,http://localhost:3000",
        )
        .env("MEMORY_MAX_BODY_BYTES", "1024")
        .env("MEMORY_REQUEST_TIMEOUT", "600")
        .env("MEMORY_DRAIN_TIMEOUT", "0")
        .env(
            "MEMORY_TOKENS",
            "laptop 0123456789abcdef\ndesktop 0123456789abcdeg project=work",
        )
        .env("MEMORY_AUTH", "tokens")
        .env("MEMORY_DATA_DIR", "~/data")
        .env("MEMORY_DATABASE_HOST", "db.example")
        .env("MEMORY_DATABASE_PORT", "6543")
        .env("MEMORY_DATABASE_NAME", "other")
        .env("MEMORY_DATABASE_USER", "somebody")
        .env("MEMORY_DATABASE_PASSWORD", " hunter2 ")
        .env("MEMORY_DATABASE_SSLMODE", "verify-full")
        .env("MEMORY_DATABASE_POOL", "100")
        .env("MEMORY_LANGUAGE", "none")
        .env("MEMORY_LOG_FORMAT", "pretty")
        .env("MEMORY_LOG_LEVEL", "trace")
        .env("MEMORY_LOG_FILE", "logs/x.log")
        .env("MEMORY_LOG_FILE_BYTES", "65536")
        .env("MEMORY_LOG_FILE_COUNT", "1")
        .env("MEMORY_LOG_PREFIX", "sd");
    let settings = site.settings();
    assert_eq!(
        settings.http.allowed_hosts,
        ["memory.example", "[::1]:80", "::1", "memory.example:8080"]
    );
    assert_eq!(
        settings.http.allowed_origins,
        ["https://app.example", "http://localhost:3000"]
    );
    assert_eq!(settings.data_dir, Path::new("/home/me/data"));
    let Database::Postgres(postgres) = &settings.database else {
        panic!("not PostgreSQL")
    };
    assert_eq!(
        (
            postgres.host.as_str(),
            postgres.port,
            postgres.name.as_str(),
            postgres.user.as_str(),
            postgres.ssl_mode
        ),
        ("db.example", 6543, "other", "somebody", SslMode::VerifyFull)
    );
    assert_eq!(
        postgres.password.as_ref().unwrap().expose_secret(),
        " hunter2 ",
        "spaces belong to a password"
    );
    let Auth::Tokens(credentials) = &settings.auth else {
        panic!("no tokens")
    };
    assert_eq!(
        credentials
            .iter()
            .map(|c| c.project.as_str())
            .collect::<Vec<_>>(),
        ["default", "work"]
    );
    assert_eq!(settings.log.file, Some(site.path().join("logs/x.log")));
    assert_eq!(
        (
            settings.log.format,
            settings.log.level,
            settings.log.systemd_priority
        ),
        (LogFormat::Pretty, LogLevel::Trace, true)
    );
    assert_eq!(
        settings.summary().to_string(),
        "production environment, database other on db.example:6543 (PostgreSQL), listening on [::]:80, 2 credentials"
    );
}

#[test]
fn data_directory_follows_xdg() {
    let dir = |site: Site| site.settings().data_dir;
    assert_eq!(
        dir(Site::new().env("XDG_DATA_HOME", "/xdg")),
        Path::new("/xdg/cognitive-memory-mcp")
    );
    assert_eq!(
        dir(Site::new().env("XDG_DATA_HOME", "relative")),
        Path::new("/home/me/.local/share/cognitive-memory-mcp")
    );
    assert_eq!(
        dir(Site::new().env("HOME", "")),
        Path::new("/var/lib/cognitive-memory-mcp")
    );
    let site = Site::new().env("MEMORY_DATA_DIR", "./here");
    assert_eq!(site.settings().data_dir, site.path().join("here"));
    assert_eq!(
        Site::new()
            .env("HOME", "")
            .env("MEMORY_DATA_DIR", "~/x")
            .wrong(),
        ["MEMORY_DATA_DIR"]
    );
}

#[test]
fn the_local_address_can_be_connected_to() {
    for (listen, expected) in [
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("127.0.0.2:1", "127.0.0.2:1"),
        ("10.0.0.1:1", "10.0.0.1:1"),
    ] {
        let settings = Site::new()
            .env("MEMORY_AUTH", "none")
            .env("MEMORY_LISTEN", listen)
            .settings();
        assert_eq!(settings.http.local_address().to_string(), expected);
    }
}

#[test]
fn limits_are_inclusive() {
    for setting in SETTINGS {
        let Kind::Number { min, max, .. } = setting.kind else {
            continue;
        };
        let with = |value: u64| Site::production().env(setting.name, &value.to_string());
        for value in [min, max] {
            with(value).settings();
        }
        for value in [min.checked_sub(1), Some(max + 1)].into_iter().flatten() {
            assert_eq!(with(value).wrong(), [setting.name]);
        }
    }
}

#[test]
fn every_choice_is_read() {
    for setting in SETTINGS {
        let Kind::Choice(words) = setting.kind else {
            continue;
        };
        for word in words {
            let mut site = Site::production();
            if setting.name == "MEMORY_AUTH" && *word == "tokens" {
                site = site.env("MEMORY_TOKENS", "laptop 0123456789abcdef");
            }
            if setting.name == "MEMORY_EMBEDDER" && *word == "http" {
                site = site.env("MEMORY_EMBEDDER_URL", "http://127.0.0.1:11434/v1");
            }
            site = site.env(setting.name, word);
            site.settings();
            assert_eq!(site.entry(setting.name).0, *word);
        }
        assert_eq!(
            Site::production().env(setting.name, "nonsense").wrong(),
            [setting.name]
        );
    }
}

#[test]
fn an_endpoint_and_its_embedder_belong_together() {
    let url = "http://127.0.0.1:11434/v1/";
    match Site::new()
        .env("MEMORY_EMBEDDER", "http")
        .env("MEMORY_EMBEDDER_URL", url)
        .settings()
        .embedding
    {
        Embedding::Http { url, key: None, .. } => assert_eq!(url, "http://127.0.0.1:11434/v1"),
        other => panic!("{other:?}"),
    }
    // Otherwise texts would be sent to another embedder than the user expects.
    assert_eq!(
        Site::new().env("MEMORY_EMBEDDER_URL", url).wrong(),
        ["MEMORY_EMBEDDER_URL"]
    );
    assert_eq!(
        Site::new().env("MEMORY_EMBEDDER", "http").wrong(),
        ["MEMORY_EMBEDDER_URL"]
    );
    for wrong in ["../etc", "a b", ".hidden", "a/../../b"] {
        assert_eq!(
            Site::new().env("MEMORY_MODEL", wrong).wrong(),
            ["MEMORY_MODEL"],
            "{wrong}"
        );
    }
    match Site::new()
        .env("HF_ENDPOINT", "https://hub.example.org/")
        .settings()
        .embedding
    {
        Embedding::Local { hub, model, .. } => {
            assert_eq!(
                (hub.as_deref(), model.as_str()),
                (Some("https://hub.example.org"), "all-MiniLM-L6-v2")
            );
        }
        other => panic!("{other:?}"),
    }
}

// ---- layers --------------------------------------------------------------------------------------------------------

#[test]
fn the_higher_layer_wins() {
    // Built from the lowest to the highest layer; each new one must win.
    let mut site = Site::new();
    assert_eq!(site.entry("MEMORY_LANGUAGE"), entry("english", "default"));
    site = site.file(".env.development", "# languages\nMEMORY_LANGUAGE=danish\n");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("danish", ".env.development line 2")
    );
    site = site
        .file("credentials/MEMORY_LANGUAGE", "dutch\n")
        .env_path("CREDENTIALS_DIRECTORY", "credentials");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("dutch", "credentials/MEMORY_LANGUAGE (credential)")
    );
    site = site
        .file("secret", "finnish\r\n")
        .env("MEMORY_LANGUAGE_FILE", "secret");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("finnish", "secret (MEMORY_LANGUAGE_FILE)")
    );
    site.sources
        .env
        .remove(&OsString::from("MEMORY_LANGUAGE_FILE"));
    site = site.env("MEMORY_LANGUAGE", "french");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("french", "environment")
    );
    site = site.flag("MEMORY_LANGUAGE", "german");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("german", "option --language")
    );
    assert_eq!(site.settings().language, "german");
}

#[test]
fn a_file_may_be_named_in_the_env_file() {
    let site = Site::new()
        .file(".env.development", "MEMORY_TOKENS_FILE=tokens\n")
        .file("tokens", format!("laptop {HASH}\n"))
        .file("credentials/MEMORY_TOKENS", "desktop 0123456789abcdef")
        .env_path("CREDENTIALS_DIRECTORY", "credentials");
    assert_eq!(
        site.entry("MEMORY_TOKENS"),
        entry("(hidden)", "tokens (MEMORY_TOKENS_FILE)")
    );
    let Auth::Tokens(credentials) = site.settings().auth else {
        panic!("no tokens")
    };
    assert_eq!(credentials[0].sha256, sha256("abc"));
    let site = site.env("MEMORY_TOKENS", "phone 0123456789abcdef");
    assert_eq!(
        site.entry("MEMORY_TOKENS"),
        entry("(hidden)", "environment")
    );
}

#[test]
fn both_in_one_layer_are_a_problem_and_in_two_are_not() {
    let both = Site::new()
        .env("MEMORY_TOKENS", "laptop 0123456789abcdef")
        .env("MEMORY_TOKENS_FILE", "tokens");
    assert_eq!(both.wrong(), ["MEMORY_TOKENS"]);
    assert!(
        both.error()
            .to_string()
            .contains("MEMORY_TOKENS or MEMORY_TOKENS_FILE, not both")
    );
    let both = Site::new().file(
        ".env.development",
        "MEMORY_LANGUAGE=german\nMEMORY_LANGUAGE_FILE=x\n",
    );
    assert_eq!(
        both.error().problems()[0].origin.as_deref(),
        Some(".env.development line 2")
    );
    let apart = Site::new()
        .file(".env.development", "MEMORY_LANGUAGE_FILE=x\n")
        .env("MEMORY_LANGUAGE", "german");
    assert_eq!(apart.settings().language, "german");
    let one_empty = Site::new()
        .file("x", "german")
        .env("MEMORY_LANGUAGE_FILE", "x")
        .env("MEMORY_LANGUAGE", "");
    assert_eq!(one_empty.settings().language, "german");
    let other_empty = Site::new()
        .env("MEMORY_LANGUAGE_FILE", "")
        .env("MEMORY_LANGUAGE", "german");
    assert_eq!(other_empty.settings().language, "german");
}

#[test]
fn an_empty_value_brings_the_default_back() {
    let site = Site::new()
        .file(
            ".env.development",
            "MEMORY_LANGUAGE=german\nMEMORY_LOG_FILE=x\n",
        )
        .env("MEMORY_LANGUAGE", " ");
    assert_eq!(
        site.entry("MEMORY_LANGUAGE"),
        entry("english", "default (empty in environment)")
    );
    assert_eq!(site.settings().language, "english");
    let site = Site::new().file(
        ".env.development",
        "MEMORY_TOKENS=\nMEMORY_LOG_FILE= # none\n",
    );
    assert!(matches!(site.settings().auth, Auth::None));
    assert_eq!(site.settings().log.file, None);
    assert_eq!(
        site.entry("MEMORY_LOG_FILE"),
        entry("-", "default (empty in .env.development line 2)")
    );
}

#[test]
fn the_environment_picks_the_file() {
    let site = Site::new()
        .file(
            "etc/.env.production",
            "MEMORY_DATABASE_HOST=db\nMEMORY_AUTH=none\nENVIRONMENT=production\n",
        )
        .file("etc/.env.development", "MEMORY_LANGUAGE=german\n")
        .env_path("MEMORY_CONFIG_DIR", "etc");
    let settings = site.settings();
    assert_eq!(
        (settings.language, settings.env_file),
        ("german", Some(site.path().join("etc/.env.development")))
    );
    let site = site.flag("MEMORY_ENVIRONMENT", "production");
    let settings = site.settings();
    assert_eq!(settings.environment, Environment::Production);
    assert_eq!(
        settings.env_file,
        Some(site.path().join("etc/.env.production"))
    );
    assert_eq!(settings.summary().database, "cognitive_memory");
    assert_eq!(
        site.entry("MEMORY_DATABASE_HOST"),
        entry("db", "etc/.env.production line 1")
    );
}

#[test]
fn development_and_production_have_their_own_database() {
    let site = Site::production();
    assert_eq!(
        site.entry("MEMORY_DATABASE_NAME"),
        entry("cognitive_memory", "default")
    );
    let site = site.env("ENVIRONMENT", "development");
    assert_eq!(
        site.entry("MEMORY_DATABASE_NAME"),
        entry("cognitive_memory_dev", "default")
    );
    assert_eq!(
        site.settings().database.to_string(),
        "cognitive_memory_dev on db:5432 (PostgreSQL)"
    );
}

// ---- mistakes ------------------------------------------------------------------------------------------------------

#[test]
fn every_problem_in_one_block() {
    let site = Site::new()
        .file(
            ".env.production",
            "MEMORY_DATABASE_POOL=many\nthis is no assignment hunter2\nMEMORY_LISTEN=localhost:8765\n\
             MEMORY_DATABASE_PASSWORD=hunter2$x\nENVIRONMENT=development\nMEMORY_LOG_LEVEL=info\nMEMORY_LOG_LEVEL=warn\nUNRELATED=1\n",
        )
        .file("empty", "\n")
        .env("ENVIRONMENT", "production")
        .env("MEMORY_DATABASE_URI", "postgres://u:hunter2@h/d")
        .env("MEMORY_DATABASE_URL", "mysql://u:hunter2@h/d")
        .env("MEMORY_TOKENS_FILE", "empty")
        .env("MEMORY_LANGUAGE", "gernan")
        .env("MEMORY_ALLOWED_HOSTS", "ok,https://u:hunter2@x")
        .env("MEMORY_LOG_FILE_FILE", "missing")
        .flag("MEMORY_MAX_BODY_BYTES", "4 MB");
    let text = site.neutral(&site.error().to_string());
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn one_problem() {
    insta::assert_snapshot!(
        Site::new()
            .env("MEMORY_ENVIRONMENT", "prod")
            .error()
            .to_string()
    );
}

#[test]
fn production_guesses_nothing_that_matters() {
    let site = Site::new().env("ENVIRONMENT", "production");
    insta::assert_snapshot!(site.error().to_string());
    assert_eq!(
        site.env("MEMORY_AUTH", "none")
            .env("MEMORY_DATABASE_URL", "sqlite:/data/memory.db")
            .settings()
            .database
            .name(),
        "/data/memory.db"
    );
}

#[test]
fn authentication_rules() {
    let open = || Site::new().env("MEMORY_LISTEN", "0.0.0.0:8765");
    assert_eq!(open().wrong(), ["MEMORY_AUTH"]);
    assert!(
        open()
            .error()
            .to_string()
            .contains("not a loopback address")
    );
    assert!(matches!(
        open().env("MEMORY_AUTH", "none").settings().auth,
        Auth::None
    ));
    assert!(matches!(
        open()
            .env("MEMORY_TOKENS", "a 0123456789abcdef")
            .settings()
            .auth,
        Auth::Tokens(_)
    ));
    for loopback in ["127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(matches!(
            Site::new().env("MEMORY_LISTEN", loopback).settings().auth,
            Auth::None
        ));
    }
    let of_the_database = Site::new().env("MEMORY_AUTH", "tokens").settings().auth;
    assert!(matches!(of_the_database, Auth::Tokens(none) if none.is_empty()));
    let issuer = |issuer: &str| open().env("MEMORY_OAUTH_ISSUER", issuer);
    let oauth = issuer("https://login.example.org/a")
        .env("MEMORY_OAUTH_AUDIENCE", "memory")
        .settings();
    assert!(matches!(oauth.auth, Auth::Tokens(none) if none.is_empty()));
    assert_eq!(oauth.oauth.unwrap().project_claim, "memory_project");
    assert_eq!(
        issuer("https://login.example.org").wrong(),
        ["MEMORY_OAUTH_AUDIENCE"]
    );
    assert_eq!(
        Site::new().env("MEMORY_OAUTH_AUDIENCE", "memory").wrong(),
        ["MEMORY_OAUTH_AUDIENCE"]
    );
    for wrong in [
        "login.example.org",
        "http://login.example.org",
        "https://u:p@h",
        "https://h?x",
        "ftp://h",
    ] {
        assert_eq!(
            issuer(wrong).env("MEMORY_OAUTH_AUDIENCE", "memory").wrong(),
            ["MEMORY_OAUTH_ISSUER"],
            "{wrong}"
        );
    }
    let local = issuer("http://127.0.0.1:9000").env("MEMORY_OAUTH_AUDIENCE", "memory");
    assert!(local.settings().oauth.is_some());
    assert_eq!(local.env("MEMORY_AUTH", "none").wrong(), ["MEMORY_AUTH"]);
    assert_eq!(
        Site::new()
            .env("MEMORY_AUTH", "none")
            .env("MEMORY_TOKENS", "a 0123456789abcdef")
            .wrong(),
        ["MEMORY_AUTH"]
    );
    // One mistake causes one problem: no rule complains about its consequences.
    assert_eq!(
        Site::production().env("MEMORY_TOKENS", "bad").wrong(),
        ["MEMORY_TOKENS"]
    );
    assert_eq!(open().env("MEMORY_AUTH", "token").wrong(), ["MEMORY_AUTH"]);
    assert_eq!(
        Site::production()
            .env("MEMORY_AUTH", "")
            .env("MEMORY_TOKENS_FILE", "missing")
            .wrong(),
        ["MEMORY_TOKENS_FILE"]
    );
}

#[test]
fn database_rules() {
    let url = || Site::new().env("MEMORY_DATABASE_URL", "postgres://u:p@h/d");
    assert!(matches!(
        url().settings().database,
        Database::Postgres(Postgres { url: Some(_), .. })
    ));
    assert_eq!(
        url().env("MEMORY_DATABASE_HOST", "h").wrong(),
        ["MEMORY_DATABASE_HOST"]
    );
    assert_eq!(
        url()
            .env("MEMORY_DATABASE_PASSWORD", "p")
            .env("MEMORY_DATABASE_PORT", "1")
            .wrong(),
        ["MEMORY_DATABASE_PORT", "MEMORY_DATABASE_PASSWORD"]
    );
    let from_file = Site::new()
        .file(".env.development", "MEMORY_DATABASE_HOST=h\n")
        .env("MEMORY_DATABASE_URL", "sqlite:x");
    assert_eq!(from_file.wrong(), ["MEMORY_DATABASE_HOST"]);
    let cleared = from_file.env("MEMORY_DATABASE_HOST", "");
    assert_eq!(
        cleared.settings().database.name(),
        cleared.path().join("x").display().to_string()
    );
    assert_eq!(
        Site::new().env("MEMORY_DATABASE_PASSWORD", "p").wrong(),
        ["MEMORY_DATABASE_PASSWORD"]
    );
    for host in ["h:5432", "postgres://h", "a b", "a,b"] {
        assert_eq!(
            Site::new().env("MEMORY_DATABASE_HOST", host).wrong(),
            ["MEMORY_DATABASE_HOST"],
            "{host}"
        );
    }
    for host in ["::1", "10.0.0.1", "/run/postgresql", "db_1.example"] {
        Site::new().env("MEMORY_DATABASE_HOST", host).settings();
    }
    let two_lines = Site::production()
        .file("p", "one\ntwo\n")
        .env("MEMORY_DATABASE_PASSWORD_FILE", "p");
    assert_eq!(two_lines.wrong(), ["MEMORY_DATABASE_PASSWORD"]);
}

#[test]
fn unknown_names_are_problems_of_a_service_in_production_only() {
    let unknown = |name: &str| {
        Site::production().env(name, "hunter2").error().problems()[0]
            .remedy
            .clone()
    };
    assert!(unknown("MEMORY_ALLOWED_HOST").starts_with("Did you mean MEMORY_ALLOWED_HOSTS?"));
    assert!(unknown("MEMORY_LISTEM").starts_with("Did you mean MEMORY_LISTEN?"));
    assert!(
        unknown("MEMORY_DATABASE_URLFILE").starts_with("Did you mean MEMORY_DATABASE_URL_FILE?")
    );
    assert!(unknown("MEMORY_DB_PASSWORD").starts_with("Did you mean MEMORY_DATABASE_PASSWORD?"));
    assert!(unknown("MEMORY_QQQQQQQQQQQQQQQQQQ").starts_with("Correct the name"));
    assert_eq!(
        Site::production()
            .env("MEMORY_CONFIG_DIR_FILE", "x")
            .wrong(),
        ["MEMORY_CONFIG_DIR_FILE"]
    );
    assert_eq!(
        Site::production()
            .file(".env.production", "\n\nMEMORY_X=1")
            .error()
            .problems()[0]
            .origin
            .as_deref(),
        Some(".env.production line 3")
    );
    let credential = Site::production()
        .file("c/MEMORY_TOKNES", "x")
        .env_path("CREDENTIALS_DIRECTORY", "c");
    assert_eq!(
        credential.error().problems()[0].origin.as_deref(),
        Some("c/MEMORY_TOKNES (credential)")
    );
    let foreign = Site::production()
        .env("DATABASE_URL", "x")
        .env("memory_listen", "x")
        .env("MEMORY_NOT_GIVEN", "")
        .env("MEMORY_PRESSURE_WATCH", "/sys/fs/cgroup/x/memory.pressure")
        .env("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMDAgMjAwMDAwMAA=")
        .file(".env.production", "RUST_LOG=debug\n")
        .file("c/other", "x")
        .env_path("CREDENTIALS_DIRECTORY", "c")
        .settings();
    assert_eq!(foreign.warnings, [""; 0]);

    let leftover = Site::production()
        .env("MEMORY_FILE_PATH", "/hunter2")
        .env("MEMORY_LISTEM", "hunter2");
    let command = load(&leftover.sources, Purpose::Command).unwrap();
    assert_eq!(
        command.warnings,
        [
            "MEMORY_FILE_PATH (environment) is not a setting of this program and was ignored.",
            "MEMORY_LISTEM (environment) is not a setting of this program and was ignored. Did you mean MEMORY_LISTEN?",
        ]
    );
    assert_eq!(
        leftover
            .env("ENVIRONMENT", "development")
            .settings()
            .warnings,
        command.warnings
    );
}

#[test]
fn our_environment_overrides_that_of_other_programs() {
    for (ours, theirs, expected, warns) in [
        (None, Some("production"), Environment::Production, false),
        (None, Some("development"), Environment::Development, false),
        (None, Some(""), Environment::Development, false),
        (None, Some("staging"), Environment::Development, true),
        (None, Some("prod"), Environment::Development, true),
        (
            Some("production"),
            Some("staging"),
            Environment::Production,
            false,
        ),
        (
            Some("development"),
            Some("production"),
            Environment::Development,
            false,
        ),
        (
            Some(""),
            Some("production"),
            Environment::Development,
            false,
        ),
    ] {
        let mut site = Site::new()
            .env("MEMORY_DATABASE_HOST", "db")
            .env("MEMORY_AUTH", "none");
        for (name, value) in [("MEMORY_ENVIRONMENT", ours), ("ENVIRONMENT", theirs)] {
            if let Some(value) = value {
                site = site.env(name, value);
            }
        }
        for purpose in [Purpose::Service, Purpose::Command] {
            let settings = load(&site.sources, purpose).unwrap();
            assert_eq!(settings.environment, expected, "{ours:?} {theirs:?}");
            assert_eq!(
                settings.warnings.len(),
                usize::from(warns),
                "{:?}",
                settings.warnings
            );
        }
    }
    let site = Site::new().env("ENVIRONMENT", "production");
    assert_eq!(
        site.entry("MEMORY_ENVIRONMENT"),
        entry("production", "environment (ENVIRONMENT)")
    );
    for purpose in [Purpose::Service, Purpose::Command] {
        assert!(
            load(
                &Site::new().env("MEMORY_ENVIRONMENT", "staging").sources,
                purpose
            )
            .is_err()
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_a_problem() {
    let mut site = Site::new();
    site.sources
        .env
        .insert("MEMORY_LISTEN".into(), OsString::from_vec(vec![0xff]));
    site.sources.env.insert(
        OsString::from_vec(b"OTHER\xff".to_vec()),
        OsString::from_vec(vec![0xff]),
    );
    assert_eq!(site.wrong(), ["MEMORY_LISTEN"]);
    assert_eq!(
        Site::new()
            .file(".env.development", b"A=1\nB=\xff\n")
            .error()
            .problems()[0]
            .remedy,
        "Correct or remove it: the file is not UTF-8 text (line 2)."
    );
    assert_eq!(
        Site::new()
            .file("x", b"\xff")
            .env("MEMORY_LANGUAGE_FILE", "x")
            .wrong(),
        ["MEMORY_LANGUAGE_FILE"]
    );
}

#[test]
fn files_that_are_none_are_problems_and_never_block() {
    let site = Site::new().file("d/x", "").env("MEMORY_TOKENS_FILE", "d");
    assert!(
        site.error()
            .to_string()
            .contains("it is not a regular file")
    );
    assert!(
        Site::new()
            .env("MEMORY_TOKENS_FILE", "/dev/zero")
            .error()
            .to_string()
            .contains("it is not a regular file")
    );
    let large = Site::new()
        .file("x", vec![b'x'; 1024 * 1024 + 1])
        .env("MEMORY_TOKENS_FILE", "x");
    assert!(large.error().to_string().contains("larger than"));
    assert!(
        Site::new()
            .env("MEMORY_TOKENS_FILE", "x")
            .error()
            .to_string()
            .contains("does not exist")
    );
    let file = Site::new();
    fs::create_dir(file.path().join(".env.development")).unwrap();
    assert_eq!(file.wrong(), [".env.development"]);
}

#[test]
fn a_configuration_directory_that_is_missing_is_a_problem() {
    assert_eq!(
        Site::new().env("MEMORY_CONFIG_DIR", "/nowhere").wrong(),
        ["MEMORY_CONFIG_DIR"]
    );
}

#[test]
fn an_unknown_environment_reads_no_file_and_keeps_the_rest() {
    let site = Site::new()
        .file(".env.development", "MEMORY_X=1\n")
        .env("MEMORY_ENVIRONMENT", "staging")
        .env("MEMORY_DATABASE_POOL", "0");
    assert_eq!(site.wrong(), ["MEMORY_ENVIRONMENT", "MEMORY_DATABASE_POOL"]);
}

#[test]
fn bad_lists() {
    for hosts in [
        "*",
        "*.example",
        "a b",
        "http://x",
        "x:port",
        "[::1",
        "[x]",
        ",",
        "a/b",
        ":80",
    ] {
        assert_eq!(
            Site::new().env("MEMORY_ALLOWED_HOSTS", hosts).wrong(),
            ["MEMORY_ALLOWED_HOSTS"],
            "{hosts}"
        );
    }
    for origins in [
        "*",
        "null",
        "example.org",
        "https://example.org/",
        "https://",
        "://x",
        "https://*",
    ] {
        assert_eq!(
            Site::new().env("MEMORY_ALLOWED_ORIGINS", origins).wrong(),
            ["MEMORY_ALLOWED_ORIGINS"],
            "{origins}"
        );
    }
}

// ---- what people see -----------------------------------------------------------------------------------------------

fn shown_site() -> Site {
    Site::new()
        .file(
            ".env.production",
            "MEMORY_DATABASE_HOST=db\nMEMORY_DATABASE_PASSWORD_FILE=secret\n",
        )
        .file("secret", "hunter2\n")
        .env("ENVIRONMENT", "production")
        .env("MEMORY_TOKENS", "laptop 0123456789abcdef")
        .env("MEMORY_LOG_FILE", "")
        .flag("MEMORY_LISTEN", "0.0.0.0:1")
}

#[test]
fn show() {
    let site = shown_site();
    let text = read(&site.sources, Purpose::Command).show();
    // The width of the columns depends on the directory.
    let narrow = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join("  ")
    };
    let text = site.neutral(&text.lines().map(narrow).collect::<Vec<_>>().join("\n"));
    assert!(!text.contains("hunter2") && !text.contains("0123456789"));
    insta::assert_snapshot!(text);
}

#[test]
fn check() {
    let valid = read(&shown_site().sources, Purpose::Service).check();
    let broken = read(
        &Site::new().env("MEMORY_LANGUAGE", "klingon").sources,
        Purpose::Service,
    )
    .check();
    insta::assert_snapshot!(format!("{valid}---\n{broken}"));
}

#[test]
fn debug_shows_no_secret() {
    let site = shown_site();
    let text = format!(
        "{:?}\n{:?}\n{:?}",
        site.sources,
        site.settings(),
        read(&site.sources, Purpose::Service)
    );
    assert!(
        !text.contains("hunter2") && !text.contains("0123456789"),
        "{text}"
    );
}

// ---- properties ----------------------------------------------------------------------------------------------------

fn any_name() -> impl Strategy<Value = String> {
    (0..SETTINGS.len(), any::<bool>()).prop_map(|(index, file)| {
        let name = SETTINGS[index].name;
        if file {
            format!("{name}_FILE")
        } else {
            name.to_owned()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With any values in any source: no panic, no secret in any output, and an error names at least one problem.
    #[test]
    fn no_secret_ever_shows(
        variables in prop::collection::btree_map(any_name(), "CANARY[ -~\\n]{0,30}|[ -~]{0,30}", 0..6),
        file in prop::collection::btree_map(any_name(), "CANARY[ -&(-~]{0,30}|[ -&(-~]{0,30}", 0..6),
    ) {
        let mut site = Site::new();
        for (name, value) in &variables {
            let secret = find_setting(name).is_some_and(SettingInfo::is_secret);
            site = site.env(name, &if secret { value.clone() } else { value.replace("CANARY", "") });
        }
        let lines: String = file.iter().map(|(name, value)| {
            let secret = find_setting(name).is_some_and(SettingInfo::is_secret);
            format!("{name}='{}'\n", if secret { value.clone() } else { value.replace("CANARY", "") })
        }).collect();
        site = site.file(".env.development", lines);
        let reading = read(&site.sources, Purpose::Service);
        let text = format!("{}{}{reading:?}", reading.show(), reading.check());
        prop_assert!(!text.contains("CANARY"), "{}", text);
        if let Err(error) = &reading.settings {
            prop_assert!(!error.problems().is_empty());
        }
    }

    /// A value from the environment is used, whatever the file contains.
    #[test]
    fn the_environment_wins_over_the_file(ours in 1_u32..=100, theirs in 0_u32..=200) {
        let site = Site::new().file(".env.development", format!("MEMORY_DATABASE_POOL={theirs}")).env("MEMORY_DATABASE_POOL", &ours.to_string());
        prop_assert_eq!(site.settings().database_pool, ours);
    }

    /// Secrets are not changed, even if they come from a file.
    #[test]
    fn a_password_arrives_unchanged(password in "[ -~é✓]{1,40}") {
        prop_assume!(!password.trim().is_empty());
        let site = Site::production().file("p", format!("{password}\n")).env("MEMORY_DATABASE_PASSWORD_FILE", "p");
        let Database::Postgres(postgres) = site.settings().database else { panic!("not PostgreSQL") };
        let arrived = postgres.password.unwrap();
        prop_assert_eq!(arrived.expose_secret(), &password);
    }
}
