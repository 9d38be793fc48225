//! Paged reading of the history, and removal of expired data.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{
    AsOf, Change, Decision, Filter, NewMemory, Patch, Proposal, Scope,
};
use cognitive_memory_mcp::store::port::{Record, RecordPosition, Section};
use cognitive_memory_mcp::store::{
    Decide, Expired, Expiry, HistoryQuery, Idempotency, MOST_KEYS, NewReview, Remember, Remembered,
    Store, StoreError, Update,
};
use cognitive_memory_mcp::transfer::{TransferError, export_snapshot};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{analyzed, at, history, load, new_id, note, scope, store_one};

async fn update(store: &dyn Store, scope: &Scope, id: Uuid, content: &str, seconds: i64) {
    let patch = Patch {
        content: Some(content.to_owned()),
        ..Patch::default()
    };
    let command = Update {
        id,
        expected_version: None,
        patch,
        reason: None,
        now: at(seconds),
    };
    store.update(scope, command).await.unwrap();
}

/// Stores a memory with the versions 1 to `versions`, one second apart, starting at `seconds`.
async fn with_versions(store: &dyn Store, scope: &Scope, versions: i64, seconds: i64) -> Uuid {
    let id = store_one(store, scope, note(&format!("{} version 1", new_id()))).await;
    for version in 2..=versions {
        update(
            store,
            scope,
            id,
            &format!("version {version}"),
            seconds + version,
        )
        .await;
    }
    id
}

pub(crate) async fn pages_lead_from_the_newest_entry_to_the_creation(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = with_versions(store, &scope, 6, 0).await;
    let page = |from, entries| HistoryQuery {
        memory: id,
        from,
        entries,
        bytes: 1 << 20,
    };
    let first = store.history_page(&scope, &page(None, 4)).await.unwrap();
    let versions = |page: &[cognitive_memory_mcp::store::HistoryEntry]| {
        page.iter()
            .map(|entry| entry.history.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(&first), [6, 5, 4, 3]);
    assert_eq!(
        first[0].history.old.as_ref().unwrap()["content"],
        "version 5"
    );
    let rest = store
        .history_page(&scope, &page(Some(first[3].place), 100))
        .await
        .unwrap();
    assert_eq!(
        versions(&rest),
        [3, 2, 1],
        "a page starts with the entry at the place"
    );
    assert_eq!(rest[0], first[3]);
    let created = &rest[2].history;
    assert_eq!(
        (created.change, created.old.as_ref(), created.at),
        (Change::Created, None, at(0))
    );
    let end = store
        .history_page(&scope, &page(Some(rest[2].place), 100))
        .await
        .unwrap();
    assert_eq!(end, rest[2..], "nothing is older than the creation");
}

pub(crate) async fn a_page_has_a_size(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = store_one(store, &scope, note(&"a".repeat(60_000))).await;
    for number in 1..10 {
        update(
            store,
            &scope,
            id,
            &number.to_string().repeat(60_000),
            number,
        )
        .await;
    }
    let page = |bytes| HistoryQuery {
        memory: id,
        from: None,
        entries: 100,
        bytes,
    };
    assert_eq!(
        store
            .history_page(&scope, &page(200_000))
            .await
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        store.history_page(&scope, &page(1)).await.unwrap().len(),
        2,
        "two entries always lead on"
    );
    assert_eq!(history(store, &scope, id).await.len(), 10);
}

pub(crate) async fn history_stays_in_its_project(store: Arc<dyn Store>) {
    let (store, mine, theirs) = (&*store, scope(), scope());
    let id = with_versions(store, &mine, 3, 0).await;
    let query = HistoryQuery {
        memory: id,
        from: None,
        entries: 100,
        bytes: 1 << 20,
    };
    assert!(
        store
            .history_page(&theirs, &query)
            .await
            .unwrap()
            .is_empty()
    );
    let both = theirs.clone().reading([mine.project().to_owned()]);
    assert_eq!(store.history_page(&both, &query).await.unwrap().len(), 3);
    let unknown = HistoryQuery {
        memory: new_id(),
        ..query
    };
    assert!(
        store
            .history_page(&mine, &unknown)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Times that no other test of the contract uses, because expired data is removed from all projects.
const LONG_AGO: i64 = -1_000_000_000;

async fn expire_all(store: &dyn Store, expiry: Expiry) -> Expired {
    let mut all = Expired::default();
    loop {
        let some = store.remove_expired(&expiry).await.unwrap();
        assert!(
            some.history <= expiry.rows as u64 && some.keys <= expiry.rows as u64,
            "{some:?}"
        );
        if some == Expired::default() {
            return all;
        }
        all.history += some.history;
        all.keys += some.keys;
    }
}

pub(crate) async fn expired_changes_are_removed_in_batches(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let old = with_versions(store, &scope, 6, LONG_AGO).await;
    let kept = with_versions(store, &scope, 4, 100).await;
    update(store, &scope, old, "version 7", 50).await;
    assert_eq!(
        store
            .remove_expired(&Expiry {
                rows: 10,
                ..Expiry::default()
            })
            .await
            .unwrap(),
        Expired::default()
    );
    let expiry = Expiry {
        history_before: Some(at(LONG_AGO + 100)),
        keys_before: None,
        rows: 2,
    };
    assert_eq!(expire_all(store, expiry).await.history, 5);
    let left: Vec<(i64, Change)> = history(store, &scope, old)
        .await
        .iter()
        .map(|entry| (entry.version, entry.change))
        .collect();
    assert_eq!(left, [(1, Change::Created), (7, Change::Updated)]);
    assert_eq!(load(store, &scope, old).await.content, "version 7");
    assert_eq!(history(store, &scope, kept).await.len(), 4);
}

pub(crate) async fn a_look_back_knows_what_has_expired(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let command = Remember {
        items: analyzed(vec![note("as it was")]),
        idempotency: None,
        now: at(LONG_AGO),
    };
    let id = store.remember(&scope, command).await.unwrap()[0].id;
    update(store, &scope, id, "second", LONG_AGO + 10).await;
    update(store, &scope, id, "third", 10).await;
    update(store, &scope, id, "fourth", 20).await;
    let then = async |seconds: i64| {
        let changed = store.changed_since(&scope, at(seconds)).await.unwrap();
        (
            changed
                .memories
                .iter()
                .map(|memory| memory.content.clone())
                .collect::<Vec<_>>(),
            changed.expired,
        )
    };
    assert_eq!(
        then(LONG_AGO + 5).await,
        (vec!["as it was".to_owned()], false)
    );
    let expiry = Expiry {
        history_before: Some(at(0)),
        keys_before: None,
        rows: 100,
    };
    expire_all(store, expiry).await;
    assert_eq!(
        then(LONG_AGO + 5).await,
        (vec![], true),
        "a later state is not taken for the earlier one"
    );
    assert_eq!(then(15).await, (vec!["third".to_owned()], false));
    let now = Filter {
        as_of: AsOf::KnownThen,
        ..Filter::at(at(30))
    };
    assert_eq!(
        store.browse(&scope, &now, None, 10).await.unwrap()[0].content,
        "fourth"
    );
}

pub(crate) async fn an_undo_works_as_long_as_its_history_is_kept(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let approved = async |content: &str, seconds: i64| {
        let item = NewMemory {
            protected: true,
            ..note(content)
        };
        let command = Remember {
            items: analyzed(vec![item]),
            idempotency: None,
            now: at(seconds),
        };
        let memory = store.remember(&scope, command).await.unwrap()[0].id;
        let patch = Patch {
            content: Some(format!("{content}, corrected")),
            ..Patch::default()
        };
        let proposal = Proposal::Update {
            patch: Box::new(patch),
        };
        let (id, now) = (new_id(), at(seconds + 1));
        let review = NewReview {
            id,
            memory,
            proposal,
            reason: None,
            now,
            expires_at: at(seconds + 1_000),
        };
        let id = store.propose(&scope, &[review]).await.unwrap()[0].id;
        let command = Decide {
            id,
            decision: Decision::Approve,
            reason: None,
            now: at(seconds + 2),
        };
        store.decide(&scope, &command).await.unwrap();
        (memory, id)
    };
    let (old, old_review) = approved("an old word", LONG_AGO).await;
    let (new, new_review) = approved("a new word", 0).await;
    expire_all(
        store,
        Expiry {
            history_before: Some(at(-100)),
            keys_before: None,
            rows: 10,
        },
    )
    .await;
    let undo = |id| Decide {
        id,
        decision: Decision::Undo,
        reason: None,
        now: at(10),
    };
    store.decide(&scope, &undo(new_review)).await.unwrap();
    assert_eq!(load(store, &scope, new).await.content, "a new word");
    let refused = store.decide(&scope, &undo(old_review)).await.unwrap_err();
    assert!(
        refused.to_string().contains("MEMORY_HISTORY_DAYS"),
        "{refused}"
    );
    assert_eq!(
        load(store, &scope, old).await.content,
        "an old word, corrected",
        "nothing by halves"
    );
}

async fn keyed(
    store: &dyn Store,
    scope: &Scope,
    key: &str,
    seconds: i64,
) -> Result<Vec<Remembered>, StoreError> {
    let idempotency = Some(Idempotency {
        key: key.to_owned(),
        request_hash: [7; 32],
    });
    store
        .remember(
            scope,
            Remember {
                items: analyzed(vec![note("said again and again")]),
                idempotency,
                now: at(seconds),
            },
        )
        .await
}

pub(crate) async fn expired_keys_are_forgotten(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    for number in 0..5 {
        keyed(store, &scope, &format!("old {number}"), LONG_AGO + number)
            .await
            .unwrap();
    }
    keyed(store, &scope, "new", 0).await.unwrap();
    let expiry = Expiry {
        history_before: None,
        keys_before: Some(at(LONG_AGO + 100)),
        rows: 2,
    };
    assert_eq!(expire_all(store, expiry).await.keys, 5);
    // The hash differs, so that a stored key is a conflict.
    let again = |key: &str| Remember {
        items: analyzed(vec![note("said again and again")]),
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            request_hash: [8; 32],
        }),
        now: at(1),
    };
    assert!(store.remember(&scope, again("old 0")).await.is_ok());
    assert!(matches!(
        store.remember(&scope, again("new")).await,
        Err(StoreError::IdempotencyConflict { .. })
    ));
}

/// Answers with many items reach the limit of bytes long before that of keys.
pub(crate) async fn the_newest_keys_of_a_project_are_kept(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let items: Vec<_> = (0..500)
        .map(|_| note(&"the same text every time ".repeat(2)))
        .collect();
    let command = |key: i64, hash: u8| Remember {
        items: analyzed(items.clone()),
        idempotency: Some(Idempotency {
            key: format!("key {key}"),
            request_hash: [hash; 32],
        }),
        now: at(key),
    };
    // SQLite stores IDs as text, PostgreSQL as 16 bytes.
    let most = if store.info().await.unwrap().backend == "sqlite" {
        230
    } else {
        540
    };
    assert!(most < MOST_KEYS);
    for key in 0..most {
        store.remember(&scope, command(key, 1)).await.unwrap();
    }
    assert!(
        store.remember(&scope, command(0, 2)).await.is_ok(),
        "the first key is forgotten"
    );
    let newest = store.remember(&scope, command(most - 1, 2)).await;
    assert!(
        matches!(newest, Err(StoreError::IdempotencyConflict { .. })),
        "{newest:?}"
    );
}

/// An export loads a limited amount at once; the line of the memory looks like any other.
pub(crate) async fn a_long_history_is_exported_in_parts(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let before = with_versions(store, &scope, 2, 0).await;
    let long = store_one(store, &scope, note("long")).await;
    let text = |number: i64| format!("{number} {}", "x".repeat(65_000));
    for number in 0..135 {
        update(store, &scope, long, &text(number), number + 10).await;
    }
    let after = with_versions(store, &scope, 3, 0).await;

    let mut snapshot = store.snapshot(&scope).await.unwrap();
    let (mut seen, mut place) = (Vec::new(), RecordPosition::default());
    loop {
        let (records, next) = snapshot.page(Section::Memory, place, 100).await.unwrap();
        if records.is_empty() {
            break;
        }
        place = next;
        for record in records {
            let Record::Memory(record) = record else {
                panic!("{record:?}")
            };
            seen.push((record.memory.id, record.history.len()));
        }
    }
    assert_eq!(
        seen,
        [(before, 2), (long, 0), (after, 3)],
        "the long history is not loaded with its memory"
    );

    let mut out = Vec::new();
    let failed = |source| TransferError::File {
        path: "export".into(),
        source,
    };
    let exported = export_snapshot(&mut *snapshot, &mut out, &failed, &mut |_| ())
        .await
        .unwrap();
    assert_eq!(exported.memories, 3);
    let text_of_file = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = text_of_file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = lines
        .iter()
        .find(|line| line["id"] == long.to_string())
        .unwrap();
    let history = line["history"].as_array().unwrap();
    let versions: Vec<i64> = history
        .iter()
        .map(|entry| entry["version"].as_i64().unwrap())
        .collect();
    assert_eq!(versions, (1..=136).collect::<Vec<i64>>());
    assert_eq!(
        (&history[0]["change"], &history[135]["old"]["content"]),
        (&json!("created"), &json!(text(133)))
    );
}
