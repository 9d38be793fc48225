//! The command line: its output, its exit codes, and its errors if the machine is not in the expected
//! state.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::process::{PATIENCE, Ran, Server, Setup, Systemd, eventually, get};

const USAGE: Option<i32> = Some(64);
const UNAVAILABLE: Option<i32> = Some(69);
const CONFIGURATION: Option<i32> = Some(78);

/// Replaces the parts that change between runs: the home folder and process IDs.
fn stable(setup: &Setup, text: &str) -> String {
    text.replace(&*setup.path("").to_string_lossy(), "[HOME]/")
}

#[test]
fn help() {
    let setup = Setup::new();
    let long = setup.run(&["--help"]);
    assert_eq!((long.code, long.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!("help_long", long.stdout);
    let mut short = String::new();
    for command in [
        "",
        "serve",
        "stdio",
        "connect",
        "healthcheck",
        "config",
        "config check",
        "config show",
        "migrate",
        "remember",
        "recall",
        "list",
        "show",
        "edit",
        "forget",
        "status",
        "tags",
        "entities",
        "export",
        "import",
        "doctor",
        "backup",
        "restore",
        "eval",
        "token",
        "token create",
        "token list",
        "token revoke",
        "token rotate",
        "token new",
        "completions",
        "man",
    ] {
        let args: Vec<&str> = command.split_whitespace().chain(["-h"]).collect();
        let ran = setup.run(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{command}");
        short.push_str(&format!(
            "$ cognitive-memory-mcp {}\n{}\n",
            args.join(" "),
            ran.stdout
        ));
    }
    insta::assert_snapshot!("help_short", short);
    let version = setup.run(&["--version"]);
    assert_eq!(
        version.stdout,
        format!("cognitive-memory-mcp {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_ends_with_64_and_says_what_is_wrong() {
    let setup = Setup::new();
    for (args, words) in [
        (&[][..], "Usage:"),
        (&["serv"][..], "unrecognized subcommand 'serv'"),
        (&["serve", "--listn", "x"][..], "--listen"),
        (&["serve", "more"][..], "unexpected argument 'more'"),
        (&["token", "new"][..], "<NAME>"),
        (&["token", "new", "two words"][..], "got \"two words\""),
        (&["token", "new", "a", "--project", "ü"][..], "--project"),
        // Every process can read a command line, so secrets have no option.
        (
            &["serve", "--tokens", "a 0123456789abcdef"][..],
            "unexpected argument '--tokens'",
        ),
    ] {
        let ran = setup.run(args);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (USAGE, ""),
            "{args:?}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_every_problem_at_once() {
    let systemd = Systemd::new();
    let setup = systemd
        .setup()
        .env("ENVIRONMENT", "production")
        .env("MEMORY_LISTEN", "localhost")
        .env("MEMORY_LISTN", "127.0.0.1:1")
        .env("MEMORY_REQUEST_TIMEOUT", "0")
        .env("MEMORY_TOKENS", "a hunter2")
        .env("MEMORY_LOG_LEVEL", "loud");
    let serve = setup.run(&["serve"]);
    assert_eq!((serve.code, serve.stdout.as_str()), (CONFIGURATION, ""));
    insta::assert_snapshot!("configuration_problems", stable(&setup, &serve.stderr));
    assert!(!serve.stderr.contains("hunter2"));
    let said = "Not started, exit code 78: The configuration has 6 problems:";
    eventually("the status says so", || {
        (systemd.status() == said).then_some(())
    })
    .await;
    // `config check` prints the block as its result.
    let check = setup.run(&["config", "check"]);
    assert_eq!(check.code, CONFIGURATION);
    let block = serve
        .stderr
        .trim()
        .strip_prefix("error: ")
        .expect("an error");
    assert!(check.stdout.starts_with(block), "{}", check.stdout);
    // Commands end in the same way, but do not warn about the name, which may belong to another
    // program.
    for args in [
        &["stdio"][..],
        &["healthcheck"],
        &["migrate"],
        &["migrate", "--check"],
    ] {
        let ran = setup.run(args);
        assert_eq!(ran.code, CONFIGURATION, "{args:?}");
        assert!(
            ran.stderr.contains("The configuration has 5 problems:"),
            "{args:?}: {}",
            ran.stderr
        );
    }
    assert!(!setup.database().exists(), "nothing was made");
}

#[test]
fn config_shows_values_with_their_origin_and_no_secrets() {
    let setup = Setup::new()
        .env("MEMORY_DATABASE_PASSWORD_FILE", "password")
        .env("MEMORY_DATABASE_HOST", "db.internal");
    setup.file("password", "correct horse\n");
    setup.config_file(
        ".env.development",
        "MEMORY_TOKENS='desk battery-staple-16chars'\nMEMORY_DATABASE_NAME=notes\n",
    );
    let show = setup.run(&["--request-timeout=7", "config", "show"]);
    assert_eq!((show.code, show.stderr.as_str()), (Some(0), ""));
    // The width of the columns depends on the home folder.
    let rows: Vec<String> = stable(&setup, &show.stdout).lines().map(narrow).collect();
    insta::assert_snapshot!("config_show", rows.join("\n"));
    let check = setup.run(&["config", "check"]);
    assert_eq!(check.code, Some(0));
    insta::assert_snapshot!("config_check", stable(&setup, &check.stdout));
    for secret in ["correct horse", "battery", "staple"] {
        assert!(
            !show.stdout.contains(secret) && !check.stdout.contains(secret),
            "{secret}"
        );
    }
}

fn narrow(row: &str) -> String {
    row.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let setup = Setup::new().env("MEMORY_LISTEN", &address);
    let ran = setup.run(&["serve"]);
    // The process that uses it may end, so a retry makes sense.
    assert_eq!(ran.code, UNAVAILABLE, "{}", ran.stderr);
    let expected = format!(
        "cannot listen on {address} (MEMORY_LISTEN): is another program, or another instance, using it?"
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("because: Address already in use"),
        "{}",
        ran.stderr
    );

    // An address that belongs to another machine remains an error that a person must correct.
    let setup = Setup::new()
        .env("MEMORY_LISTEN", "192.0.2.1:1")
        .env("MEMORY_AUTH", "none");
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION, "{}", ran.stderr);
}

#[tokio::test]
async fn a_second_service_on_one_file_names_the_first() {
    let setup = Setup::new();
    let first = setup.serve().await;
    for args in [&["serve"][..], &["migrate"]] {
        let second = setup.run(args);
        assert_eq!(second.code, UNAVAILABLE, "{}", second.stderr);
        let expected = format!(
            "{} is in use by process {}",
            setup.database().display(),
            first.pid()
        );
        assert!(second.stderr.contains(&expected), "{}", second.stderr);
        assert!(!second.stderr.contains("locked"), "{}", second.stderr);
    }
    first.client().remember("undisturbed").await;
    first.kill().await;
    // The lock of a killed process does not block the next one.
    setup.serve().await.stop().await;
}

#[tokio::test]
async fn healthcheck_says_whether_it_is_ready_in_a_sentence() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let ask = |url: &str| {
        let mut command = setup.command(&["healthcheck"]);
        command.env("MEMORY_URL", url);
        // Variables that systemd sets for the service do not belong to its health check.
        Ran::of(command)
    };
    server_is_ready(&server).await;
    let well = ask(&server.url("/mcp"));
    assert_eq!(
        (well.code, well.stdout.as_str(), well.stderr.as_str()),
        (Some(0), "ready\n", "")
    );
    let url = server.url("/mcp");
    server.stop().await;
    let gone = ask(&url);
    assert_eq!(gone.code, Some(1));
    let base = url.trim_end_matches("/mcp");
    let expected =
        format!("no answer from {base}/health/ready: Connection refused (os error 111)\n");
    assert_eq!((gone.stdout, gone.stderr.as_str()), (expected, ""));

    // No process listens on the discard port.
    let setup = Setup::new().env(
        "MEMORY_DATABASE_URL",
        "postgres://memory@127.0.0.1:9/memory",
    );
    let server = setup.serve().await;
    let ill = eventually("the outage is known", || {
        let mut command = setup.command(&["healthcheck"]);
        command.env("MEMORY_URL", server.url("/mcp"));
        Some(Ran::of(command)).filter(|ran| !ran.stdout.contains("connecting"))
    })
    .await;
    assert_eq!(ill.code, Some(1));
    assert!(
        ill.stdout.starts_with("not ready: database: "),
        "{}",
        ill.stdout
    );
    assert_eq!(ill.stdout.lines().count(), 1, "{}", ill.stdout);
}

pub(crate) async fn server_is_ready(server: &Server) {
    let ready = async { while get(&server.url("/health/ready")).await.0 != 200 {} };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .expect("the service becomes ready");
}

#[tokio::test]
async fn migrate_says_what_it_does() {
    let setup = Setup::new();
    let check = setup.run(&["migrate", "--check"]);
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    assert!(
        check.stdout.starts_with("pending: 0001_"),
        "{}",
        check.stdout
    );
    assert!(!setup.database().exists(), "a check makes nothing");
    let migrate = setup.run(&["migrate"]);
    assert_eq!((migrate.code, migrate.stderr.as_str()), (Some(0), ""));
    assert!(
        migrate.stdout.starts_with("applied: 0001_") && migrate.stdout.contains("is at schema"),
        "{}",
        migrate.stdout
    );
    let check = setup.run(&["migrate", "--check"]);
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (Some(0), "The schema is up to date.\n"),
        "{}",
        check.stderr
    );
    let server = setup.serve().await;
    // During service: the check does not disturb it.
    let check = setup.run(&["migrate", "--check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    server.stop().await;
}

#[tokio::test]
async fn a_new_token_opens_the_door() {
    let setup = Setup::new();
    let made = setup.run(&["token", "new", "laptop", "--project", "work"]);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    let lines: Vec<&str> = made
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    let [token, line] = lines[..] else {
        panic!("{}", made.stdout)
    };
    assert!(
        token.len() >= 43 && !line.contains(token),
        "{}",
        made.stdout
    );
    insta::assert_snapshot!(
        "token_new",
        made.stdout
            .replace(token, "[TOKEN]")
            .replace(hash(line), "[HASH]")
    );
    assert_ne!(setup.run(&["token", "new", "laptop"]).stdout, made.stdout);

    let file = setup.file("tokens", format!("# people\n{line}\n"));
    let setup = setup.env("MEMORY_TOKENS_FILE", file);
    let server = setup.serve().await;
    let status = server
        .client()
        .with_token(token)
        .call("status", json!({}))
        .await;
    assert_eq!(status["project"], "work");
    server.stop().await;
}

fn hash(line: &str) -> &str {
    let after = line.split("sha256:").nth(1).expect("a hash");
    after.split(' ').next().expect("a word")
}

#[tokio::test]
async fn what_is_wrong_with_the_database_file_is_said_with_what_to_do() {
    // Not even root can create a folder there.
    let setup = Setup::new().env("MEMORY_DATA_DIR", "/proc/memory");
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("/proc/memory") && ran.stderr.contains("write"),
        "{}",
        ran.stderr
    );

    let setup = Setup::new();
    let folder = setup.file("a file", "");
    let setup = setup.env("MEMORY_DATA_DIR", &folder);
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION, "{}", ran.stderr);

    let setup = Setup::new();
    setup.file(
        "share/cognitive-memory-mcp/memory.db",
        "these are holiday pictures ".repeat(400),
    );
    for args in [&["serve"][..], &["migrate"], &["migrate", "--check"]] {
        let ran = setup.run(args);
        assert_eq!(ran.code, CONFIGURATION, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("is not a SQLite database")
                && ran.stderr.contains("move this one away"),
            "{}",
            ran.stderr
        );
    }
    let text = std::fs::read_to_string(setup.database()).expect("the file");
    assert!(
        text.starts_with("these are holiday pictures"),
        "nothing of it was touched"
    );

    let setup = Setup::new();
    std::fs::create_dir_all(setup.database().parent().expect("a folder")).expect("a folder");
    sql(&setup, "CREATE TABLE pictures (id INTEGER)").await;
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION, "{}", ran.stderr);
    assert!(ran.stderr.contains("of another program"), "{}", ran.stderr);

    let setup = Setup::new();
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    sql(&setup, "PRAGMA user_version = 4711").await;
    for args in [&["serve"][..], &["migrate"], &["migrate", "--check"]] {
        let ran = setup.run(args);
        assert_eq!(ran.code, CONFIGURATION, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("schema 4711") && ran.stderr.contains("upgrade"),
            "{}",
            ran.stderr
        );
    }
}

#[tokio::test]
async fn a_damaged_database_is_named() {
    let setup = Setup::new();
    let server = setup.serve().await;
    for number in 0..50 {
        server
            .client()
            .remember(&format!(
                "{number} {}",
                "something to fill pages with ".repeat(40)
            ))
            .await;
    }
    server.stop().await;
    let mut bytes = std::fs::read(setup.database()).expect("the file");
    let half = bytes.len() / 2;
    assert!(bytes.len() > 100_000, "not all in the write-ahead log");
    // The header remains valid; the pages that it refers to are destroyed.
    for byte in &mut bytes[4096..half] {
        *byte = 0xa5;
    }
    std::fs::write(setup.database(), bytes).expect("the file");
    let ran = Ran::of(setup.command(&["migrate", "--check"]));
    let mut server = setup.start();
    let words = "damaged";
    let found = eventually("the damage is named", || {
        (!server.is_running() || server.log().contains("serving")).then(|| server.log())
    })
    .await;
    if found.contains("\"serving\"") {
        // The start did not read those pages, so the first call that needs them reports the damage.
        server.serving().await;
        let answer = server
            .client()
            .try_call("recall", json!({ "query": "something" }))
            .await
            .expect("an answer");
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert!(answer.to_string().contains(words), "{answer}");
        server.stop().await;
    } else {
        assert_eq!(server.ended().await.code(), CONFIGURATION, "{ran:?}");
        assert!(server.log().contains(words), "{}", server.log());
    }
}

async fn sql(setup: &Setup, text: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(setup.database())
        .create_if_missing(true);
    let mut connection = options.connect().await.expect("a database");
    sqlx::raw_sql(text)
        .execute(&mut connection)
        .await
        .expect("it is carried out");
    connection.close().await.expect("closed");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let setup = Setup::new();
    for args in [&["--help"][..], &["config", "show"], &["token", "new", "a"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = setup.command(args);
        let status = command
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("it ran");
        assert_eq!(status.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&status.stderr), "", "{args:?}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let setup = Setup::new();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = setup
        .command(&["token", "new", "a"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_does_not_stop_the_service() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    for stdout in [Stdio::from(full), Stdio::from(writer)] {
        let setup = Setup::new();
        let mut child = setup
            .command(&["serve"])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        // The address cannot come from a log, only from the lock file.
        let lock = setup.path("share/cognitive-memory-mcp/memory.db.lock");
        let url = eventually("an address in the lock file", || {
            let text = std::fs::read_to_string(&lock).ok()?;
            text.lines()
                .nth(1)
                .filter(|url| url.ends_with("/mcp"))
                .map(str::to_owned)
        })
        .await;
        let client = crate::process::Client::new(url);
        for number in 0..20 {
            client.remember(&format!("without a log {number}")).await;
        }
        crate::process::signal(child.id(), "TERM");
        let status = eventually("the end", || child.try_wait().expect("a child")).await;
        assert_eq!(status.code(), Some(0));
    }
    let setup = Setup::new();
    let pipe = setup.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("coreutils").success());
    let ran = setup.env("MEMORY_LOG_FILE", &pipe).run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION);
    assert!(
        ran.stderr.contains("this is a named pipe"),
        "{}",
        ran.stderr
    );
    let setup = Setup::new().env("MEMORY_LOG_FILE", "/proc/log");
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION);
    assert!(
        ran.stderr.contains(
            "MEMORY_LOG_FILE cannot be used\n  because: cannot open the log file /proc/log"
        ),
        "{}",
        ran.stderr
    );
}
