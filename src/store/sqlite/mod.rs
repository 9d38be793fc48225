//! The embedded default: one SQLite file, no server.
//!
//! Depends on `store` and `domain`. One connection writes and a few read; an acknowledged write is on disk (WAL with
//! `synchronous = FULL`). One process has the file open at a time, see [`lock`]. To add a statement, name it in
//! [`sql`]; to change the schema, add a migration in `migrations/` and its line in `store::migration_list`.

mod beside;
mod cache;
mod change;
mod check;
mod check_sql;
mod checksum;
mod completion;
mod context;
mod error;
mod file_identity;
mod filter;
mod focus;
mod focus_sql;
mod foreign;
mod graph;
mod graph_sql;
mod group;
mod history;
mod lock;
mod log_state;
mod matrix;
mod memory_sql;
mod merge;
mod obstacle;
mod overview;
mod param;
mod past;
mod port;
mod port_sql;
mod read;
mod reference;
mod review;
mod review_sql;
mod row;
mod schema;
mod search;
mod sql;
mod tag;
mod token;
mod tx;
mod vector;
mod vector_sql;
mod vocabulary;
mod word_index;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

pub use checksum::{Checksum, append_checksum, take_checksum};
pub use foreign::ForeignFile;
pub use lock::{Owner, lock_path, owner, refuse_other_name};
pub use obstacle::{Obstacle, find_obstacle};
pub use port::copy;

use self::cache::{Cache, Delta};
use self::error::{Fault, name_disk, not_open, too_slow};
use self::file_identity::OpenFiles;
use self::group::{Gathering, Work};
use self::lock::OwnerLock;
use super::batch::AnalyzedBatch;
use super::rules::{Backend as _, Forget};
use super::write_health::WriteHealth;
use super::{
    Counts, DatabaseInfo, ForgetMode, Limits, Remember, Remembered, Result, Store, StoreError,
    Update,
};
use crate::domain::{Analyzer, Filter, Memory, Scope};

/// Options for opening the embedded database.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; it and its folder are created if missing.
    pub path: PathBuf,
    /// Number of reading connections.
    pub readers: u32,
    /// Time limit of a method.
    pub timeout: Duration,
    /// Quotas of a project.
    pub limits: Limits,
}

impl SqliteOptions {
    /// Returns the default options for the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 4,
            timeout: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}

/// Memories in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    options: SqliteOptions,
    analyzer: Arc<Analyzer>,
    /// Held while the database is being opened or closed.
    opening: tokio::sync::Mutex<()>,
    open: RwLock<Option<Arc<Open>>>,
    gathering: Gathering,
    writes: Arc<WriteHealth>,
}

/// An open database.
#[derive(Debug)]
struct Open {
    readers: SqlitePool,
    writer: tokio::sync::Mutex<Writer>,
    /// Keeps the write-ahead log in place, because SQLite deletes it with the last connection.
    anchor: tokio::sync::Mutex<Option<SqliteConnection>>,
    /// Numbers of projects; they are never removed, and no other process adds any.
    projects: RwLock<HashMap<String, i64>>,
    cache: Cache,
    vectors: vector::Vectors,
    /// Data was purged, and the write-ahead log may still contain it.
    purged: AtomicBool,
    limits: Limits,
    writes: Arc<WriteHealth>,
    /// Dropped after all connections, like the lock, because both have descriptors of files that SQLite locks.
    files: OpenFiles,
    lock: std::sync::Mutex<OwnerLock>,
}

/// The single writing connection.
#[derive(Debug)]
struct Writer {
    options: SqliteConnectOptions,
    /// Absent until needed, and after a transaction with an unknown outcome (an error or a cancelled caller): dropping
    /// the connection rolls back an open transaction.
    connection: Option<SqliteConnection>,
}

impl SqliteStore {
    /// Creates a store, which opens its file in [`Store::prepare`].
    #[must_use]
    pub fn open(options: SqliteOptions, analyzer: Arc<Analyzer>) -> Self {
        Self {
            options,
            analyzer,
            opening: tokio::sync::Mutex::new(()),
            open: RwLock::new(None),
            gathering: Gathering::default(),
            writes: Arc::default(),
        }
    }

    /// Publishes the address where this process answers MCP requests.
    ///
    /// # Errors
    /// Fails if the database is not open or the lock file is not writable.
    pub fn announce(&self, url: &str) -> Result<()> {
        let open = self.opened()?;
        let mut lock = open.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.announce(url).map_err(|error| unwritable_lock(&error))
    }

    /// Rewrites the file without its free pages.
    ///
    /// # Errors
    /// Fails if the database is not open, or if the disk has no room for a second copy.
    pub async fn compact(&self) -> Result<()> {
        let open = self.opened()?;
        let mut writer = open.writer.lock().await;
        let compacted: Result<(), Fault> = async {
            sqlx::query(sql::COMPACT)
                .execute(writer.connect().await?)
                .await?;
            open.empty_log(&mut writer).await
        }
        .await;
        compacted
            .map_err(|fault| name_disk(fault.explain("compacting the file"), &self.options.path))
    }

    /// Returns every SQL statement with its name, for tests.
    pub fn statements() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let lists = [
            sql::ALL,
            check_sql::ALL,
            focus_sql::ALL,
            graph_sql::ALL,
            memory_sql::ALL,
            overview::ALL,
            port_sql::ALL,
            reference::ALL,
            review_sql::ALL,
        ];
        lists.into_iter().flatten()
    }

    fn opened(&self) -> Result<Arc<Open>> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(not_open)
    }

    fn set_open(&self, open: Option<Arc<Open>>) -> Option<Arc<Open>> {
        std::mem::replace(
            &mut *self.open.write().unwrap_or_else(PoisonError::into_inner),
            open,
        )
    }

    /// Limits the time of work; `during` names it in errors.
    async fn bounded<T>(
        &self,
        during: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        let work = async { work.await.map_err(|fault| fault.explain(during)) };
        self.limit_time(work).await
    }

    /// Reads in the projects of a scope, whose numbers `work` gets.
    async fn read<T>(
        &self,
        during: &'static str,
        scope: &Scope,
        work: impl AsyncFnOnce(&mut SqliteConnection, Vec<i64>) -> Result<T, Fault>,
    ) -> Result<T> {
        let open = self.opened()?;
        let reading = async {
            let (mut connection, projects) = open.reader(scope).await?;
            work(&mut connection, projects).await
        };
        self.bounded(during, reading).await
    }

    /// Carries out work in a transaction of its own.
    async fn write<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection, &mut Delta) -> Result<T, Fault>,
    ) -> Result<T> {
        let open = self.opened()?;
        self.limit_time(open.write(during, work)).await
    }

    /// Nothing waits without a bound.
    async fn limit_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = tokio::time::timeout(self.options.timeout, work)
            .await
            .unwrap_or_else(|_| Err(too_slow()));
        result.map_err(|error| name_disk(error, &self.options.path))
    }

    async fn open_database(&self) -> Result<Open, Fault> {
        if let Some(obstacle) = obstacle::unusable_path(&self.options.path) {
            return Err(StoreError::from(obstacle).into());
        }
        create_folder(&self.options.path)?;
        let path = lock::canonical(&self.options.path);
        let mut lock = OwnerLock::take(&path)?;
        if let Some(missing) = obstacle::missing_database(&path) {
            return Err(StoreError::from(missing).into());
        }
        create_private(&path)?;
        // Before anything locks the file: closing it again would release locks.
        checksum::remove_checksum(&path).map_err(|error| cannot_create(&path, &error))?;
        lock.take_database(&path)?;
        let options = connect_options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut writer = Writer {
            options,
            connection: None,
        };
        let connection = writer.connect().await?;
        schema::require_own(connection).await?;
        schema::migrate(connection).await?;
        word_index::rebuild_if_needed(connection, &self.analyzer).await?;
        tag::fold_tag_index(connection).await?;
        let anchor = open_anchor(&path).await?;
        lock.note_created()
            .map_err(|error| unwritable_lock(&error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(self.options.readers.max(1))
            .acquire_timeout(self.options.timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect_options(&path).pragma("query_only", "ON"));
        Ok(Open {
            readers,
            writer: tokio::sync::Mutex::new(writer),
            anchor: tokio::sync::Mutex::new(Some(anchor)),
            projects: RwLock::new(HashMap::new()),
            cache: Cache::default(),
            vectors: vector::Vectors::default(),
            purged: AtomicBool::new(false),
            limits: self.options.limits,
            writes: Arc::clone(&self.writes),
            files: OpenFiles::of(&lock::canonical(&path)),
            lock: std::sync::Mutex::new(lock),
        })
    }
}

/// Opens a connection that keeps the write-ahead log open.
async fn open_anchor(path: &Path) -> Result<SqliteConnection, Fault> {
    let options = connect_options(path).pragma("query_only", "ON");
    let mut connection = options.connect().await?;
    schema::version(&mut connection).await?;
    Ok(connection)
}

fn unwritable_lock(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable {
        reason: format!("the lock file beside the embedded database cannot be written ({error})"),
        source: None,
    }
}

/// Appends a suffix to the file name, as SQLite does for its side files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        // Purged data must not remain in free pages.
        .pragma("secure_delete", "ON")
        // The file may come from another source. Its schema is compared with ours before anything is written, and it
        // cannot call functions with side effects. SQLite's defensive mode cannot be enabled by SQL, only by
        // `sqlite3_db_config`, which the driver does not offer. It would prevent SQL that changes the schema's own
        // table, which this program runs only in migrations.
        .pragma("trusted_schema", "OFF")
        .pragma("temp_store", "MEMORY")
        // Statements are not logged: they are many, and each call already has a log line.
        .disable_statement_logging()
}

fn cannot_create(path: &Path, error: &std::io::Error) -> StoreError {
    let reason = format!(
        "the embedded database {} cannot be created ({error}); name a path where this user may write",
        path.display()
    );
    error::from_io(error, reason)
}

/// Creates the folder of the file if it is missing, accessible only to this user.
fn create_folder(path: &Path) -> Result<()> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|error| cannot_create(path, &error))
}

/// Creates the file if it is missing, accessible only to this user.
fn create_private(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map(drop)
        .map_err(|error| cannot_create(path, &error))
}

impl Writer {
    async fn connect(&mut self) -> Result<&mut SqliteConnection, Fault> {
        if self.connection.is_none() {
            let connection = self.options.connect().await?;
            self.connection = Some(connection);
        }
        Ok(self.connection.as_mut().expect("was just set"))
    }
}

impl Open {
    /// Returns the numbers of the scope's readable projects. Unknown projects are left out.
    async fn readable(
        &self,
        scope: &Scope,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<i64>, Fault> {
        let mut numbers = Vec::new();
        for name in scope.readable() {
            numbers.extend(self.project(name, connection).await?);
        }
        Ok(numbers)
    }

    /// Returns a reading connection, and the scope's projects in its view.
    async fn reader(&self, scope: &Scope) -> Result<(PoolConnection<Sqlite>, Vec<i64>), Fault> {
        let mut connection = self.connection().await?;
        let mut numbers = Vec::new();
        for name in scope.readable() {
            if let Some(number) = self.project(name, &mut connection).await? {
                // Readers see only committed data, so this number is final.
                self.keep_project(name, number);
                numbers.push(number);
            }
        }
        Ok((connection, numbers))
    }

    /// Returns the number of a project if it exists.
    async fn project(
        &self,
        name: &str,
        connection: &mut SqliteConnection,
    ) -> Result<Option<i64>, Fault> {
        let known = self
            .projects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied();
        if known.is_some() {
            return Ok(known);
        }
        let found: Option<i64> = sqlx::query_scalar(sql::PROJECT)
            .bind(name)
            .fetch_optional(connection)
            .await?;
        Ok(found)
    }

    /// Caches the number of a project whose creation is committed.
    fn keep_project(&self, name: &str, number: i64) {
        let known = self
            .projects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(name);
        if !known {
            self.projects
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.to_owned(), number);
        }
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, Fault> {
        Ok(self.readers.acquire().await?)
    }
}

/// Formats numbers as a JSON list.
fn json_numbers(numbers: &[i64]) -> String {
    serde_json::to_string(numbers).expect("numbers always serialise")
}

/// Formats IDs as a JSON list of hexadecimal digits, for SQLite's `unhex`.
fn hex_ids(ids: &[Uuid]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
    serde_json::to_string(&ids).expect("texts always serialise")
}

#[async_trait]
impl Store for SqliteStore {
    async fn prepare(&self) -> Result<()> {
        let _alone = self.opening.lock().await;
        if self.opened().is_ok() {
            return self.info().await.map(drop);
        }
        let open = self
            .open_database()
            .await
            .map_err(|fault| name_disk(fault.explain("opening the file"), &self.options.path))?;
        self.set_open(Some(Arc::new(open)));
        Ok(())
    }

    async fn pending_migrations(&self) -> Result<Vec<String>> {
        self.bounded("closing the file", async {
            // An empty file counts as missing, because no process has written to it yet.
            if !std::fs::metadata(&self.options.path).is_ok_and(|data| data.len() > 0) {
                return Ok(schema::pending(0));
            }
            let (connection, version) = beside::open_at_any_version(&self.options.path).await?;
            connection.close().await?;
            Ok(schema::pending(version))
        })
        .await
    }

    async fn remember(&self, scope: &Scope, command: Remember) -> Result<Vec<Remembered>> {
        let open = self.opened()?;
        let work = Work::Remember {
            batch: AnalyzedBatch::new(command, &self.analyzer)?,
            analyzer: Arc::clone(&self.analyzer),
        };
        self.limit_time(self.gathering.submit(&open, scope, work))
            .await
    }

    async fn browse(
        &self,
        scope: &Scope,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Memory>> {
        let open = self.opened()?;
        self.bounded(
            "listing memories",
            read::browse(&open, scope, filter, before, limit),
        )
        .await
    }

    async fn get(&self, scope: &Scope, ids: &[Uuid], include_deleted: bool) -> Result<Vec<Memory>> {
        let open = self.opened()?;
        self.bounded(
            "reading memories",
            read::get(&open, scope, ids, include_deleted),
        )
        .await
    }

    async fn update(&self, scope: &Scope, command: Update) -> Result<Memory> {
        self.run_rule(scope, &command).await
    }

    async fn forget(
        &self,
        scope: &Scope,
        ids: &[Uuid],
        mode: ForgetMode,
        reason: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let rule = Forget {
            ids,
            mode,
            reason,
            now,
        };
        self.run_rule(scope, &rule).await
    }

    async fn note_recalled(&self, scope: &Scope, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        let open = self.opened()?;
        let work = Work::Note {
            ids: ids.to_vec(),
            now,
        };
        self.limit_time(self.gathering.submit(&open, scope, work))
            .await
            .map(drop)
    }

    async fn counts(&self, scope: &Scope, _now: DateTime<Utc>) -> Result<Counts> {
        let open = self.opened()?;
        self.bounded("counting memories", read::counts(&open, scope))
            .await
    }

    async fn info(&self) -> Result<DatabaseInfo> {
        let open = self.opened()?;
        open.files.check()?;
        self.bounded("reading the version", async {
            let mut connection = open.connection().await?;
            let row = sqlx::query(sql::INFO).fetch_one(&mut *connection).await?;
            Ok(DatabaseInfo {
                backend: "sqlite",
                version: row.try_get(0)?,
                schema_version: row.try_get(1)?,
                name: self.options.path.display().to_string(),
            })
        })
        .await
    }

    async fn close(&self) {
        let _alone = self.opening.lock().await;
        let Some(open) = self.set_open(None) else {
            return;
        };
        if open.files.check().is_err() {
            // Closing the last connection would delete the log under the path, which now belongs to another database.
            // The connections therefore stay open until the process ends.
            std::mem::forget(open);
            return;
        }
        // Bounded, because every call that still uses a connection has a time limit.
        let ended = async {
            open.readers.close().await;
            let mut writer = open.writer.lock().await;
            // The log is emptied here, because the last connection may belong to another process, and the file may be
            // moved before that one ends. A failure loses nothing: acknowledged data is on disk.
            let _ = open.empty_log(&mut writer).await;
            for connection in [writer.connection.take(), open.anchor.lock().await.take()]
                .into_iter()
                .flatten()
            {
                let _ = connection.close().await;
            }
        };
        let _ = tokio::time::timeout(self.options.timeout, ended).await;
    }
}
