//! Storage in PostgreSQL with pgvector, for installations that outgrow one file or one machine.
//!
//! Depends on `store` and `domain`. Invariants: each write is one transaction, several servers may write concurrently,
//! and every wait is bounded. The process keeps no state that another server would need: the database makes every
//! decision, under its locks. The only required extension is pgvector, and no superuser is needed once it is
//! installed. To add a statement, name it in a `statements!` block.

mod attempt;
mod change;
mod check;
mod check_sql;
mod completion;
mod context;
mod corpus_sql;
mod fault;
mod filter;
mod focus;
mod focus_sql;
mod foreign;
mod gather;
mod graph;
mod graph_sql;
mod history;
mod history_sql;
mod memory_sql;
mod migration;
mod overview;
mod param;
mod past;
mod pool;
mod pooler;
mod port;
mod port_sql;
mod recent;
mod reference;
mod remember;
mod review;
mod review_sql;
mod row;
mod row_security;
mod search;
mod sql;
mod statistics;
mod token;
mod tx;
mod vector;
mod vector_sql;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

pub use foreign::ForeignDatabase;

use self::attempt::{Attempts, Effect, attempt, read};
use self::fault::Fault;
use self::filter::FilterColumns;
use self::gather::Gathering;
use self::pool::Pool;
pub use self::row_security::RowSecurity;
pub use self::vector::VectorSearch;

use self::row::{IndexedRow, MemoryRow};
use self::row_security::View;
use crate::domain::memory::{Memory, indexed_text};
use crate::domain::{Analyzer, Filter, Scope};
use crate::store::rules::{Backend as _, Forget};
use crate::store::statement::bind;
use crate::store::write_health::WriteHealth;
use crate::store::{
    Counts, DatabaseInfo, ForgetMode, Limits, Remember, Remembered, Result, Store, StoreError,
    Update,
};

/// Number of postings of a term that are counted; larger numbers are estimated.
const COUNTED_POSTINGS: i64 = 2_000;
/// Time limit for checking the properties of the server.
const CHECK: Duration = Duration::from_secs(5);
/// Time limit for all migrations, and for a batch of a rebuild.
const MIGRATE: Duration = Duration::from_secs(600);

/// A [`Store`] in a PostgreSQL database.
pub struct PostgresStore {
    options: PgConnectOptions,
    pool: Pool,
    analyzer: Arc<Analyzer>,
    limits: Limits,
    row_security: RowSecurity,
    ready: AtomicBool,
    /// Why the last preparation failed; methods return this reason until one succeeds.
    obstacle: Mutex<Option<String>>,
    preparing: tokio::sync::Mutex<()>,
    vector_search: VectorSearch,
    vectors: recent::RecentCounts<(), f64>,
    counts: recent::ScopeCounts,
    gathering: Gathering,
    writes: WriteHealth,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options contain the password.
        f.debug_struct("PostgresStore")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Creates a store with at most `pool_size` connections. Opens no connection before [`Store::prepare`].
    #[must_use]
    pub fn new(options: PgConnectOptions, pool_size: u32, analyzer: Arc<Analyzer>) -> Self {
        Self {
            pool: Pool::new(options.clone(), pool_size.max(1)),
            options,
            analyzer,
            limits: Limits::default(),
            row_security: RowSecurity::default(),
            ready: AtomicBool::new(false),
            obstacle: Mutex::default(),
            preparing: tokio::sync::Mutex::new(()),
            vector_search: VectorSearch::default(),
            vectors: recent::RecentCounts::default(),
            counts: recent::ScopeCounts::default(),
            gathering: Gathering::default(),
            writes: WriteHealth::default(),
        }
    }

    /// Sets the quotas of projects.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the method of finding the nearest vectors.
    #[must_use]
    pub fn with_vector_search(mut self, vector_search: VectorSearch) -> Self {
        self.vector_search = vector_search;
        self
    }

    /// Sets the use of row-level security.
    #[must_use]
    pub fn with_row_security(mut self, row_security: RowSecurity) -> Self {
        self.row_security = row_security;
        self
    }

    /// Returns the role of the working connections. `None` without row-level security, and before [`Store::prepare`].
    #[must_use]
    pub fn working_role(&self) -> Option<String> {
        self.pool.role().map(|role| role.to_string())
    }

    /// Returns every SQL statement with its name, for tests.
    pub fn statements() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        let recall = [sql::ALL, context::ALL, vector_sql::ALL];
        let others = [
            graph_sql::ALL,
            memory_sql::ALL,
            focus_sql::ALL,
            history_sql::ALL,
            review_sql::ALL,
            port_sql::ALL,
            overview::ALL,
            reference::ALL,
            statistics::ALL,
            check_sql::ALL,
        ];
        let corpus: &[_] = &[("CORPUS_STATS", corpus_sql::CORPUS_STATS)];
        let lists = recall.into_iter().chain(others);
        lists.chain([corpus]).flatten()
    }

    /// Starts the attempts at work for the projects of a scope.
    fn attempts(
        &self,
        view: impl Into<View>,
        during: &'static str,
        effect: Effect,
    ) -> Result<Attempts<'_>> {
        if !self.ready.load(Ordering::Acquire) {
            let obstacle = self
                .obstacle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            return Err(fault::unavailable(
                obstacle.unwrap_or_else(|| "it is not prepared yet".to_owned()),
                None,
            ));
        }
        Ok(Attempts::new(self, view.into(), during, effect))
    }

    fn explain(&self, during: &'static str, fault: Fault) -> StoreError {
        match fault {
            Fault::Answer(error) => error,
            Fault::Sql(error) | Fault::Commit(error) => {
                fault::translate(&self.options, during, error)
            }
        }
    }

    /// Opens a connection for set-up, which has no limits except those of `within`.
    async fn connect(&self) -> Result<PgConnection> {
        self.pool
            .connect()
            .await
            .map_err(|why| fault::no_connection(&self.options, why))
    }

    async fn within<T>(
        &self,
        during: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        match timeout(limit, work).await {
            Ok(result) => result.map_err(|fault| self.explain(during, fault)),
            Err(_) => Err(fault::silent(limit)),
        }
    }

    /// Returns whether the database still has to be prepared.
    async fn unfinished(&self, connection: &mut PgConnection) -> Result<bool, Fault> {
        let server = migration::check(connection).await?;
        if !migration::pending(connection, &server).await?.is_empty() {
            return Ok(true);
        }
        if self.row_security != RowSecurity::Off {
            let usable = row_security::usable(connection, &server).await?;
            let mark: Option<String> = sqlx::query_scalar(sql::META)
                .bind("row_security")
                .fetch_optional(&mut *connection)
                .await?;
            match usable {
                Some(role) if mark == Some(row_security::mark(migration::newest(), &role)) => {}
                _ => return Ok(true),
            }
        }
        Ok(self.rebuild_from(connection).await?.is_some())
    }

    /// Returns the position after which the lexical index must be rebuilt: the start if the index has another
    /// analysis, the end of the last batch if a rebuild was interrupted.
    async fn rebuild_from(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<RebuildPosition>, Fault> {
        let analyzer: Option<String> = sqlx::query_scalar(sql::META)
            .bind("analyzer")
            .fetch_optional(&mut *connection)
            .await?;
        if analyzer.as_deref() != Some(&self.analyzer.fingerprint()) {
            return Ok(Some(RebuildPosition::default()));
        }
        let mark: Option<String> = sqlx::query_scalar(sql::META)
            .bind("rebuilt_to")
            .fetch_optional(&mut *connection)
            .await?;
        Ok(mark.map(|mark| RebuildPosition::parse(&mark).unwrap_or_default()))
    }

    /// Opens the first connection and checks that the server provides sessions.
    async fn first_connection(&self) -> Result<PgConnection> {
        if !self.ready.load(Ordering::Acquire) {
            let probing = pooler::refuse_transaction_mode(self.pool.options());
            self.within("look for a connection pooler", CHECK, probing)
                .await?;
        }
        self.connect().await
    }

    /// Does the work of [`Store::prepare`].
    async fn prepare_alone(&self) -> Result<()> {
        let mut connection = self.first_connection().await?;
        let server = self
            .within(
                "check the database",
                CHECK,
                migration::check(&mut connection),
            )
            .await?;
        if server.read_only {
            return Err(fault::unavailable(fault::read_only(&self.options), None));
        }
        if self
            .within(
                "check the database",
                CHECK,
                self.unfinished(&mut connection),
            )
            .await?
        {
            self.within(
                "lock the database",
                MIGRATE,
                migration::lock(&mut connection),
            )
            .await?;
            self.within(
                "migrate the database",
                MIGRATE,
                migration::migrate(&mut connection),
            )
            .await?;
            self.within(
                "secure the rows",
                MIGRATE,
                self.secure_rows(&mut connection),
            )
            .await?;
            self.rebuild(&mut connection).await?;
            self.within(
                "unlock the database",
                CHECK,
                migration::unlock(&mut connection),
            )
            .await?;
        }
        if !self.ready.load(Ordering::Acquire) && self.row_security != RowSecurity::Off {
            let role = self
                .within("check the rows", CHECK, async {
                    let server = migration::check(&mut connection).await?;
                    row_security::usable(&mut connection, &server).await
                })
                .await?;
            self.pool.work_as(role);
        }
        // A failure to close does not matter.
        let _ = timeout(CHECK, connection.close()).await;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    async fn secure_rows(&self, connection: &mut PgConnection) -> Result<(), Fault> {
        if self.row_security != RowSecurity::Off {
            let server = migration::check(connection).await?;
            // Another server may have rebuilt it while this one waited.
            let mark: Option<String> = sqlx::query_scalar(sql::META)
                .bind("row_security")
                .fetch_optional(&mut *connection)
                .await?;
            let usable = row_security::usable(connection, &server).await?;
            if usable
                .is_some_and(|role| mark == Some(row_security::mark(migration::newest(), &role)))
            {
                return Ok(());
            }
            row_security::install(connection, &server, self.row_security, migration::newest())
                .await?;
        }
        Ok(())
    }

    async fn rebuild(&self, connection: &mut PgConnection) -> Result<()> {
        let start = self
            .within("rebuild the index", CHECK, self.rebuild_from(connection))
            .await?;
        let Some(mut after) = start else {
            return Ok(());
        };
        self.within("rebuild the index", MIGRATE, async {
            let mut transaction = connection.begin().await?;
            if after == RebuildPosition::default() {
                sqlx::query(sql::EMPTY_INDEX)
                    .execute(&mut *transaction)
                    .await?;
            }
            let fingerprint = self.analyzer.fingerprint();
            bind!(sqlx::query(sql::SET_META) => "analyzer", fingerprint)
                .execute(&mut *transaction)
                .await?;
            bind!(sqlx::query(sql::SET_META) => "rebuilt_to", after.to_string())
                .execute(&mut *transaction)
                .await?;
            Ok(transaction.commit().await?)
        })
        .await?;
        let mut indexed = 0;
        loop {
            let last = self
                .within(
                    "rebuild the index",
                    MIGRATE,
                    self.rebuild_batch(connection, after),
                )
                .await?;
            let Some((place, count)) = last else { break };
            after = place;
            indexed += count;
            tracing::info!(indexed, "rebuilding the lexical index");
        }
        self.within("rebuild the index", CHECK, async {
            sqlx::query(sql::UNSET_META)
                .bind("rebuilt_to")
                .execute(&mut *connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn rebuild_batch(
        &self,
        connection: &mut PgConnection,
        after: RebuildPosition,
    ) -> Result<Option<(RebuildPosition, usize)>, Fault> {
        let rows: Vec<IndexedRow> = bind!(sqlx::query_as(sql::REBUILD_READ) =>
            after.project_id, after.seq)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last().map(|row| RebuildPosition {
            project_id: row.project_id,
            seq: row.seq,
        }) else {
            return Ok(None);
        };
        let analyzer = Arc::clone(&self.analyzer);
        let count = rows.len();
        let entries = tokio::task::spawn_blocking(move || analyze_rows(&rows, &analyzer))
            .await
            .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))?;
        let mut transaction = connection.begin().await?;
        for statement in [sql::REBUILD_LENGTHS, sql::REBUILD_INDEX] {
            sqlx::query(statement)
                .bind(&entries)
                .execute(&mut *transaction)
                .await?;
        }
        bind!(sqlx::query(sql::SET_META) => "rebuilt_to", last.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some((last, count)))
    }
}

/// The progress of a rebuild: memories are read in the order of their key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RebuildPosition {
    project_id: i32,
    seq: i64,
}

impl RebuildPosition {
    fn parse(mark: &str) -> Option<Self> {
        let (project_id, seq) = mark.split_once(' ')?;
        Some(Self {
            project_id: project_id.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }
}

impl fmt::Display for RebuildPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.project_id, self.seq)
    }
}

/// The index entries of memories as a JSON list of rows.
fn analyze_rows(rows: &[IndexedRow], analyzer: &Analyzer) -> String {
    let entries = rows.iter().map(|row| {
        let text = indexed_text(
            &row.content,
            row.speaker.as_deref(),
            &row.tags,
            row.episode.as_ref(),
        );
        let terms = analyzer.terms(&text);
        serde_json::json!({
            "project_id": row.project_id, "seq": row.seq, "live": row.live,
            "length": terms.length, "terms": terms.counts,
        })
    });
    serde_json::Value::from_iter(entries).to_string()
}

#[async_trait]
impl Store for PostgresStore {
    async fn prepare(&self) -> Result<()> {
        let _alone = self.preparing.lock().await;
        let prepared = self.prepare_alone().await;
        let obstacle = match &prepared {
            Ok(()) => None,
            Err(StoreError::Unavailable { reason, .. }) => Some(reason.clone()),
            Err(error) => Some(error.to_string()),
        };
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
        prepared
    }

    async fn pending_migrations(&self) -> Result<Vec<String>> {
        let mut connection = self.first_connection().await?;
        self.within("check the database", CHECK, async {
            let server = migration::check(&mut connection).await?;
            let pending = migration::pending(&mut connection, &server).await?;
            Ok(pending
                .into_iter()
                .map(|migration| migration.name.to_owned())
                .collect())
        })
        .await
    }

    async fn remember(&self, scope: &Scope, command: Remember) -> Result<Vec<Remembered>> {
        self.remember_with_others(scope, command).await
    }

    async fn browse(
        &self,
        scope: &Scope,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Memory>> {
        let statement = match filter {
            Filter {
                session: Some(_), ..
            } => sql::BROWSE_SESSION,
            Filter { tags, .. } if !tags.is_empty() => sql::BROWSE_TAGS,
            _ => sql::BROWSE,
        };
        let columns = FilterColumns::new(scope, filter);
        let mut memories: Vec<Memory> = Vec::new();
        while memories.len() < limit {
            let page = (limit - memories.len()).min(sql::BROWSE_PAGE);
            let before = memories
                .last()
                .map(|memory| memory.seq)
                .or(before)
                .unwrap_or(i64::MAX);
            let rows: Vec<MemoryRow> = attempt!(self.attempts(scope, "browse", Effect::Read)?, connection => async {
                let query = columns.bind(sqlx::query_as(statement)).bind(before).bind(bounded(page));
                Ok(query.fetch_all(connection).await?)
            })?;
            let last = rows.len() < page;
            memories.extend(rows.into_iter().map(|row| row.0));
            if last {
                break;
            }
        }
        Ok(memories)
    }

    async fn get(&self, scope: &Scope, ids: &[Uuid], include_deleted: bool) -> Result<Vec<Memory>> {
        let rows: Vec<MemoryRow> = read!(self, scope, "get", connection, readable => async {
            let query = bind!(sqlx::query_as(sql::GET) => &readable, ids, include_deleted);
            Ok(query.fetch_all(connection).await?)
        })?;
        let mut found: HashMap<Uuid, Memory> =
            rows.into_iter().map(|row| (row.0.id, row.0)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
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
        let readable: Vec<&str> = scope.readable().collect();
        attempt!(self.attempts(scope, "note a recall", Effect::Once)?, connection => async {
            bind!(sqlx::query(sql::NOTE_RECALLED) => &readable, ids, now)
                .execute(connection)
                .await
                .map_err(Fault::Commit)?;
            Ok(())
        })
    }

    async fn counts(&self, scope: &Scope, _now: DateTime<Utc>) -> Result<Counts> {
        read!(self, scope, "count", connection, readable => async {
            let mut counts = Counts { by_kind: BTreeMap::new(), ..Counts::default() };
            for row in sqlx::query(sql::COUNTS).bind(&readable).fetch_all(&mut *connection).await? {
                let live = natural(row.try_get("live")?);
                if live > 0 {
                    counts.by_kind.insert(row.try_get("kind")?, live);
                }
                counts.deleted += natural(row.try_get("deleted")?);
                counts.superseded += natural(row.try_get("superseded")?);
            }
            let backlog = sqlx::query_scalar(sql::BACKLOG).bind(&readable).fetch_one(&mut *connection).await?;
            counts.index_backlog = natural(backlog);
            Ok(counts)
        })
    }

    async fn refresh_statistics(&self) -> Result<()> {
        self.analyze_grown().await
    }

    async fn info(&self) -> Result<DatabaseInfo> {
        attempt!(self.attempts(View::Nothing, "ask for the version", Effect::Read)?, connection => async {
            let row = sqlx::query(sql::INFO).fetch_one(connection).await?;
            if row.try_get("read_only")? {
                return Err(StoreError::Unavailable { reason: fault::read_only(&self.options), source: None }.into());
            }
            let (server, vector): (String, Option<String>) = (row.try_get("version")?, row.try_get("vector")?);
            Ok(DatabaseInfo {
                backend: "postgres",
                version: format!("{server}, pgvector {}", vector.as_deref().unwrap_or("missing")),
                name: row.try_get("database")?,
                schema_version: row.try_get("schema_version")?,
            })
        })
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// Creates the scope's own project if it is missing.
async fn own_project(connection: &mut PgConnection, scope: &Scope) -> Result<(), Fault> {
    let found: Option<i32> = sqlx::query_scalar(sql::PROJECT)
        .bind(scope.project())
        .fetch_optional(&mut *connection)
        .await?;
    if found.is_none() {
        sqlx::query(sql::CREATE_PROJECT)
            .bind(scope.project())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Converts a count, which is never negative.
fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
