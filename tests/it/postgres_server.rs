//! A PostgreSQL for tests: one server per test run, a fresh database per test.
//!
//! The server is the one at `MEMORY_TEST_POSTGRES` (a URL of a superuser; `tests/host/postgres -- COMMAND` sets it).
//! Otherwise `tests/host/postgres` is started once for all processes of a nextest run, and stops with the run. Tests
//! that need a server begin with `needs!(Postgres);`, which skips and counts them if no server is possible.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognitive_memory_mcp::domain::{Analyzer, Language};
use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::postgres::PostgresStore;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

const HELP: &str = "these tests need PostgreSQL with pgvector: run them by `tests/run`, or make one with \
    `tests/host/build postgres` (as root), or name one in MEMORY_TEST_POSTGRES=postgres://SUPERUSER:PASSWORD@HOST/postgres";

/// A separate database for a test.
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
}

impl Database {
    /// Creates an empty database, without migrations.
    pub(crate) async fn empty() -> Self {
        Self::on(shared(), None).await
    }

    /// Creates a database with the newest schema.
    pub(crate) async fn migrated() -> Self {
        let server = shared();
        let template = template(&server).await;
        Self::on(server, Some(&template)).await
    }

    /// Creates an empty database on the caller's server.
    pub(crate) async fn on(server: PgConnectOptions, template: Option<&str>) -> Self {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let template = template.unwrap_or("template0");
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'");
        run(&server, &sql).await;
        Self { server, name }
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Returns a store for the database; `prepare` was not called.
    pub(crate) fn store(&self) -> PostgresStore {
        self.store_with(8, Language::English)
    }

    pub(crate) fn store_with(&self, pool: u32, language: Language) -> PostgresStore {
        PostgresStore::new(self.options(), pool, Arc::new(Analyzer::new(language)))
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        self.options()
            .disable_statement_logging()
            .connect()
            .await
            .expect("the test database answers")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // External servers keep running. This needs its own runtime, because drop cannot wait in that of the test.
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let Ok(Ok(mut connection)) =
                    tokio::time::timeout(Duration::from_secs(2), server.connect()).await
                else {
                    return;
                };
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut connection)
                    .await;
            });
        });
        let _ = dropping.join();
    }
}

async fn run(server: &PgConnectOptions, sql: &str) {
    let mut connection = server
        .clone()
        .disable_statement_logging()
        .connect()
        .await
        .unwrap_or_else(|error| panic!("{error}; {HELP}"));
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Returns the name of a migrated database from which others are copied quickly. The first caller creates it.
async fn template(server: &PgConnectOptions) -> String {
    let migrations = include_str!("../../src/store/migration_list.rs");
    let hash = Sha256::digest(migrations);
    let name = format!(
        "template_{:016x}",
        u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"))
    );
    let mut connection = server
        .clone()
        .disable_statement_logging()
        .connect()
        .await
        .unwrap_or_else(|error| panic!("{error}; {HELP}"));
    sqlx::query("SELECT pg_advisory_lock(4711)")
        .execute(&mut connection)
        .await
        .unwrap();
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    if !there {
        let making = format!("{name}_new");
        let statements = [
            format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)"),
            format!("CREATE DATABASE {making} TEMPLATE template0 ENCODING 'UTF8'"),
        ];
        for sql in statements {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
        }
        let analyzer = Arc::new(Analyzer::new(Language::English));
        let store = PostgresStore::new(server.clone().database(&making), 1, analyzer);
        store.prepare().await.unwrap();
        store.close().await;
        let rename = format!("ALTER DATABASE {making} RENAME TO {name}");
        // A session that was just closed may still exist for a moment.
        for attempt in 0.. {
            match sqlx::raw_sql(AssertSqlSafe(rename.clone()))
                .execute(&mut connection)
                .await
            {
                Ok(_) => break,
                Err(error) => assert!(attempt < 100, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    connection.close().await.unwrap();
    name
}

/// Returns the server that all tests share.
fn shared() -> PgConnectOptions {
    if let Ok(url) = std::env::var("MEMORY_TEST_POSTGRES") {
        return PgConnectOptions::from_str(&url)
            .unwrap_or_else(|error| panic!("MEMORY_TEST_POSTGRES: {error}; {HELP}"));
    }
    // nextest runs every test in its own process, `cargo test` all in one.
    let (run, watched) = match std::env::var("NEXTEST_RUN_ID") {
        Ok(run) => (run, std::os::unix::process::parent_id()),
        Err(_) => (
            format!("process-{}", std::process::id()),
            std::process::id(),
        ),
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("postgres")
        .join(run);
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let ready = folder.join("server.json");
    let text =
        fs::read_to_string(&ready).unwrap_or_else(|_| start_for_run(&folder, &ready, watched));
    options(&text)
}

/// Starts a server whose stdin is closed when the process `watched` ends, which stops the server.
fn start_for_run(folder: &Path, ready: &Path, watched: u32) -> String {
    let script = r#"{ while kill -0 "$1" 2> /dev/null; do sleep 0.3; done; rm -rf "$2"; } | "$3" > "$2/out" 2> "$2/err""#;
    #[expect(
        clippy::zombie_processes,
        reason = "it outlives this process, and ends with the run"
    )]
    let mut child = Command::new("setsid")
        .args(["bash", "-c", script, "bash", &watched.to_string()])
        .arg(folder)
        .arg(helper())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("setsid: {error}; {HELP}"));
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(folder.join("out")).unwrap_or_default();
        if text.ends_with('\n') {
            fs::write(ready, &text).unwrap();
            return text;
        }
        let ended = child.try_wait().unwrap().is_some();
        if ended || begin.elapsed() > Duration::from_secs(600) {
            let said = fs::read_to_string(folder.join("err")).unwrap_or_default();
            panic!("{}: {said}\n{HELP}", helper().display());
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn helper() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/postgres")
}

fn options(json: &str) -> PgConnectOptions {
    let value: serde_json::Value =
        serde_json::from_str(json.trim()).expect("the helper prints JSON");
    PgConnectOptions::from_str(value["url"].as_str().expect("a url")).expect("a URL of PostgreSQL")
}

/// A separate server of a test, to be killed and frozen.
pub(crate) struct Server {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    pub(crate) options: PgConnectOptions,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(helper())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; {HELP}", helper().display()));
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "{} did not start; {HELP}",
            helper().display()
        );
        Self {
            child,
            answers,
            options: options(&line),
        }
    }

    /// Executes `stop`, `kill`, `start`, `freeze` or `thaw` and waits for the result.
    pub(crate) fn steer(&mut self, word: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.contains("true"), "{word}: {answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
