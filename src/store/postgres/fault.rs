//! Translates the driver's errors to [`StoreError`]. No other module reads errors of the driver.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::store::StoreError;

/// The reason why no connection is available.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// The driver's error.
    Sql(sqlx::Error),
    /// The server does not respond.
    Silent,
    /// All connections of the pool are in use.
    Busy(u32),
    /// The pool was closed.
    Closed,
}

/// The reason why an attempt failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The result of the method is an error; the database is in order.
    Answer(StoreError),
    /// A statement failed. Its effects were rolled back, unless the connection broke.
    Sql(sqlx::Error),
    /// The commit failed. If the connection broke, the outcome is unknown.
    Commit(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

/// The reaction that an error of the driver requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection broke, or the session must end. Another connection may work.
    Broken,
    /// Deadlock, serialization failure, or concurrent storage of equal memories. A retry will succeed.
    Collision,
    /// Any other error.
    Other,
}

pub(super) fn cause(error: &sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => Cause::Broken,
        sqlx::Error::Database(inner) => match inner.code().as_deref() {
            // A newer server has migrated the schema under cached plans, or the server became a standby.
            Some("0A000" | "26000" | "25006") => Cause::Broken,
            Some(code) if code.starts_with("08") || code.starts_with("57P") => Cause::Broken,
            // REMEMBER rolls itself back by a division by zero. A unique violation means that the idempotency key is
            // in use.
            Some("40001" | "40P01" | "22012" | "23505") => Cause::Collision,
            _ => Cause::Other,
        },
        _ => Cause::Other,
    }
}

/// Returns whether the server could not store data: no space or other resources, read-only mode, an I/O error, or
/// damage.
pub(super) fn is_of_storage(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| {
        matches!(&*code, "53000" | "53100" | "53200" | "53400" | "25006")
            || code.starts_with("58")
            || code.starts_with("XX")
    })
}

/// Returns the error for callers if no answer came in time.
pub(super) fn silent(limit: Duration) -> StoreError {
    unavailable(
        format!("it did not answer within {} s", limit.as_secs()),
        None,
    )
}

pub(super) fn unavailable(reason: impl Into<String>, source: Option<sqlx::Error>) -> StoreError {
    StoreError::Unavailable {
        reason: reason.into(),
        source,
    }
}

pub(super) fn setup(reason: impl Into<String>) -> StoreError {
    StoreError::Setup {
        reason: reason.into(),
        source: None,
    }
}

/// Describes a pooler that assigns each transaction to another session of the server.
pub(super) fn transaction_pooling(
    options: &PgConnectOptions,
    source: Option<sqlx::Error>,
) -> StoreError {
    StoreError::Setup {
        reason: pooling_reason(options),
        source,
    }
}

fn pooling_reason(options: &PgConnectOptions) -> String {
    format!(
        "{} is a connection pooler in transaction mode, which mixes up the sessions that the memory needs: use the \
         server's own address or a pooler in session mode (PgBouncer: pool_mode = session; Supabase: port 5432; Neon: \
         the host name without -pooler)",
        place(options)
    )
}

/// Adds to the error of an interrupted write that its outcome is unknown.
pub(super) fn uncertain(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { reason, source } => StoreError::Unavailable {
            reason: format!(
                "{reason}; the change may or may not have been made, repeating it with the same idempotency key is safe"
            ),
            source,
        },
        other => other,
    }
}

/// Translates the reason why no connection is available.
pub(super) fn no_connection(options: &PgConnectOptions, why: NoConnection) -> StoreError {
    let place = place(options);
    match why {
        NoConnection::Sql(error) => translate(options, "connect", error),
        NoConnection::Silent => unavailable(format!("{place} does not answer"), None),
        NoConnection::Busy(size) => unavailable(
            format!("all {size} connections are busy; more are allowed by MEMORY_DATABASE_POOL"),
            None,
        ),
        NoConnection::Closed => unavailable("the service is stopping", None),
    }
}

/// The class of a driver's error, with what the operator should know.
enum Explained {
    /// The settings or the database have to be changed.
    Setup(String),
    /// Waiting may help.
    Unavailable(String),
    /// The program does not expect this error.
    Unknown,
}

/// Translates a driver's error into one of the store.
pub(super) fn translate(
    options: &PgConnectOptions,
    during: &'static str,
    error: sqlx::Error,
) -> StoreError {
    let explained = match &error {
        sqlx::Error::Database(inner) => {
            let code = inner.code().unwrap_or_default();
            explain_setup(options, &code, inner.message())
                .map(Explained::Setup)
                .or_else(|| {
                    explain_outage(options, &code, inner.message()).map(Explained::Unavailable)
                })
                .unwrap_or(Explained::Unknown)
        }
        other => explain_connection(options, other),
    };
    match explained {
        Explained::Setup(reason) => StoreError::Setup {
            reason,
            source: Some(error),
        },
        Explained::Unavailable(reason) => unavailable(reason, Some(error)),
        Explained::Unknown => StoreError::Internal {
            during,
            source: error,
        },
    }
}

/// Explains an error that the server did not report itself.
fn explain_connection(options: &PgConnectOptions, error: &sqlx::Error) -> Explained {
    let place = place(options);
    match error {
        sqlx::Error::Io(io) => {
            Explained::Unavailable(format!("{place} cannot be reached ({})", io.kind()))
        }
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Explained::Unavailable(format!("the connection to {place} was lost"))
        }
        sqlx::Error::Tls(_) => Explained::Setup(format!(
            "no encrypted connection to {place}: check MEMORY_DATABASE_SSLMODE and its certificate"
        )),
        sqlx::Error::Configuration(_) => Explained::Setup(
            "the database settings cannot be used: check MEMORY_DATABASE_URL".to_owned(),
        ),
        _ => Explained::Unknown,
    }
}

/// Explains an error of the server that lasts until somebody changes a setting, a role or the database.
fn explain_setup(options: &PgConnectOptions, code: &str, message: &str) -> Option<String> {
    let place = place(options);
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let reason = match code {
        "28000" if demands_encryption(message) => format!(
            "{place} accepts encrypted connections only: set MEMORY_DATABASE_SSLMODE=require, or \
             sslmode=require in MEMORY_DATABASE_URL"
        ),
        "28P01" | "28000" => format!(
            "{place} does not let user {user:?} in: check MEMORY_DATABASE_USER and \
             MEMORY_DATABASE_PASSWORD (or its file), and the server's pg_hba.conf"
        ),
        // Prepared statements that are missing, or that another client prepared.
        "26000" | "42P05" => pooling_reason(options),
        // Only poolers report this about the parameters of a new connection.
        "08P01" if message.contains("startup parameter") => format!(
            "the connection pooler at {place} refuses a parameter ({message}): remove it from \
             MEMORY_DATABASE_URL, or add it to ignore_startup_parameters of PgBouncer"
        ),
        "3D000" => format!(
            "{place} has no database {database:?}: create it with \
             CREATE DATABASE \"{database}\" OWNER \"{user}\" ENCODING 'UTF8' TEMPLATE template0"
        ),
        "42501" => format!(
            "user {user:?} lacks rights in database {database:?}: use the role that made the tables, or as \
             that role or a superuser GRANT the rights on the schema and its tables to \"{user}\""
        ),
        "42P01" | "42703" => format!(
            "the schema of database {database:?} is not the one this program made: restart it, which \
             brings the schema up to date, or restore the database"
        ),
        _ => return None,
    };
    Some(reason)
}

/// Explains an error of the server that may end by itself.
fn explain_outage(options: &PgConnectOptions, code: &str, message: &str) -> Option<String> {
    let place = place(options);
    let reason = match code {
        "53300" => format!(
            "{place} has no free connection: lower MEMORY_DATABASE_POOL, or raise max_connections there (or the \
             connection limit of the role or database)"
        ),
        "53100" => format!("the disk of {place} is full: free space there"),
        "53200" => format!("{place} is out of memory"),
        "57P03" => format!("{place} is starting up or shutting down"),
        "57P01" | "57P02" => format!("{place} was shut down"),
        "25006" => read_only(options),
        "55P03" => "another change held the same memories for too long".to_owned(),
        "57014" => "a statement took too long and was cancelled".to_owned(),
        "40001" | "40P01" | "22012" | "23505" => {
            "too many changes to the same memories at the same moment".to_owned()
        }
        _ if code.starts_with("53") => format!("{place} is short of resources (SQLSTATE {code})"),
        _ if code.starts_with("58") => format!("{place} has a system error (SQLSTATE {code})"),
        _ if code.starts_with("08") || code.starts_with("57P") => {
            format!("the connection to {place} was lost (SQLSTATE {code}: {message})")
        }
        _ => return None,
    };
    Some(reason)
}

/// Explains why a server accepts reads but no writes.
pub(super) fn read_only(options: &PgConnectOptions) -> String {
    format!(
        "{} accepts no writes: name the primary server instead of a standby, or unset default_transaction_read_only",
        place(options)
    )
}

/// Returns whether a server refused an unencrypted connection. Only the text of the message shows this.
fn demands_encryption(message: &str) -> bool {
    [
        "no encryption",
        "SSL off",
        "connection is insecure",
        "SSL connection is required",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// Describes the location of the server without credentials.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => format!("PostgreSQL at {}", socket.display()),
        None => format!(
            "PostgreSQL at {}:{}",
            options.get_host(),
            options.get_port()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of PostgreSQL 14 to 17 and of Neon.
    #[test]
    fn a_demand_for_encryption_is_known_by_its_words() {
        let demands = [
            "no pg_hba.conf entry for host \"10.0.0.1\", user \"me\", database \"d\", no encryption",
            "no pg_hba.conf entry for host \"10.0.0.1\", user \"me\", database \"d\", SSL off",
            "connection is insecure (try using `sslmode=require`)",
        ];
        assert!(demands.into_iter().all(demands_encryption));
        assert!(!demands_encryption(
            "no pg_hba.conf entry for host \"10.0.0.1\", user \"me\", database \"d\", SSL encryption"
        ));
        assert!(!demands_encryption(
            "role \"me\" is not permitted to log in"
        ));
    }
}
