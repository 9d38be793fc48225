//! Update, forget and counts.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Change, Filter, NewMemory, Patch, Scope};
use cognitive_memory_mcp::store::{ForgetMode, Store, StoreError, Update};
use serde_json::json;
use uuid::Uuid;

use super::{
    at, episode, forget, found, history, load, new_id, note, remember, scope, store_one, turn,
};

async fn update(
    store: &dyn Store,
    scope: &Scope,
    id: Uuid,
    patch: Patch,
) -> Result<cognitive_memory_mcp::domain::Memory, StoreError> {
    let reason = Some("because".to_owned());
    store
        .update(
            scope,
            Update {
                id,
                expected_version: None,
                patch,
                reason,
                now: at(1),
            },
        )
        .await
}

fn text(content: &str) -> Patch {
    Patch {
        content: Some(content.to_owned()),
        ..Patch::default()
    }
}

pub(crate) async fn a_patch_is_a_version_with_its_past(store: Arc<dyn Store>) {
    let scope = scope();
    let item = NewMemory {
        tags: vec!["a".into(), "b".into()],
        ..episode("text", "before", "learn")
    };
    let id = store_one(&*store, &scope, item).await;
    let stored = load(&*store, &scope, id).await;
    let patch = Patch {
        content: Some("other text".into()),
        tags: Some(vec!["b".into(), "c".into()]),
        importance: Some(0.9),
        metadata: json!({"k": {"x": 1}}).as_object().cloned(),
        occurred_at: Some(at(-120)),
        valid_until: Some(Some(at(1_000))),
        situation: Some("after".into()),
        outcome: Some(1.0),
        lesson: Some("learned".into()),
        helpful: Some(true),
        ..Patch::default()
    };
    let mut expected = stored.clone();
    assert!(patch.apply(&mut expected, at(1)));
    assert_eq!(update(&*store, &scope, id, patch).await.unwrap(), expected);
    assert_eq!(load(&*store, &scope, id).await, expected);
    let patch = Patch {
        valid_until: Some(None),
        ..Patch::default()
    };
    assert_eq!(update(&*store, &scope, id, patch).await.unwrap().version, 3);
    let history = super::history(&*store, &scope, id).await;
    assert_eq!(
        history
            .iter()
            .map(|entry| (entry.version, entry.change))
            .collect::<Vec<_>>(),
        [
            (1, Change::Created),
            (2, Change::Updated),
            (3, Change::Updated)
        ]
    );
    assert_eq!(history[1].old, Some(stored.snapshot()));
    assert_eq!(history[2].old, Some(expected.snapshot()));
    assert_eq!(
        (history[1].reason.as_deref(), history[1].at),
        (Some("because"), at(1))
    );
    let tagged = Filter {
        tags: vec!["a".into()],
        ..Filter::at(at(1))
    };
    assert!(
        store
            .browse(&scope, &tagged, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let tagged = Filter {
        tags: vec!["c".into(), "b".into()],
        ..Filter::at(at(1))
    };
    assert_eq!(
        store.browse(&scope, &tagged, None, 10).await.unwrap().len(),
        1
    );
}

pub(crate) async fn a_patch_that_changes_nothing_adds_nothing(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("text")).await;
    let before = load(&*store, &scope, id).await;
    let patch = Patch {
        importance: Some(0.5),
        tags: Some(Vec::new()),
        ..text("text")
    };
    assert_eq!(update(&*store, &scope, id, patch).await.unwrap(), before);
    assert_eq!(load(&*store, &scope, id).await, before);
    assert_eq!(history(&*store, &scope, id).await.len(), 1);
}

pub(crate) async fn a_vote_is_no_version(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("text")).await;
    for helpful in [true, false, true] {
        let patch = Patch {
            helpful: Some(helpful),
            ..Patch::default()
        };
        update(&*store, &scope, id, patch).await.unwrap();
    }
    let memory = load(&*store, &scope, id).await;
    assert_eq!(
        (
            memory.version,
            memory.helpful,
            memory.not_helpful,
            memory.updated_at
        ),
        (1, 2, 1, at(0))
    );
    assert_eq!(history(&*store, &scope, id).await.len(), 1);
}

pub(crate) async fn a_version_that_moved_on_is_a_conflict(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("one")).await;
    let command = |patch| Update {
        id,
        expected_version: Some(1),
        patch,
        reason: None,
        now: at(1),
    };
    assert_eq!(
        store
            .update(&scope, command(text("two")))
            .await
            .unwrap()
            .version,
        2
    );
    let error = store
        .update(&scope, command(text("three")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::VersionConflict { id: named, expected: 1, current: 2 } if named == id),
        "{error:?}"
    );
    assert_eq!(load(&*store, &scope, id).await.content, "two");
}

pub(crate) async fn only_episodes_have_episode_fields(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("text")).await;
    for (field, patch) in [
        (
            "situation",
            Patch {
                situation: Some("x".into()),
                ..Patch::default()
            },
        ),
        (
            "outcome",
            Patch {
                outcome: Some(0.0),
                ..Patch::default()
            },
        ),
        (
            "lesson",
            Patch {
                lesson: Some("x".into()),
                ..text("changed")
            },
        ),
    ] {
        let error = update(&*store, &scope, id, patch).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Invalid(invalid) if invalid.field.contains(field)),
            "{error:?}"
        );
    }
    assert_eq!(load(&*store, &scope, id).await.content, "text");
}

pub(crate) async fn unknown_and_deleted_memories_cannot_be_updated(store: Arc<dyn Store>) {
    let scope = scope();
    let deleted = store_one(&*store, &scope, note("deleted")).await;
    forget(&*store, &scope, deleted, ForgetMode::Delete).await;
    let owner = super::scope();
    let stranger = store_one(&*store, &owner, note("elsewhere")).await;
    let reader = Scope::new(scope.project(), "reader").reading([owner.project().to_owned()]);
    for (scope, id) in [
        (&scope, new_id()),
        (&scope, deleted),
        (&scope, stranger),
        (&reader, stranger),
    ] {
        let error = update(&*store, scope, id, text("x")).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::NotFound { ids, .. } if ids[..] == [id]),
            "{error:?}"
        );
    }
}

pub(crate) async fn changed_text_is_found_by_the_new_words_only(store: Arc<dyn Store>) {
    let scope = scope();
    let item = NewMemory {
        tags: vec!["tagged".into()],
        speaker: Some("Speaker".into()),
        ..note("walrus walrus")
    };
    let id = store_one(&*store, &scope, item).await;
    assert_eq!(found(&*store, &scope, "walrus").await, [id]);
    update(&*store, &scope, id, text("giraffe in the walrushouse"))
        .await
        .unwrap();
    assert!(found(&*store, &scope, "walrus").await.is_empty());
    for word in ["giraffe", "tagged", "speaker"] {
        assert_eq!(found(&*store, &scope, word).await, [id], "{word}");
    }
    update(
        &*store,
        &scope,
        id,
        Patch {
            tags: Some(vec!["labelled".into()]),
            ..Patch::default()
        },
    )
    .await
    .unwrap();
    assert!(found(&*store, &scope, "tagged").await.is_empty());
    assert_eq!(found(&*store, &scope, "labelled").await, [id]);
    let stats = store
        .corpus_stats(&scope, &["walrus".into(), "giraff".into()])
        .await
        .unwrap();
    assert_eq!(
        (
            stats.documents,
            stats.total_length,
            stats.document_frequencies
        ),
        (1, 4, vec![0, 1])
    );
    // The exact text is updated, too.
    assert!(
        super::search(&*store, &scope, "walrus walrus", Filter::at(at(1)))
            .await
            .is_empty()
    );
    assert!(
        super::search(
            &*store,
            &scope,
            "giraffe in the walrushouse",
            Filter::at(at(1))
        )
        .await[0]
            .exact
    );
}

pub(crate) async fn forgetting_hides_and_restoring_brings_back(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("a secret plan")).await;
    let original = load(&*store, &scope, id).await;
    assert_eq!(forget(&*store, &scope, id, ForgetMode::Restore).await, 0);
    assert_eq!(forget(&*store, &scope, id, ForgetMode::Delete).await, 1);
    assert_eq!(forget(&*store, &scope, id, ForgetMode::Delete).await, 0);
    assert!(found(&*store, &scope, "a secret plan").await.is_empty());
    let all = Filter {
        include_outdated: true,
        ..Filter::at(at(10))
    };
    assert!(
        store
            .browse(&scope, &all, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.get(&scope, &[id], false).await.unwrap().is_empty());
    let deleted = load(&*store, &scope, id).await;
    assert_eq!(
        (deleted.deleted_at, deleted.version, deleted.updated_at),
        (Some(at(5)), 2, at(5))
    );
    let stats = store
        .corpus_stats(&scope, &["secret".into()])
        .await
        .unwrap();
    assert_eq!(
        (
            stats.documents,
            stats.total_length,
            stats.document_frequencies
        ),
        (0, 0, vec![0])
    );

    assert_eq!(forget(&*store, &scope, id, ForgetMode::Restore).await, 1);
    let restored = load(&*store, &scope, id).await;
    assert_eq!((restored.deleted_at, restored.version), (None, 3));
    assert_eq!(restored.seq, original.seq);
    assert_eq!(found(&*store, &scope, "secret").await, [id]);
    assert_eq!(store.counts(&scope, at(10)).await.unwrap().index_backlog, 1);
    let history = super::history(&*store, &scope, id).await;
    assert_eq!(
        history
            .iter()
            .map(|entry| (entry.version, entry.change))
            .collect::<Vec<_>>(),
        [
            (1, Change::Created),
            (2, Change::Deleted),
            (3, Change::Restored)
        ]
    );
    assert_eq!(history[1].old, Some(original.snapshot()));
    assert_eq!(history[2].old, Some(deleted.snapshot()));
    assert_eq!(history[1].reason.as_deref(), Some("no longer needed"));
}

pub(crate) async fn purging_removes_everything(store: Arc<dyn Store>) {
    let scope = scope();
    let live = store_one(
        &*store,
        &scope,
        NewMemory {
            tags: vec!["t".into()],
            ..note("purge me")
        },
    )
    .await;
    let deleted = store_one(&*store, &scope, note("purge me too")).await;
    let replaced = store_one(&*store, &scope, note("was replaced")).await;
    let replacing = NewMemory {
        supersedes: vec![replaced],
        ..note("replacing")
    };
    let replacing = store_one(&*store, &scope, replacing).await;
    let rests = store_one(
        &*store,
        &scope,
        NewMemory {
            sources: vec![live, replaced],
            ..note("rests")
        },
    )
    .await;
    forget(&*store, &scope, deleted, ForgetMode::Delete).await;
    let gone = [live, deleted, replacing];
    assert_eq!(
        store
            .forget(&scope, &gone, ForgetMode::Purge, None, at(6))
            .await
            .unwrap(),
        3
    );
    assert!(store.get(&scope, &gone, true).await.unwrap().is_empty());
    for id in gone {
        assert!(history(&*store, &scope, id).await.is_empty());
    }
    assert!(found(&*store, &scope, "purge replacing").await.is_empty());
    assert_eq!(load(&*store, &scope, rests).await.sources, [replaced]);
    assert_eq!(
        load(&*store, &scope, replaced).await.superseded_by,
        Some(replacing)
    );
    let counts = store.counts(&scope, at(6)).await.unwrap();
    assert_eq!(
        (counts.deleted, counts.superseded, counts.index_backlog),
        (0, 1, 2)
    );
    let error = store
        .forget(&scope, &[live], ForgetMode::Restore, None, at(7))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::NotFound { field: "ids", .. }),
        "{error:?}"
    );
    store_one(&*store, &scope, note("purge me")).await;
}

pub(crate) async fn forgetting_is_all_or_nothing(store: Arc<dyn Store>) {
    let scope = scope();
    let mine = store_one(&*store, &scope, note("mine")).await;
    let owner = super::scope();
    let theirs = store_one(&*store, &owner, note("theirs")).await;
    let reader = Scope::new(scope.project(), "reader").reading([owner.project().to_owned()]);
    let nobody = new_id();
    for mode in [ForgetMode::Delete, ForgetMode::Restore, ForgetMode::Purge] {
        let error = store
            .forget(&reader, &[mine, theirs, nobody], mode, None, at(1))
            .await
            .unwrap_err();
        let StoreError::NotFound {
            field: "ids",
            mut ids,
        } = error
        else {
            panic!("{error:?}")
        };
        let mut expected = vec![theirs, nobody];
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected);
    }
    assert_eq!(load(&*store, &scope, mine).await.version, 1);
    assert_eq!(
        store
            .forget(&scope, &[mine, mine], ForgetMode::Delete, None, at(1))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .forget(&scope, &[], ForgetMode::Delete, None, at(1))
            .await
            .unwrap(),
        0
    );
}

pub(crate) async fn a_turn_stored_anew_bars_the_old_one(store: Arc<dyn Store>) {
    let scope = scope();
    let old = store_one(&*store, &scope, turn("s", 1, "old")).await;
    forget(&*store, &scope, old, ForgetMode::Delete).await;
    let new = store_one(&*store, &scope, turn("s", 1, "new")).await;
    let error = store
        .forget(&scope, &[old], ForgetMode::Restore, None, at(6))
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::TurnExists { existing, .. } if existing == new),
        "{error:?}"
    );
    forget(&*store, &scope, new, ForgetMode::Delete).await;
    assert_eq!(forget(&*store, &scope, old, ForgetMode::Restore).await, 1);
}

pub(crate) async fn recall_is_noted(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("text")).await;
    let elsewhere = super::scope();
    let theirs = store_one(&*store, &elsewhere, note("text")).await;
    store
        .note_recalled(&scope, &[id, theirs, new_id()], at(1))
        .await
        .unwrap();
    store.note_recalled(&scope, &[id], at(2)).await.unwrap();
    store.note_recalled(&scope, &[], at(3)).await.unwrap();
    let memory = load(&*store, &scope, id).await;
    assert_eq!(
        (memory.recall_count, memory.last_recalled_at),
        (2, Some(at(2)))
    );
    assert_eq!((memory.version, memory.updated_at), (1, at(0)));
    assert_eq!(load(&*store, &elsewhere, theirs).await.recall_count, 0);
}

pub(crate) async fn counts_tell_what_is_there(store: Arc<dyn Store>) {
    let scope = scope();
    let empty = store.counts(&scope, at(0)).await.unwrap();
    assert_eq!(empty, cognitive_memory_mcp::store::Counts::default());
    let items = vec![
        note("a"),
        note("b"),
        turn("s", 1, "c"),
        episode("d", "e", "f"),
    ];
    let ids: Vec<_> = remember(&*store, &scope, items)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    store_one(
        &*store,
        &scope,
        NewMemory {
            supersedes: vec![ids[0]],
            ..note("g")
        },
    )
    .await;
    forget(&*store, &scope, ids[1], ForgetMode::Delete).await;
    let counts = store.counts(&scope, at(10)).await.unwrap();
    let kinds: Vec<(&str, u64)> = counts
        .by_kind
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(kinds, [("dialogue", 1), ("episode", 1), ("note", 2)]);
    assert_eq!(
        (counts.deleted, counts.superseded, counts.index_backlog),
        (1, 1, 4)
    );
    let both = Scope::new(super::scope().project(), "x").reading([scope.project().to_owned()]);
    assert_eq!(store.counts(&both, at(10)).await.unwrap(), counts);
}
