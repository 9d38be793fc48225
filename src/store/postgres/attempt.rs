//! Retries of work, limited in number and time.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, error::Elapsed, sleep, timeout_at};

use super::PostgresStore;
use super::fault::{self, Cause, Fault};
use super::pool::Lease;
use super::row_security::View;
pub(super) use crate::store::rules::Effect;
use crate::store::{Result, StoreError};

/// Time limit of a method, including waits and retries.
const LIMIT: Duration = Duration::from_secs(5);
/// Time limit of an import batch, and of a check of the whole index.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// Maximum number of collisions before the caller is asked to try later.
const MAX_COLLISIONS: u32 = 6;
/// Maximum number of connections that may break during one piece of work. After the first, all connections of the
/// same age are replaced.
const MAX_BROKEN: u32 = 2;

/// The state of retrying one piece of work.
pub(super) struct Attempts<'s> {
    store: &'s PostgresStore,
    view: View,
    during: &'static str,
    effect: Effect,
    limit: Duration,
    deadline: Instant,
    broken: u32,
    collisions: u32,
    uncertain: bool,
}

impl<'s> Attempts<'s> {
    pub(super) fn new(
        store: &'s PostgresStore,
        view: View,
        during: &'static str,
        effect: Effect,
    ) -> Self {
        Self {
            store,
            view,
            during,
            effect,
            limit: LIMIT,
            deadline: Instant::now() + LIMIT,
            broken: 0,
            collisions: 0,
            uncertain: false,
        }
    }

    /// Sets a higher limit for large work.
    pub(super) fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
        self
    }

    /// Marks work that was already sent in a group commit whose outcome is unknown.
    pub(super) fn repeated(mut self) -> Self {
        self.uncertain = true;
        self
    }

    /// Returns whether an earlier attempt collided with another transaction.
    pub(super) fn collided(&self) -> bool {
        self.collisions > 0
    }

    pub(super) async fn lease(&self) -> Result<Lease<'s>> {
        let failure = match timeout_at(self.deadline, self.store.pool.lease(&self.view)).await {
            Ok(Ok(lease)) => return Ok(lease),
            Ok(Err(why)) => fault::no_connection(&self.store.options, why),
            Err(Elapsed { .. }) => fault::silent(self.limit),
        };
        Err(self.finish(failure))
    }

    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Elapsed> {
        timeout_at(self.deadline, work).await
    }

    /// Decides about the outcome of an attempt; `None` means retry.
    pub(super) async fn judge<T>(
        &mut self,
        lease: Lease<'_>,
        outcome: Result<Result<T, Fault>, Elapsed>,
    ) -> Option<Result<T>> {
        let fault = match outcome {
            Ok(Ok(value)) => {
                lease.give_back();
                if self.effect != Effect::Read {
                    self.store.writes.succeeded();
                }
                return Some(Ok(value));
            }
            Ok(Err(fault)) => fault,
            Err(Elapsed { .. }) => {
                drop(lease);
                self.store.pool.suspect_all();
                self.uncertain |= self.effect != Effect::Read;
                return Some(Err(self.finish(fault::silent(self.limit))));
            }
        };
        let (error, committing) = match fault {
            Fault::Answer(answer) => {
                lease.settle().await;
                return Some(Err(answer));
            }
            Fault::Sql(error) => (error, false),
            Fault::Commit(error) => (error, true),
        };
        let again = match fault::cause(&error) {
            Cause::Broken => {
                drop(lease);
                self.store.pool.suspect_all();
                self.broken += 1;
                self.uncertain |= match self.effect {
                    Effect::Read => false,
                    Effect::Repeatable => true,
                    Effect::Once => committing,
                };
                let lost = self.effect == Effect::Once && committing;
                !lost && self.broken < MAX_BROKEN
            }
            Cause::Collision => {
                lease.settle().await;
                self.collisions += 1;
                self.again().await
            }
            Cause::Other => {
                lease.settle().await;
                false
            }
        };
        if again {
            tracing::debug!(during = self.during, %error, "repeating");
            return None;
        }
        let cannot_write = self.effect != Effect::Read && fault::is_of_storage(&error);
        let error = fault::translate(&self.store.options, self.during, error);
        if cannot_write {
            self.store.writes.failed(&error, true);
        }
        Some(Err(self.finish(error)))
    }

    async fn again(&self) -> bool {
        if self.collisions >= MAX_COLLISIONS {
            return false;
        }
        let pause = Duration::from_millis(2 << self.collisions);
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        sleep(pause).await;
        true
    }

    fn finish(&self, error: StoreError) -> StoreError {
        if self.uncertain {
            fault::uncertain(error)
        } else {
            error
        }
    }
}

/// Runs `$work` on a connection until it succeeds, fails permanently, or exceeds its time limit. This is a macro
/// because the future of the work borrows the connection, and no closure type can express that and remain `Send`.
macro_rules! attempt {
    ($attempts:ident, $connection:ident => $work:expr) => {
        loop {
            let mut lease = $attempts.lease().await?;
            let outcome = {
                let $connection: &mut sqlx::PgConnection = lease.connection();
                $attempts.run($work).await
            };
            if let Some(result) = $attempts.judge(lease, outcome).await {
                break result;
            }
        }
    };
    ($attempts:expr, $connection:ident => $work:expr) => {{
        let mut attempts = $attempts;
        $crate::store::postgres::attempt::attempt!(attempts, $connection => $work)
    }};
}

/// Reads in the projects of a scope, whose names `$work` finds in `$readable`.
macro_rules! read {
    ($store:expr, $scope:expr, $during:expr, $connection:ident, $readable:ident => $work:expr) => {{
        let $readable: Vec<&str> = $scope.readable().collect();
        let mut attempts = $store.attempts($scope, $during, $crate::store::rules::Effect::Read)?;
        $crate::store::postgres::attempt::attempt!(attempts, $connection => $work)
    }};
}
pub(super) use attempt;
pub(super) use read;

/// Commits a transaction. Failed commits are distinguished from failed statements.
pub(super) async fn commit(
    transaction: sqlx::Transaction<'_, sqlx::Postgres>,
) -> Result<(), Fault> {
    transaction.commit().await.map_err(Fault::Commit)
}

/// Begins a transaction.
pub(super) async fn begin(
    connection: &mut PgConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, Fault> {
    Ok(sqlx::Connection::begin(connection).await?)
}
