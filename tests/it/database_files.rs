//! The files of the embedded database: who may open them, foreign contents, and their disappearance.

use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use cognitive_memory_mcp::domain::{Clock, Scope, SystemClock};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore, owner};
use cognitive_memory_mcp::store::{CheckStore, ForgetMode, Pace, Store, StoreError, TokenStore};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::contract::{analyzer, at, found, note, remember, scope, store_one};

fn store(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path), analyzer())
}

async fn open(path: &Path) -> SqliteStore {
    let store = store(path);
    store.prepare().await.unwrap();
    store
}

async fn execute(path: &Path, statements: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn one_file_is_opened_once_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("linked")).unwrap();
    let first = open(&path("memory.db")).await;
    store_one(&first, &scope(), note("something")).await;
    std::fs::hard_link(path("memory.db"), path("hard.db")).unwrap();
    symlink(path("memory.db"), path("soft.db")).unwrap();
    symlink(folder.path(), path("linked/folder")).unwrap();
    for name in ["hard.db", "soft.db", "linked/folder/memory.db"] {
        let error = store(&path(name)).prepare().await.unwrap_err();
        assert!(
            matches!(error, StoreError::InUse { .. }),
            "{name}: {error:?}"
        );
    }
    assert_eq!(
        owner(&path("soft.db")),
        owner(&path("memory.db")),
        "a symbolic link leads to the same owner"
    );
    // A person deletes the lock file.
    std::fs::remove_file(path("memory.db.lock")).unwrap();
    let error = store(&path("memory.db")).prepare().await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    first.info().await.unwrap();
    first.close().await;
    let second = open(&path("soft.db")).await;
    store_one(&second, &scope(), note("something else")).await;
    second.close().await;
    assert!(!path("soft.db-wal").exists() && !path("soft.db.lock").exists());
}

#[tokio::test]
async fn a_lock_file_that_is_a_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("precious"), "keep me").unwrap();
    for target in ["precious", "missing"] {
        symlink(path(target), path("memory.db.lock")).unwrap();
        let error = store(&path("memory.db")).prepare().await.unwrap_err();
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(owner(&path("memory.db")), None);
        std::fs::remove_file(path("memory.db.lock")).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path("precious")).unwrap(),
        "keep me"
    );
    assert!(!path("missing").exists());
    open(&path("memory.db")).await.close().await;
}

#[tokio::test]
async fn writes_are_refused_once_the_database_was_truncated() {
    for length in [0, 100] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let (store, scope) = (open(&path).await, scope());
        store_one(&store, &scope, note("something")).await;
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length)
            .unwrap();
        let error = remember(&store, &scope, vec![note("lost")])
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("was truncated"),
            "{length}: {error}"
        );
        assert!(
            matches!(store.info().await, Err(StoreError::FileReplaced { .. })),
            "{length}"
        );
        store.close().await;
    }
}

#[tokio::test]
async fn writes_are_refused_once_the_log_was_truncated_or_overwritten() {
    let overwrite = |log: &std::fs::File| log.write_all_at(&[0; 32], 0).unwrap();
    let halve = |log: &std::fs::File| log.set_len(log.metadata().unwrap().len() / 2).unwrap();
    let empty = |log: &std::fs::File| log.set_len(0).unwrap();
    type Damage<'a> = &'a dyn Fn(&std::fs::File);
    let damages: [(&str, Damage<'_>); 3] = [
        ("emptied", &empty),
        ("halved", &halve),
        ("overwritten", &overwrite),
    ];
    for (case, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let (store, scope) = (open(&path).await, scope());
        store_one(&store, &scope, note("something")).await;
        let log = std::fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join("memory.db-wal"))
            .unwrap();
        damage(&log);
        let error = remember(&store, &scope, vec![note("lost")])
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("was truncated or overwritten"),
            "{case}: {error}"
        );
        assert!(
            matches!(store.info().await, Err(StoreError::FileReplaced { .. })),
            "{case}"
        );
        assert!(
            store.write_failure().borrow().is_some(),
            "{case}: readiness does not follow at once"
        );
        store.close().await;
    }
}

#[tokio::test]
async fn another_process_may_empty_the_log_as_sqlite_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    for round in 0..3 {
        store_one(&store, &scope, note(&format!("a walrus {round}"))).await;
        execute(&path, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        let log = std::fs::metadata(folder.path().join("memory.db-wal")).unwrap();
        assert_eq!(log.len(), 0);
        store.info().await.unwrap();
    }
    assert_eq!(found(&store, &scope, "walrus").await.len(), 3);
    store.close().await;
}

#[tokio::test]
async fn writes_are_refused_once_the_files_are_not_those_that_are_open() {
    for victim in ["memory.db", "memory.db-wal", "memory.db-shm"] {
        for replaced in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("memory.db");
            let (store, scope) = (open(&path).await, scope());
            store_one(&store, &scope, note("something")).await;
            let moved = folder.path().join("moved");
            std::fs::rename(folder.path().join(victim), &moved).unwrap();
            if replaced {
                std::fs::write(folder.path().join(victim), "another file").unwrap();
            }
            let what = if replaced {
                "was replaced by another file"
            } else {
                "was moved or deleted"
            };
            let case = format!("{victim} {what}");
            let error = remember(&store, &scope, vec![note("lost")])
                .await
                .unwrap_err();
            assert!(
                matches!(error, StoreError::FileReplaced { .. })
                    && error.to_string().contains(what),
                "{case}: {error}"
            );
            let id = SystemClock.new_id();
            let purge = store
                .forget(&scope, &[id], ForgetMode::Purge, None, at(0))
                .await;
            assert!(
                matches!(purge, Err(StoreError::FileReplaced { .. })),
                "{case}"
            );
            assert!(
                matches!(store.info().await, Err(StoreError::FileReplaced { .. })),
                "{case}"
            );
            assert!(
                store.write_failure().borrow().is_some(),
                "{case}: readiness does not follow at once"
            );
            store.close().await;
            let left = std::fs::read_to_string(folder.path().join(victim));
            assert_eq!(
                left.ok().as_deref(),
                replaced.then_some("another file"),
                "{case}: closing touched it"
            );
        }
    }
}

#[tokio::test]
async fn a_database_that_was_there_is_not_replaced_by_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (first, scope) = (open(&path).await, scope());
    store_one(&first, &scope, note("something")).await;
    first.close().await;
    let aside = folder.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::write(&path, "").unwrap();
        }
        let error = store(&path).prepare().await.unwrap_err();
        assert!(matches!(error, StoreError::Setup { .. }), "{error:?}");
        assert!(
            error.to_string().contains("mount its volume")
                && error.to_string().contains("memory.db.lock"),
            "{error}"
        );
        assert_eq!(path.exists(), empty, "nothing is created");
    }
    std::fs::rename(&aside, &path).unwrap();
    open(&path).await.close().await;
    // A person who wants an empty memory can create one.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(folder.path().join("memory.db.lock")).unwrap();
    let fresh = open(&path).await;
    assert_eq!(fresh.tokens().await.unwrap(), []);
    fresh.close().await;
    // The lock file of an earlier version, whose service announced itself.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(
        folder.path().join("memory.db.lock"),
        "17\nhttp://127.0.0.1:8765/mcp\n",
    )
    .unwrap();
    assert!(
        store(&path)
            .prepare()
            .await
            .unwrap_err()
            .to_string()
            .contains("mount its volume")
    );
    // The lock file of a service that was stopped before the database was created.
    std::fs::write(folder.path().join("memory.db.lock"), "17\n\n").unwrap();
    open(&path).await.close().await;
    // A log without its database.
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(folder.path().join("memory.db.lock")).unwrap();
    std::fs::write(folder.path().join("memory.db-wal"), "changes").unwrap();
    assert!(
        store(&path)
            .prepare()
            .await
            .unwrap_err()
            .to_string()
            .contains("memory.db-wal has changes")
    );
    assert_eq!(
        std::fs::read_to_string(folder.path().join("memory.db-wal")).unwrap(),
        "changes"
    );
}

#[tokio::test]
async fn a_schema_that_somebody_changed_is_refused_with_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (first, scope) = (open(&path).await, scope());
    store_one(&first, &scope, note("something")).await;
    first.close().await;
    let changes = [
        (
            "thief",
            "CREATE TRIGGER thief AFTER INSERT ON memory BEGIN DELETE FROM memory; END",
            "DROP TRIGGER thief",
        ),
        (
            "spy",
            "CREATE VIEW spy AS SELECT * FROM memory",
            "DROP VIEW spy",
        ),
        ("extra", "CREATE TABLE extra (x)", "DROP TABLE extra"),
        (
            "slow",
            "CREATE INDEX slow ON memory (content)",
            "DROP INDEX slow",
        ),
        ("memory_deleted", "DROP TRIGGER memory_deleted", ""),
    ];
    for (name, change, undo) in changes {
        execute(&path, change).await;
        let error = store(&path).prepare().await.unwrap_err();
        assert!(
            matches!(error, StoreError::Setup { .. }),
            "{name}: {error:?}"
        );
        assert!(
            error.to_string().contains(&format!("{name:?}")),
            "{name}: {error}"
        );
        if !undo.is_empty() {
            execute(&path, undo).await;
            open(&path).await.close().await;
        }
    }
}

#[tokio::test]
async fn statistics_of_the_tables_are_no_change_of_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    open(&path).await.close().await;
    execute(&path, "ANALYZE").await;
    open(&path).await.close().await;
}

/// Creates a database with the schema of commit 625b3ea, a memory, its history and a token.
async fn database_of_schema_5(path: &Path) {
    let migrations = [
        include_str!("../../src/store/sqlite/migrations/0001_memory.sql"),
        include_str!("../../src/store/sqlite/migrations/0002_graph.sql"),
        include_str!("../../src/store/sqlite/migrations/0003_review.sql"),
        include_str!("../../src/store/sqlite/migrations/0004_project.sql"),
        include_str!("../../src/store/sqlite/migrations/0005_trace.sql"),
    ];
    let rows = "INSERT INTO project (id, name) VALUES (1, 'default'); \
        INSERT INTO memory (seq, id, project, kind, length, importance, occurred_at, created_at, updated_at, content_hash, \
            content) VALUES (1, zeroblob(16), 1, 'note', 1, 0.5, 1, 1, 1, zeroblob(32), 'walrus'); \
        INSERT INTO history (memory, version, change, actor, at) VALUES (1, 1, 'created', 'a', 1); \
        INSERT INTO index_job (memory, kind, project) VALUES (1, 'embedding', 1); \
        INSERT INTO token (name, sha256, prefix, project, reads, created_at) \
            VALUES ('laptop', zeroblob(32), 'cm_', 'default', '[]', 1); \
        PRAGMA application_id = 1129145709; PRAGMA user_version = 5";
    execute(path, &format!("{}; {rows}", migrations.join(";"))).await;
}

#[tokio::test]
async fn a_database_of_an_earlier_version_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    database_of_schema_5(&path).await;
    let store = open(&path).await;
    let scope = Scope::new("default", "tester");
    assert_eq!(found(&store, &scope, "walrus").await.len(), 1);
    assert_eq!(store.tokens().await.unwrap().len(), 1);
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
    store.close().await;
    // Before 3.45, json_valid(NULL) is false, and integrity_check of such a version must not report damage.
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    let definition: String =
        sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE name = 'history'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(
        definition.contains("CHECK (old IS NULL OR json_valid(old))"),
        "{definition}"
    );
    let refused = sqlx::query("UPDATE history SET old = 'no JSON'")
        .execute(&mut connection)
        .await;
    assert!(
        refused.unwrap_err().to_string().contains("CHECK"),
        "the condition still holds"
    );
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_compacted_file_is_smaller_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    let kept = store_one(&store, &scope, note("a walrus stays")).await;
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(
            store_one(
                &store,
                &scope,
                note(&format!("{number} {}", "filler ".repeat(4_000))),
            )
            .await,
        );
    }
    store
        .forget(&scope, &ids, ForgetMode::Purge, None, at(1))
        .await
        .unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    let before = size();
    store.compact().await.unwrap();
    assert!(size() < before / 2, "{before} became {}", size());
    assert_eq!(found(&store, &scope, "walrus").await, [kept]);
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
}
