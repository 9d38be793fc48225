//! The whole service under load, over HTTP, as clients see it: `cargo bench --bench service`.
//!
//! Prints a Markdown table. PostgreSQL is measured if MEMORY_TEST_POSTGRES names a server on which databases may be
//! created. Options: `--seconds N` per phase (default 10), `--memories N` (default 10000), `--clients N` (default 8).
//!
//! Recall is measured by words alone. With MEMORY_EMBEDDER=local and MEMORY_MODEL_SOURCE=FOLDER it is measured by
//! meaning as well: while the memories are being indexed, and afterwards.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures and prints"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "corpus.rs"]
mod corpus;

use corpus::Random;

struct Options {
    seconds: u64,
    memories: usize,
    clients: u64,
}

#[tokio::main]
async fn main() {
    let options = options();
    println!("| figure | sqlite | postgres |\n|---|---|---|");
    let sqlite = measure(&options, None).await;
    let postgres = match std::env::var("MEMORY_TEST_POSTGRES") {
        Ok(server) => Some(measure(&options, Some(create_database(&server).await)).await),
        Err(_) => None,
    };
    for (index, (name, value)) in sqlite.iter().enumerate() {
        let other = postgres
            .as_ref()
            .map_or("not measured", |rows| rows[index].1.as_str());
        println!("| {name} | {value} | {other} |");
    }
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let position = arguments.iter().position(|argument| argument == name);
        position
            .and_then(|at| arguments.get(at + 1))
            .map_or(default, |text| text.parse().expect("a number"))
    };
    Options {
        seconds: number("--seconds", 10),
        memories: number("--memories", 10_000) as usize,
        clients: number("--clients", 8),
    }
}

async fn create_database(server: &str) -> String {
    let pool = sqlx::PgPool::connect(server)
        .await
        .expect("the PostgreSQL server answers");
    let name = format!("bench_{}", std::process::id());
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&pool)
        .await
        .expect("may create databases");
    let (base, _) = server.rsplit_once('/').expect("a database in the URL");
    format!("{base}/{name}")
}

/// Vacuums and analyzes the database, as its server does some time after many writes, so that measurements do not
/// depend on when it runs.
async fn settle(url: &str) {
    let pool = sqlx::PgPool::connect(url)
        .await
        .expect("the PostgreSQL server answers");
    sqlx::raw_sql("VACUUM ANALYZE")
        .execute(&pool)
        .await
        .expect("may tidy");
    pool.close().await;
}

async fn measure(options: &Options, database: Option<String>) -> Vec<(String, String)> {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut rows = Vec::new();
    let mut starts = Vec::new();
    // The first start creates the schema, which does not belong to the cost of a restart.
    let (mut server, _) = Server::start(data.path(), database.as_deref()).await;
    for _ in 0..20 {
        server.stop();
        let (next, took) = Server::start(data.path(), database.as_deref()).await;
        server = next;
        starts.push(took);
    }
    starts.sort();
    rows.push((
        "start to first answer, median of 20".to_owned(),
        format!("{:.0} ms", millis(starts[10])),
    ));
    rows.push((
        "resident memory, idle".to_owned(),
        format!("{:.1} MB", server.resident()),
    ));

    let phase = Duration::from_secs(options.seconds);
    let mut random = Random::new(99);
    let mut left = options.memories;
    while left > 0 {
        let items: Vec<Value> = (0..left.min(500))
            .map(|_| json!({ "content": corpus::memory(&mut random) }))
            .collect();
        left -= items.len();
        server.call("remember", json!({ "items": items })).await;
    }
    if uses_model() {
        rows.extend(measure_while_indexing(&server, options).await);
    }
    if let Some(url) = &database {
        settle(url).await;
    }
    let recalls = load(&server, options.clients, phase, |random| {
        ("recall", json!({ "query": corpus::question(random) }))
    })
    .await;
    rows.push((
        format!(
            "recalls a second, {} clients, {} memories",
            options.clients, options.memories
        ),
        recalls.rate(),
    ));
    rows.push(("recall, p50 / p95".to_owned(), recalls.latency()));
    let single = load(&server, 1, phase / 2, |random| {
        ("recall", json!({ "query": corpus::question(random) }))
    })
    .await;
    rows.push(("recall, one client, p50 / p95".to_owned(), single.latency()));
    let stores = load(&server, options.clients, phase, |random| {
        (
            "remember",
            json!({ "items": [{ "content": corpus::memory(random) }] }),
        )
    })
    .await;
    rows.push((
        format!("stores a second, {} clients", options.clients),
        stores.rate(),
    ));
    rows.push(("store, p50 / p95".to_owned(), stores.latency()));
    rows.push((
        "resident memory, after the load".to_owned(),
        format!("{:.1} MB", server.resident()),
    ));
    server.stop();
    rows
}

fn uses_model() -> bool {
    std::env::var("MEMORY_EMBEDDER").is_ok_and(|embedder| embedder != "none")
}

/// Measures recall while memories wait for their embeddings, then waits until none does.
async fn measure_while_indexing(server: &Server, options: &Options) -> Vec<(String, String)> {
    let start = Instant::now();
    let phase = Duration::from_secs(options.seconds);
    let recalls = load(server, options.clients, phase, |random| {
        ("recall", json!({ "query": corpus::question(random) }))
    })
    .await;
    let still_indexing = server.count_waiting().await > 0;
    while server.count_waiting().await > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(3_600),
            "not indexed within an hour"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let while_indexing = if still_indexing {
        recalls.latency()
    } else {
        "indexing ended before".to_owned()
    };
    vec![
        (
            format!(
                "recall during indexing, {} clients, p50 / p95",
                options.clients
            ),
            while_indexing,
        ),
        (
            "indexing of all memories".to_owned(),
            format!("{:.0} s", start.elapsed().as_secs_f64()),
        ),
    ]
}

struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Server {
    /// Starts the service. Returns the time from before the process exists to the first answer of a tool.
    async fn start(data: &Path, database: Option<&str>) -> (Self, Duration) {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        // MEMORY_TEST_BINARY names another build, for example the static one.
        let built = std::env::var("MEMORY_TEST_BINARY");
        let mut command = Command::new(
            built
                .as_deref()
                .unwrap_or(env!("CARGO_BIN_EXE_cognitive-memory-mcp")),
        );
        command
            .args([
                "serve",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--log-level",
                "info",
            ])
            .env("MEMORY_DATA_DIR", data)
            .env_remove("MEMORY_TEST_POSTGRES")
            .env_remove("MEMORY_TEST_BINARY")
            .stdout(Stdio::null());
        // Without an embedder by default, because a model makes it a different measurement.
        if std::env::var_os("MEMORY_EMBEDDER").is_none() {
            command.env("MEMORY_EMBEDDER", "none");
        }
        if let Some(url) = database {
            command.env("MEMORY_DATABASE_URL", url);
        }
        let client = plain_client().expect("a client");
        let url = format!("http://127.0.0.1:{port}/mcp");
        let start = Instant::now();
        let child = command.spawn().expect("the program starts");
        let server = Self { child, url, client };
        loop {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "no answer within 30 s"
            );
            if let Some(answer) = server.try_call("recall", json!({ "limit": 1 })).await
                && answer["isError"] == false
            {
                return (server, start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn try_call(&self, tool: &str, arguments: Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        let request = self
            .client
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .json(&body);
        let answer: Value = request.send().await.ok()?.json().await.ok()?;
        Some(answer["result"].clone())
    }

    async fn call(&self, tool: &str, arguments: Value) {
        let answer = self.try_call(tool, arguments).await.expect("an answer");
        assert_eq!(answer["isError"], false, "{answer}");
    }

    /// Returns the number of memories without embeddings; all of them while the model is loaded.
    async fn count_waiting(&self) -> u64 {
        let status = self.try_call("status", json!({})).await.expect("an answer");
        let status = &status["structuredContent"];
        match status["model"].is_string() {
            true => status["index_backlog"].as_u64().unwrap_or(0),
            false => u64::MAX,
        }
    }

    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the process runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("VmRSS");
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number");
        kib / 1024.0
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Load {
    count: u64,
    took: Duration,
    latencies: Vec<Duration>,
}

impl Load {
    fn rate(&self) -> String {
        format!("{:.0}", self.count as f64 / self.took.as_secs_f64())
    }

    fn latency(&self) -> String {
        let at = |share: f64| {
            millis(self.latencies[((self.latencies.len() - 1) as f64 * share) as usize])
        };
        format!("{:.1} / {:.1} ms", at(0.5), at(0.95))
    }
}

/// Sends calls from `clients` concurrent connections, each one after the other.
async fn load(
    server: &Server,
    clients: u64,
    phase: Duration,
    make: fn(&mut Random) -> (&'static str, Value),
) -> Load {
    let count = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut tasks = Vec::new();
    for seed in 0..clients {
        let (count, url) = (Arc::clone(&count), server.url.clone());
        let client = plain_client().expect("a client");
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed + 1);
            let mut latencies = Vec::new();
            while start.elapsed() < phase {
                let (tool, arguments) = make(&mut random);
                let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
                let sent = Instant::now();
                let answer = client
                    .post(&url)
                    .header("accept", "application/json, text/event-stream")
                    .json(&body)
                    .send()
                    .await
                    .expect("an answer");
                let text = answer.text().await.expect("a body");
                latencies.push(sent.elapsed());
                assert!(text.contains("\"isError\":false"), "{text}");
                count.fetch_add(1, Ordering::Relaxed);
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a client ends"));
    }
    latencies.sort();
    Load {
        count: count.load(Ordering::Relaxed),
        took: start.elapsed(),
        latencies,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Connections on this machine need no certificates, but reqwest needs a TLS configuration.
fn plain_client() -> reqwest::Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
}
