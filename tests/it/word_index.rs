//! The word index of the embedded database: no changed or purged text remains in it, damage is detected, and a repair
//! of the index loses no other data.

use std::path::Path;

use cognitive_memory_mcp::domain::{Patch, Scope};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{
    CheckStore, Finding, ForgetMode, Pace, PortStore, Store, Subject, Update,
};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use uuid::Uuid;

use crate::contract::{analyzer, at, forget, found, note, scope, store_one};

/// The longest text that a memory may have.
const LONGEST: usize = 64 * 1024;
const WORDS: [&str; 6] = [
    "geheim",
    "quagmire",
    "zeppelin",
    "rhubarb",
    "xylophone",
    "walrus",
];

async fn open(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(SqliteOptions::new(path), analyzer());
    store.prepare().await.unwrap();
    store
}

async fn connect(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

async fn execute(path: &Path, statements: &str) {
    let mut connection = connect(path).await;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// Returns index entries of memories that are deleted or missing.
async fn left_over(path: &Path) -> Vec<(String, i64)> {
    let mut connection = connect(path).await;
    let entries = sqlx::query_as(
        "SELECT DISTINCT term, doc FROM memory_term_instance \
         WHERE doc NOT IN (SELECT seq FROM memory WHERE deleted_at IS NULL)",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    entries
}

async fn update(store: &dyn Store, scope: &Scope, id: Uuid, content: String) {
    let patch = Patch {
        content: Some(content),
        ..Patch::default()
    };
    let command = Update {
        id,
        expected_version: None,
        patch,
        reason: None,
        now: at(1),
    };
    store.update(scope, command).await.unwrap();
}

fn subjects(findings: &[Finding]) -> Vec<Subject> {
    findings.iter().map(|finding| finding.subject).collect()
}

#[tokio::test]
async fn a_text_with_a_repeated_word_leaves_nothing_after_its_update_and_purge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    for mode in [ForgetMode::Delete, ForgetMode::Purge] {
        let id = store_one(&store, &scope, note("geheim")).await;
        update(
            &store,
            &scope,
            id,
            format!("Note: {}", "geheim ".repeat(134)),
        )
        .await;
        assert_eq!(found(&store, &scope, "geheim").await, [id]);
        forget(&store, &scope, id, mode).await;
        assert_eq!(left_over(&path).await, [], "{mode:?}");
        if mode == ForgetMode::Delete {
            forget(&store, &scope, id, ForgetMode::Purge).await;
        }
    }
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
}

/// A step of a property test on one of a few memories.
#[derive(Debug, Clone)]
enum Step {
    Remember(String),
    Update(usize, String),
    Forget(usize, ForgetMode),
}

/// Generates a text of repeated words. Above 63 bytes of positions, the index uses another encoding.
fn text() -> impl Strategy<Value = String> {
    let repeats = prop_oneof![Just(1), 2..140_usize, 140..1_000_usize, Just(LONGEST)];
    prop::collection::vec((0..WORDS.len(), repeats), 1..4).prop_map(|parts| {
        let mut text: String = parts
            .iter()
            .map(|(word, repeats)| format!("{} ", WORDS[*word]).repeat((*repeats).min(10_000)))
            .collect();
        text.truncate(LONGEST);
        text
    })
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        Just(ForgetMode::Delete),
        Just(ForgetMode::Restore),
        Just(ForgetMode::Purge)
    ];
    prop_oneof![
        2 => text().prop_map(Step::Remember),
        4 => (any::<prop::sample::Index>(), text()).prop_map(|(which, text)| Step::Update(which.index(4), text)),
        3 => (any::<prop::sample::Index>(), mode).prop_map(|(which, mode)| Step::Forget(which.index(4), mode)),
    ]
}

/// Executes the step if the current state permits it, and returns the memories that exist afterwards.
async fn take(store: &SqliteStore, scope: &Scope, step: Step, ids: &mut Vec<Uuid>) {
    match step {
        Step::Remember(text) => {
            let answer = crate::contract::remember(store, scope, vec![note(&text)])
                .await
                .unwrap();
            if answer[0].created {
                ids.push(answer[0].id);
            }
        }
        Step::Update(which, text) if which < ids.len() => {
            let live = !store
                .get(scope, &[ids[which]], false)
                .await
                .unwrap()
                .is_empty();
            if live {
                update(store, scope, ids[which], text).await;
            }
        }
        Step::Forget(which, mode) if which < ids.len() => {
            forget(store, scope, ids[which], mode).await;
            if mode == ForgetMode::Purge {
                ids.remove(which);
            }
        }
        Step::Update(..) | Step::Forget(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_index_holds_the_terms_of_the_live_memories_and_no_others(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("memory.db");
            let (store, scope) = (open(&path).await, scope());
            let mut ids = Vec::new();
            for step in steps {
                let shown = format!("{step:?}").chars().take(80).collect::<String>();
                take(&store, &scope, step, &mut ids).await;
                assert_eq!(left_over(&path).await, [], "after {shown}");
                assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), [], "after {shown}");
            }
            for id in ids {
                forget(&store, &scope, id, ForgetMode::Purge).await;
            }
            assert_eq!(left_over(&path).await, []);
            store.close().await;
            let bytes = std::fs::read(&path).unwrap();
            for word in WORDS {
                assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word} is still in the file");
            }
        });
    }
}

/// Puts the index into the state in which the service of commit 625b3ea leaves it after an update and a purge: it
/// contains an entry of a missing row. Such a file has no layout mark.
async fn damage_as_before(path: &Path) {
    let long = "1:geheim ".repeat(134);
    execute(
        path,
        &format!(
            "DELETE FROM meta WHERE key = 'word_index'; \
             INSERT INTO memory_term (rowid, terms) VALUES (99, '1:geheim'); \
             BEGIN; INSERT INTO memory_term (memory_term, rowid, terms) VALUES ('delete', 99, '1:geheim'); \
             INSERT INTO memory_term (rowid, terms) VALUES (99, '{long}'); COMMIT; \
             INSERT INTO memory_term (memory_term, rowid, terms) VALUES ('delete', 99, '{long}')"
        ),
    )
    .await;
}

#[tokio::test]
async fn an_index_that_an_earlier_version_damaged_is_rebuilt_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    let id = store_one(&store, &scope, note("a walrus stays")).await;
    store.close().await;
    damage_as_before(&path).await;
    assert_eq!(
        left_over(&path).await,
        [("1:geheim".to_owned(), 99)],
        "the fault of FTS5 that this is about is gone"
    );
    let store = open(&path).await;
    assert_eq!(left_over(&path).await, []);
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
    assert_eq!(found(&store, &scope, "walrus").await, [id]);
    store.close().await;
    let bytes = std::fs::read(&path).unwrap();
    assert!(
        !bytes.windows(6).any(|window| window == b"geheim"),
        "the word is still in the file"
    );
}

#[tokio::test]
async fn a_deep_check_finds_what_the_index_lacks_and_what_it_has_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    store_one(&store, &scope, note("walrus and zeppelin")).await;
    store_one(&store, &scope, note("rhubarb")).await;
    store.close().await;
    let damages = [
        (
            "a term too few",
            "INSERT INTO memory_term (memory_term, rowid, terms) VALUES ('delete', 1, '1:walrus')",
        ),
        (
            "a term too many",
            "INSERT INTO memory_term (rowid, terms) VALUES (1, '1:quagmire')",
        ),
        (
            "an occurrence too many",
            "INSERT INTO memory_term (rowid, terms) VALUES (2, '1:rhubarb 1:rhubarb')",
        ),
        (
            "a memory too many",
            "INSERT INTO memory_term (rowid, terms) VALUES (7, '1:quagmire')",
        ),
        (
            "no memory at all",
            "INSERT INTO memory_term (memory_term) VALUES ('delete-all')",
        ),
    ];
    for (name, damage) in damages {
        execute(&path, damage).await;
        let store = open(&path).await;
        let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
        assert_eq!(subjects(&findings), [Subject::WordIndex], "{name}");
        assert!(
            findings[0].remedy.contains("doctor --repair"),
            "{name}: {findings:?}"
        );
        store.request_index_rebuild().await.unwrap();
        store.close().await;
        let store = open(&path).await;
        assert_eq!(
            store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(),
            [],
            "{name}"
        );
        assert_eq!(store.inspect().await.unwrap(), [], "{name}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_deep_check_finds_vectors_that_are_missing_or_of_another_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let (store, scope) = (open(&path).await, scope());
    store_one(&store, &scope, note("walrus")).await;
    assert_eq!(
        store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(),
        [],
        "a memory that waits for its vectors"
    );
    execute(&path, "DELETE FROM index_job").await;
    let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
    assert_eq!(subjects(&findings), [Subject::Vectors]);
    assert!(
        findings[0].detail.contains("1 memory has none"),
        "{findings:?}"
    );
    execute(
        &path,
        "INSERT INTO embedding (memory_seq, model, chunk, dimension, content_hash, vector, created_at) \
         VALUES (1, 'm', 0, 1, zeroblob(32), zeroblob(4), 0)",
    )
    .await;
    let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
    assert!(
        findings[0].detail.contains("1 vector is of another text"),
        "{findings:?}"
    );
    assert!(findings[0].remedy.contains("reindex"), "{findings:?}");
}
