//! Brings a database to the schema of this binary.
//!
//! Invariants: migrations only go forward, each in a transaction with the note that it was applied; one server at a
//! time does it, the others wait, though not for ever. The list of migrations is `store::migration_list`.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::fault::{self, Fault};
use super::row::ServerRow;
use super::sql;
use crate::store::StoreError;
use crate::store::migration_list::{Migration, POSTGRES as MIGRATIONS};

/// Oldest server: the first with the statements used here and still maintained with pgvector.
const OLDEST_SERVER: i32 = 140_000;
/// The version of pgvector that brought `halfvec`.
const OLDEST_VECTOR: (u32, u32) = (0, 7);
/// Key of the advisory lock.
const LOCK_KEY: i64 = 0x636f_676d_656d_0001;
/// Longest wait for another server's migration before `prepare` says so and is tried again later.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The newest version that this binary knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, Migration::version)
}

fn checksum(migration: &Migration) -> Vec<u8> {
    Sha256::digest(migration.sql).to_vec()
}

/// Whether this server will do, and what is missing.
pub(super) async fn check(connection: &mut PgConnection) -> Result<ServerRow, Fault> {
    let server: ServerRow = sqlx::query_as(sql::SERVER)
        .fetch_one(&mut *connection)
        .await?;
    let database = &server.database;
    if server.version < OLDEST_SERVER {
        let found = server.version / 10_000;
        return Err(fault::setup(format!(
            "PostgreSQL {found} is too old: upgrade the server to 14 or newer"
        ))
        .into());
    }
    if server.encoding != "UTF8" {
        let reason = format!(
            "database {database:?} has the encoding {}, UTF8 is needed: create it anew with \
             CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            server.encoding
        );
        return Err(fault::setup(reason).into());
    }
    if server.schema.is_none() {
        let reason = format!(
            "user {:?} has no schema to work in: as the owner of database {database:?} run CREATE SCHEMA public",
            server.role
        );
        return Err(fault::setup(reason).into());
    }
    match server
        .vector
        .as_deref()
        .or(server.vector_available.as_deref())
    {
        None => {
            let reason = format!(
                "the extension pgvector is not installed on the database server: install it there (Debian package \
                 postgresql-{}-pgvector, image pgvector/pgvector:pg{0}; managed services list it as `vector`)",
                server.version / 10_000
            );
            return Err(fault::setup(reason).into());
        }
        Some(version) if older(version) => {
            let newer = server
                .vector_available
                .as_deref()
                .filter(|available| !older(available));
            let install = match newer {
                Some(_) => "",
                None => "install 0.7 or newer on the database server, then ",
            };
            let reason = format!(
                "the extension pgvector {version} is too old: {install}as its owner or a superuser run ALTER EXTENSION \
                 vector UPDATE in database {database:?}"
            );
            return Err(fault::setup(reason).into());
        }
        Some(_) => {}
    }
    Ok(server)
}

fn older(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST_VECTOR
}

/// The migrations that are still to be applied.
pub(super) async fn pending(
    connection: &mut PgConnection,
    server: &ServerRow,
) -> Result<Vec<&'static Migration>, Fault> {
    if !server.migrated {
        return Ok(MIGRATIONS.iter().collect());
    }
    let applied = sqlx::query(sql::MIGRATIONS)
        .fetch_all(&mut *connection)
        .await?;
    let mut pending: Vec<&Migration> = MIGRATIONS.iter().collect();
    for row in applied {
        let (version, checksum): (i64, Vec<u8>) =
            (row.try_get("version")?, row.try_get("checksum")?);
        let Some(known) = MIGRATIONS
            .iter()
            .find(|migration| migration.version() == version)
        else {
            let newest = newest();
            let reason = format!(
                "database {:?} has schema version {version}, this program knows up to {newest}: upgrade the program",
                server.database
            );
            return Err(fault::setup(reason).into());
        };
        if self::checksum(known) != checksum {
            let reason = format!(
                "migration {} was applied to database {:?} in another form: this program is not the release that \
                 made the database; use a released one",
                known.name, server.database
            );
            return Err(fault::setup(reason).into());
        }
        pending.retain(|migration| migration.version() != version);
    }
    Ok(pending)
}

/// Waits for the right to migrate or to rebuild. It ends with the connection at the latest.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), Fault> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let locked: bool = sqlx::query_scalar(sql::TRY_LOCK)
            .bind(LOCK_KEY)
            .fetch_one(&mut *connection)
            .await?;
        if locked {
            sqlx::query(sql::UNLIMITED)
                .execute(&mut *connection)
                .await?;
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(fault::unavailable("another server is preparing it", None).into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Gives the right back.
pub(super) async fn unlock(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query(sql::UNLOCK)
        .bind(LOCK_KEY)
        .execute(connection)
        .await?;
    Ok(())
}

/// What to do for a user who may not create the extension. Only where the extension is trusted does a grant help.
fn extension_refused(server: &ServerRow) -> String {
    let ServerRow { role, database, .. } = server;
    let grant = if server.vector_trusted {
        format!(
            ", or as the owner of the database GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\""
        )
    } else {
        String::new()
    };
    format!(
        "user {role:?} may not create the extension pgvector: connect to database {database:?} as a superuser (on a \
         managed service: its administrator) and run CREATE EXTENSION vector{grant}"
    )
}

/// Applies what is pending, under the lock.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), Fault> {
    // Read again: while this server waited for the lock another one may have done the work.
    let server = check(connection).await?;
    let pending = pending(connection, &server).await?;
    if pending.is_empty() {
        return Ok(());
    }
    let schema = server.schema.as_deref().unwrap_or("public");
    if !server.may_create {
        let reason = format!(
            "user {role:?} may not create tables in database {database:?}: as the owner of the schema run \
             GRANT CREATE, USAGE ON SCHEMA {schema} TO \"{role}\"",
            role = server.role,
            database = server.database
        );
        return Err(fault::setup(reason).into());
    }
    if server.vector.is_none()
        && let Err(error) = sqlx::query(sql::CREATE_VECTOR)
            .execute(&mut *connection)
            .await
    {
        let refused = error
            .as_database_error()
            .is_some_and(|inner| inner.code().as_deref() == Some("42501"));
        if !refused {
            return Err(error.into());
        }
        let reason = extension_refused(&server);
        return Err(StoreError::Setup {
            reason,
            source: Some(error),
        }
        .into());
    }
    sqlx::query(sql::CREATE_MIGRATIONS)
        .execute(&mut *connection)
        .await?;
    for migration in pending {
        let mut transaction = connection.begin().await?;
        sqlx::query(sql::REACH_VECTOR)
            .execute(&mut *transaction)
            .await?;
        sqlx::raw_sql(migration.sql)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(sql::ADD_MIGRATION)
            .bind(migration.version())
            .bind(migration.name)
            .bind(checksum(migration))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        tracing::info!(migration = migration.name, "migration applied");
    }
    Ok(())
}
