//! Layers of settings: environment, files and defaults.

use super::*;

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
