//! Connections. A pool of our own, since the driver's pings on every return, hides why it cannot connect, and waits
//! for servers that do not answer.
//!
//! Invariants: a connection is lent for exactly the [`View`] that was asked for, and lent again only after its work
//! ended and the server said so. Whatever was interrupted (by a time-out, a dropped request, a broken line) is closed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::fault::NoConnection;
use super::row_security::{self, View};
use super::sql;

/// Longest wait for a new connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for one that is in use by others.
const QUEUE: Duration = Duration::from_secs(3);
/// Longest wait for the answer to a ping.
const PING: Duration = Duration::from_secs(1);
/// Connections idle for longer are tried before use: firewalls forget them.
const STALE: Duration = Duration::from_secs(30);
/// Connections are replaced at this age, so that servers behind a balancer get their share.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Limits of the server on a statement, on a wait for a lock, and on an open transaction that does nothing.
const LIMITS: [&str; 3] = ["4500ms", "3s", "10s"];

struct Idle {
    connection: PgConnection,
    view: View,
    born: Instant,
    since: Instant,
}

/// A bounded number of connections.
pub(super) struct Pool {
    options: PgConnectOptions,
    size: u32,
    permits: Semaphore,
    /// Last returned, first lent: the number of open connections follows the load.
    idle: Mutex<Vec<Idle>>,
    /// Connections from before are suspect.
    broken: Mutex<Option<Instant>>,
    /// What connections work as, under row-level security.
    role: Mutex<Option<Arc<str>>>,
}

/// A lent connection, closed when dropped; [`Lease::give_back`] keeps it.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    connection: PgConnection,
    view: View,
    born: Instant,
    _permit: SemaphorePermit<'p>,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, size: u32) -> Self {
        // Poolers refuse parameters that they do not know; the default of the server is exact since version 12.
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

    /// How new connections are made.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A new connection which is not counted, for set-up.
    pub(super) async fn connect(&self) -> Result<PgConnection, NoConnection> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            let [statement, lock, transaction] = LIMITS;
            sqlx::query(sql::SESSION)
                .bind(statement)
                .bind(lock)
                .bind(transaction)
                .execute(&mut connection)
                .await?;
            Ok(connection)
        };
        match timeout(CONNECT, connecting).await {
            Ok(result) => result.map_err(NoConnection::Sql),
            Err(_) => Err(NoConnection::Silent),
        }
    }

    /// From now on connections work as `role`.
    pub(super) fn work_as(&self, role: Option<String>) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role.map(Into::into);
        // Those from before would go on as they are.
        self.suspect_all();
    }

    /// What connections work as.
    pub(super) fn role(&self) -> Option<Arc<str>> {
        self.role
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Borrows a connection that most probably works, for `view`.
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
                // Most calls are for the projects of the one before: this round trip is rare.
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

    /// A connection broke or went silent; the others of its age did, too, most probably.
    pub(super) fn suspect_all(&self) {
        *self.lock_broken() = Some(Instant::now());
    }

    /// Refuses new work, and ends idle connections now and the others when their work is done.
    pub(super) async fn close(&self) {
        self.permits.close();
        while let Some(idle) = self.pop(&View::Nothing) {
            let _ = timeout(PING, idle.connection.close()).await;
        }
    }

    /// The one that was last used for `view`, else the one last used.
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

    /// The work ended in order.
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

    /// The work ended with an error of the server: rolls back what is open, then as [`Lease::give_back`].
    pub(super) async fn settle(mut self) {
        // The roll-back is queued in the connection; a ping sends it and waits for the answer.
        if matches!(timeout(PING, self.connection.ping()).await, Ok(Ok(()))) {
            self.give_back();
        }
    }
}
