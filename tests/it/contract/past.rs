//! Earlier states of memories, and chains of replacements.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{AsOf, Filter, Memory, NewMemory, Patch, Scope};
use cognitive_memory_mcp::store::{ForgetMode, MOST_LINKS, Remember, Store, Succession, Update};
use uuid::Uuid;

use super::{analyzed, at, episode, forget, load, note, scope, store_one};

async fn update(store: &dyn Store, scope: &Scope, id: Uuid, patch: Patch, seconds: i64) {
    let command = Update {
        id,
        expected_version: None,
        patch,
        reason: None,
        now: at(seconds),
    };
    store.update(scope, command).await.unwrap();
}

/// Returns the state at an earlier time: unchanged memories, and changed ones as they were.
async fn known(store: &dyn Store, scope: &Scope, seconds: i64) -> Vec<Memory> {
    let filter = Filter {
        as_of: AsOf::KnownThen,
        ..Filter::at(at(seconds))
    };
    let mut all = store.browse(scope, &filter, None, 100).await.unwrap();
    all.extend(
        store
            .changed_since(scope, at(seconds))
            .await
            .unwrap()
            .memories
            .into_iter()
            .filter(|memory| filter.admits(memory)),
    );
    all.sort_by_key(|memory| memory.seq);
    all
}

pub(crate) async fn a_look_back_sees_texts_as_they_were(store: Arc<dyn Store>) {
    let scope = scope();
    let (store, quiet) = (&*store, note("never changes"));
    let quiet = store_one(store, &scope, quiet).await;
    let edited = NewMemory {
        tags: vec!["old".into()],
        ..episode("first text", "first situation", "first lesson")
    };
    let edited = store_one(store, &scope, edited).await;
    let deleted = store_one(store, &scope, note("will be deleted")).await;
    let replaced = store_one(store, &scope, note("will be replaced")).await;
    let expiring = NewMemory {
        valid_until: Some(at(50)),
        ..note("will expire")
    };
    let expiring = store_one(store, &scope, expiring).await;
    let before = store
        .get(&scope, &[quiet, edited, deleted, replaced, expiring], true)
        .await
        .unwrap();

    let middle = edit_twice(store, &scope, edited).await;
    store
        .forget(&scope, &[deleted], ForgetMode::Delete, None, at(20))
        .await
        .unwrap();
    let item = NewMemory {
        supersedes: vec![replaced],
        ..note("the replacement")
    };
    let new = Remember {
        items: analyzed(vec![item.clone()]),
        idempotency: None,
        now: at(40),
    };
    store.remember(&scope, new).await.unwrap();

    assert_eq!(
        known(store, &scope, 0).await,
        before,
        "everything is as it was, to the letter"
    );
    assert!(
        known(store, &scope, -1).await.is_empty(),
        "nothing was known before"
    );
    let at_15 = known(store, &scope, 15).await;
    assert_eq!(ids_of(&at_15), [quiet, edited, deleted, replaced, expiring]);
    assert_eq!(at_15[1], middle);
    let at_25 = known(store, &scope, 25).await;
    assert_eq!(ids_of(&at_25), [quiet, edited, replaced, expiring]);
    assert_eq!(
        ids_of(&known(store, &scope, 45).await),
        [quiet, edited, expiring, item.id]
    );
    assert_eq!(
        ids_of(&known(store, &scope, 60).await),
        [quiet, edited, item.id]
    );
    assert_eq!(
        known(store, &scope, 35).await[1],
        load(store, &scope, edited).await
    );
    store
        .forget(&scope, &[deleted], ForgetMode::Restore, None, at(70))
        .await
        .unwrap();
    assert_eq!(
        ids_of(&known(store, &scope, 65).await),
        [quiet, edited, item.id],
        "restored only later"
    );
    forget(store, &scope, edited, ForgetMode::Purge).await;
    assert!(
        !ids_of(&known(store, &scope, 15).await).contains(&edited),
        "what is purged was never there"
    );
}

/// Changes the memory at 10 and at 30 seconds, and returns the version between.
async fn edit_twice(store: &dyn Store, scope: &Scope, edited: Uuid) -> Memory {
    let second = Patch {
        content: Some("second text".into()),
        tags: Some(vec!["new".into()]),
        lesson: Some("second lesson".into()),
        ..Patch::default()
    };
    update(store, scope, edited, second, 10).await;
    let middle = load(store, scope, edited).await;
    update(
        store,
        scope,
        edited,
        Patch {
            content: Some("third text".into()),
            ..Patch::default()
        },
        30,
    )
    .await;
    middle
}

fn ids_of(memories: &[Memory]) -> Vec<Uuid> {
    memories.iter().map(|memory| memory.id).collect()
}

pub(crate) async fn a_look_back_reads_so_many_bytes(store: Arc<dyn Store>) {
    let scope = scope();
    // Current and earlier texts of 128 KiB each.
    let text = |number: usize, word: &str| format!("{number} {} {word}", "x".repeat(65_000));
    let mut stored = Vec::new();
    for number in 0..140 {
        stored.push(store_one(&*store, &scope, note(&text(number, "before"))).await);
    }
    for (number, id) in stored.iter().enumerate() {
        let patch = Patch {
            content: Some(text(number, "after")),
            ..Patch::default()
        };
        update(&*store, &scope, *id, patch, 10 + number as i64).await;
    }
    let changed = store.changed_since(&scope, at(5)).await.unwrap();
    assert!(
        changed.partial && (100..=130).contains(&changed.memories.len()),
        "{}",
        changed.memories.len()
    );
    assert_eq!(
        changed.memories[0].id, stored[139],
        "the latest changes come first"
    );
    assert!(
        changed
            .memories
            .iter()
            .all(|memory| memory.content.ends_with(" before"))
    );
    let later = store.changed_since(&scope, at(100)).await.unwrap();
    assert!(!later.partial && later.memories.len() == 49);
}

pub(crate) async fn a_look_back_stays_in_its_projects(store: Arc<dyn Store>) {
    let (mine, theirs) = (scope(), scope());
    let id = store_one(&*store, &mine, note("mine")).await;
    update(
        &*store,
        &mine,
        id,
        Patch {
            content: Some("changed".into()),
            ..Patch::default()
        },
        10,
    )
    .await;
    assert!(
        store
            .changed_since(&theirs, at(5))
            .await
            .unwrap()
            .memories
            .is_empty()
    );
    let reader = Scope::new(theirs.project(), "reader").reading([mine.project().to_owned()]);
    let seen = store.changed_since(&reader, at(5)).await.unwrap().memories;
    assert_eq!(
        seen.iter()
            .map(|memory| memory.content.as_str())
            .collect::<Vec<_>>(),
        ["mine"]
    );
}

pub(crate) async fn chains_are_reported_in_both_directions(store: Arc<dyn Store>) {
    let scope = scope();
    let mut chain = vec![store_one(&*store, &scope, note("version 0")).await];
    for number in 1..5 {
        let item = NewMemory {
            supersedes: vec![chain[number - 1]],
            ..note(&format!("version {number}"))
        };
        chain.push(store_one(&*store, &scope, item).await);
    }
    let alone = store_one(&*store, &scope, note("alone")).await;
    let sorted = |mut links: Vec<Succession>| {
        links.sort();
        links
    };
    let link = |pair: &[Uuid]| Succession {
        old: pair[0],
        by: pair[1],
        holds: pair[1] == chain[4],
    };
    let all = sorted(chain.windows(2).map(link).collect());
    for id in &chain {
        assert_eq!(sorted(store.chains(&scope, &[*id]).await.unwrap()), all);
    }
    assert!(store.chains(&scope, &[alone]).await.unwrap().is_empty());
    assert!(
        store
            .chains(&super::scope(), &chain)
            .await
            .unwrap()
            .is_empty(),
        "a chain of another project"
    );
    let near = store.chains(&scope, &[chain[2]]).await.unwrap();
    let near: Vec<Uuid> = near.iter().map(|link| link.old).collect();
    assert_eq!(
        near,
        [chain[2], chain[3], chain[1], chain[0]],
        "the way to what holds first, the nearest first"
    );
    for (mode, holds) in [
        (ForgetMode::Delete, false),
        (ForgetMode::Restore, true),
        (ForgetMode::Purge, false),
    ] {
        forget(&*store, &scope, chain[4], mode).await;
        let links = store.chains(&scope, &[chain[0]]).await.unwrap();
        assert_eq!(
            links.last(),
            Some(&Succession {
                old: chain[3],
                by: chain[4],
                holds
            }),
            "{mode:?}"
        );
    }
}

pub(crate) async fn the_nearest_of_many_links_are_reported(store: Arc<dyn Store>) {
    let scope = scope();
    let mut old = Vec::new();
    for number in 0..MOST_LINKS + 50 {
        old.push(store_one(&*store, &scope, note(&format!("old {number}"))).await);
    }
    let middle = NewMemory {
        supersedes: old,
        ..note("middle")
    };
    let middle = store_one(&*store, &scope, middle).await;
    let last = store_one(
        &*store,
        &scope,
        NewMemory {
            supersedes: vec![middle],
            ..note("last")
        },
    )
    .await;
    let links = store.chains(&scope, &[middle]).await.unwrap();
    assert_eq!(
        (links.len(), links[0]),
        (
            MOST_LINKS,
            Succession {
                old: middle,
                by: last,
                holds: true
            }
        )
    );
}
