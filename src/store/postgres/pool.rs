//! A connection pool. The driver's own pool pings on every return, hides why it cannot connect, and waits for servers
//! that do not respond.
//!
//! Invariants: a connection is lent for exactly the requested [`View`], and is reused only after its work ended and
//! the server confirmed it. A connection whose work was interrupted (by a time-out, a dropped request or a broken
//! network) is closed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::fault::NoConnection;
use super::row_security::{self, View};
use super::sql;
use crate::store::statement::bind;

/// Maximum wait for a new connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Maximum wait for a connection if all are in use.
const QUEUE: Duration = Duration::from_secs(3);
/// Maximum wait for the answer to a ping.
const PING: Duration = Duration::from_secs(1);
/// Connections that were idle for longer are pinged before use, because firewalls drop idle connections.
const STALE: Duration = Duration::from_secs(30);
/// Connections are replaced at this age, so that servers behind a load balancer get their share.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Server-side limits for a statement, for a wait for a lock, and for an idle open transaction.
const LIMITS: [&str; 3] = ["4500ms", "3s", "10s"];

struct Idle {
    connection: PgConnection,
    view: View,
    born: Instant,
    since: Instant,
}

/// A limited number of connections.
pub(super) struct Pool {
    options: PgConnectOptions,
    size: u32,
    permits: Semaphore,
    /// Last returned, first lent: the number of open connections follows the load.
    idle: Mutex<Vec<Idle>>,
    /// Connections opened before this time may be broken.
    broken: Mutex<Option<Instant>>,
    /// The role of the connections under row-level security.
    role: Mutex<Option<Arc<str>>>,
}

/// A lent connection. It is closed when dropped; [`Lease::give_back`] keeps it.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    connection: PgConnection,
    view: View,
    born: Instant,
    _permit: SemaphorePermit<'p>,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Self {
        // Poolers refuse parameters that they do not know. Since version 12, the server's default precision is exact.
        let options = options
            .application_name("cognitive-memory-mcp")
            .extra_float_digits(None)
            .disable_statement_logging();
        Self {
            options,
            size,
            permits: Semaphore::new(size as usize),
            idle: Mutex::new(Vec::new()),
            broken: Mutex::new(None),
            role: Mutex::new(None),
        }
    }

    /// Returns the options for new connections.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Opens a connection for set-up, which does not count against the limit.
    pub(super) async fn connect(&self) -> Result<PgConnection, NoConnection> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            let [statement, lock, transaction] = LIMITS;
            bind!(sqlx::query(sql::SESSION) => statement, lock, transaction)
                .execute(&mut connection)
                .await?;
            Ok(connection)
        };
        match timeout(CONNECT, connecting).await {
            Ok(result) => result.map_err(NoConnection::Sql),
            Err(_) => Err(NoConnection::Silent),
        }
    }

    /// Sets the role of connections that are lent from now on.
    pub(super) fn work_as(&self, role: Option<String>) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role.map(Into::into);
        // Existing connections would keep the former role.
        self.suspect_all();
    }

    /// Returns the role of the connections.
    pub(super) fn role(&self) -> Option<Arc<str>> {
        self.role
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Borrows a connection for `view` that most probably works.
    pub(super) async fn lease(&self, view: &View) -> Result<Lease<'_>, NoConnection> {
        let permit = match timeout(QUEUE, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(NoConnection::Closed),
            Err(_) => return Err(NoConnection::Busy(self.size)),
        };
        while let Some(mut idle) = self.pop(view) {
            let suspect = self.lock_broken().is_some_and(|broken| idle.born <= broken);
            if suspect || idle.born.elapsed() > LIFETIME {
                continue;
            }
            if idle.since.elapsed() > STALE
                && !matches!(timeout(PING, idle.connection.ping()).await, Ok(Ok(())))
            {
                continue;
            }
            if *view != View::Nothing && idle.view != *view {
                // Most calls are for the same projects as the call before, so this round trip is rare.
                let role = self.role();
                let shown = timeout(
                    PING,
                    row_security::show(&mut idle.connection, role.as_deref(), view),
                )
                .await;
                if !matches!(shown, Ok(Ok(()))) {
                    continue;
                }
                idle.view = view.clone();
            }
            return Ok(Lease {
                pool: self,
                connection: idle.connection,
                view: idle.view,
                born: idle.born,
                _permit: permit,
            });
        }
        let mut connection = self.connect().await?;
        let role = self.role();
        match timeout(
            CONNECT,
            row_security::show(&mut connection, role.as_deref(), view),
        )
        .await
        {
            Ok(shown) => shown.map_err(NoConnection::Sql)?,
            Err(_) => return Err(NoConnection::Silent),
        }
        Ok(Lease {
            pool: self,
            connection,
            view: view.clone(),
            born: Instant::now(),
            _permit: permit,
        })
    }

    /// Marks all open connections as suspect after one broke or went silent, because those of its age probably did,
    /// too.
    pub(super) fn suspect_all(&self) {
        *self.lock_broken() = Some(Instant::now());
    }

    /// Refuses new work, closes idle connections now, and closes the others when their work ends.
    pub(super) async fn close(&self) {
        self.permits.close();
        while let Some(idle) = self.pop(&View::Nothing) {
            let _ = timeout(PING, idle.connection.close()).await;
        }
    }

    /// Takes the idle connection that was last used for `view`, or else the one that was used last.
    fn pop(&self, view: &View) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().rposition(|idle| idle.view == *view) {
            Some(place) => Some(idle.remove(place)),
            None => idle.pop(),
        }
    }

    fn lock_broken(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Returns the connection to the pool after successful work.
    pub(super) fn give_back(self) {
        if self.pool.permits.is_closed() {
            return;
        }
        let idle = Idle {
            connection: self.connection,
            view: self.view,
            born: self.born,
            since: Instant::now(),
        };
        self.pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(idle);
    }

    /// Rolls back after an error of the server, then acts as [`Lease::give_back`].
    pub(super) async fn settle(mut self) {
        // The rollback is queued in the connection; a ping sends it and waits for the answer.
        if matches!(timeout(PING, self.connection.ping()).await, Ok(Ok(()))) {
            self.give_back();
        }
    }
}
