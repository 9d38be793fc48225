//! The embedded migrations: forward only, never edited after a release (a test hashes them), each applied once,
//! all pending ones in a single transaction.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};

use super::error::from_sqlx;
use super::sql;
use crate::store::{Finding, Result, StoreError, Subject};

/// Marks the file as ours (`PRAGMA application_id`): the letters `CMem`.
const APPLICATION_ID: i64 = 0x434d_656d;

/// Name and text of every migration; the place in the list is its version, from 1.
pub(super) const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_memory", include_str!("migrations/0001_memory.sql")),
    ("0002_graph", include_str!("migrations/0002_graph.sql")),
    ("0003_review", include_str!("migrations/0003_review.sql")),
    ("0004_project", include_str!("migrations/0004_project.sql")),
    ("0005_trace", include_str!("migrations/0005_trace.sql")),
    ("0006_history", include_str!("migrations/0006_history.sql")),
    (
        "0007_history_check",
        include_str!("migrations/0007_history_check.sql"),
    ),
    (
        "0008_short_id",
        include_str!("migrations/0008_short_id.sql"),
    ),
    (
        "0009_outstanding",
        include_str!("migrations/0009_outstanding.sql"),
    ),
    ("0010_names", include_str!("migrations/0010_names.sql")),
];

/// The newest version that this binary knows.
pub(super) const NEWEST: usize = MIGRATIONS.len();

const STATE: &str = "SELECT (SELECT user_version FROM pragma_user_version), \
    (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)";

/// Which version the database has, 0 for an empty one.
///
/// # Errors
/// When it belongs to somebody else, or to a newer binary.
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
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > NEWEST {
        return Err(setup(format!(
            "the embedded database has schema {version}, this binary knows {NEWEST}; upgrade cognitive-memory-mcp, \
             or restore a backup made before the upgrade"
        )));
    }
    Ok(version)
}

/// Kind and name of each object of a schema, with its definition.
type Objects = BTreeMap<(String, String), (String, String)>;

/// Everything that a schema defines. Statistics of `ANALYZE` do no harm.
const OBJECTS: &str = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema \
    WHERE name NOT LIKE 'sqlite\\_stat_' ESCAPE '\\'";
/// Names in a message; a hostile file may have any number.
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

/// The objects that the migrations up to `version` create.
async fn expected_objects(version: usize) -> Result<Objects> {
    let failed = |error| from_sqlx(error, "making a schema to compare with");
    let options = SqliteConnectOptions::new()
        .in_memory(true)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    for (_, text) in &MIGRATIONS[..version] {
        sqlx::raw_sql(*text)
            .execute(&mut connection)
            .await
            .map_err(failed)?;
    }
    objects(&mut connection).await
}

/// What the schema has beyond that of a fresh database of the same version, and what it lacks. A trigger or view of
/// somebody else can make acknowledged writes disappear.
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

/// Refuses a database whose schema somebody else has changed.
pub(super) async fn require_own(connection: &mut SqliteConnection) -> Result<()> {
    match foreign_objects(connection).await? {
        None => Ok(()),
        Some(finding) => Err(setup(finding.to_string())),
    }
}

/// Names of what [`migrate`] would apply to a database of `version`.
pub(super) fn pending(version: usize) -> Vec<String> {
    MIGRATIONS[version..]
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

/// Applies what is missing. Cheap when nothing is.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    if version(connection).await? == NEWEST {
        return Ok(());
    }
    let failed = |error| from_sqlx(error, "migrating the schema");
    sqlx::query(sql::BEGIN)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    // Read again under the lock: somebody may have been faster.
    let from = version(connection).await?;
    for (_, text) in &MIGRATIONS[from..] {
        sqlx::raw_sql(*text)
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
    use sha2::{Digest, Sha256};
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions, Executor, SqlSafeStr};

    use super::super::{focus_sql, graph_sql, sql};
    use super::*;
    use crate::domain::{AsOf, Filter, Kind};

    /// A migration that was released must stay as it is: other machines have applied it. Until the first release
    /// the line may be changed along with the file.
    #[test]
    fn migrations_are_never_edited() {
        let known = [
            "a964d7893b8ae8b64cf979f21a29939fb6a325b1dc3362fc02ef10d0a1c9a99f",
            "63ddca300ca33feba16791b27d3e83cf5b71e2de3b5bfdb8d025295c16433fdb",
            "d08d4a864860fc7de0577f38b78f915107804780d2a595096b3421141a253dcf",
            "8ec3eaf5c99f5be09a35a89f9db8d9801c933d006d701d445c33216ebd4f1940",
            "803e6577bfe79ed96e060ca341c14b6a9b28efc904d2d12059497a003a378fbe",
            "df3d6f9a0f956368a7a878e191456f14b95c0c221e952d624531b19b4c49294d",
            "1a29d866cc69137b9585f6dd2ac60f7c750cbd8f003f9bb26abd5f4b72eb22ab",
            "551486ffef0bab356a39fdded62c3e548633fcf38f180488b8738d5b38640dc2",
            "7d2b93a8e776eb3f7e02590f3902f9fe12d3c8374cc8c596b2928875c88cbdaa",
            "37fe3c4cef1c2753400a21a73821351ae3915d7db24165d231d9bec82ea2d842",
        ];
        assert_eq!(known.len(), MIGRATIONS.len());
        for ((name, text), known) in MIGRATIONS.iter().zip(known) {
            let hash: String = Sha256::digest(text)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hash, known, "{name}");
        }
    }

    async fn migrated() -> SqliteConnection {
        let mut connection = SqliteConnectOptions::new()
            .in_memory(true)
            .connect()
            .await
            .unwrap();
        migrate(&mut connection).await.unwrap();
        connection
    }

    /// Databases from before the counting hold history already.
    #[tokio::test]
    async fn earlier_versions_are_counted_by_the_migration() {
        let mut connection = SqliteConnectOptions::new()
            .in_memory(true)
            .connect()
            .await
            .unwrap();
        let counting = MIGRATIONS
            .iter()
            .position(|(name, _)| name.ends_with("_history"))
            .unwrap();
        for (_, text) in &MIGRATIONS[..counting] {
            sqlx::raw_sql(*text).execute(&mut connection).await.unwrap();
        }
        let old = "INSERT INTO project (name) VALUES ('a'), ('b'); \
            INSERT INTO memory (id, project, kind, length, importance, occurred_at, created_at, updated_at, content_hash, \
                tags, metadata, content) \
            VALUES (zeroblob(16), 2, 'note', 1, 0.5, 1, 1, 3, zeroblob(32), '[]', '{}', 'now'); \
            INSERT INTO history (memory, version, change, old, actor, reason, at) VALUES \
                (1, 1, 'created', NULL, 'x', NULL, 1), (1, 2, 'updated', '{\"content\":\"ü\"}', 'x', 'why', 2), \
                (1, 3, 'updated', '{}', 'x', NULL, 3)";
        sqlx::raw_sql(old).execute(&mut connection).await.unwrap();
        for (_, text) in &MIGRATIONS[counting..] {
            sqlx::raw_sql(*text).execute(&mut connection).await.unwrap();
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
        let others = [
            graph_sql::ALL,
            focus_sql::ALL,
            super::super::review_sql::ALL,
            super::super::reference::ALL,
            super::super::overview::ALL,
        ];
        for (name, text) in sql::ALL.iter().chain(others.into_iter().flatten()) {
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

    /// These are on the way of every recall, at any size: no scan of a table, no sort of all that is there.
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
