//! A PostgreSQL transaction, as the rules in `store::rules` use it.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{PgConnection, Postgres};

use super::PostgresStore;
use super::attempt::{attempt, begin, commit};
use super::fault::Fault;
use crate::domain::{Analyzer, Scope};
use crate::store::rules::{Backend, Effect, Rule, Transaction};
use crate::store::{Limits, Result};

pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// A transaction in the scope's own project.
pub(super) struct PgTx<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) scope: &'a Scope,
    pub(super) analyzer: &'a Analyzer,
    pub(super) limits: Limits,
}

impl Transaction for PgTx<'_> {
    type Error = Fault;

    fn scope(&self) -> &Scope {
        self.scope
    }

    fn analyzer(&self) -> &Analyzer {
        self.analyzer
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn ensure_project(&mut self) -> Result<(), Fault> {
        super::own_project(self.connection, self.scope).await
    }
}

impl PgTx<'_> {
    pub(super) async fn fetch_all<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>, Fault> {
        let rows = query.fetch_all(&mut *self.connection).await?;
        Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn fetch_optional<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Option<T>, Fault> {
        let row = query.fetch_optional(&mut *self.connection).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    pub(super) async fn fetch_one<T>(
        &mut self,
        query: Query<'_>,
        read: fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<T, Fault> {
        Ok(read(&query.fetch_one(&mut *self.connection).await?)?)
    }

    /// Returns the number of changed rows.
    pub(super) async fn execute(&mut self, query: Query<'_>) -> Result<u64, Fault> {
        Ok(query.execute(&mut *self.connection).await?.rows_affected())
    }
}

impl Backend for PostgresStore {
    async fn run_rule<R: Rule>(&self, scope: &Scope, rule: &R) -> Result<R::Output> {
        attempt!(self.attempts(scope, R::PURPOSE, R::EFFECT)?, connection => self.apply_rule(connection, scope, rule))
    }
}

impl PostgresStore {
    /// Tries once to apply a rule.
    pub(super) async fn apply_rule<R: Rule>(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        rule: &R,
    ) -> Result<R::Output, Fault> {
        if R::EFFECT == Effect::Read {
            return rule.apply(&mut self.transaction(connection, scope)).await;
        }
        let mut transaction = begin(connection).await?;
        let output = rule
            .apply(&mut self.transaction(&mut transaction, scope))
            .await?;
        commit(transaction).await?;
        Ok(output)
    }

    pub(super) fn transaction<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        scope: &'a Scope,
    ) -> PgTx<'a> {
        PgTx {
            connection,
            scope,
            analyzer: &self.analyzer,
            limits: self.limits,
        }
    }
}
