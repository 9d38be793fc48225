//! The sources of settings, and the recipients of the token: hostile and foreign files, variables, listeners and lock
//! files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cli::server_is_ready;
use crate::postgres_server::Database;
use crate::process::{Ran, Setup, get};
use crate::requirement::needs;
use crate::transfer::on_postgres;

const TOKEN: &str = "canary-token-0123456789";
const UNAVAILABLE: Option<i32> = Some(69);
const CONFIGURATION: Option<i32> = Some(78);

/// A foreign listener. It answers every request with success and records what it receives.
struct Impostor {
    address: String,
    received: Arc<Mutex<String>>,
}

impl Impostor {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let received = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut buffer = [0; 65536];
                let count = stream.read(&mut buffer).unwrap_or_default();
                kept.lock()
                    .expect("a lock")
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
                let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { address, received }
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    fn received(&self) -> String {
        self.received.lock().expect("a lock").clone()
    }
}

/// Runs `stdio` with one request until it ends.
fn talk(setup: &Setup, args: &[&str]) -> Ran {
    let lines = setup.file(
        "requests.jsonl",
        format!(
            "{}\n",
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": "status", "arguments": {} } })
        ),
    );
    let mut command = setup.command(args);
    command.stdin(Stdio::from(File::open(lines).expect("a file")));
    Ran::of(command)
}

/// Starts the program in every way that people and clients use. Returns the expected exit code with an empty memory.
fn run_everything(setup: &Setup, options: &[&str]) -> Vec<(String, Ran)> {
    let commands: [(&[&str], i32); 5] = [
        (&["list"], 0),
        (&["recall", "anything"], 1),
        (&["doctor"], 0),
        (&["config", "show"], 0),
        (&["stdio"], 0),
    ];
    let mut all = Vec::new();
    for (args, code) in commands {
        let line: Vec<&str> = options.iter().chain(args).copied().collect();
        let ran = if args == ["stdio"] {
            talk(setup, &line)
        } else {
            setup.run(&line)
        };
        assert_eq!(
            ran.code,
            Some(code),
            "{line:?}: {} {}",
            ran.stdout,
            ran.stderr
        );
        if args == ["stdio"] {
            let answers: Vec<Value> = ran
                .stdout
                .lines()
                .map(|line| serde_json::from_str(line).expect("only JSON"))
                .collect();
            assert_eq!(
                answers[0]["result"]["structuredContent"]["memories"], 0,
                "{answers:?}"
            );
        }
        all.push((args[0].to_owned(), ran));
    }
    all
}

// ---- the working directory -----------------------------------------------------------------------------------------

#[test]
fn a_file_in_the_working_directory_redirects_nothing() {
    let impostor = Impostor::start();
    let setup = Setup::new().env("MEMORY_TOKEN", TOKEN);
    let stolen = setup.path("stolen");
    let text = format!(
        "MEMORY_URL={}\nMEMORY_EMBEDDER=http\nMEMORY_EMBEDDER_URL=http://{}\nMEMORY_DATA_DIR={stolen}\nMEMORY_LOG_FILE={stolen}/log\n",
        impostor.url(),
        impostor.address,
        stolen = stolen.display(),
    );
    for name in [".env.development", ".env.production", ".env"] {
        setup.file(name, &text);
    }
    for (name, ran) in run_everything(&setup, &[]) {
        if name == "doctor" || name == "config" {
            let mentioned = ran
                .stdout
                .contains("files in the working directory are not read");
            assert!(
                ran.stdout.contains(".env.development") && mentioned,
                "{}",
                ran.stdout
            );
        }
    }
    assert_eq!(impostor.received(), "");
    assert!(!stolen.exists() && setup.database().exists());
}

#[tokio::test]
async fn the_service_does_not_read_the_working_directory_either() {
    let setup = Setup::new();
    setup.file(".env.development", "MEMORY_DATA_DIR=stolen\nnonsense");
    let mut server = setup.serve().await;
    let loaded = server.logged("development environment loaded").await;
    assert_eq!(loaded["env_file"], Value::Null);
    server.stop().await;
    assert!(setup.database().exists() && !setup.path("stolen").exists());
}

#[test]
fn files_and_variables_of_other_programs_stop_nothing() {
    for environment in ["staging", "prod", "Production"] {
        let setup = Setup::new()
            .env("ENVIRONMENT", environment)
            .env("MEMORY_LISTEN_PORT", "3000");
        let file = "VITE_API_URL=http://localhost:3000\nVITE_TITLE=My app\nMEMORY_FILE_PATH=/notes/memory.json\nMEMORY_NOTES=/my notes\nENVIRONMENT=test\n";
        setup.file(".env.development", file);
        for options in [&[][..], &["--config-dir", "."]] {
            for (name, ran) in run_everything(&setup, options) {
                let warnings = if name == "doctor" {
                    &ran.stdout
                } else {
                    &ran.stderr
                };
                assert!(
                    warnings.contains("Did you mean MEMORY_LISTEN"),
                    "{name}: {warnings}"
                );
                let names_leftover =
                    warnings.contains("MEMORY_FILE_PATH (.env.development line 3)");
                assert_eq!(names_leftover, !options.is_empty(), "{name}: {warnings}");
                assert!(
                    warnings.contains(environment) && warnings.contains("MEMORY_ENVIRONMENT"),
                    "{name}: {warnings}"
                );
                assert_eq!(
                    warnings.contains(".env.development line 2"),
                    !options.is_empty(),
                    "{name}: {warnings}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_service_is_strict_about_names_in_production_only() {
    let setup = Setup::new()
        .env("MEMORY_FILE_PATH", "/home/me/memory.json")
        .env("MEMORY_LISTEM", "x");
    let all = setup.serve().await.stop().await;
    assert!(
        all.contains("MEMORY_FILE_PATH (environment) is not a setting of this program"),
        "{all}"
    );
    let setup = setup
        .env("MEMORY_ENVIRONMENT", "production")
        .env("ENVIRONMENT", "staging")
        .env("MEMORY_AUTH", "none")
        .env("MEMORY_DATABASE_URL", "sqlite:memory.db");
    let ran = setup.run(&["serve"]);
    assert_eq!(ran.code, CONFIGURATION);
    assert!(
        ran.stderr.contains("MEMORY_FILE_PATH")
            && ran.stderr.contains("Did you mean MEMORY_LISTEN?"),
        "{}",
        ran.stderr
    );
    let setup = Setup::new().env("MEMORY_ENVIRONMENT", "staging");
    for args in [&["serve"][..], &["list"]] {
        let ran = setup.run(args);
        assert!(
            ran.code == CONFIGURATION && ran.stderr.contains("MEMORY_ENVIRONMENT"),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

// ---- the configuration directory -----------------------------------------------------------------------------------

/// Returns the output of `config show` about a setting, and the files it lists.
fn shown(setup: &Setup, args: &[&str]) -> (String, String) {
    let args: Vec<&str> = args.iter().copied().chain(["config", "show"]).collect();
    let ran = setup.run(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (table, files) = ran.stdout.split_once("\n\n").expect("two parts");
    let row = table
        .lines()
        .find(|line| line.starts_with("MEMORY_LANGUAGE"))
        .expect("a row");
    (
        row.split_whitespace().nth(1).expect("a value").to_owned(),
        files.to_owned(),
    )
}

#[test]
fn the_configuration_directory_is_the_first_that_applies() {
    let setup = Setup::new();
    setup.file(".env.development", "MEMORY_LANGUAGE=tamil\n");
    setup.config_file(".env.development", "MEMORY_LANGUAGE=german\n");
    setup.file(
        "xdg/cognitive-memory-mcp/.env.development",
        "MEMORY_LANGUAGE=dutch\n",
    );
    setup.file("unit/.env.development", "MEMORY_LANGUAGE=finnish\n");
    setup.file("named/.env.development", "MEMORY_LANGUAGE=french\n");
    assert_eq!(shown(&setup, &[]).0, "german");
    assert!(
        shown(&setup, &[])
            .1
            .contains("Read .config/cognitive-memory-mcp/.env.development.")
    );
    let setup = setup.env("XDG_CONFIG_HOME", "xdg");
    assert_eq!(
        shown(&setup, &[]).0,
        "german",
        "a relative XDG_CONFIG_HOME is ignored"
    );
    let path = setup.path("xdg");
    let setup = setup.env("XDG_CONFIG_HOME", path);
    assert_eq!(shown(&setup, &[]).0, "dutch");
    let list = format!(
        "{}:{}",
        setup.path("empty").display(),
        setup.path("unit").display()
    );
    let setup = setup.env("CONFIGURATION_DIRECTORY", list);
    assert_eq!(shown(&setup, &[]).0, "finnish");
    let path = setup.path("named");
    let setup = setup.env("MEMORY_CONFIG_DIR", path);
    assert_eq!(shown(&setup, &[]).0, "french");
    assert_eq!(shown(&setup, &["--config-dir", "."]).0, "tamil");
    let setup = setup.env("MEMORY_CONFIG_DIR", "named");
    for args in [&["serve"][..], &["list"]] {
        let ran = setup.run(args);
        assert!(
            ran.code == CONFIGURATION && ran.stderr.contains("absolute"),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn without_a_home_the_files_are_in_etc() {
    let setup = Setup::new();
    for home in [None, Some(""), Some("/")] {
        let mut command = setup.command(&["config", "show"]);
        match home {
            Some(home) => command.env("HOME", home),
            None => command.env_remove("HOME"),
        };
        let ran = Ran::of(command);
        assert!(
            ran.stdout
                .contains("/etc/cognitive-memory-mcp/.env.development."),
            "{home:?}: {}",
            ran.stdout
        );
    }
}

/// Checks that the service refuses to start, and that commands ignore the file and state the reason.
fn assert_distrusted(setup: &Setup, words: &str) {
    let serve = setup.run(&["serve"]);
    assert_eq!(serve.code, CONFIGURATION, "{}", serve.stderr);
    assert!(serve.stderr.contains(words), "{}", serve.stderr);
    let list = setup.run(&["list"]);
    assert_eq!(list.code, Some(0), "{}", list.stderr);
    assert!(
        list.stderr.contains("was ignored") && list.stderr.contains(words),
        "{}",
        list.stderr
    );
    let (language, files) = shown(setup, &[]);
    assert_eq!(language, "english");
    assert!(
        files.contains("Ignored") && files.contains(words),
        "{files}"
    );
    let doctor = setup.run(&["doctor"]);
    assert!(doctor.stdout.contains(words), "{}", doctor.stdout);
}

#[test]
fn files_that_others_can_write_are_not_trusted() {
    let setup = Setup::new();
    let file = setup.config_file(".env.development", "MEMORY_LANGUAGE=german\n");
    let directory = file.parent().expect("a directory").to_owned();
    let set_mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    set_mode(&file, 0o666);
    assert_distrusted(&setup, "it is writable by everyone");
    set_mode(&file, 0o644);
    set_mode(&directory, 0o777);
    assert_distrusted(&setup, "it is writable by everyone");
    set_mode(&directory, 0o755);
    assert_eq!(shown(&setup, &[]).0, "german");

    let target = setup.file("open/settings", "MEMORY_LANGUAGE=german\n");
    fs::remove_file(&file).expect("removed");
    symlink(&target, &file).expect("a link");
    assert_eq!(shown(&setup, &[]).0, "german");
    set_mode(target.parent().expect("a directory"), 0o777);
    assert_distrusted(&setup, "is writable by everyone");
}

#[test]
fn files_of_other_users_are_not_trusted() {
    let setup = Setup::new();
    let file = setup.config_file(".env.development", "MEMORY_LANGUAGE=german\n");
    if chown(&file, Some(4711), Some(4711)).is_err() {
        // Only root can give files away; the unit tests of `config` cover this case for all users.
        return;
    }
    assert_distrusted(&setup, "it is owned by user 4711");
    chown(&file, Some(0), Some(0)).expect("root");
    let directory = file.parent().expect("a directory");
    chown(directory, Some(4711), Some(4711)).expect("root");
    assert_distrusted(&setup, "it is owned by user 4711");
}

// ---- who receives the token ----------------------------------------------------------------------------------------

#[test]
fn an_impostor_on_the_port_receives_no_token() {
    let impostor = Impostor::start();
    let setup = Setup::new()
        .env("MEMORY_LISTEN", &impostor.address)
        .env(
            "MEMORY_DATABASE_URL",
            "postgres://memory@127.0.0.1:9/memory",
        )
        .env("MEMORY_TOKEN", TOKEN);
    for args in [&["list"][..], &["recall", "anything"], &["stdio"]] {
        let ran = if args == ["stdio"] {
            talk(&setup, args)
        } else {
            setup.run(args)
        };
        assert_eq!(ran.code, UNAVAILABLE, "{args:?}: {}", ran.stderr);
        let next_step = format!("MEMORY_URL={}", impostor.url());
        assert!(ran.stderr.contains(&next_step), "{args:?}: {}", ran.stderr);
    }
    let doctor = setup.run(&["doctor"]);
    assert!(
        doctor.stdout.contains("has not proven to be"),
        "{}",
        doctor.stdout
    );
    let received = impostor.received();
    assert!(
        !received.contains(TOKEN) && !received.to_lowercase().contains("authorization"),
        "{received}"
    );
    // A named address receives it.
    let named = setup.env("MEMORY_URL", impostor.url()).run(&["list"]);
    assert!(impostor.received().contains(TOKEN), "{}", named.stderr);
}

#[tokio::test]
async fn healthcheck_believes_only_the_service_of_this_user() {
    // A program that answers every request with success occupies the port.
    let impostor = Impostor::start();
    for database in ["sqlite:memory.db", "postgres://memory@127.0.0.1:9/memory"] {
        let setup = Setup::new()
            .env("MEMORY_LISTEN", &impostor.address)
            .env("MEMORY_DATABASE_URL", database);
        let ran = setup.run(&["healthcheck"]);
        assert_eq!(ran.code, Some(1), "{database}: {}", ran.stdout);
        assert!(
            ran.stdout.starts_with("no answer: no service of this user"),
            "{database}: {}",
            ran.stdout
        );
        assert!(
            ran.stdout
                .contains(&format!("MEMORY_URL={}", impostor.url())),
            "{database}: {}",
            ran.stdout
        );
    }
    assert_eq!(impostor.received(), "");
    // An address that the user named is queried, and must answer with a readiness report.
    let named = Setup::new()
        .env("MEMORY_URL", impostor.url())
        .run(&["healthcheck"]);
    assert_eq!(named.code, Some(1), "{}", named.stdout);
    assert!(
        named.stdout.contains("is not a readiness report"),
        "{}",
        named.stdout
    );
    // The service is found without an address, on either database and any port.
    let setup = Setup::new();
    let server = setup.serve().await;
    server_is_ready(&server).await;
    let found = setup.run(&["healthcheck"]);
    assert_eq!(
        (found.code, found.stdout.as_str(), found.stderr.as_str()),
        (Some(0), "ready\n", "")
    );
    server.stop().await;
    assert_eq!(setup.run(&["healthcheck"]).code, Some(1));
    needs!(Postgres);
    let database = Database::empty().await;
    let setup = on_postgres(&database);
    let server = setup.serve().await;
    server_is_ready(&server).await;
    assert_eq!(setup.run(&["healthcheck"]).stdout, "ready\n");
    server.stop().await;
}

#[test]
fn healthcheck_reports_a_stdio_process_in_place_of_the_service() {
    let setup = Setup::new();
    let mut command = setup.command(&["stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stdio = command.spawn().expect("a process");
    let mut lines = BufReader::new(stdio.stdout.take().expect("a pipe")).lines();
    let mut input = stdio.stdin.take().expect("a pipe");
    input
        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n")
        .expect("written");
    lines.next().expect("an answer").expect("text");
    let ran = setup.run(&["healthcheck"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout
            .contains("a `stdio` process has the database open"),
        "{}",
        ran.stdout
    );
    drop(input);
    assert!(stdio.wait().expect("its end").success());
}

#[test]
fn an_impostor_in_the_lock_file_receives_no_token() {
    let impostor = Impostor::start();
    let setup = Setup::new().env("MEMORY_TOKEN", TOKEN);
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    let path = setup.path("share/cognitive-memory-mcp/memory.db.lock");
    fs::write(&path, format!("4711\n{}\n", impostor.url())).expect("written");
    let lock = File::open(&path).expect("a file");
    lock.lock().expect("a lock");
    let refused = |words: &str| {
        let ran = setup.run(&["list"]);
        assert_eq!(ran.code, UNAVAILABLE, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(words) && ran.stderr.contains("MEMORY_URL"),
            "{}",
            ran.stderr
        );
    };
    refused("takes no requests at the socket");
    // A socket or a lock file of another user proves nothing.
    let socket = setup.path("share/cognitive-memory-mcp/memory.db.control");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("a mode");
    refused("it is writable by everyone");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("a mode");
    if chown(&socket, Some(4711), Some(4711)).is_ok() {
        refused("it is owned by user 4711");
        chown(&socket, Some(0), Some(0)).expect("root");
        chown(&path, Some(4711), Some(4711)).expect("root");
        refused("it is owned by user 4711");
    }
    drop(listener);
    assert_eq!(impostor.received(), "");
}

#[tokio::test]
async fn the_token_reaches_the_service_through_its_socket() {
    let setup = Setup::new();
    let tokens = setup.file("tokens", format!("desk {TOKEN} project=work\n"));
    // Host names have no meaning on a socket.
    let setup = setup
        .env("MEMORY_TOKENS_FILE", tokens)
        .env("MEMORY_ALLOWED_HOSTS", "memory.example.org");
    let server = setup.serve().await;
    let without = setup.run(&["list"]);
    assert!(
        without.code == UNAVAILABLE && without.stderr.contains("401"),
        "{}",
        without.stderr
    );
    let setup = setup.env("MEMORY_TOKEN", TOKEN);
    let stored = setup.run(&["remember", "through the socket"]);
    assert_eq!(stored.code, Some(0), "{}", stored.stderr);
    let answer: Value = serde_json::from_str(talk(&setup, &["stdio"]).stdout.trim()).expect("JSON");
    let status = &answer["result"]["structuredContent"];
    assert_eq!(
        (&status["project"], &status["memories"]),
        (&json!("work"), &json!(1)),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_service_on_postgresql_is_found_by_its_socket() {
    needs!(Postgres);
    let database = Database::empty().await;
    let setup = on_postgres(&database);
    let runtime = setup.path("runtime");
    fs::create_dir(&runtime).expect("a directory");
    let tokens = setup.file("tokens", format!("desk {TOKEN} project=work\n"));
    let setup = setup
        .env("MEMORY_TOKENS_FILE", tokens)
        .env("MEMORY_TOKEN", TOKEN)
        .env("XDG_RUNTIME_DIR", &runtime);
    let server = setup.serve().await;
    while get(&server.url("/health/ready")).await.0 != 200 {}
    let sockets: Vec<_> = fs::read_dir(runtime.join("cognitive-memory-mcp"))
        .expect("a directory")
        .collect();
    assert_eq!(sockets.len(), 1);
    let answer: Value = serde_json::from_str(talk(&setup, &["stdio"]).stdout.trim()).expect("JSON");
    assert_eq!(
        answer["result"]["structuredContent"]["project"], "work",
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn commands_of_the_owner_find_the_socket_in_the_runtime_directory() {
    let setup = Setup::new();
    let runtime = setup.path("runtime");
    fs::create_dir(&runtime).expect("a directory");
    // The path next to the database is unusable, as on a file system without sockets.
    setup.file(
        "share/cognitive-memory-mcp/memory.db.control",
        "not a socket",
    );
    let setup = setup.env("XDG_RUNTIME_DIR", &runtime);
    let server = setup.serve().await;
    let sockets = fs::read_dir(runtime.join("cognitive-memory-mcp"))
        .expect("a directory")
        .count();
    assert_eq!(sockets, 1);
    for (args, said) in [
        (&["token", "create", "laptop"][..], "Token for the client"),
        (&["token", "list"], "laptop"),
        (&["review", "list"], "No reviews await a decision"),
        (&["reindex"], "await new embeddings"),
    ] {
        let ran = setup.run(args);
        assert!(
            ran.code == Some(0) && ran.stdout.contains(said),
            "{args:?}: {} {}",
            ran.stdout,
            ran.stderr
        );
    }
    // Without a socket, the message names both paths.
    fs::remove_dir_all(runtime.join("cognitive-memory-mcp")).expect("removed");
    for args in [&["token", "list"][..], &["review", "list"], &["reindex"]] {
        let ran = setup.run(args);
        assert_eq!(ran.code, UNAVAILABLE, "{args:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("memory.db.control or ") && ran.stderr.contains("runtime"),
            "{}",
            ran.stderr
        );
    }
    server.stop().await;
}

// ---- what is printed -----------------------------------------------------------------------------------------------

#[test]
fn passwords_in_addresses_are_never_printed() {
    let secret = "hunter2canary";
    for url in [
        format!("http://me:{secret}@127.0.0.1:9/mcp"),
        format!("http://me:{secret}@127.0.0.1:9/mcp?key={secret}"),
        format!("https://me:{secret}@127.0.0.1:9/mcp"),
        format!("me:{secret}@127.0.0.1:9/mcp"),
        format!("http://127.0.0.1:9/mcp?key={secret}"),
    ] {
        let setup = Setup::new().env("MEMORY_URL", &url);
        for args in [
            &["config", "show"][..],
            &["config", "check"],
            &["list"],
            &["doctor"],
            &["healthcheck"],
            &["--url", &url, "list"],
        ] {
            let ran = setup.run(args);
            assert!(
                !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
                "{url} {args:?}: {ran:?}"
            );
        }
        let mut command = setup.command(&["stdio"]);
        command.env("MEMORY_LOG_LEVEL", "trace");
        let ran = Ran::of(command);
        assert!(
            !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
            "{url}: {ran:?}"
        );
    }
}

#[test]
fn an_import_takes_the_address_of_a_database_from_a_file() {
    let setup = Setup::new();
    let secret = "hunter2canary";
    let url = format!("postgres://me:{secret}@127.0.0.1:9/memory");
    let file = setup.file("address", format!("{url}\n"));
    let import = |argument: &str| {
        let mut command = setup.command(&["import", "--from", "cognitive-memory-python", argument]);
        command.stdin(Stdio::from(File::open(&file).expect("a file")));
        let ran = Ran::of(command);
        assert_eq!(ran.code, UNAVAILABLE, "{argument}: {}", ran.stderr);
        assert!(
            !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
            "{}",
            ran.stderr
        );
        ran.stderr
    };
    for argument in [file.to_str().expect("text"), "-"] {
        assert!(!import(argument).contains("warning"), "{argument}");
    }
    assert!(import(&url).contains("can read the password"));
    let missing = setup.run(&[
        "import",
        "--from",
        "cognitive-memory-python",
        "no-such-file",
    ]);
    assert!(
        missing.code == Some(64) && missing.stderr.contains("expected a URL"),
        "{}",
        missing.stderr
    );
}
