//! The PostgreSQL store: the contract, and PostgreSQL's own properties.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::bm25::{POSTING_BUDGET, select_terms};
use cognitive_memory_mcp::domain::memory::{Patch, content_hash};
use cognitive_memory_mcp::domain::spelling::list_candidates;
use cognitive_memory_mcp::domain::{
    Analyzer, Change, Filter, Hit, Kind, Language, NewMemory, Scope,
};
use cognitive_memory_mcp::store::postgres::{PostgresStore, VectorSearch};
use cognitive_memory_mcp::store::{
    CheckStore as _, Embedded, ForgetMode, Idempotency, IndexPages, LexicalQuery, Pace, Remember,
    Remembered, SearchStore as _, SimilarQuery, Store, StoreError, Subject, Update, VectorQuery,
    VectorStore as _,
};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgTypeInfo};
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};
use uuid::Uuid;

use crate::contract::{Fixture, analyzed, analyzer, contract_tests, history};
use crate::postgres_server::{Database, Server};
use crate::requirement::{Requirement, needs};

mod concurrency;
mod fault;
mod migration;
mod search;

async fn fresh() -> Option<Fixture> {
    if !Requirement::Postgres.is_met_or_skip() {
        return None;
    }
    let (database, store) = prepared().await;
    Some(Fixture {
        store: Arc::new(store),
        _keep: Box::new(database),
    })
}

contract_tests!(postgres, crate::store_postgres::fresh);

/// The vector index passes the same contract as the exact comparison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vector_index_finds_what_arithmetic_finds() {
    let database = Database::migrated().await;
    let store = database.store().with_vector_search(VectorSearch::Index);
    store.prepare().await.unwrap();
    crate::contract::vector::filters_hold_for_vectors(Arc::new(store)).await;
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_767_225_600_000_000).unwrap()
}

fn id() -> Uuid {
    Uuid::now_v7()
}

fn scope() -> Scope {
    Scope::new("default", "test")
}

fn note(content: impl Into<String>) -> NewMemory {
    NewMemory {
        id: id(),
        content: content.into(),
        importance: 0.5,
        occurred_at: now(),
        ..NewMemory::default()
    }
}

async fn store(
    store: &PostgresStore,
    items: Vec<NewMemory>,
) -> Result<Vec<Remembered>, StoreError> {
    store
        .remember(
            &scope(),
            Remember {
                items: analyzed(items),
                idempotency: None,
                now: now(),
            },
        )
        .await
}

async fn search(store: &PostgresStore, text: &str) -> Result<Vec<Hit>, StoreError> {
    let terms: Vec<String> = Analyzer::new(Language::English)
        .terms(text)
        .counts
        .into_keys()
        .collect();
    let stats = store.corpus_stats(&scope(), &terms).await?;
    let query = LexicalQuery {
        terms: select_terms(&terms, &stats, &[], POSTING_BUDGET),
        average_length: stats.average_length(),
        exact: content_hash(text),
        filter: Filter::at(now()),
        limit: 20,
    };
    store.search_lexical(&scope(), &query).await
}

async fn prepared() -> (Database, PostgresStore) {
    let database = Database::migrated().await;
    let store = database.store();
    store.prepare().await.unwrap();
    (database, store)
}

/// The types of the projects, the filter and the parameters reserved for it.
fn reserved_types() -> Vec<PgTypeInfo> {
    let (texts, text) = (type_of::<Vec<String>>(), type_of::<String>());
    let (time, flag) = (type_of::<DateTime<Utc>>(), type_of::<bool>());
    let mut types = vec![texts.clone(), texts.clone(), texts, text.clone(), text];
    types.extend([
        time.clone(),
        time.clone(),
        type_of::<f64>(),
        flag.clone(),
        time,
    ]);
    types.push(type_of::<i32>());
    types.resize(20, flag);
    types
}

fn type_of<T: sqlx::Type<sqlx::Postgres>>() -> PgTypeInfo {
    T::type_info()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    needs!(Postgres);
    let (database, _store) = prepared().await;
    let mut connection = database.connection().await;
    let reserved = reserved_types();
    for (name, sql) in PostgresStore::statements() {
        let statement = AssertSqlSafe(*sql).into_sql_str();
        // PostgreSQL cannot infer the types of reserved parameters that no condition uses yet.
        let types = if sql.contains("$21") {
            &reserved[..]
        } else {
            &[]
        };
        connection
            .prepare_with(statement, types)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn what_is_stored_is_found_changed_and_forgotten() {
    needs!(Postgres);
    let (_database, store) = prepared().await;
    let mut item = note("The cat's \"pyjamas\" are `blue` and (nice) 👍 running");
    item.tags = vec!["cats".into(), "ünï".into()];
    item.metadata = serde_json::from_str(r#"{"a": {"b": [1, 2.5, "x"]}}"#).unwrap();
    let answer = self::store(&store, vec![item.clone()]).await.unwrap();
    assert_eq!(answer, [Remembered::new(item.id, true)]);
    let again = self::store(&store, vec![note(item.content.clone())])
        .await
        .unwrap();
    assert_eq!(again, [Remembered::new(item.id, false)]);

    check_found(&store, &item).await;

    let update = Update {
        id: item.id,
        expected_version: Some(1),
        patch: Patch {
            content: Some("A green dog".into()),
            helpful: Some(true),
            ..Patch::default()
        },
        reason: Some("why".into()),
        now: now(),
    };
    let changed = store.update(&scope(), update.clone()).await.unwrap();
    assert_eq!((changed.version, changed.helpful), (2, 1));
    assert!(matches!(
        store.update(&scope(), update).await,
        Err(StoreError::VersionConflict { current: 2, .. })
    ));
    assert!(search(&store, "pyjama").await.unwrap().is_empty());
    assert_eq!(search(&store, "green dogs").await.unwrap().len(), 1);

    assert_eq!(
        store
            .forget(&scope(), &[item.id], ForgetMode::Delete, None, now())
            .await
            .unwrap(),
        1
    );
    assert!(search(&store, "green").await.unwrap().is_empty());
    assert_eq!(
        store.corpus_stats(&scope(), &[]).await.unwrap().documents,
        0
    );
    assert_eq!(
        store
            .forget(&scope(), &[item.id], ForgetMode::Restore, None, now())
            .await
            .unwrap(),
        1
    );
    assert_eq!(search(&store, "green").await.unwrap().len(), 1);
    let changes: Vec<Change> = history(&store, &scope(), item.id)
        .await
        .iter()
        .map(|h| h.change)
        .collect();
    assert_eq!(
        changes,
        [
            Change::Created,
            Change::Updated,
            Change::Deleted,
            Change::Restored
        ]
    );
    check_usage_and_counts(&store, item.id).await;
}

async fn check_usage_and_counts(store: &PostgresStore, id: Uuid) {
    store.note_recalled(&scope(), &[id], now()).await.unwrap();
    store.note_recalled(&scope(), &[id], now()).await.unwrap();
    assert_eq!(
        store
            .browse(&scope(), &Filter::at(now()), None, 10)
            .await
            .unwrap()[0]
            .recall_count,
        2
    );
    let counts = store.counts(&scope(), now()).await.unwrap();
    assert_eq!((counts.by_kind["note"], counts.index_backlog), (1, 1));
    assert!(store.info().await.unwrap().version.starts_with("17"));
}

async fn check_found(store: &PostgresStore, item: &NewMemory) {
    let hits = search(store, &item.content).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert!(hits[0].exact && hits[0].bm25 > 0.0 && hits[0].terms.len() > 5);
    let found = search(store, "pyjama").await.unwrap();
    assert_eq!(found[0].terms.len(), 1);
    let memory = store
        .get(&scope(), &[item.id], false)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (&memory.content, &memory.tags, &memory.metadata),
        (&item.content, &item.tags, &item.metadata)
    );
}

#[tokio::test]
async fn a_purge_leaves_no_row_in_any_table() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let kept = note("kept for ever");
    let mut gone = note("secret word xyzzy");
    gone.tags = vec!["xyzzy".into()];
    gone.sources = vec![kept.id];
    self::store(&store, vec![kept.clone()]).await.unwrap();
    let tables = "SELECT table_name::text FROM information_schema.columns WHERE table_schema = 'public' \
        AND column_name = 'memory_seq' ORDER BY 1";
    let mut connection = database.connection().await;
    let tables: Vec<String> = sqlx::query_scalar(tables)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert!(tables.len() >= 8, "{tables:?}");
    self::store(&store, vec![gone.clone()]).await.unwrap();
    let patch = Patch {
        content: Some("other xyzzy text".into()),
        ..Patch::default()
    };
    let update = Update {
        id: gone.id,
        expected_version: None,
        patch,
        reason: None,
        now: now(),
    };
    let seq = store.update(&scope(), update).await.unwrap().seq;
    store
        .note_recalled(&scope(), &[gone.id], now())
        .await
        .unwrap();
    let vector = "INSERT INTO embedding SELECT project_id, seq, 'm', 0, 2, content_hash, '[1,2]', now() FROM memory WHERE id = $1";
    sqlx::query(vector)
        .bind(gone.id)
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        store
            .forget(&scope(), &[gone.id], ForgetMode::Purge, None, now())
            .await
            .unwrap(),
        1
    );
    for table in tables {
        let sql = AssertSqlSafe(format!(
            "SELECT count(*) FROM {table} WHERE memory_seq = $1"
        ));
        let left: i64 = sqlx::query_scalar(sql)
            .bind(seq)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(left, 0, "{table}");
    }
    let figures = store
        .corpus_stats(&scope(), &["xyzzi".into(), "xyzzy".into()])
        .await
        .unwrap();
    assert_eq!(
        (figures.documents, figures.document_frequencies),
        (1, vec![0, 0])
    );
}

#[tokio::test]
async fn batches_with_everything_in_them() {
    needs!(Postgres);
    let (_database, store) = prepared().await;
    let old = note("the office is in Berlin");
    self::store(&store, vec![old.clone()]).await.unwrap();
    let mut new = note("the office is in Hamburg");
    new.supersedes = vec![old.id];
    new.sources = vec![old.id];
    let mut turn = note("hello");
    turn.kind = Kind::Dialogue;
    turn.session = Some("s".into());
    turn.turn = Some(1);
    let twin = NewMemory {
        id: id(),
        ..turn.clone()
    };
    let key = Idempotency {
        key: "k".into(),
        request_hash: [1; 32],
    };
    let command = Remember {
        items: analyzed(vec![new.clone(), turn.clone(), twin]),
        idempotency: Some(key.clone()),
        now: now(),
    };
    let answer = store.remember(&scope(), command.clone()).await.unwrap();
    let expected = [(new.id, true), (turn.id, true), (turn.id, false)];
    assert_eq!(
        answer.iter().map(|r| (r.id, r.created)).collect::<Vec<_>>(),
        expected
    );
    let replayed = store.remember(&scope(), command.clone()).await.unwrap();
    assert_eq!(
        replayed
            .iter()
            .map(|r| (r.id, r.created))
            .collect::<Vec<_>>(),
        expected.map(|(id, _)| (id, false))
    );
    let conflict = Remember {
        idempotency: Some(Idempotency {
            request_hash: [2; 32],
            ..key
        }),
        ..command
    };
    let refused = store.remember(&scope(), conflict).await;
    assert!(
        matches!(refused, Err(StoreError::IdempotencyConflict { .. })),
        "{refused:?}"
    );

    let memories = store.get(&scope(), &[old.id, new.id], false).await.unwrap();
    assert_eq!(memories[0].superseded_by, Some(new.id));
    assert_eq!(memories[1].sources, [old.id]);
    let mut other = note("something else");
    other.supersedes = vec![old.id];
    let refused = self::store(&store, vec![note("not stored"), other]).await;
    assert!(
        matches!(refused, Err(StoreError::AlreadySuperseded { .. })),
        "{refused:?}"
    );
    let clash = NewMemory {
        id: id(),
        content: "bye".into(),
        ..turn.clone()
    };
    let refused = self::store(&store, vec![note("not stored"), clash]).await;
    assert!(
        matches!(refused, Err(StoreError::TurnExists { existing, .. }) if existing == turn.id),
        "{refused:?}"
    );
    assert!(search(&store, "not stored").await.unwrap().is_empty());
    let stranger = Scope::new("other", "test");
    assert!(
        store
            .get(&stranger, &[old.id], true)
            .await
            .unwrap()
            .is_empty()
    );
}
