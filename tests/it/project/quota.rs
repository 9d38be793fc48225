//! Quotas of a project.

use super::*;

/// Runs a test on a new SQLite database with these limits.
async fn in_sqlite<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(Arc<dyn Store>) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test(sqlite(folder.path(), limits).await).await;
}

/// Runs a test on a new PostgreSQL database with these limits.
async fn in_postgres<F: Future<Output = ()>>(
    limits: Limits,
    test: impl FnOnce(Arc<dyn Store>) -> F,
) {
    let database = Database::migrated().await;
    test(postgres(&database, limits).await).await;
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
    // Stored memories may be repeated; other projects are not affected; a batch is stored completely or not
    // at all.
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
    let limits = Limits {
        memories: 10,
        ..Limits::default()
    };
    in_sqlite(limits, a_limit_of_memories_holds_exactly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_memories_holds_exactly_in_postgres() {
    needs!(Postgres);
    let limits = Limits {
        memories: 10,
        ..Limits::default()
    };
    in_postgres(limits, a_limit_of_memories_holds_exactly).await;
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

/// The quota of bytes for the history.
const HISTORY_LIMIT: u64 = 1 << 20;

/// A memory that is rewritten repeatedly grows only up to the quota, and is purged with all its versions.
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
    // A deletion is never refused, but a restoration may be.
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
    an_approved_restoration_is_refused(&*store, &scope, id).await;
    // Expired history frees space.
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
    // A purge removes the history, too: the whole quota is free again.
    forget(&*store, &scope, id, ForgetMode::Purge).await;
    let full: Vec<NewMemory> = (0..16)
        .map(|number| note(&format!("{number:02}{}", "y".repeat(65_000))))
        .collect();
    remember(&*store, &scope, full).await.unwrap();
}

async fn an_approved_restoration_is_refused(store: &dyn Store, scope: &Scope, id: Uuid) {
    let review = NewReview {
        id: Uuid::from_u128(1),
        memory: id,
        proposal: Proposal::Restore,
        reason: None,
        now: at(60),
        expires_at: at(1_000_000),
    };
    let review = store.propose(scope, &[review]).await.unwrap().remove(0);
    let approval = Decide::approve(&review, at(60));
    let approved = store.decide(scope, &approval).await;
    assert!(
        matches!(
            approved,
            Err(StoreError::LimitExceeded { what: "bytes", .. })
        ),
        "an approved restoration is refused, too: {approved:?}"
    );
}

#[tokio::test]
async fn history_counts_towards_the_limit_of_bytes_in_sqlite() {
    let limits = Limits {
        bytes: HISTORY_LIMIT,
        ..Limits::default()
    };
    in_sqlite(limits, history_counts_towards_the_limit_of_bytes).await;
}

#[tokio::test]
async fn history_counts_towards_the_limit_of_bytes_in_postgres() {
    needs!(Postgres);
    let limits = Limits {
        bytes: HISTORY_LIMIT,
        ..Limits::default()
    };
    in_postgres(limits, history_counts_towards_the_limit_of_bytes).await;
}

#[tokio::test]
async fn a_limit_of_bytes_holds_exactly_in_sqlite() {
    let limits = Limits {
        bytes: 100,
        ..Limits::default()
    };
    in_sqlite(limits, a_limit_of_bytes_holds_exactly).await;
}

#[tokio::test]
async fn a_limit_of_bytes_holds_exactly_in_postgres() {
    needs!(Postgres);
    let limits = Limits {
        bytes: 100,
        ..Limits::default()
    };
    in_postgres(limits, a_limit_of_bytes_holds_exactly).await;
}

/// An approved change is subject to the quota of bytes like any other change.
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
    let limits = Limits {
        bytes: 1_000,
        ..Limits::default()
    };
    in_sqlite(limits, an_approved_change_is_held_to_the_limit).await;
}

#[tokio::test]
async fn an_approved_change_is_held_to_the_limit_in_postgres() {
    needs!(Postgres);
    let limits = Limits {
        bytes: 1_000,
        ..Limits::default()
    };
    in_postgres(limits, an_approved_change_is_held_to_the_limit).await;
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

/// The number of other objects is limited, too.
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
    // Existing names may be repeated; a memory that would add another one is not stored.
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
    a_limit_of_relations_holds(&*store, &scope, [0, 1, 2, 3].map(number)).await;
    store.link(&other, &named(0..4), at(3)).await.unwrap();

    a_limit_of_focus_items_archives_the_oldest(&*store, &scope).await;
    a_limit_of_reviews_holds(&*store, &scope).await;
}

async fn a_limit_of_relations_holds(store: &dyn Store, scope: &Scope, names: [u32; 4]) {
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        store
            .link(scope, &related(names[from], names[to]), at(3))
            .await
            .unwrap();
    }
    let error = store
        .link(scope, &related(names[0], names[2]), at(3))
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
}

async fn a_limit_of_focus_items_archives_the_oldest(store: &dyn Store, scope: &Scope) {
    let seventh = store_one(store, scope, note("item 7")).await;
    for number in 0..12_u128 {
        let new = NewFocus {
            id: Uuid::from_u128(number + 1),
            content: format!("item {number}"),
            importance: 0.5,
            now: at(i64::try_from(number).unwrap() + 10),
        };
        store
            .focus_add(scope, &format!("session {}", number % 6), new, 10)
            .await
            .unwrap();
    }
    let (mut held, mut archived) = (Vec::new(), Vec::new());
    for session in (0..6).map(|number| format!("session {number}")) {
        held.extend(
            store
                .focus_list(scope, &session)
                .await
                .unwrap()
                .into_iter()
                .map(|item| item.content),
        );
        archived.extend(
            store
                .focus_archived(scope, &session, None, 100)
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
            .all(|archived| archived.reason.contains("reached its limit of items"))
    );

    let linked: Vec<Option<Uuid>> = archived
        .iter()
        .filter(|archived| archived.item.content == "item 7")
        .map(|archived| archived.item.memory)
        .collect();
    assert_eq!(linked, [Some(seventh)], "the link goes along");
}

async fn a_limit_of_reviews_holds(store: &dyn Store, scope: &Scope) {
    let id = store_one(store, scope, note("compared")).await;
    for number in 0..5_u128 {
        let compared = store_one(store, scope, note(&format!("with {number}"))).await;
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
        let answer = store.propose(scope, &[review]).await;
        assert_eq!(answer.is_ok(), number < 4, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_entries_holds_in_sqlite() {
    let limits = Limits {
        entries: 4,
        ..Limits::default()
    };
    in_sqlite(limits, a_limit_of_entries_holds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_entries_holds_in_postgres() {
    needs!(Postgres);
    let limits = Limits {
        entries: 4,
        ..Limits::default()
    };
    in_postgres(limits, a_limit_of_entries_holds).await;
}
