//! Bounds between projects: tokens, limits, and PostgreSQL's own lock behind ours.

use std::path::Path;
use std::sync::Arc;

use cognitive_memory_mcp::domain::graph::{NewEntity, NewRelation};
use cognitive_memory_mcp::domain::memory::Patch;
use cognitive_memory_mcp::domain::token::Token;
use cognitive_memory_mcp::domain::{
    Decision, Filter, Links, NewMemory, Proposal, ReviewState, Scope,
};
use cognitive_memory_mcp::store::focus::{FocusStore as _, NewFocus};
use cognitive_memory_mcp::store::graph::EntityQuery;
use cognitive_memory_mcp::store::postgres::{RowSecurity, VectorSearch};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{
    Decide, Embedded, Expiry, ForgetMode, Limits, NewReview, ReviewStore as _, Store, StoreError,
    StoredToken, TokenStore, Update, VectorQuery,
};
use serde_json::Map;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::contract::{analyzer, at, forget, new_id, note, remember, store_one};
use crate::postgres_server::Database;
use crate::requirement::needs;

async fn sqlite(folder: &Path, limits: Limits) -> Arc<dyn Store> {
    let options = SqliteOptions {
        limits,
        ..SqliteOptions::new(folder.join("memory.db"))
    };
    let store = SqliteStore::open(options, analyzer());
    store.prepare().await.unwrap();
    Arc::new(store)
}

async fn postgres(database: &Database, limits: Limits) -> Arc<dyn Store> {
    let store = database.store().with_limits(limits);
    store.prepare().await.unwrap();
    Arc::new(store)
}

fn token(name: &str, secret: u8) -> StoredToken {
    StoredToken {
        token: Token {
            name: name.to_owned(),
            project: "work".to_owned(),
            reads: vec!["shared".to_owned(), "team".to_owned()],
            prefix: format!("cmm_{secret:06}"),
            created_at: at(0),
            expires_at: Some(at(100)),
            revoked_at: None,
        },
        sha256: [secret; 32],
    }
}

async fn tokens_live_and_end(store: &dyn Store) {
    assert!(store.tokens().await.unwrap().is_empty());
    let laptop = token("laptop", 1);
    store.create_token(&laptop).await.unwrap();
    store.create_token(&token("desktop", 2)).await.unwrap();
    assert_eq!(
        store.tokens().await.unwrap(),
        [token("desktop", 2), laptop.clone()]
    );
    let again = store.create_token(&token("laptop", 3)).await.unwrap_err();
    assert!(matches!(again, StoreError::TokenExists { name } if name == "laptop"));

    let renewed = store
        .rotate_token("laptop", [4; 32], "cmm_fourth", at(5))
        .await
        .unwrap();
    assert_eq!(
        (
            renewed.prefix.as_str(),
            renewed.created_at,
            renewed.reads.len()
        ),
        ("cmm_fourth", at(5), 2)
    );
    assert_eq!(store.tokens().await.unwrap()[1].sha256, [4; 32]);

    let revoked = store.revoke_token("laptop", at(6)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(6)));
    assert_eq!(
        store
            .revoke_token("laptop", at(7))
            .await
            .unwrap()
            .revoked_at,
        Some(at(6)),
        "once is enough"
    );
    for error in [
        store
            .rotate_token("laptop", [5; 32], "cmm_fifth", at(8))
            .await
            .unwrap_err(),
        store
            .rotate_token("nobody", [5; 32], "cmm_fifth", at(8))
            .await
            .unwrap_err(),
        store.revoke_token("nobody", at(8)).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::TokenUnknown { .. }), "{error}");
    }
    // The name is free again.
    store.create_token(&token("laptop", 9)).await.unwrap();
    assert_eq!(store.tokens().await.unwrap()[1], token("laptop", 9));
}

#[tokio::test]
async fn tokens_live_and_end_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    tokens_live_and_end(&*sqlite(folder.path(), Limits::default()).await).await;
}

#[tokio::test]
async fn tokens_live_and_end_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    tokens_live_and_end(&*postgres(&database, Limits::default()).await).await;
}

async fn a_limit_of_memories_holds_exactly(store: Arc<dyn Store>) {
    let (scope, other) = (Scope::new("full", "tester"), Scope::new("empty", "tester"));
    let tasks = (0..30).map(|number| {
        let (store, scope) = (Arc::clone(&store), scope.clone());
        tokio::spawn(async move {
            remember(&*store, &scope, vec![note(&format!("memory {number}"))]).await
        })
    });
    let mut stored = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(answer) => stored.push(answer[0].id),
            Err(StoreError::LimitExceeded {
                project,
                what,
                figure,
                limit,
            }) => {
                assert_eq!(
                    (project.as_str(), what, figure, limit),
                    ("full", "memories", 11, 10)
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(stored.len(), 10);
    assert_eq!(
        store
            .browse(&scope, &Filter::at(at(1)), None, 100)
            .await
            .unwrap()
            .len(),
        10
    );
    // What is there may be said again; others are not concerned; a batch is stored as a whole or not at all.
    let known = store.get(&scope, &stored[..1], false).await.unwrap()[0]
        .content
        .clone();
    let again = remember(&*store, &scope, vec![note(&known)]).await.unwrap();
    assert!(!again[0].created && again[0].id == stored[0]);
    store_one(&*store, &other, note("elsewhere")).await;
    forget(&*store, &scope, stored[0], ForgetMode::Delete).await;
    assert!(
        remember(&*store, &scope, vec![note("deleted ones count")])
            .await
            .is_err()
    );
    forget(&*store, &scope, stored[0], ForgetMode::Purge).await;
    let two = remember(&*store, &scope, vec![note("one"), note("too many")])
        .await
        .unwrap_err();
    assert!(
        matches!(
            two,
            StoreError::LimitExceeded {
                figure: 11,
                limit: 10,
                ..
            }
        ),
        "{two}"
    );
    store_one(&*store, &scope, note("one")).await;
    let replacing = NewMemory {
        supersedes: vec![stored[1]],
        ..note("another version")
    };
    assert!(remember(&*store, &scope, vec![replacing]).await.is_err());
    assert_eq!(
        store.get(&scope, &stored[1..2], false).await.unwrap()[0].superseded_by,
        None,
        "nothing by halves"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_memories_holds_exactly_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    a_limit_of_memories_holds_exactly(
        sqlite(
            folder.path(),
            Limits {
                memories: 10,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_memories_holds_exactly_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    a_limit_of_memories_holds_exactly(
        postgres(
            &database,
            Limits {
                memories: 10,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

async fn a_limit_of_bytes_holds_exactly(store: Arc<dyn Store>) {
    let scope = Scope::new("full", "tester");
    // An empty object of metadata has two bytes.
    let id = store_one(&*store, &scope, note(&"x".repeat(48))).await;
    let large = remember(&*store, &scope, vec![note(&"y".repeat(49))])
        .await
        .unwrap_err();
    assert!(
        matches!(
            large,
            StoreError::LimitExceeded {
                what: "bytes",
                figure: 101,
                limit: 100,
                ..
            }
        ),
        "{large}"
    );
    store_one(&*store, &scope, note(&"y".repeat(48))).await;
    assert!(
        remember(&*store, &scope, vec![note("")]).await.is_err(),
        "two bytes are too many"
    );
    forget(&*store, &scope, id, ForgetMode::Purge).await;
    store_one(&*store, &scope, note(&"z".repeat(48))).await;
}

fn rewriting(id: Uuid, content: String, second: i64) -> Update {
    let patch = Patch {
        content: Some(content),
        ..Patch::default()
    };
    Update {
        id,
        expected_version: None,
        patch,
        reason: None,
        now: at(second),
    }
}

/// Bytes that the limit counts for what is not a memory's present state.
const HISTORY_LIMIT: u64 = 1 << 20;

/// A memory that is rewritten again and again grows only as far as the limit, and goes with all its versions.
async fn history_counts_towards_the_limit_of_bytes(store: Arc<dyn Store>) {
    let scope = Scope::new("full", "tester");
    let id = store_one(&*store, &scope, note("first")).await;
    let text = |number: i64| format!("{number} {}", "x".repeat(64_000));
    let mut stored = 0;
    let refused = loop {
        match store
            .update(&scope, rewriting(id, text(stored), stored))
            .await
        {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 20, "it grows without a limit");
    };
    assert!(
        matches!(
            refused,
            StoreError::LimitExceeded {
                what: "bytes",
                limit: HISTORY_LIMIT,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        stored > 10,
        "{stored} versions of 64 kB are less than a MiB"
    );
    let memory = store.get(&scope, &[id], false).await.unwrap().remove(0);
    assert_eq!(
        (memory.version, memory.content),
        (stored + 1, text(stored - 1)),
        "nothing by halves"
    );
    // A deletion is never refused, but a restoration is.
    forget(&*store, &scope, id, ForgetMode::Delete).await;
    let restored = store
        .forget(&scope, &[id], ForgetMode::Restore, None, at(60))
        .await;
    assert!(
        matches!(
            restored,
            Err(StoreError::LimitExceeded { what: "bytes", .. })
        ),
        "{restored:?}"
    );
    let review = NewReview {
        id: Uuid::from_u128(1),
        memory: id,
        proposal: Proposal::Restore,
        reason: None,
        now: at(60),
        expires_at: at(1_000_000),
    };
    let review = store.propose(&scope, &[review]).await.unwrap().remove(0);
    let approval = Decide::approve(&review, at(60));
    let approved = store.decide(&scope, &approval).await;
    assert!(
        matches!(
            approved,
            Err(StoreError::LimitExceeded { what: "bytes", .. })
        ),
        "an approved restoration is refused, too: {approved:?}"
    );
    // What expires makes room.
    let expiry = Expiry {
        history_before: Some(at(10)),
        keys_before: None,
        rows: 1_000,
    };
    assert_eq!(
        store.remove_expired(&expiry).await.unwrap().history,
        11,
        "ten updates and the deletion"
    );
    store
        .forget(&scope, &[id], ForgetMode::Restore, None, at(61))
        .await
        .unwrap();
    // A purge takes the history along: the whole limit is free again.
    forget(&*store, &scope, id, ForgetMode::Purge).await;
    let full: Vec<NewMemory> = (0..16)
        .map(|number| note(&format!("{number:02}{}", "y".repeat(65_000))))
        .collect();
    remember(&*store, &scope, full).await.unwrap();
}

#[tokio::test]
async fn history_counts_towards_the_limit_of_bytes_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: HISTORY_LIMIT,
        ..Limits::default()
    };
    history_counts_towards_the_limit_of_bytes(sqlite(folder.path(), limits).await).await;
}

#[tokio::test]
async fn history_counts_towards_the_limit_of_bytes_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let limits = Limits {
        bytes: HISTORY_LIMIT,
        ..Limits::default()
    };
    history_counts_towards_the_limit_of_bytes(postgres(&database, limits).await).await;
}

#[tokio::test]
async fn a_limit_of_bytes_holds_exactly_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    a_limit_of_bytes_holds_exactly(
        sqlite(
            folder.path(),
            Limits {
                bytes: 100,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

#[tokio::test]
async fn a_limit_of_bytes_holds_exactly_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    a_limit_of_bytes_holds_exactly(
        postgres(
            &database,
            Limits {
                bytes: 100,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

/// What was approved is held to the limit of bytes like any other change.
async fn an_approved_change_is_held_to_the_limit(store: Arc<dyn Store>) {
    let scope = Scope::new("full", "tester");
    let id = store_one(
        &*store,
        &scope,
        NewMemory {
            protected: true,
            ..note(&"x".repeat(48))
        },
    )
    .await;
    let propose = async |content: String, second: i64| {
        let proposal = Proposal::Update {
            patch: Box::new(Patch {
                content: Some(content),
                ..Patch::default()
            }),
        };
        let (now, expires_at) = (at(second), at(1_000_000));
        let review = NewReview {
            id: Uuid::from_u128(second.unsigned_abs().into()),
            memory: id,
            proposal,
            reason: None,
            now,
            expires_at,
        };
        store.propose(&scope, &[review]).await.unwrap().remove(0).id
    };
    let decide = async |id: Uuid, decision: Decision| {
        store
            .decide(
                &scope,
                &Decide {
                    id,
                    decision,
                    reason: None,
                    now: at(10),
                },
            )
            .await
    };
    let large = propose("y".repeat(999), 1).await;
    let refused = decide(large, Decision::Approve).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::LimitExceeded {
                what: "bytes",
                limit: 1_000,
                ..
            }
        ),
        "{refused}"
    );
    let memory = store.get(&scope, &[id], false).await.unwrap().remove(0);
    assert_eq!(
        (memory.version, memory.content),
        (1, "x".repeat(48)),
        "nothing by halves"
    );
    assert_eq!(
        store.open_reviews(&scope, at(10)).await.unwrap(),
        1,
        "it waits still"
    );
    decide(large, Decision::Reject).await.unwrap();
    let fitting = propose("z".repeat(98), 2).await;
    assert_eq!(
        decide(fitting, Decision::Approve).await.unwrap().state,
        ReviewState::Approved
    );
    let smaller = propose("z".repeat(10), 3).await;
    decide(smaller, Decision::Approve).await.unwrap();
}

#[tokio::test]
async fn an_approved_change_is_held_to_the_limit_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 1_000,
        ..Limits::default()
    };
    an_approved_change_is_held_to_the_limit(sqlite(folder.path(), limits).await).await;
}

#[tokio::test]
async fn an_approved_change_is_held_to_the_limit_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let limits = Limits {
        bytes: 1_000,
        ..Limits::default()
    };
    an_approved_change_is_held_to_the_limit(postgres(&database, limits).await).await;
}

fn named(names: std::ops::Range<u32>) -> Links {
    let entity = |number| NewEntity {
        name: format!("e{number}"),
        ..NewEntity::default()
    };
    Links {
        entities: names.map(entity).collect(),
        relations: Vec::new(),
    }
}

fn related(from: u32, to: u32) -> Links {
    let relation = NewRelation {
        from: format!("e{from}"),
        to: format!("e{to}"),
        kind: Some("knows".to_owned()),
        weight: None,
        properties: Map::new(),
        valid_from: None,
        valid_to: None,
        never_ends: false,
        unlink: None,
    };
    Links {
        entities: Vec::new(),
        relations: vec![relation],
    }
}

/// What is not a memory does not grow without bound, either.
async fn a_limit_of_entries_holds(store: Arc<dyn Store>) {
    let (scope, other) = (Scope::new("full", "tester"), Scope::new("empty", "tester"));
    let tasks = (0..12).map(|number| {
        let (store, scope) = (Arc::clone(&store), scope.clone());
        tokio::spawn(async move { store.link(&scope, &named(number..number + 1), at(1)).await })
    });
    let mut refused = 0;
    for task in tasks.collect::<Vec<_>>() {
        if let Err(error) = task.await.unwrap() {
            assert!(
                matches!(
                    error,
                    StoreError::LimitExceeded {
                        what: "entities",
                        figure: 5,
                        limit: 4,
                        ..
                    }
                ),
                "{error}"
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 8);
    let names = EntityQuery::List {
        kind: None,
        prefix: String::new(),
        after: String::new(),
        limit: 100,
    };
    let known = store.entities(&scope, &names).await.unwrap();
    assert_eq!(known.len(), 4);
    let number = |index: usize| known[index].name[1..].parse::<u32>().unwrap();
    // What is there may be named again; a memory that would bring one more is not stored.
    store
        .link(&scope, &named(number(0)..number(0) + 1), at(2))
        .await
        .unwrap();
    let mentioning = NewMemory {
        links: named(99..100),
        ..note("mentions one more")
    };
    let error = remember(&*store, &scope, vec![mentioning])
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::LimitExceeded {
                what: "entities",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        store
            .browse(&scope, &Filter::at(at(1)), None, 10)
            .await
            .unwrap()
            .is_empty(),
        "nothing by halves"
    );
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        store
            .link(&scope, &related(number(from), number(to)), at(3))
            .await
            .unwrap();
    }
    let error = store
        .link(&scope, &related(number(0), number(2)), at(3))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::LimitExceeded {
                what: "relations",
                figure: 5,
                limit: 4,
                ..
            }
        ),
        "{error}"
    );
    store.link(&other, &named(0..4), at(3)).await.unwrap();

    // The working memory goes on, and keeps what is newest.
    let seventh = store_one(&*store, &scope, note("item 7")).await;
    for number in 0..12_u128 {
        let new = NewFocus {
            id: Uuid::from_u128(number + 1),
            content: format!("item {number}"),
            importance: 0.5,
            now: at(i64::try_from(number).unwrap() + 10),
        };
        store
            .focus_add(&scope, &format!("session {}", number % 6), new, 10)
            .await
            .unwrap();
    }
    let (mut held, mut archived) = (Vec::new(), Vec::new());
    for session in (0..6).map(|number| format!("session {number}")) {
        held.extend(
            store
                .focus_list(&scope, &session)
                .await
                .unwrap()
                .into_iter()
                .map(|item| item.content),
        );
        archived.extend(
            store
                .focus_archived(&scope, &session, None, 100)
                .await
                .unwrap(),
        );
    }
    held.sort();
    assert_eq!(held, ["item 10", "item 11", "item 8", "item 9"]);
    let mut gone: Vec<&str> = archived
        .iter()
        .map(|archived| archived.item.content.as_str())
        .collect();
    gone.sort_unstable();
    assert_eq!(gone, ["item 4", "item 5", "item 6", "item 7"]);
    assert!(
        archived
            .iter()
            .all(|archived| archived.reason.contains("as many items as it may"))
    );

    let linked: Vec<Option<Uuid>> = archived
        .iter()
        .filter(|archived| archived.item.content == "item 7")
        .map(|archived| archived.item.memory)
        .collect();
    assert_eq!(linked, [Some(seventh)], "the link goes along");

    // Judgements are kept, too.
    let id = store_one(&*store, &scope, note("compared")).await;
    for number in 0..5_u128 {
        let compared = store_one(&*store, &scope, note(&format!("with {number}"))).await;
        let proposal = Proposal::Nothing { other: compared };
        let (now, expires_at) = (at(30), at(1_000_000));
        let review = NewReview {
            id: Uuid::from_u128(1_000 + number),
            memory: id,
            proposal,
            reason: None,
            now,
            expires_at,
        };
        let answer = store.propose(&scope, &[review]).await;
        assert_eq!(answer.is_ok(), number < 4, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_entries_holds_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    a_limit_of_entries_holds(
        sqlite(
            folder.path(),
            Limits {
                entries: 4,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_entries_holds_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    a_limit_of_entries_holds(
        postgres(
            &database,
            Limits {
                entries: 4,
                ..Limits::default()
            },
        )
        .await,
    )
    .await;
}

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?
        .rows_affected())
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn postgres_itself_keeps_projects_apart() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store
        .working_role()
        .expect("row-level security is in force");
    for project in ["a", "b"] {
        for number in 0..3 {
            let item = NewMemory {
                tags: vec!["tag".into()],
                ..note(&format!("{project} {number}"))
            };
            store_one(&store, &Scope::new(project, "tester"), item).await;
        }
    }
    let mut connection = database.connection().await;
    let tables: Vec<(String, bool)> = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AS secured FROM pg_class c \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND (c.relname = 'project' OR EXISTS \
            (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id')) ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get("name"), row.get("secured")))
    .collect();
    assert!(tables.len() > 10, "{tables:?}");
    let owned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = $1",
    )
    .bind(&role)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(owned, 0, "who owns a table is not held by its policies");
    assert_eq!(count(&mut connection, "memory").await, 6);

    run(&mut connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    for (table, secured) in &tables {
        assert!(secured, "{table} has no row-level security");
        assert_eq!(
            count(&mut connection, table).await,
            0,
            "{table} shows rows to a session that was told nothing"
        );
    }
    run(
        &mut connection,
        "SET memory.projects = '{a}'; SET memory.project = 'a'".to_owned(),
    )
    .await
    .unwrap();
    for (table, rows) in [
        ("memory", 3),
        ("project", 1),
        ("posting", 6),
        ("index_job", 3),
    ] {
        assert_eq!(count(&mut connection, table).await, rows, "{table}");
    }
    let tagged: Vec<i64> = sqlx::query_scalar("SELECT memory_tagged('{tag}')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(tagged.len(), 3);
    // To read another project is not to change it.
    run(&mut connection, "SET memory.projects = '{a,b}'".to_owned())
        .await
        .unwrap();
    assert_eq!(count(&mut connection, "memory").await, 6);
    assert_eq!(
        run(
            &mut connection,
            "UPDATE memory SET importance = 1".to_owned()
        )
        .await
        .unwrap(),
        3
    );
    let foreign = "INSERT INTO index_job (project_id, memory_seq) \
        SELECT project_id, -1 FROM memory WHERE content = 'b 0'";
    let refused = run(&mut connection, foreign.to_owned()).await.unwrap_err();
    assert_eq!(
        refused
            .as_database_error()
            .and_then(|error| error.code())
            .as_deref(),
        Some("42501"),
        "{refused}"
    );
    assert_eq!(
        run(&mut connection, "DELETE FROM memory".to_owned())
            .await
            .unwrap(),
        3
    );
    run(&mut connection, "RESET ROLE".to_owned()).await.unwrap();
    assert_eq!(count(&mut connection, "memory").await, 3);
    // The role has no way to tokens but reading their hashes.
    run(&mut connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    assert!(
        run(&mut connection, "DELETE FROM token".to_owned())
            .await
            .is_err()
    );
}

/// The same for what is no memory: entities, relations, mentions, working memory, reviews.
#[tokio::test]
async fn postgres_itself_keeps_graph_focus_and_reviews_apart() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store.working_role().unwrap();
    for project in ["a", "b"] {
        let scope = Scope::new(project, "tester");
        let relation = NewRelation {
            from: "Ada".into(),
            to: "Grace".into(),
            kind: Some("knows".into()),
            weight: None,
            properties: serde_json::Map::new(),
            valid_from: None,
            valid_to: None,
            never_ends: false,
            unlink: None,
        };
        let links = Links {
            entities: Vec::new(),
            relations: vec![relation],
        };
        let id = store_one(
            &store,
            &scope,
            NewMemory {
                links,
                ..note("they met")
            },
        )
        .await;
        let focus = |second| NewFocus {
            id: new_id(),
            content: format!("item {second}"),
            importance: 0.5,
            now: at(second),
        };
        store.focus_add(&scope, "s", focus(1), 1).await.unwrap();
        store.focus_add(&scope, "s", focus(2), 1).await.unwrap();
        let review = NewReview {
            id: new_id(),
            memory: id,
            proposal: Proposal::Delete,
            reason: None,
            now: at(1),
            expires_at: at(100),
        };
        store.propose(&scope, &[review]).await.unwrap();
    }
    let mut connection = database.connection().await;
    let rows = [
        ("entity", 2),
        ("relation", 1),
        ("mention", 2),
        ("focus", 1),
        ("focus_archive", 1),
        ("review", 1),
    ];
    for (table, each) in rows {
        assert_eq!(count(&mut connection, table).await, 2 * each, "{table}");
    }
    run(&mut connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    for (table, _) in rows {
        assert_eq!(count(&mut connection, table).await, 0, "{table}");
    }
    run(
        &mut connection,
        "SET memory.projects = '{a,b}'; SET memory.project = 'a'".to_owned(),
    )
    .await
    .unwrap();
    for (table, each) in rows {
        assert_eq!(count(&mut connection, table).await, 2 * each, "{table}");
    }
    // What rests on another row goes with it.
    for table in [
        "mention",
        "relation",
        "entity",
        "focus",
        "focus_archive",
        "review",
    ] {
        let each = rows.iter().find(|row| row.0 == table).unwrap().1;
        let deleted = run(&mut connection, format!("DELETE FROM {table}"))
            .await
            .unwrap();
        assert_eq!(deleted, each.unsigned_abs(), "{table}");
        assert_eq!(count(&mut connection, table).await, each, "{table}");
    }
}

#[tokio::test]
async fn rights_that_a_restored_dump_lacks_are_given_again() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store.working_role().unwrap();
    store.close().await;
    let mut connection = database.connection().await;
    run(
        &mut connection,
        format!("REVOKE ALL ON memory, token FROM \"{role}\""),
    )
    .await
    .unwrap();
    let again = database.store().with_row_security(RowSecurity::On);
    again.prepare().await.unwrap();
    assert_eq!(again.working_role(), Some(role));
    store_one(&again, &Scope::new("a", "tester"), note("after")).await;
    assert!(again.tokens().await.unwrap().is_empty());
}

/// A statement that forgot its condition shows what it would show: the rows of the scope.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_change_hands_without_mixing_projects() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store_with(2, cognitive_memory_mcp::domain::Language::English);
    store.prepare().await.unwrap();
    let store = Arc::new(store);
    let tasks = (0..8).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let own = Scope::new(format!("p{}", number % 4), "tester");
            for round in 0..20 {
                store_one(
                    &*store,
                    &own,
                    note(&format!("p{} {number} {round}", number % 4)),
                )
                .await;
                let seen = store
                    .browse(&own, &Filter::at(at(1)), None, 100)
                    .await
                    .unwrap();
                assert!(seen.iter().all(|memory| memory.project == own.project()));
                assert!(!seen.is_empty());
                store.info().await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let all = Scope::new("reader", "tester").reading((0..4).map(|number| format!("p{number}")));
    assert_eq!(
        store
            .browse(&all, &Filter::at(at(1)), None, 1_000)
            .await
            .unwrap()
            .len(),
        160
    );
}

#[tokio::test]
async fn without_row_security_everything_works_as_the_owner() {
    needs!(Postgres);
    let database = Database::empty().await;
    let store = database.store().with_row_security(RowSecurity::Off);
    store.prepare().await.unwrap();
    assert_eq!(store.working_role(), None);
    let scope = Scope::new("a", "tester");
    let item = NewMemory {
        tags: vec!["tag".into()],
        ..note("plain")
    };
    store_one(&store, &scope, item).await;
    let tagged = Filter {
        tags: vec!["tag".into()],
        ..Filter::at(at(1))
    };
    assert_eq!(
        store.browse(&scope, &tagged, None, 10).await.unwrap().len(),
        1
    );
}

/// What an owner of a database has on a managed server: no superuser, and perhaps not even the right to make roles.
#[tokio::test]
async fn a_plain_owner_gets_row_security_when_the_role_is_there() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut admin = database.connection().await;
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let name = database.options().get_database().unwrap().to_owned();
    run(
        &mut admin,
        format!("CREATE EXTENSION vector; CREATE ROLE {owner} LOGIN PASSWORD 'secret'"),
    )
    .await
    .unwrap();
    run(
        &mut admin,
        format!("ALTER DATABASE {name} OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}"),
    )
    .await
    .unwrap();
    let options = database.options().username(&owner).password("secret");
    let make = |row_security| {
        cognitive_memory_mcp::store::postgres::PostgresStore::new(options.clone(), 2, analyzer())
            .with_row_security(row_security)
    };
    let insisting = make(RowSecurity::On);
    let error = insisting.prepare().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("CREATE ROLE \"{owner}_app\" NOLOGIN")),
        "{error}"
    );
    let without = make(RowSecurity::Auto);
    without.prepare().await.unwrap();
    assert_eq!(without.working_role(), None);
    store_one(&without, &Scope::new("a", "tester"), note("before")).await;

    run(
        &mut admin,
        format!("CREATE ROLE {owner}_app NOLOGIN; GRANT {owner}_app TO {owner}"),
    )
    .await
    .unwrap();
    insisting.prepare().await.unwrap();
    assert_eq!(insisting.working_role(), Some(format!("{owner}_app")));
    let scope = Scope::new("a", "tester");
    store_one(&insisting, &scope, note("after")).await;
    assert_eq!(
        insisting
            .browse(&scope, &Filter::at(at(1)), None, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    insisting.close().await;
    without.close().await;
    let tidy = format!(
        "REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}, {owner}_app; DROP ROLE {owner}_app, {owner}"
    );
    run(&mut admin, tidy).await.unwrap();
}

/// Managed servers keep extensions in a schema of their own, which nobody may use unless told so.
#[tokio::test]
async fn row_security_reaches_pgvector_in_another_schema() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut admin = database.connection().await;
    run(
        &mut admin,
        "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions".to_owned(),
    )
    .await
    .unwrap();
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let name = database.options().get_database().unwrap().to_owned();
    let make = format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'secret'; CREATE ROLE {owner}_app NOLOGIN; GRANT {owner}_app TO {owner}; \
         ALTER DATABASE {name} OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}; \
         GRANT USAGE ON SCHEMA extensions TO {owner}"
    );
    run(&mut admin, make).await.unwrap();
    let options = database.options().username(&owner).password("secret");
    let plain = cognitive_memory_mcp::store::postgres::PostgresStore::new(options, 2, analyzer())
        .with_row_security(RowSecurity::On);
    let error = plain.prepare().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "GRANT USAGE ON SCHEMA \"extensions\" TO \"{owner}_app\""
        )),
        "{error}"
    );

    // An owner who may grant the right grants it without being asked.
    for way in [VectorSearch::Exact, VectorSearch::Index] {
        let store = database
            .store()
            .with_row_security(RowSecurity::On)
            .with_vector_search(way);
        store.prepare().await.unwrap();
        search_by_meaning(&store, &format!("found by {way:?} search")).await;
        store.close().await;
    }
    plain.close().await;
    let tidy = format!(
        "REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}, {owner}_app; DROP ROLE {owner}_app, {owner}"
    );
    run(&mut admin, tidy).await.unwrap();
}

async fn search_by_meaning(store: &dyn Store, text: &str) {
    let scope = Scope::new("a", "tester");
    let id = store_one(store, &scope, note(text)).await;
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    let embedded: Vec<Embedded> = jobs
        .iter()
        .map(|job| Embedded {
            key: job.key,
            version: job.version,
            vectors: vec![vec![0.6, 0.8]],
        })
        .collect();
    assert_eq!(store.save_vectors("m", &embedded, at(1)).await.unwrap(), 1);
    store.prepare_vectors("m", 2).await.unwrap();
    let query = VectorQuery {
        model: "m".to_owned(),
        vector: [1.0, 0.0].into(),
        filter: Filter::at(at(1)),
        limit: 5,
    };
    let hits = store.search_vectors(&scope, &query).await.unwrap();
    assert!((hits[0].cosine.unwrap() - 0.6).abs() < 1e-3 && hits[0].id == id);
}
