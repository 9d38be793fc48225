//! Migrates a database to the schema of this binary.
//!
//! Invariants: migrations only go forward, and each is recorded in its own transaction. One server at a time
//! migrates; the others wait for a limited time. The list of migrations is `store::migration_list`.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row};
use tokio::time::{Instant, sleep};

use super::fault::{self, Fault};
use super::row::ServerRow;
use super::sql;
use crate::store::StoreError;
use crate::store::migration_list::{Migration, POSTGRES as MIGRATIONS};
use crate::store::statement::bind;

/// Oldest supported server version: the first one that has the statements used here and is still maintained with
/// pgvector.
const OLDEST_SERVER: i32 = 140_000;
/// The version of pgvector that introduced `halfvec`.
const OLDEST_VECTOR: (u32, u32) = (0, 7);
/// Key of the advisory lock.
const LOCK_KEY: i64 = 0x636f_676d_656d_0001;
/// Maximum wait for the migration of another server. After that, `prepare` reports the wait and is tried again
/// later.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Returns the newest schema version that this binary knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, Migration::version)
}

fn checksum(migration: &Migration) -> Vec<u8> {
    Sha256::digest(migration.sql).to_vec()
}

/// Checks whether this server is suitable, and reports missing requirements.
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
            "database {database:?} has the encoding {}, UTF8 is needed: create it again with \
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

/// Returns the migrations that have not been applied.
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
            let advice = if version > newest {
                "upgrade the program"
            } else {
                "no release writes this version; restore a backup"
            };
            let reason = format!(
                "database {:?} has schema version {version}, this program knows up to {newest}: {advice}",
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

/// Waits for the migration lock. The lock ends with the connection at the latest.
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

/// Releases the lock.
pub(super) async fn unlock(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query(sql::UNLOCK)
        .bind(LOCK_KEY)
        .execute(connection)
        .await?;
    Ok(())
}

/// Advises a user who may not create the extension. A grant helps only if the extension is trusted.
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

/// Applies pending migrations under the lock.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), Fault> {
    // Read again, because another server may have migrated while this one waited for the lock.
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
        bind!(sqlx::query(sql::ADD_MIGRATION) =>
            migration.version(), migration.name, checksum(migration))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        tracing::info!(migration = migration.name, "migration applied");
    }
    Ok(())
}
