//! Settings that are refused.

use super::*;

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
