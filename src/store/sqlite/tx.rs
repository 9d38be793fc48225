//! A transaction of the embedded database, as the rules in `store::rules` use it.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::cache::Delta;
use super::error::Fault;
use super::param::Query;
use super::{Open, SqliteStore, sql};
use crate::domain::{Analyzer, Scope};
use crate::store::rules::{Backend, Effect, Rule, Transaction};
use crate::store::{Limits, Result};

/// The number of no project. A read-only transaction uses it for a project that has no rows yet.
const NO_PROJECT: i64 = 0;

/// A transaction in the scope's own project.
pub(super) struct SqliteTx<'a> {
    pub(super) open: &'a Open,
    pub(super) connection: &'a mut SqliteConnection,
    pub(super) delta: &'a mut Delta,
    pub(super) scope: &'a Scope,
    pub(super) analyzer: &'a Analyzer,
    /// Number of the project, or [`NO_PROJECT`].
    pub(super) project: i64,
}

impl Transaction for SqliteTx<'_> {
    type Error = Fault;

    fn scope(&self) -> &Scope {
        self.scope
    }

    fn analyzer(&self) -> &Analyzer {
        self.analyzer
    }

    fn limits(&self) -> Limits {
        self.open.limits
    }

    /// Does nothing, because a writing transaction begins with it.
    async fn ensure_project(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

impl SqliteTx<'_> {
    pub(super) async fn fetch_all<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        let rows = query.fetch_all(&mut *self.connection).await?;
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn fetch_optional<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Option<T>, Fault> {
        let row = query.fetch_optional(&mut *self.connection).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    pub(super) async fn fetch_one<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<T, Fault> {
        Ok(read(&query.fetch_one(&mut *self.connection).await?)?)
    }

    /// Returns the number of changed rows.
    pub(super) async fn execute(&mut self, query: Query<'_>) -> Result<u64, Fault> {
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }
}

impl Backend for SqliteStore {
    async fn run_rule<R: Rule>(&self, scope: &Scope, rule: &R) -> Result<R::Output> {
        let open = self.opened()?;
        if R::EFFECT == Effect::Read {
            let reading = self.read_by_rule(&open, scope, rule);
            return self.bounded(R::PURPOSE, reading).await;
        }
        self.write(R::PURPOSE, async |connection, delta| {
            let project = own_project(&open, connection, scope).await?;
            let mut tx = SqliteTx {
                open: &open,
                connection,
                delta,
                scope,
                analyzer: &self.analyzer,
                project,
            };
            rule.apply(&mut tx).await
        })
        .await
    }
}

impl SqliteStore {
    async fn read_by_rule<R: Rule>(
        &self,
        open: &Open,
        scope: &Scope,
        rule: &R,
    ) -> Result<R::Output, Fault> {
        let mut connection = open.connection().await?;
        let project = open.project(scope.project(), &mut connection).await?;
        let project = project.unwrap_or(NO_PROJECT);
        let mut tx = SqliteTx {
            open,
            connection: &mut connection,
            delta: &mut Delta::default(),
            scope,
            analyzer: &self.analyzer,
            project,
        };
        rule.apply(&mut tx).await
    }
}

/// Returns the number of the scope's own project, which is created with its first write.
pub(super) async fn own_project(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
) -> Result<i64, Fault> {
    if let Some(number) = open.project(scope.project(), connection).await? {
        return Ok(number);
    }
    let number = sqlx::query_scalar(sql::INSERT_PROJECT).bind(scope.project());
    Ok(number.fetch_one(connection).await?)
}
