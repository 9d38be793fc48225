//! The embedded store: the contract, and SQLite's own properties.

#![expect(
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

use std::path::Path;
use std::sync::Arc;

use cognitive_memory_mcp::domain::{Analyzer, Language, NewMemory, Patch};
use cognitive_memory_mcp::store::sqlite::{Owner, SqliteOptions, SqliteStore, owner};
use cognitive_memory_mcp::store::{ForgetMode, SearchStore as _, Store, StoreError, Update};

use crate::contract::{
    Fixture, analyzer, at, contract_tests, episode, forget, found, note, remember, scope, store_one,
};

fn store(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteOptions::new(path), analyzer())
}

async fn fresh() -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("memory.db"));
    store.prepare().await.unwrap();
    Some(Fixture {
        store: Arc::new(store),
        _keep: Box::new(folder),
    })
}

contract_tests!(sqlite, crate::store_sqlite::fresh);

async fn open(path: &Path) -> SqliteStore {
    let store = store(path);
    store.prepare().await.unwrap();
    store
}

/// Returns all bytes of the database's files.
fn bytes(path: &Path) -> Vec<u8> {
    let mut all = std::fs::read(path).unwrap();
    for suffix in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        all.extend(std::fs::read(name).unwrap_or_default());
    }
    all
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn before_it_is_prepared_it_is_not_available() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("memory.db"));
    assert!(matches!(
        store.info().await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.announce("http://x").unwrap_err(),
        StoreError::Unavailable { .. }
    ));
    assert_eq!(store.pending_migrations().await.unwrap()[0], "0001_memory");
    assert!(
        !folder.path().join("memory.db").exists(),
        "asking creates nothing"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn its_files_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/memory.db");
    let store = open(&path).await;
    store_one(&store, &scope(), note("private")).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (
            mode(&folder.path().join("a")),
            mode(&folder.path().join("a/b"))
        ),
        (0o700, 0o700)
    );
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_second_opener_learns_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    assert_eq!(owner(&path), None);
    let first = open(&path).await;
    let pid = std::process::id().to_string();
    assert_eq!(
        owner(&path),
        Some(Owner {
            pid: pid.clone(),
            url: None
        })
    );
    first.announce("http://127.0.0.1:8765/mcp").unwrap();
    let second = store(&path);
    let Err(StoreError::InUse {
        path: named,
        pid: by,
        url,
    }) = second.prepare().await
    else {
        panic!("not refused")
    };
    assert_eq!(
        (named, by, url.as_deref()),
        (
            path.display().to_string(),
            pid,
            Some("http://127.0.0.1:8765/mcp")
        )
    );
    // Pending migrations can still be listed, and the first process continues to work.
    assert!(second.pending_migrations().await.unwrap().is_empty());
    first.info().await.unwrap();
    first.close().await;
    assert_eq!(owner(&path), None);
    second.prepare().await.unwrap();
    assert!(matches!(
        first.prepare().await,
        Err(StoreError::InUse { .. })
    ));
    second.close().await;
    first.prepare().await.unwrap();
}

#[tokio::test]
async fn memories_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let scope = scope();
    let first = open(&path).await;
    let id = store_one(&first, &scope, note("a lasting memory")).await;
    // Not closed, as after kill -9, except that the test must release the lock itself.
    let copy = folder.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&path), name(&copy)).unwrap();
    }
    let second = open(&copy).await;
    assert_eq!(found(&second, &scope, "lasting").await, [id]);
    drop(first);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("text.db"),
        "this is a text and no database, however long it may be".repeat(100),
    )
    .unwrap();
    std::fs::write(path("file"), "").unwrap();
    open(&path("newer.db")).await.close().await;
    execute(&path("newer.db"), "PRAGMA user_version = 99").await;
    for (name, change) in [
        ("minus.db", "PRAGMA user_version = -1"),
        ("least.db", "PRAGMA user_version = -2147483648"),
    ] {
        open(&path(name)).await.close().await;
        execute(&path(name), change).await;
    }
    std::fs::write(path("other.db"), "").unwrap();
    execute(&path("other.db"), "CREATE TABLE other (x)").await;
    for (name, word) in [
        ("text.db", "not a SQLite database"),
        ("file/memory.db", "cannot be"),
        ("newer.db", "upgrade"),
        ("minus.db", "has schema -1, which no release writes"),
        ("least.db", "has schema -2147483648, which"),
        ("other.db", "another program"),
    ] {
        let store = store(&path(name));
        let error = store.prepare().await.unwrap_err();
        assert!(
            matches!(error, StoreError::Setup { .. }),
            "{name}: {error:?}"
        );
        assert!(error.to_string().contains(word), "{name}: {error}");
        // Another attempt returns the same error, and the lock was released.
        assert_eq!(
            store.prepare().await.unwrap_err().to_string(),
            error.to_string()
        );
        assert_eq!(owner(&path(name)), None);
    }
}

async fn execute(path: &Path, statement: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql(statement)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_purge_leaves_no_trace_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    for number in 0..300 {
        store_one(
            &store,
            &scope,
            note(&format!("filler{number} around the secret thing {number}")),
        )
        .await;
    }
    let long = "Xanadu ".repeat(3_000);
    let item = NewMemory {
        tags: vec!["Qvortrup".into()],
        ..episode(&long, "Zyzzyva", "Ytterbium")
    };
    let id = store_one(&store, &scope, item).await;
    let patch = Patch {
        content: Some("Wolframite".into()),
        ..Patch::default()
    };
    let command = Update {
        id,
        expected_version: None,
        patch,
        reason: Some("Vermiculite".into()),
        now: at(1),
    };
    store.update(&scope, command).await.unwrap();
    for number in 300..400 {
        store_one(
            &store,
            &scope,
            note(&format!("filler{number} around the secret thing {number}")),
        )
        .await;
    }
    forget(&store, &scope, id, ForgetMode::Delete).await;
    let secrets = [
        "Xanadu",
        "xanadu",
        "Qvortrup",
        "qvortrup",
        "Zyzzyva",
        "zyzzyva",
        "Ytterbium",
        "ytterbium",
    ];
    let secrets = [&secrets[..], &["Wolframite", "wolframit", "Vermiculite"]].concat();
    assert!(contains(&bytes(&path), "Wolframite"));
    forget(&store, &scope, id, ForgetMode::Purge).await;
    let left = bytes(&path);
    for secret in secrets {
        assert!(!contains(&left, secret), "{secret} is still there");
    }
    assert!(contains(&left, "filler7"));
    assert_eq!(found(&store, &scope, "secret").await.len(), 400);
}

#[tokio::test]
async fn a_closed_database_is_whole_in_its_file() {
    use sqlx::{ConnectOptions, Connection};
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (
        folder.path().join("memory.db"),
        folder.path().join("moved.db"),
    );
    let (store, scope) = (open(&path).await, scope());
    // Another reader of the file, which ends later.
    let mut reader = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    store_one(&store, &scope, note("a walrus")).await;
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM memory")
        .fetch_one(&mut reader)
        .await
        .unwrap();
    store.close().await;
    std::fs::copy(&path, &moved).unwrap();
    reader.close().await.unwrap();
    assert_eq!(seen, 1);
    assert_eq!(found(&open(&moved).await, &scope, "walrus").await.len(), 1);
}

#[tokio::test]
async fn another_language_makes_another_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (first, scope) = (open(&path).await, scope());
    let items = (0..1_200)
        .map(|number| note(&format!("die Häuser number{number}")))
        .collect();
    remember(&first, &scope, items).await.unwrap();
    let deleted = store_one(&first, &scope, note("ein gelöschtes Haus")).await;
    forget(&first, &scope, deleted, ForgetMode::Delete).await;
    let stats = |term: &'static str| [term.to_owned()];
    assert_eq!(
        first
            .corpus_stats(&scope, &stats("haus"))
            .await
            .unwrap()
            .document_frequencies,
        [0]
    );
    first.close().await;
    let german = SqliteStore::open(
        SqliteOptions::new(&path),
        Arc::new(Analyzer::new(Language::German)),
    );
    german.prepare().await.unwrap();
    let corpus = german.corpus_stats(&scope, &stats("haus")).await.unwrap();
    assert_eq!(
        (corpus.documents, corpus.document_frequencies),
        (1_200, vec![1_200])
    );
    // Terms are removed exactly as they were added.
    assert_eq!(
        german
            .forget(&scope, &[deleted], ForgetMode::Restore, None, at(6))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        german
            .forget(&scope, &[deleted], ForgetMode::Purge, None, at(7))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        german
            .corpus_stats(&scope, &stats("haus"))
            .await
            .unwrap()
            .document_frequencies,
        [1_200]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn common_terms_stay_rightly_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, scope) = (open(&folder.path().join("memory.db")).await, scope());
    let term = ["walrus".to_owned()];
    let mut expected = 0;
    for round in 0..12_u64 {
        let items: Vec<NewMemory> = (0..100)
            .map(|number| note(&format!("walrus {round} {number}")))
            .collect();
        let (first, second) = (items[0].id, items[1].id);
        remember(&store, &scope, items).await.unwrap();
        expected += 100;
        let count = async || {
            store
                .corpus_stats(&scope, &term)
                .await
                .unwrap()
                .document_frequencies[0]
        };
        assert_eq!(count().await, expected);
        forget(&store, &scope, first, ForgetMode::Delete).await;
        assert_eq!(count().await, expected - 1);
        let patch = Patch {
            content: Some(format!("giraffe {round}")),
            ..Patch::default()
        };
        let command = Update {
            id: second,
            expected_version: None,
            patch,
            reason: None,
            now: at(1),
        };
        store.update(&scope, command).await.unwrap();
        assert_eq!(count().await, expected - 2);
        forget(&store, &scope, first, ForgetMode::Restore).await;
        forget(&store, &scope, second, ForgetMode::Purge).await;
        expected -= 1;
        // Readers that count while others write must not leave a wrong count behind.
        let writing = async {
            for number in 0..10 {
                store_one(
                    &store,
                    &scope,
                    note(&format!("walrus extra {round} {number}")),
                )
                .await;
            }
        };
        let reading = async {
            for _ in 0..30 {
                count().await;
            }
        };
        tokio::join!(writing, reading);
        expected += 10;
        assert_eq!(count().await, expected);
    }
}
