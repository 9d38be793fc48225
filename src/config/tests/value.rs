//! Values of settings and their defaults.

use super::*;

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
    let site = set_everything(Site::new());
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

fn set_everything(site: Site) -> Site {
    site.env("ENVIRONMENT", "production")
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
        .env("MEMORY_LOG_PREFIX", "sd")
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
    for wrong in ["0.7", "a,b", "2,1", "0.7,0", "0.7,4.3,1"] {
        assert_eq!(
            Site::new().env("MEMORY_MODEL_CALIBRATION", wrong).wrong(),
            ["MEMORY_MODEL_CALIBRATION"],
            "{wrong}"
        );
    }
    for (name, value, expected) in [
        (
            "HF_ENDPOINT",
            "https://hub.example.org/",
            "https://hub.example.org",
        ),
        ("HOME", "/home/somebody", "https://huggingface.co"),
    ] {
        let site = Site::new()
            .env(name, value)
            .env("MEMORY_MODEL_CALIBRATION", "0.745, 4.3");
        match site.settings().embedding {
            Embedding::Local {
                hub,
                model,
                calibration,
                ..
            } => {
                assert_eq!(
                    (hub.as_str(), model.as_str()),
                    (expected, "all-MiniLM-L6-v2")
                );
                let calibration = calibration.map(|it| (it.offset, it.scale));
                assert_eq!(calibration, Some((0.745, 4.3)));
            }
            other => panic!("{other:?}"),
        }
    }
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
