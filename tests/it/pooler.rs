//! PostgreSQL behind a real PgBouncer from the Debian package `pgbouncer`.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognitive_memory_mcp::domain::Clock as _;
use cognitive_memory_mcp::domain::{Filter, SystemClock};
use cognitive_memory_mcp::store::postgres::PostgresStore;
use cognitive_memory_mcp::store::{Store, StoreError};
use futures_util::future::join_all;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::contract::{analyzer, at, found, note, scope, store_one};
use crate::postgres_server::Database;
use crate::requirement::needs;

const HELP: &str = "this test needs PgBouncer: apt-get install pgbouncer";

/// A pooler in front of a database, stopped with its test.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    fn start(database: &Database, mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let options = database.options();
        let url = options.to_url_lossy();
        let password = percent_encoding::percent_decode_str(url.password().unwrap_or_default())
            .decode_utf8()
            .unwrap();
        let settings = format!(
            "[databases]\n* = host={} port={} user={} password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 12\n",
            options.get_host(),
            options.get_port(),
            options.get_username(),
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, settings).unwrap();
        let child = Self::command(&path)
            .spawn()
            .unwrap_or_else(|error| panic!("pgbouncer: {error}; {HELP}"));
        let mut pooler = Self {
            child,
            port,
            _folder: folder,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                pooler.child.try_wait().unwrap().is_none(),
                "pgbouncer ended; {HELP}"
            );
            assert!(Instant::now() < end, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    /// PgBouncer refuses to run as root, but can change its user after it has read its settings.
    fn command(settings: &Path) -> Command {
        let mut command = Command::new("pgbouncer");
        if std::fs::metadata("/proc/self")
            .is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
        {
            command.args(["-u", "nobody"]);
        }
        command
            .arg("-q")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn options(&self, database: &Database) -> PgConnectOptions {
        database.options().host("127.0.0.1").port(self.port)
    }

    fn store(&self, database: &Database) -> PostgresStore {
        PostgresStore::new(self.options(database), 4, analyzer())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_names_the_mode(error: &StoreError) {
    let text = error.to_string();
    assert!(matches!(error, StoreError::Setup { .. }), "{text}");
    assert!(
        text.contains("transaction mode") && text.contains("pool_mode = session"),
        "{text}"
    );
}

#[tokio::test]
async fn transaction_pooling_is_refused_with_a_remedy() {
    needs!(PgBouncer);
    let database = Database::migrated().await;
    let pooler = PgBouncer::start(&database, "transaction");
    let store = pooler.store(&database);
    assert_names_the_mode(&store.prepare().await.unwrap_err());
    assert_names_the_mode(&store.pending_migrations().await.unwrap_err());
    let refused = store
        .browse(&scope(), &Filter::at(at(0)), None, 1)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("transaction mode"),
        "tools say the same: {refused}"
    );
}

/// Other clients of the pooler leave sessions behind that it assigns again.
#[tokio::test]
async fn transaction_pooling_is_noticed_among_many_idle_sessions() {
    needs!(PgBouncer);
    let database = Database::migrated().await;
    let pooler = PgBouncer::start(&database, "transaction");
    let options = pooler.options(&database).extra_float_digits(None);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(options.connect().await.unwrap());
    }
    for client in &mut clients {
        sqlx::raw_sql("BEGIN").execute(client).await.unwrap();
    }
    for client in &mut clients {
        sqlx::raw_sql("COMMIT").execute(client).await.unwrap();
    }
    assert_names_the_mode(&pooler.store(&database).prepare().await.unwrap_err());
    for client in clients {
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_parameter_that_the_pooler_refuses_is_named() {
    needs!(PgBouncer);
    let database = Database::migrated().await;
    let pooler = PgBouncer::start(&database, "session");
    let options = pooler.options(&database).options([("geqo", "off")]);
    let refused = PostgresStore::new(options, 4, analyzer())
        .prepare()
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Setup { .. }), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains("options") && text.contains("ignore_startup_parameters"),
        "{text}"
    );
}

#[tokio::test]
async fn session_pooling_works() {
    needs!(PgBouncer);
    let database = Database::migrated().await;
    let pooler = PgBouncer::start(&database, "session");
    let store: Arc<dyn Store> = Arc::new(pooler.store(&database));
    store.prepare().await.unwrap();
    let scope = scope();
    let texts: Vec<String> = (0..20)
        .map(|_| format!("pooled {}", SystemClock.new_id()))
        .collect();
    join_all(
        texts
            .iter()
            .map(|text| store_one(&*store, &scope, note(text))),
    )
    .await;
    assert_eq!(found(&*store, &scope, "pooled").await.len(), 20);
    store.close().await;
}
