//! Migrates the file to the schema of this binary. Each migration is applied once, and all pending ones in a single
//! transaction.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};

use super::error::from_sqlx;
use super::sql;
use crate::store::migration_list::SQLITE as MIGRATIONS;
use crate::store::{Finding, Result, StoreError, Subject};

/// Marks the file as ours (`PRAGMA application_id`): the letters `CMem`.
const APPLICATION_ID: i64 = 0x434d_656d;

/// The newest schema version that this binary knows.
pub(super) const NEWEST: usize = MIGRATIONS.len();

const STATE: &str = "SELECT (SELECT user_version FROM pragma_user_version), \
    (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)";

/// Returns the schema version of the database, 0 if it is empty.
///
/// # Errors
/// Fails if the file belongs to another program or to a newer binary.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<usize> {
    let row = sqlx::query(STATE)
        .fetch_one(connection)
        .await
        .map_err(|error| from_sqlx(error, "reading the schema version"))?;
    let read = |column| {
        row.try_get::<i64, _>(column)
            .map_err(|error| from_sqlx(error, "reading the schema version"))
    };
    let (version, application, objects) = (read(0)?, read(1)?, read(2)?);
    if application != APPLICATION_ID && (objects > 0 || application != 0) {
        return Err(setup(
            "the file is a SQLite database of another program; name another file".to_owned(),
        ));
    }
    match usize::try_from(version) {
        Ok(version) if version <= NEWEST => Ok(version),
        Ok(version) => Err(setup(format!(
            "the embedded database has schema {version}, this binary knows {NEWEST}; upgrade cognitive-memory-mcp, \
             or restore a backup made before the upgrade"
        ))),
        Err(_) => Err(setup(format!(
            "the embedded database has schema {version}, which no release writes (expected 0 to {NEWEST}): the file is \
             damaged, or another program changed its user_version; restore a backup"
        ))),
    }
}

/// Kind and name of each object of a schema, with its definition.
type Objects = BTreeMap<(String, String), (String, String)>;

/// Everything that a schema defines, except the harmless statistics of `ANALYZE`.
const OBJECTS: &str = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema \
    WHERE name NOT LIKE 'sqlite\\_stat_' ESCAPE '\\'";
/// Maximum number of names in a message, because a hostile file may have any number.
const MOST_NAMES: usize = 10;

async fn objects(connection: &mut SqliteConnection) -> Result<Objects> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(OBJECTS)
        .fetch_all(connection)
        .await
        .map_err(|error| from_sqlx(error, "reading the schema"))?;
    Ok(rows
        .into_iter()
        .map(|(kind, name, table, sql)| ((kind, name), (table, sql)))
        .collect())
}

/// Returns the objects that the migrations up to `version` create.
async fn expected_objects(version: usize) -> Result<Objects> {
    let failed = |error| from_sqlx(error, "making a schema to compare with");
    let options = SqliteConnectOptions::new()
        .in_memory(true)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    for migration in &MIGRATIONS[..version] {
        sqlx::raw_sql(migration.sql)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
    }
    objects(&mut connection).await
}

/// Compares the schema with that of a fresh database of the same version, and returns additional and missing objects. A
/// foreign trigger or view can make acknowledged writes disappear.
pub(super) async fn foreign_objects(connection: &mut SqliteConnection) -> Result<Option<Finding>> {
    let version = version(connection).await?;
    let (expected, present) = (expected_objects(version).await?, objects(connection).await?);
    let named = |(kind, name): &(String, String)| format!("{kind} {name:?}");
    let foreign: Vec<_> = present
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .map(named)
        .collect();
    let changed: Vec<_> = expected
        .iter()
        .filter(|(key, definition)| present.get(*key) != Some(*definition))
        .map(|(key, _)| named(key))
        .collect();
    let mut parts = Vec::new();
    for (what, mut names) in [("unknown", foreign), ("missing or changed", changed)] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(MOST_NAMES);
            names.truncate(MOST_NAMES);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            parts.push(format!("{what}: {}{more}", names.join(", ")));
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let detail = format!(
        "the schema is not the one that this program creates ({})",
        parts.join("; ")
    );
    let remedy = "do not use this file if it comes from somebody else; if you added these objects, drop them with the \
                  sqlite3 program, otherwise restore a backup";
    Ok(Some(Finding::new(Subject::Schema, detail, remedy)))
}

/// Fails if the schema of the database was changed by another program.
pub(super) async fn require_own(connection: &mut SqliteConnection) -> Result<()> {
    match foreign_objects(connection).await? {
        None => Ok(()),
        Some(finding) => Err(setup(finding.to_string())),
    }
}

/// Returns the names of the migrations that [`migrate`] would apply to a database of `version`.
pub(super) fn pending(version: usize) -> Vec<String> {
    MIGRATIONS[version..]
        .iter()
        .map(|migration| migration.name.to_owned())
        .collect()
}

/// Applies pending migrations. Cheap if there are none.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    if version(connection).await? == NEWEST {
        return Ok(());
    }
    let failed = |error| from_sqlx(error, "migrating the schema");
    sqlx::query(sql::BEGIN)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    // Read again under the lock, because another process may have migrated.
    let from = version(connection).await?;
    for migration in &MIGRATIONS[from..] {
        sqlx::raw_sql(migration.sql)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    let mark =
        format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {NEWEST}; COMMIT");
    sqlx::raw_sql(sqlx::AssertSqlSafe(mark))
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    Ok(())
}

fn setup(reason: String) -> StoreError {
    StoreError::Setup {
        reason,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor, SqlSafeStr};

    use super::super::sql;
    use super::*;
    use crate::domain::{AsOf, Filter, Kind};

    async fn migrated() -> SqliteConnection {
        let mut connection = SqliteConnectOptions::new()
            .in_memory(true)
            .connect()
            .await
            .unwrap();
        migrate(&mut connection).await.unwrap();
        connection
    }

    /// Databases from before the migration that counts versions already have a history.
    #[tokio::test]
    async fn earlier_versions_are_counted_by_the_migration() {
        let mut connection = SqliteConnectOptions::new()
            .in_memory(true)
            .connect()
            .await
            .unwrap();
        let counting = MIGRATIONS
            .iter()
            .position(|migration| migration.name.ends_with("_history"))
            .unwrap();
        for migration in &MIGRATIONS[..counting] {
            let applying = sqlx::raw_sql(migration.sql).execute(&mut connection);
            applying.await.unwrap();
        }
        let old = "INSERT INTO project (name) VALUES ('a'), ('b'); \
            INSERT INTO memory (id, project, kind, length, importance, occurred_at, created_at, updated_at, content_hash, \
                tags, metadata, content) \
            VALUES (zeroblob(16), 2, 'note', 1, 0.5, 1, 1, 3, zeroblob(32), '[]', '{}', 'now'); \
            INSERT INTO history (memory, version, change, old, actor, reason, at) VALUES \
                (1, 1, 'created', NULL, 'x', NULL, 1), (1, 2, 'updated', '{\"content\":\"ü\"}', 'x', 'why', 2), \
                (1, 3, 'updated', '{}', 'x', NULL, 3)";
        sqlx::raw_sql(old).execute(&mut connection).await.unwrap();
        for migration in &MIGRATIONS[counting..] {
            let applying = sqlx::raw_sql(migration.sql).execute(&mut connection);
            applying.await.unwrap();
        }
        let counted = async |connection: &mut SqliteConnection| {
            let counted = sqlx::query_scalar("SELECT history_bytes FROM project ORDER BY id")
                .fetch_all(connection)
                .await;
            counted.unwrap()
        };
        let before: Vec<i64> = counted(&mut connection).await;
        assert_eq!(
            before,
            [
                0,
                i64::try_from("{\"content\":\"ü\"}".len() + "why".len() + "{}".len()).unwrap()
            ]
        );
        sqlx::raw_sql("DELETE FROM history WHERE version = 3")
            .execute(&mut connection)
            .await
            .unwrap();
        assert_eq!(counted(&mut connection).await, [0, before[1] - 2]);
        sqlx::raw_sql("DELETE FROM memory")
            .execute(&mut connection)
            .await
            .unwrap();
        assert_eq!(
            counted(&mut connection).await,
            [0, 0],
            "the rest goes with the memory"
        );
    }

    #[tokio::test]
    async fn every_statement_fits_the_schema() {
        let mut connection = migrated().await;
        for (name, text) in super::super::SqliteStore::statements() {
            for part in text.split("; ") {
                let prepared = connection
                    .prepare(sqlx::AssertSqlSafe(part).into_sql_str())
                    .await;
                assert!(prepared.is_ok(), "{name}: {prepared:?}");
            }
        }
    }

    #[tokio::test]
    async fn every_filter_fits_the_schema() {
        let mut connection = migrated().await;
        let now = chrono::DateTime::UNIX_EPOCH;
        for (bits, as_of) in (0..256_u32).flat_map(|bits| {
            [AsOf::Present, AsOf::KnownThen, AsOf::TrueThen].map(|as_of| (bits, as_of))
        }) {
            let on = |bit: u32| bits >> bit & 1 == 1;
            let filter = Filter {
                kinds: if on(0) { vec![Kind::Note] } else { Vec::new() },
                tags: if on(1) {
                    vec!["a".to_owned()]
                } else {
                    Vec::new()
                },
                session: on(2).then(String::new),
                speaker: on(3).then(String::new),
                since: on(4).then_some(now),
                until: on(5).then_some(now),
                min_importance: on(6).then_some(0.0),
                include_outdated: on(7),
                now,
                as_of,
            };
            for projects in [&[1][..], &[1, 2]] {
                for statement in [
                    sql::browse(&filter, projects),
                    sql::candidates(&filter, projects),
                ] {
                    connection.prepare(statement.into_sql_str()).await.unwrap();
                }
            }
        }
    }

    /// Every recall runs these statements at any size, so none may scan a table or sort all rows.
    #[tokio::test]
    async fn recall_reads_no_more_than_it_needs() {
        let mut connection = migrated().await;
        let filter = Filter::at(chrono::DateTime::UNIX_EPOCH);
        let statements = [
            sql::browse(&filter, &[1]).0,
            sql::candidates(&filter, &[1]).0,
            sql::LENGTHS.to_owned(),
            sql::EQUAL.to_owned(),
            sql::GET.to_owned(),
            super::super::review_sql::CHANGED_SINCE.to_owned(),
            super::super::review_sql::CHANGED.to_owned(),
            super::super::review_sql::CHAINS.to_owned(),
            super::super::reference::REFERRED_MEMORIES.to_owned(),
            super::super::overview::OUTSTANDING.to_owned(),
        ];
        for statement in statements {
            let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = sqlx::query(explained)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            for row in rows {
                let step: String = row.try_get("detail").unwrap();
                assert!(!step.starts_with("SCAN m"), "{step}\n{statement}");
            }
        }
    }
}
