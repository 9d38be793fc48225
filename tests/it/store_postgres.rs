//! The PostgreSQL store: the contract, and what is PostgreSQL's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::bm25::{POSTING_BUDGET, select_terms};
use cognitive_memory_mcp::domain::memory::{Patch, Stated, content_hash};
use cognitive_memory_mcp::domain::spelling::list_candidates;
use cognitive_memory_mcp::domain::{
    Analyzer, Change, Filter, Hit, Kind, Language, Links, NewMemory, ObjectText, Scope,
};
use cognitive_memory_mcp::store::postgres::{PostgresStore, VectorSearch};
use cognitive_memory_mcp::store::{
    CheckStore as _, ForgetMode, Idempotency, IndexPages, LexicalQuery, Pace, Remember, Remembered,
    SearchStore as _, SimilarQuery, Store, StoreError, Subject, Update, VectorQuery,
    VectorStore as _,
};
use futures_util::future::join_all;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, SqlSafeStr};
use uuid::Uuid;

use crate::contract::{Fixture, analyzed, analyzer, contract_tests, history};
use crate::postgres_server::{Database, Server};
use crate::requirement::{Requirement, needs};

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

/// The index of vectors passes the same contract as the comparison with all of them.
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
        kind: Kind::Note,
        content: content.into(),
        tags: Vec::new(),
        importance: 0.5,
        metadata: ObjectText::default(),
        occurred_at: now(),
        valid_until: None,
        session: None,
        turn: None,
        speaker: None,
        episode: None,
        sources: Vec::new(),
        supersedes: Vec::new(),
        links: Links::default(),
        protected: false,
        stated: Stated::default(),
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

#[tokio::test]
async fn every_statement_can_be_prepared() {
    needs!(Postgres);
    let (database, _store) = prepared().await;
    let mut connection = database.connection().await;
    for (name, sql) in PostgresStore::statements() {
        let statement = AssertSqlSafe(*sql).into_sql_str();
        connection
            .prepare(statement)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// How many statements stored the memories.
async fn statements(database: &Database) -> i64 {
    let counted = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM memory");
    counted
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn small_stores_at_the_same_time_share_a_statement() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    let said = |turn: i64, content: &str| NewMemory {
        kind: Kind::Dialogue,
        session: Some("s".to_owned()),
        turn: Some(turn),
        ..note(content)
    };
    store(&postgres, vec![said(1, "as it was said")])
        .await
        .unwrap();
    let before = statements(&database).await;
    let commands: Vec<Vec<NewMemory>> = (0..30)
        .map(|number| match number {
            10 => vec![note("the same"), note("the same")],
            20 => vec![note("ten"), note("the same"), note("more")],
            _ => vec![note(format!("number {number}"))],
        })
        .collect();
    let answers = join_all(commands.iter().map(|items| store(&postgres, items.clone()))).await;
    assert!(
        statements(&database).await - before <= 4,
        "the first alone, then all that waited meanwhile"
    );
    let answers: Vec<Vec<Remembered>> = answers.into_iter().map(Result::unwrap).collect();
    for (items, answer) in commands.iter().zip(&answers) {
        let own = items
            .iter()
            .map(|item| item.content != "the same")
            .collect::<Vec<_>>();
        assert_eq!(answer.len(), items.len());
        for ((item, answer), own) in items.iter().zip(answer).zip(own) {
            assert!(
                !own || (answer.created && answer.id == item.id),
                "{}: {answer:?}",
                item.content
            );
        }
    }
    let same = [&answers[10][0], &answers[10][1], &answers[20][1]];
    assert!(
        same.iter().all(|answer| answer.id == same[0].id),
        "{same:?}"
    );
    assert_eq!(same.iter().filter(|answer| answer.created).count(), 1);

    // Of those who share, only the one with the fault fails.
    let others: Vec<Vec<NewMemory>> = (0..9)
        .map(|number| match number {
            4 => vec![note("beside it"), said(1, "as it was not said")],
            5 => vec![note("no\0text")],
            _ => vec![note(format!("further {number}"))],
        })
        .collect();
    let answers = join_all(others.iter().map(|items| store(&postgres, items.clone()))).await;
    for (place, answer) in answers.iter().enumerate() {
        match place {
            4 => assert!(
                matches!(answer, Err(StoreError::TurnExists { turn: 1, .. })),
                "{answer:?}"
            ),
            5 => assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}"),
            _ => assert!(
                answer.as_ref().is_ok_and(|answer| answer[0].created),
                "{answer:?}"
            ),
        }
    }
    assert!(search(&postgres, "beside it").await.unwrap().is_empty());
}

/// The statement is that of a caller who goes away; the work is done all the same, and once.
#[tokio::test]
async fn nothing_is_lost_with_a_caller_who_stores_for_others() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    store(&postgres, vec![note("at the beginning")])
        .await
        .unwrap();
    let mut locking = database.connection().await;
    let mut lock = locking.begin().await.unwrap();
    lock.execute("LOCK TABLE memory IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut first = Box::pin(store(&postgres, vec![note("river")]));
    let mut second = Box::pin(store(&postgres, vec![note("mountain")]));
    let mut third = Box::pin(store(&postgres, vec![note("valley")]));
    let waiting = async {
        let mut watching = database.connection().await;
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let end = Instant::now() + Duration::from_secs(10);
        // The first, and the second with the third.
        while sqlx::query_scalar::<_, i64>(blocked)
            .fetch_one(&mut watching)
            .await
            .unwrap()
            < 2
        {
            assert!(Instant::now() < end, "nobody waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        biased;
        _ = &mut first => panic!("it is locked"),
        _ = &mut second => panic!("it is locked"),
        _ = &mut third => panic!("it is locked"),
        () = waiting => {}
    }
    drop(second);
    let release = async { lock.rollback().await.unwrap() };
    let (first, third, ()) = tokio::join!(first, third, release);
    assert!(first.unwrap()[0].created && third.unwrap()[0].created);
    for word in ["river", "valley"] {
        assert_eq!(search(&postgres, word).await.unwrap().len(), 1, "{word}");
    }
}

/// Else a bulk load would go on with plans for empty tables until the server itself looks.
#[tokio::test]
async fn tables_that_have_grown_are_looked_at() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    let mut connection = database.connection().await;
    // The server looks at nothing by itself meanwhile.
    connection
        .execute("ALTER TABLE memory SET (autovacuum_enabled = false)")
        .await
        .unwrap();
    let mut filled = 0;
    for (count, looked_at) in [(300, true), (100, false), (400, true)] {
        let items = (filled..filled + count)
            .map(|number| note(format!("memory {number}")))
            .collect();
        store(&postgres, items).await.unwrap();
        filled += count;
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM memory")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(counted, filled);
        // A session tells what it changed with a later transaction, or when it was idle for a while.
        let changes = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'memory'";
        let end = Instant::now() + Duration::from_secs(30);
        while sqlx::query_scalar::<_, i64>(changes)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            < filled
        {
            assert!(Instant::now() < end, "the session never told");
            postgres.info().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        postgres.refresh_statistics().await.unwrap();
        let known: f32 =
            sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = 'memory'::regclass")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!(
            known as i64 == filled,
            looked_at,
            "{known} of {filled} are known"
        );
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

    let hits = search(&store, &item.content).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert!(hits[0].exact && hits[0].bm25 > 0.0 && hits[0].terms.len() > 5);
    let found = search(&store, "pyjama").await.unwrap();
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
    store
        .note_recalled(&scope(), &[item.id], now())
        .await
        .unwrap();
    store
        .note_recalled(&scope(), &[item.id], now())
        .await
        .unwrap();
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

#[tokio::test]
async fn another_language_rebuilds_the_index() {
    needs!(Postgres);
    let (database, english) = prepared().await;
    let items: Vec<NewMemory> = (0..450)
        .map(|n| note(format!("running number {n}")))
        .collect();
    let ids: Vec<Uuid> = items.iter().map(|item| item.id).collect();
    for part in items.chunks(200) {
        self::store(&english, part.to_vec()).await.unwrap();
    }
    english
        .forget(&scope(), &ids[..10], ForgetMode::Delete, None, now())
        .await
        .unwrap();
    let plain = database.store_with(2, Language::None);
    plain.prepare().await.unwrap();
    let stats = plain
        .corpus_stats(&scope(), &["run".into(), "running".into()])
        .await
        .unwrap();
    assert_eq!(
        (stats.documents, stats.document_frequencies),
        (440, vec![0, 440])
    );
    let refused = self::store(
        &english,
        vec![note("written by a server of the other language")],
    )
    .await;
    assert!(
        matches!(refused, Err(StoreError::Setup { .. })),
        "{refused:?}"
    );
    let answer = self::store(&plain, vec![note("and of this one")])
        .await
        .unwrap();
    assert!(answer[0].created);
}

#[tokio::test]
async fn several_servers_prepare_an_empty_database_at_once() {
    needs!(Postgres);
    let database = Database::empty().await;
    let stores: Vec<Arc<PostgresStore>> = (0..4).map(|_| Arc::new(database.store())).collect();
    assert_eq!(
        stores[0].pending_migrations().await.unwrap()[0],
        "0001_foundation"
    );
    assert!(matches!(
        stores[0].info().await,
        Err(StoreError::Unavailable { .. })
    ));
    let preparing = stores.iter().map(|store| store.prepare());
    for result in futures_util::future::join_all(preparing).await {
        result.unwrap();
    }
    assert!(stores[0].pending_migrations().await.unwrap().is_empty());
}

/// Of many memories the nearest come from the index, under row-level security; what a filter leaves is found whole.
#[tokio::test]
async fn the_nearest_of_many_are_found_by_the_index() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store();
    store.prepare().await.unwrap();
    assert!(store.working_role().is_some());
    let mut connection = database.connection().await;
    let fill = "SELECT setseed(0.5); INSERT INTO project (name) VALUES ('default'); \
        INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at, session, turn, turn_claim) \
        SELECT p.id, n, gen_random_uuid(), 'dialogue', 'text ' || n, sha256(n::text::bytea), 2, '{}', \
            CASE WHEN n % 1200 = 0 THEN 0.9 ELSE 0.5 END, '{}', now(), now(), 'test', now(), 's' || n / 20, n % 20, true \
        FROM project p, generate_series(1, 12000) n; \
        INSERT INTO embedding SELECT m.project_id, m.seq, 'm', 0, 8, m.content_hash, (SELECT array_agg(random() - 0.5) \
            FROM generate_series(1, 8 + 0 * m.seq))::real[]::halfvec, now() FROM memory m; ANALYZE";
    sqlx::raw_sql(fill).execute(&mut connection).await.unwrap();
    store.prepare_vectors("m", 8).await.unwrap();
    // The store counts 12,000 memories, which are many among all.
    let counted = "INSERT INTO corpus (project_id, shard, documents, total_length) \
        SELECT p.id, 0, 12000, 24000 FROM project p";
    sqlx::raw_sql(counted)
        .execute(&mut connection)
        .await
        .unwrap();
    let exact_store = database.store().with_vector_search(VectorSearch::Exact);
    exact_store.prepare().await.unwrap();

    let search = async |store: &PostgresStore, place: usize, filter: Filter| {
        let vector: Arc<[f32]> = (0..8)
            .map(|n| {
                if n == place % 8 {
                    0.9
                } else {
                    0.1 * place as f32
                }
            })
            .collect();
        let query = VectorQuery {
            model: "m".to_owned(),
            vector,
            filter,
            limit: 10,
        };
        let hits = store.search_vectors(&scope(), &query).await.unwrap();
        hits.iter().map(|hit| hit.seq).collect::<Vec<i64>>()
    };
    let all = || Filter::at(Utc::now());
    let mut alike = 0;
    for place in 0..16 {
        let exact = search(&exact_store, place, all()).await;
        alike += search(&store, place, all())
            .await
            .iter()
            .filter(|seq| exact.contains(seq))
            .count();
    }
    assert!(alike >= 150, "{alike} of 160");
    let important = Filter {
        min_importance: Some(0.8),
        ..all()
    };
    let found = search(&store, 1, important).await;
    assert_eq!(
        found.len(),
        10,
        "all that pass, though the index gave up before: {found:?}"
    );
    let session = Filter {
        session: Some("s7".to_owned()),
        ..all()
    };
    let found = search(&store, 1, session).await;
    assert!(
        found.len() == 10 && found.iter().all(|seq| seq / 20 == 7),
        "{found:?}"
    );

    // The server counts the scans of an index when a session rests.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let count =
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'embedding_nearest_8'";
        let scans: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if scans >= 16 {
            break;
        }
        assert!(Instant::now() < end, "{scans} scans");
        search(&store, 1, all()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A word that is nowhere stored is guessed at without reading the words behind it, also under row-level security.
#[tokio::test]
async fn what_is_like_a_word_is_found_without_reading_all_words() {
    needs!(Postgres);
    const QUESTIONS: i64 = 20;
    let (database, store) = prepared().await;
    assert!(store.working_role().is_some());
    let items = (0..200)
        .map(|n| {
            note(
                (0..20)
                    .map(|m| format!("word{n}x{m} "))
                    .collect::<String>()
                    .trim_end(),
            )
        })
        .collect();
    self::store(&store, items).await.unwrap();
    let terms = ["aardvark".to_owned()];
    for _ in 0..QUESTIONS {
        let lexicon = store
            .lexicon(&scope(), &terms, &list_candidates(&terms))
            .await
            .unwrap();
        assert!(lexicon.matches.is_empty(), "{:?}", lexicon.matches);
    }
    store.close().await;
    let read = read_through(&database, "posting_pkey").await;
    assert!(
        read < 100 * QUESTIONS,
        "{read} of 4,000 postings read by {QUESTIONS} questions"
    );
}

/// A late page costs no more than the first one, also under row-level security.
#[tokio::test]
async fn a_late_page_does_not_read_those_before() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    assert!(store.working_role().is_some());
    let items = (0..500).map(|n| note(format!("note {n}"))).collect();
    self::store(&store, items).await.unwrap();
    let mut connection = database.connection().await;
    sqlx::raw_sql("ANALYZE")
        .execute(&mut connection)
        .await
        .unwrap();
    let late: i64 = sqlx::query_scalar("SELECT min(seq) + 20 FROM memory")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    store.close().await;
    let before = read_through(&database, "memory_pkey").await;
    let reader = database.store();
    reader.prepare().await.unwrap();
    for _ in 0..20 {
        let page = reader
            .browse(&scope(), &Filter::at(now()), Some(late), 5)
            .await
            .unwrap();
        assert_eq!(page.len(), 5);
    }
    reader.close().await;
    let read = read_through(&database, "memory_pkey").await - before;
    assert!(
        (100..1_000).contains(&read),
        "{read} keys read for twenty pages of five among 500"
    );
}

/// How many entries of an index were read, when all sessions have ended: that is when the server counts what they did.
async fn read_through(database: &Database, index: &str) -> i64 {
    let mut connection = database.connection().await;
    let others = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let end = Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(others)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        > 0
    {
        assert!(Instant::now() < end, "sessions do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1";
    sqlx::query_scalar(read)
        .bind(index)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

/// Databases from before the counting hold history already.
#[tokio::test]
async fn earlier_versions_are_counted_by_the_migration() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let item = note("first");
    self::store(&store, vec![item.clone()]).await.unwrap();
    let patch = Patch {
        content: Some("second".into()),
        ..Patch::default()
    };
    let update = Update {
        id: item.id,
        expected_version: None,
        patch,
        reason: Some("why".into()),
        now: now(),
    };
    store.update(&scope(), update).await.unwrap();
    store.close().await;
    let mut connection = database.connection().await;
    let counted = async |connection: &mut sqlx::PgConnection| {
        let sum = sqlx::query_scalar::<_, i64>("SELECT sum(history_bytes)::bigint FROM usage")
            .fetch_one(connection);
        sum.await.unwrap()
    };
    let expected: i64 =
        sqlx::query_scalar("SELECT (octet_length(old::text) + 3)::bigint FROM history")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(counted(&mut connection).await, expected);
    let before = "DROP TRIGGER history_inserted ON history; DROP TRIGGER history_deleted ON history; \
        DROP FUNCTION history_inserted, history_deleted, history_bytes; DROP INDEX history_time, idempotency_time, \
        idempotency_project_time; ALTER TABLE usage DROP COLUMN history_bytes; \
        DELETE FROM schema_migration WHERE name LIKE '%\\_history'";
    sqlx::raw_sql(before)
        .execute(&mut connection)
        .await
        .unwrap();
    let store = database.store();
    store.prepare().await.unwrap();
    assert_eq!(counted(&mut connection).await, expected);
    store
        .forget(&scope(), &[item.id], ForgetMode::Purge, None, now())
        .await
        .unwrap();
    assert_eq!(counted(&mut connection).await, 0);
    store.close().await;
}

/// Vectors of 32-bit numbers, as databases before migration 6 have them, are found after it and indexed anew.
#[tokio::test]
async fn vectors_stay_when_they_become_halves() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let before = "ALTER TABLE embedding ALTER COLUMN vector TYPE vector USING vector::vector; \
        DELETE FROM schema_migration WHERE version = 6; \
        INSERT INTO project (name) VALUES ('default'); \
        INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at) \
        SELECT p.id, n, gen_random_uuid(), 'note', 'text ' || n, sha256(n::text::bytea), 2, '{}', 0.5, '{}', now(), now(), \
            'test', now() FROM project p, generate_series(1, 3) n; \
        INSERT INTO embedding SELECT m.project_id, m.seq, 'm', 0, 2, m.content_hash, \
            ('[' || cos(m.seq) || ',' || sin(m.seq) || ']')::vector, now() FROM memory m; \
        CREATE INDEX embedding_nearest_2 ON embedding USING hnsw ((vector::vector(2)) vector_cosine_ops) WHERE dimension = 2";
    sqlx::raw_sql(before)
        .execute(&mut connection)
        .await
        .unwrap();

    let store = database.store();
    assert_eq!(store.pending_migrations().await.unwrap(), ["0006_half"]);
    store.prepare().await.unwrap();
    store.prepare_vectors("m", 2).await.unwrap();
    let query = VectorQuery {
        model: "m".to_owned(),
        vector: [2_f32.cos(), 2_f32.sin()].into(),
        filter: Filter::at(Utc::now()),
        limit: 3,
    };
    let hits = store.search_vectors(&scope(), &query).await.unwrap();
    let found: Vec<(i64, f64)> = hits
        .iter()
        .map(|hit| (hit.seq, hit.cosine.unwrap()))
        .collect();
    assert_eq!(
        found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        [2, 3, 1]
    );
    for (seq, cosine) in found {
        assert!(
            (cosine - f64::from(seq as i32 - 2).cos()).abs() < 1e-3,
            "{seq}: {cosine}"
        );
    }
    let index = "SELECT pg_get_indexdef('embedding_nearest_2'::regclass)";
    let made: String = sqlx::query_scalar(index)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(made.contains("halfvec_cosine_ops"), "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_work_side_by_side() {
    needs!(Postgres);
    let (database, one) = prepared().await;
    let two = database.store();
    two.prepare().await.unwrap();
    let servers = [Arc::new(one), Arc::new(two)];
    let tasks = (0..8).map(|task| {
        let store = Arc::clone(&servers[task % 2]);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0..25 {
                // The same three texts from all, in opposite orders, and one of its own.
                let mut items: Vec<NewMemory> = (0..3)
                    .map(|n| note(format!("shared {round} {n}")))
                    .collect();
                if task % 4 < 2 {
                    items.reverse();
                }
                items.push(note(format!("own {task} {round}")));
                let answer = self::store(&store, items).await.unwrap();
                acknowledged.extend(answer.into_iter().map(|stored| stored.id));
            }
            acknowledged
        })
    });
    let mut acknowledged: Vec<Uuid> = Vec::new();
    for task in futures_util::future::join_all(tasks).await {
        acknowledged.extend(task.unwrap());
    }
    acknowledged.sort_unstable();
    acknowledged.dedup();
    let expected = 25 * 3 + 25 * 8;
    assert_eq!(acknowledged.len(), expected);
    for store in servers {
        assert_eq!(
            store
                .get(&scope(), &acknowledged, false)
                .await
                .unwrap()
                .len(),
            expected
        );
        assert_eq!(
            store.corpus_stats(&scope(), &[]).await.unwrap().documents,
            expected as u64
        );
        assert_eq!(
            store.counts(&scope(), now()).await.unwrap().index_backlog,
            expected as u64
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_answer_one_idempotency_key_alike() {
    needs!(Postgres);
    let (database, one) = prepared().await;
    let two = database.store();
    two.prepare().await.unwrap();
    let old = note("to be replaced");
    self::store(&one, vec![old.clone()]).await.unwrap();
    let key = Some(Idempotency {
        key: "once".into(),
        request_hash: [7; 32],
    });
    let ask = |supersedes: Vec<Uuid>| {
        let item = NewMemory {
            supersedes,
            ..note("stored by one of two")
        };
        Remember {
            items: analyzed(vec![item]),
            idempotency: key.clone(),
            now: now(),
        }
    };
    for supersedes in [Vec::new(), vec![old.id]] {
        let project = Scope::new(
            if supersedes.is_empty() {
                "simple"
            } else {
                "default"
            },
            "test",
        );
        let (first, second) = (ask(supersedes.clone()), ask(supersedes));
        let (first, second) = tokio::join!(
            one.remember(&project, first),
            two.remember(&project, second)
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first[0].id, second[0].id);
        assert_ne!(first[0].created, second[0].created);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_database_is_killed() {
    needs!(OwnPostgres);
    let mut server = Server::start();
    let database = Database::on(server.options.clone(), None).await;
    let store = Arc::new(database.store());
    store.prepare().await.unwrap();
    let running = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, running) = (Arc::clone(&store), Arc::clone(&running));
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                for n in 0.. {
                    if !running.load(Ordering::Relaxed) {
                        break;
                    }
                    let begin = Instant::now();
                    match self::store(&store, vec![note(format!("writer {writer} memory {n}"))])
                        .await
                    {
                        Ok(answer) => acknowledged.push(answer[0].id),
                        Err(StoreError::Unavailable { .. }) => {
                            refused += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    assert!(
                        begin.elapsed() < Duration::from_secs(7),
                        "{:?}",
                        begin.elapsed()
                    );
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let steering = tokio::task::spawn_blocking(move || {
            server.steer("kill");
            std::thread::sleep(Duration::from_millis(200));
            server.steer("start");
            server
        });
        server = steering.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    running.store(false, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for writer in writers {
        let (ids, times) = writer.await.unwrap();
        acknowledged.extend(ids);
        refused += times;
    }
    assert!(
        refused > 0 && acknowledged.len() > 20,
        "{refused} refused, {} stored",
        acknowledged.len()
    );
    for part in acknowledged.chunks(1_000) {
        assert_eq!(
            store.get(&scope(), part, false).await.unwrap().len(),
            part.len()
        );
    }
    let documents = store.corpus_stats(&scope(), &[]).await.unwrap().documents;
    let found = store.counts(&scope(), now()).await.unwrap().by_kind["note"];
    assert!(documents == found && found >= acknowledged.len() as u64);
    drop(database);
}

#[tokio::test]
async fn a_search_that_takes_too_long_costs_no_connection() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    self::store(&store, vec![note("a walrus")]).await.unwrap();
    let search = async |patience| {
        let query = SimilarQuery {
            terms: vec!["walrus".to_owned()],
            exact: [0; 32],
            budget: u64::MAX,
            filter: Filter::at(now()),
            limit: 10,
            patience: Duration::from_millis(patience),
        };
        store.search_similar(&scope(), &query).await
    };
    assert_eq!(search(3_000).await.unwrap().len(), 1);
    let mut connection = database.connection().await;
    let mut sessions = async || -> Vec<i32> {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name = 'cognitive-memory-mcp' ORDER BY pid";
        sqlx::query_scalar(sessions)
            .fetch_all(&mut connection)
            .await
            .unwrap()
    };
    let before = sessions().await;
    let mut other = database.connection().await;
    let mut lock = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE posting")
        .execute(&mut *lock)
        .await
        .unwrap();
    let begin = Instant::now();
    let refused = search(100).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    lock.rollback().await.unwrap();
    assert_eq!(
        search(3_000).await.unwrap().len(),
        1,
        "the limit ended with its transaction"
    );
    assert_eq!(sessions().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_silent_or_away_is_named_in_time() {
    needs!(OwnPostgres);
    let mut server = Server::start();
    let database = Database::on(server.options.clone(), None).await;
    let store = database.store();
    store.prepare().await.unwrap();
    self::store(&store, vec![note("before")]).await.unwrap();
    for (away, back) in [("freeze", "thaw"), ("stop", "start")] {
        server.steer(away);
        for _ in 0..2 {
            let begin = Instant::now();
            let written = self::store(&store, vec![note(format!("while {away}"))]).await;
            let read = store.browse(&scope(), &Filter::at(now()), None, 1).await;
            for refused in [written.map(|_| ()), read.map(|_| ())] {
                let text = refused.as_ref().unwrap_err().to_string();
                assert!(
                    matches!(refused, Err(StoreError::Unavailable { .. })),
                    "{text}"
                );
                assert!(!text.contains("postgres:"), "{text}");
            }
            assert!(
                begin.elapsed() < Duration::from_secs(13),
                "{:?}",
                begin.elapsed()
            );
        }
        server.steer(back);
        self::store(&store, vec![note(format!("after {back}"))])
            .await
            .unwrap();
        assert!(
            !store
                .browse(&scope(), &Filter::at(now()), None, 1)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

/// Tools still read; but the service is not ready, since what it is there for does not work.
#[tokio::test]
async fn a_server_that_accepts_no_writes_is_not_ready() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let name = database.options().get_database().unwrap().to_owned();
    let mut connection = database.connection().await;
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    connection
        .execute(AssertSqlSafe(set).into_sql_str())
        .await
        .unwrap();
    let says = |error: &StoreError| {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("accepts no writes"), "{error}");
    };
    says(&database.store().prepare().await.unwrap_err());
    // Sessions from before keep what they began with; a write that fails ends them.
    store.close().await;
    let later = database.store();
    says(&later.prepare().await.unwrap_err());
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    let mut writing = database.connection().await;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut writing)
        .await
        .unwrap();
    writing
        .execute(AssertSqlSafe(reset).into_sql_str())
        .await
        .unwrap();
    later.prepare().await.unwrap();
    assert!(self::store(&later, vec![note("written")]).await.unwrap()[0].created);
}

#[tokio::test]
async fn what_a_person_must_do_is_said() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let analyzer = || Arc::new(Analyzer::new(Language::English));
    let expect = async |options: PgConnectOptions, words: &str| {
        let error = PostgresStore::new(options, 2, analyzer())
            .prepare()
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Setup { .. }) && error.to_string().contains(words),
            "{error}"
        );
        assert!(!error.to_string().contains("wrong-secret"), "{error}");
    };
    expect(
        database.options().password("wrong-secret"),
        "MEMORY_DATABASE_PASSWORD",
    )
    .await;
    expect(
        database.options().database("no_such_database"),
        "CREATE DATABASE \"no_such_database\"",
    )
    .await;
    let nobody = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(1)
        .password("wrong-secret");
    let error = PostgresStore::new(nobody, 2, analyzer())
        .prepare()
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { .. })
            && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );

    let mut connection = database.connection().await;
    let newer = "INSERT INTO schema_migration VALUES (9999, 'future', '')";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    expect(database.options(), "upgrade the program").await;
    sqlx::query("DELETE FROM schema_migration WHERE version = 9999")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("UPDATE schema_migration SET checksum = ''")
        .execute(&mut connection)
        .await
        .unwrap();
    expect(database.options(), "in another form").await;

    let empty = Database::empty().await;
    let mut connection = empty.connection().await;
    let role = format!("role_{}", Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'wrong-secret'");
    connection
        .execute(AssertSqlSafe(create).into_sql_str())
        .await
        .unwrap();
    let options = || empty.options().username(&role).password("wrong-secret");
    expect(options(), "GRANT CREATE, USAGE ON SCHEMA").await;
    let grant = format!("GRANT CREATE, USAGE ON SCHEMA public TO {role}");
    connection
        .execute(AssertSqlSafe(grant).into_sql_str())
        .await
        .unwrap();
    expect(options(), "CREATE EXTENSION vector").await;
    // A grant is named only where it helps.
    let grant = format!(
        "GRANT CREATE ON DATABASE \"{}\" TO \"{role}\"",
        options().get_database().unwrap()
    );
    let refused = PostgresStore::new(options(), 2, analyzer())
        .prepare()
        .await
        .unwrap_err()
        .to_string();
    let trusted: bool = sqlx::query_scalar(
        "SELECT trusted FROM pg_available_extension_versions JOIN pg_available_extensions USING (name) \
         WHERE name = 'vector' AND version = default_version",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(refused.contains(&grant), trusted, "{refused}");
    if trusted {
        connection
            .execute(AssertSqlSafe(grant).into_sql_str())
            .await
            .unwrap();
        let helped = PostgresStore::new(options(), 2, analyzer());
        helped.prepare().await.unwrap();
        helped.close().await;
        let owned =
            format!("DROP OWNED BY {role} CASCADE; GRANT CREATE, USAGE ON SCHEMA public TO {role}");
        sqlx::raw_sql(AssertSqlSafe(owned))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection
        .execute("CREATE EXTENSION IF NOT EXISTS vector")
        .await
        .unwrap();
    // With the extension there, no more rights are needed.
    let store = PostgresStore::new(options(), 2, analyzer());
    store.prepare().await.unwrap();
    assert!(
        self::store(&store, vec![note("by an ordinary role")])
            .await
            .unwrap()[0]
            .created
    );
    store.close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deep_check_finds_what_the_indexes_lack_and_what_they_have_too_much() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    for content in ["walrus and zeppelin", "rhubarb"] {
        let command = Remember {
            items: analyzed(vec![note(content)]),
            idempotency: None,
            now: now(),
        };
        store.remember(&scope(), command).await.unwrap();
    }
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
    let mut connection = database.connection().await;
    let damages = [
        "DELETE FROM posting WHERE term = 'walrus'",
        "INSERT INTO posting SELECT project_id, 'quagmire', memory_seq, 1, length FROM posting WHERE term = 'rhubarb'",
        "UPDATE posting SET frequency = frequency + 1 WHERE term = 'rhubarb'",
        "INSERT INTO posting SELECT project_id, term, memory_seq + 1000, frequency, length FROM posting",
    ];
    for damage in damages {
        sqlx::raw_sql(damage)
            .execute(&mut connection)
            .await
            .unwrap();
        let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.subject)
                .collect::<Vec<_>>(),
            [Subject::WordIndex],
            "{damage}"
        );
        store.request_index_rebuild().await.unwrap();
        store.prepare().await.unwrap();
        assert_eq!(
            store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(),
            [],
            "{damage}"
        );
    }
    sqlx::raw_sql("DELETE FROM index_job")
        .execute(&mut connection)
        .await
        .unwrap();
    let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
    assert_eq!(findings[0].subject, Subject::Vectors, "{findings:?}");
    store.close().await;
}

#[tokio::test]
async fn a_deep_check_reads_the_pages_of_indexes_with_amcheck() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let items = ["one", "two", "three"].map(note).to_vec();
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
        .unwrap();
    let mut owner = database.connection().await;
    let unchecked =
        async |store: &PostgresStore, words: &str| match store.inspect_index_pages().await.unwrap()
        {
            IndexPages::Unchecked(reason) => assert!(reason.contains(words), "{reason}"),
            checked => panic!("{checked:?}"),
        };
    unchecked(&store, "CREATE EXTENSION amcheck").await;
    // In a schema of its own, which is not searched.
    let install = "CREATE SCHEMA \"Tools\"; CREATE EXTENSION amcheck SCHEMA \"Tools\"";
    sqlx::raw_sql(install).execute(&mut owner).await.unwrap();
    assert_eq!(
        store.inspect_index_pages().await.unwrap(),
        IndexPages::Checked(Vec::new())
    );
    // An index whose order changed, as after an upgrade of the library that compares texts.
    let damage = "CREATE FUNCTION fickle(bigint, bigint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint8cmp($1, $2)'; \
        CREATE OPERATOR CLASS fickle_ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, \
        OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 fickle(bigint, bigint); \
        CREATE INDEX memory_fickle ON memory (seq fickle_ops); \
        CREATE OR REPLACE FUNCTION fickle(bigint, bigint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint8cmp($2, $1)'";
    sqlx::raw_sql(damage).execute(&mut owner).await.unwrap();
    let IndexPages::Checked(findings) = store.inspect_index_pages().await.unwrap() else {
        panic!("not checked")
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0]
            .remedy
            .contains("REINDEX INDEX CONCURRENTLY memory_fickle"),
        "{findings:?}"
    );
    // A role that may not use it.
    let role = format!("reader_{}", Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(&mut owner)
        .await
        .unwrap();
    let options = database.options().username(&role).password("x");
    let restricted = PostgresStore::new(options, 1, analyzer());
    unchecked(
        &restricted,
        &format!("GRANT EXECUTE ON FUNCTION \"Tools\".bt_index_check(regclass) TO {role}"),
    )
    .await;
    restricted.close().await;
    store.close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_write_that_the_server_refuses_is_remembered_until_one_succeeds() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let mut owner = database.connection().await;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut owner)
        .await
        .unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    let set = |value: &str| {
        AssertSqlSafe(format!(
            "ALTER DATABASE \"{name}\" SET default_transaction_read_only = {value}"
        ))
    };
    sqlx::raw_sql(set("on")).execute(&mut owner).await.unwrap();
    // Sessions keep what they began with.
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(others).execute(&mut owner).await.unwrap();
    let failure = store.write_failure();
    let command = || Remember {
        items: analyzed(vec![note("walrus")]),
        idempotency: None,
        now: now(),
    };
    assert!(matches!(
        store.remember(&scope(), command()).await,
        Err(StoreError::Unavailable { .. })
    ));
    let reason = failure.borrow().clone().expect("a failure").reason;
    assert!(reason.contains("accepts no writes"), "{reason}");
    assert!(store.probe_write().await.is_err());
    sqlx::raw_sql(set("off")).execute(&mut owner).await.unwrap();
    store.probe_write().await.unwrap();
    assert_eq!(*failure.borrow(), None);
    store.remember(&scope(), command()).await.unwrap();
    store.close().await;
}
