//! The working memory of sessions.

use std::sync::Arc;

use cognitive_memory_mcp::domain::focus::{Eviction, FocusItem};
use cognitive_memory_mcp::domain::{Patch, Scope};
use cognitive_memory_mcp::store::focus::{FocusLocation, Focused, NewFocus};
use cognitive_memory_mcp::store::{ForgetMode, Store, StoreError, Update};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{at, forget, new_id, note, scope, store_one};

const CAPACITY: usize = 3;

fn new(content: &str, importance: f64, second: i64) -> NewFocus {
    NewFocus {
        id: new_id(),
        content: content.to_owned(),
        importance,
        now: at(second),
    }
}

async fn add(
    store: &dyn Store,
    scope: &Scope,
    content: &str,
    importance: f64,
    second: i64,
) -> Focused {
    store
        .focus_add(scope, "s", new(content, importance, second), CAPACITY)
        .await
        .unwrap()
}

fn texts(items: &[FocusItem]) -> Vec<&str> {
    items.iter().map(|item| item.content.as_str()).collect()
}

async fn list(store: &dyn Store, scope: &Scope) -> Vec<String> {
    store
        .focus_list(scope, "s")
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.content)
        .collect()
}

fn is_unknown<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound { field: "id", .. }))
}

pub(crate) async fn the_least_recently_touched_makes_room(store: Arc<dyn Store>) {
    let scope = scope();
    assert!(list(&*store, &scope).await.is_empty());
    let first = add(&*store, &scope, "first", 0.5, 1).await;
    assert!(first.added && first.evicted.is_empty());
    assert_eq!(
        (first.item.created_at, first.item.touched_at),
        (at(1), at(1))
    );
    add(&*store, &scope, "second", 0.5, 2).await;
    add(&*store, &scope, "kept", 0.9, 3).await;
    store
        .focus_touch(&scope, "s", first.item.id, at(4))
        .await
        .unwrap();
    assert_eq!(list(&*store, &scope).await, ["first", "kept", "second"]);
    let fourth = add(&*store, &scope, "fourth", 0.5, 5).await;
    assert_eq!(
        fourth
            .evicted
            .iter()
            .map(|(item, why)| (item.content.as_str(), *why))
            .collect::<Vec<_>>(),
        [("second", Eviction::LeastRecentlyTouched)]
    );
    assert_eq!(list(&*store, &scope).await, ["fourth", "first", "kept"]);
    // The same text again adds no second item.
    let again = add(&*store, &scope, " first ", 0.7, 6).await;
    assert!(!again.added && again.evicted.is_empty() && again.item.id == first.item.id);
    assert!((again.item.importance - 0.7).abs() < 1e-9);
    let archived = store.focus_archived(&scope, "s", None, 10).await.unwrap();
    assert_eq!(archived.len(), 1);
    assert_eq!(
        (archived[0].item.content.as_str(), archived[0].archived_at),
        ("second", at(5))
    );
    assert_eq!(archived[0].reason, Eviction::LeastRecentlyTouched.as_str());
}

pub(crate) async fn when_all_are_important_the_oldest_goes(store: Arc<dyn Store>) {
    let scope = scope();
    let mut ids = Vec::new();
    for second in 1..=3 {
        ids.push(
            add(
                &*store,
                &scope,
                &format!("important {second}"),
                0.81,
                second,
            )
            .await
            .item
            .id,
        );
    }
    store.focus_touch(&scope, "s", ids[0], at(9)).await.unwrap();
    let next = add(&*store, &scope, "modest", 0.1, 10).await;
    assert_eq!(next.evicted.len(), 1);
    assert_eq!(
        (next.evicted[0].0.id, next.evicted[0].1),
        (ids[0], Eviction::AllProtected)
    );
    // A smaller capacity evicts all surplus items at once.
    let one = store
        .focus_add(&scope, "s", new("alone", 0.5, 11), 1)
        .await
        .unwrap();
    assert_eq!(
        one.evicted
            .iter()
            .map(|(item, _)| item.content.as_str())
            .collect::<Vec<_>>(),
        ["modest", "important 2", "important 3"]
    );
    assert_eq!(list(&*store, &scope).await, ["alone"]);
}

pub(crate) async fn what_left_can_come_back(store: Arc<dyn Store>) {
    let scope = scope();
    let item = add(&*store, &scope, "to and fro", 0.5, 1).await.item;
    let dropped = store
        .focus_drop(&scope, "s", item.id, "done with it", None, at(2))
        .await
        .unwrap();
    assert_eq!(
        (
            dropped.reason.as_str(),
            dropped.item.id,
            dropped.item.memory
        ),
        ("done with it", item.id, None)
    );
    assert!(list(&*store, &scope).await.is_empty());
    assert!(matches!(
        store.focus_get(&scope, "s", item.id).await.unwrap(),
        FocusLocation::Archive(_)
    ));
    // Dropping the item again changes nothing.
    assert_eq!(
        store
            .focus_drop(&scope, "s", item.id, "twice", None, at(3))
            .await
            .unwrap()
            .reason,
        "done with it"
    );
    for second in 4..=6 {
        add(&*store, &scope, &format!("other {second}"), 0.5, second).await;
    }
    let back = store
        .focus_restore(&scope, "s", item.id, CAPACITY, at(7))
        .await
        .unwrap();
    assert!(back.added);
    assert_eq!((back.item.created_at, back.item.touched_at), (at(1), at(7)));
    assert_eq!(
        texts(
            &back
                .evicted
                .iter()
                .map(|(item, _)| item.clone())
                .collect::<Vec<_>>()
        ),
        ["other 4"]
    );
    assert_eq!(
        list(&*store, &scope).await,
        ["to and fro", "other 6", "other 5"]
    );
    assert!(
        !store
            .focus_restore(&scope, "s", item.id, CAPACITY, at(8))
            .await
            .unwrap()
            .added
    );
    assert_eq!(
        store
            .focus_archived(&scope, "s", None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn an_item_that_became_a_memory_goes_with_it(store: Arc<dyn Store>) {
    let scope = scope();
    let item = add(&*store, &scope, "worth keeping", 0.5, 1).await.item;
    let memory = store_one(&*store, &scope, note("worth keeping")).await;
    let kept = store
        .focus_drop(&scope, "s", item.id, "became a memory", Some(memory), at(2))
        .await
        .unwrap();
    assert_eq!(kept.item.memory, Some(memory));
    assert_eq!(
        store.focus_archived(&scope, "s", None, 10).await.unwrap(),
        [kept]
    );
    forget(&*store, &scope, memory, ForgetMode::Purge).await;
    assert!(
        store
            .focus_archived(&scope, "s", None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(is_unknown(store.focus_get(&scope, "s", item.id).await));
}

pub(crate) async fn a_purge_finds_its_text_wherever_it_went(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    purge_promoted_memory(store, &scope).await;
    // Items that repeat a memory, a deleted memory, an earlier text of a memory, or a text that became a memory
    // later.
    let repeated = store_one(store, &scope, note("repeated")).await;
    forget(store, &scope, repeated, ForgetMode::Delete).await;
    assert_eq!(
        add(store, &scope, "repeated\n", 0.5, 10).await.item.memory,
        Some(repeated)
    );
    let changed = store_one(store, &scope, note("said once")).await;
    store
        .update(&scope, reworded(changed, "said now"))
        .await
        .unwrap();
    add(store, &scope, "said once", 0.5, 11).await;
    add(store, &scope, "said now", 0.5, 12).await;
    add(store, &scope, "before the memory", 0.5, 13).await;
    let late = store_one(store, &scope, note("before the memory")).await;
    // Another project keeps its own items.
    let theirs = super::scope();
    add(store, &theirs, "said now", 0.5, 14).await;
    store
        .forget(
            &scope,
            &[repeated, changed, late],
            ForgetMode::Purge,
            None,
            at(15),
        )
        .await
        .unwrap();
    assert_eq!(
        list_everything(store, &scope).await,
        ["other 2", "other 1", "other 0"]
    );
    assert_eq!(list(store, &theirs).await, ["said now"]);
    // A purged memory cannot be the one that an item became.
    let item = add(store, &scope, "an orphan", 0.5, 16).await.item;
    let error = store
        .focus_drop(&scope, "s", item.id, "became a memory", Some(late), at(17))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NotFound {
                field: "memory",
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(list(store, &scope).await, ["an orphan"]);
}

/// The item became a memory, which was reworded; the item came back and had to make room.
async fn purge_promoted_memory(store: &dyn Store, scope: &Scope) {
    let item = add(store, scope, " promoted ", 0.5, 1).await.item;
    let promoted = store_one(store, scope, note("promoted")).await;
    store
        .focus_drop(
            scope,
            "s",
            item.id,
            "became a memory",
            Some(promoted),
            at(2),
        )
        .await
        .unwrap();
    store
        .update(scope, reworded(promoted, "reworded"))
        .await
        .unwrap();
    let back = store
        .focus_restore(scope, "s", item.id, CAPACITY, at(4))
        .await
        .unwrap()
        .item;
    assert_eq!(back.memory, Some(promoted));
    assert_eq!(store.focus_list(scope, "s").await.unwrap(), [back]);
    for number in 0..3 {
        add(store, scope, &format!("other {number}"), 0.5, 5 + number).await;
    }
    assert!(
        matches!(store.focus_get(scope, "s", item.id).await.unwrap(), FocusLocation::Archive(a) if a.item.memory == Some(promoted))
    );
    forget(store, scope, promoted, ForgetMode::Purge).await;
    assert_eq!(
        list_everything(store, scope).await,
        ["other 2", "other 1", "other 0"]
    );
}

/// The texts of all items, current ones first.
async fn list_everything(store: &dyn Store, scope: &Scope) -> Vec<String> {
    let mut texts = list(store, scope).await;
    let archived = store.focus_archived(scope, "s", None, 100).await.unwrap();
    texts.extend(archived.into_iter().map(|archived| archived.item.content));
    texts
}

fn reworded(id: Uuid, content: &str) -> Update {
    Update {
        id,
        expected_version: None,
        patch: Patch {
            content: Some(content.to_owned()),
            ..Patch::default()
        },
        reason: None,
        now: at(3),
    }
}

pub(crate) async fn sessions_and_projects_do_not_see_each_other(store: Arc<dyn Store>) {
    let scope = scope();
    let item = add(&*store, &scope, "mine", 0.5, 1).await.item;
    let reader =
        Scope::new(super::scope().project(), "reader").reading([scope.project().to_owned()]);
    for (other, session) in [(&scope, "t"), (&scope, ""), (&reader, "s")] {
        assert!(store.focus_list(other, session).await.unwrap().is_empty());
        assert!(
            store
                .focus_archived(other, session, None, 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(is_unknown(store.focus_get(other, session, item.id).await));
        assert!(is_unknown(
            store.focus_touch(other, session, item.id, at(2)).await
        ));
        assert!(is_unknown(
            store
                .focus_drop(other, session, item.id, "no", None, at(2))
                .await
        ));
        assert!(is_unknown(
            store
                .focus_restore(other, session, item.id, CAPACITY, at(2))
                .await
        ));
    }
    assert!(is_unknown(
        store.focus_touch(&scope, "s", new_id(), at(2)).await
    ));
    assert_eq!(list(&*store, &scope).await, ["mine"]);
}

pub(crate) async fn the_archive_is_read_page_by_page(store: Arc<dyn Store>) {
    let scope = scope();
    for number in 0..60 {
        add(&*store, &scope, &format!("item {number}"), 0.5, number).await;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.focus_archived(&scope, "s", before, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.item.seq);
        seen.extend(page.into_iter().map(|archived| archived.item.content));
    }
    assert_eq!(
        seen,
        (0..57)
            .rev()
            .map(|number| format!("item {number}"))
            .collect::<Vec<_>>()
    );
}

pub(crate) async fn many_sessions_at_once_keep_their_order(store: Arc<dyn Store>) {
    let scope = scope();
    let session = async |name: usize, writer: usize| {
        let mut ids: Vec<Uuid> = Vec::new();
        for number in 0..15_i64 {
            let item = new(&format!("w{writer} item {number}"), 0.5, number);
            ids.push(
                store
                    .focus_add(&scope, &format!("s{name}"), item, CAPACITY)
                    .await
                    .unwrap()
                    .item
                    .id,
            );
        }
        ids
    };
    // Two writers in each of six sessions.
    let tasks = (0..12).map(|number| session(number / 2, number % 2));
    let ids: Vec<Vec<Uuid>> = join_all(tasks).await;
    for name in 0..6 {
        let session = format!("s{name}");
        let items = store.focus_list(&scope, &session).await.unwrap();
        let archived = store
            .focus_archived(&scope, &session, None, 100)
            .await
            .unwrap();
        assert_eq!(
            (items.len(), archived.len()),
            (CAPACITY, 30 - CAPACITY),
            "{session}"
        );
        let mut found: Vec<Uuid> = items
            .iter()
            .chain(archived.iter().map(|a| &a.item))
            .map(|item| item.id)
            .collect();
        let mut expected: Vec<Uuid> = ids[name * 2]
            .iter()
            .chain(&ids[name * 2 + 1])
            .copied()
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "nothing is lost, and nothing is twice");
    }
}
