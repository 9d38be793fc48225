//! Storing by `remember`, and its refusals.

use std::sync::Arc;

use chrono::TimeDelta;
use cognitive_memory_mcp::domain::{Change, Filter, Kind, NewMemory, Scope};
use cognitive_memory_mcp::store::{ForgetMode, Idempotency, Remember, Store, StoreError};
use serde_json::json;

use super::{
    analyzed, at, episode, forget, found, history, load, new_id, note, remember, scope, store_one,
    turn,
};

pub(crate) async fn every_field_comes_back(store: Arc<dyn Store>) {
    let scope = scope();
    let source = store_one(&*store, &scope, note("the source")).await;
    let other = store_one(&*store, &scope, note("another source")).await;
    let item = NewMemory {
        tags: vec!["alpha".into(), "Ünïcode 🏷".into()],
        importance: 0.7,
        metadata: json!({"a": [1, 2.5, null, {"b": "\"quoted\""}], "ü": true})
            .as_object()
            .unwrap()
            .into(),
        occurred_at: at(-3_600),
        valid_until: Some(at(3_600)),
        session: Some("session 'x'".into()),
        speaker: Some("Zoë".into()),
        sources: vec![other, source, other],
        ..episode("what happened", "the situation", "the lesson")
    };
    let id = store_one(&*store, &scope, item.clone()).await;
    let memory = load(&*store, &scope, id).await;
    assert_eq!(memory.id, item.id);
    assert_eq!(memory.project, scope.project());
    assert_eq!(memory.kind, Kind::Episode);
    assert_eq!(memory.content, item.content);
    assert_eq!(memory.tags, item.tags);
    assert_eq!(memory.importance.to_bits(), item.importance.to_bits());
    assert_eq!(memory.metadata, item.metadata);
    assert_eq!(memory.occurred_at, item.occurred_at);
    assert_eq!((memory.created_at, memory.updated_at), (at(0), at(0)));
    assert_eq!(memory.valid_until, item.valid_until);
    assert_eq!(memory.session, item.session);
    assert_eq!(memory.speaker, item.speaker);
    assert_eq!(memory.episode, item.episode);
    assert_eq!(memory.sources, [other, source]);
    assert_eq!(
        (
            memory.version,
            memory.recall_count,
            memory.helpful,
            memory.not_helpful
        ),
        (1, 0, 0, 0)
    );
    assert_eq!(
        (
            memory.superseded_by,
            memory.deleted_at,
            memory.last_recalled_at
        ),
        (None, None, None)
    );
    assert!(memory.seq > load(&*store, &scope, other).await.seq);

    let history = super::history(&*store, &scope, id).await;
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].memory_id, history[0].version, history[0].change),
        (id, 1, Change::Created)
    );
    assert_eq!(
        (
            history[0].old.as_ref(),
            history[0].actor.as_str(),
            history[0].at
        ),
        (None, "tester", at(0))
    );

    let said = store_one(&*store, &scope, turn("s", -3, "hello")).await;
    let said = load(&*store, &scope, said).await;
    assert_eq!(
        (said.kind, said.session.as_deref(), said.turn),
        (Kind::Dialogue, Some("s"), Some(-3))
    );
}

pub(crate) async fn an_equal_memory_is_not_stored_again(store: Arc<dyn Store>) {
    let scope = scope();
    let first = store_one(&*store, &scope, note("the same text")).await;
    let again = remember(&*store, &scope, vec![note("  the same text\n")])
        .await
        .unwrap();
    assert_eq!((again[0].id, again[0].created), (first, false));
    // Another kind or another project makes it a different memory.
    let insight = NewMemory {
        kind: Kind::Insight,
        ..note("the same text")
    };
    store_one(&*store, &scope, insight).await;
    store_one(&*store, &super::scope(), note("the same text")).await;
    // Texts that differ only in Unicode normalization are equal.
    let composed = store_one(&*store, &scope, note("caf\u{e9}")).await;
    let decomposed = remember(&*store, &scope, vec![note("cafe\u{301}")])
        .await
        .unwrap();
    assert_eq!((decomposed[0].id, decomposed[0].created), (composed, false));
    // The same text twice in one batch.
    let twice = remember(
        &*store,
        &scope,
        vec![note("twice"), note("other"), note("twice")],
    )
    .await
    .unwrap();
    assert_eq!(twice[0].id, twice[2].id);
    assert_eq!(
        twice.iter().map(|item| item.created).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(found(&*store, &scope, "twice").await.len(), 1);
}

pub(crate) async fn outdated_memories_do_not_count_as_equal(store: Arc<dyn Store>) {
    let scope = scope();
    let deleted = store_one(&*store, &scope, note("deleted")).await;
    forget(&*store, &scope, deleted, ForgetMode::Delete).await;
    assert_ne!(store_one(&*store, &scope, note("deleted")).await, deleted);

    let replaced = store_one(&*store, &scope, note("replaced")).await;
    store_one(
        &*store,
        &scope,
        NewMemory {
            supersedes: vec![replaced],
            ..note("replacement")
        },
    )
    .await;
    assert_ne!(store_one(&*store, &scope, note("replaced")).await, replaced);

    let expired = NewMemory {
        valid_until: Some(at(0)),
        ..note("expired")
    };
    let expired = store_one(&*store, &scope, expired).await;
    assert_ne!(store_one(&*store, &scope, note("expired")).await, expired);
    let valid = NewMemory {
        valid_until: Some(at(0) + TimeDelta::microseconds(1)),
        ..note("valid")
    };
    let valid = store_one(&*store, &scope, valid).await;
    assert_eq!(
        remember(&*store, &scope, vec![note("valid")])
            .await
            .unwrap()[0]
            .id,
        valid
    );

    // Repeating a text while replacing its memory stores a new one, for example with other tags.
    let old = store_one(&*store, &scope, note("again")).await;
    let new = NewMemory {
        supersedes: vec![old],
        tags: vec!["tag".into()],
        ..note("again")
    };
    let new = store_one(&*store, &scope, new).await;
    assert_eq!(load(&*store, &scope, old).await.superseded_by, Some(new));
}

pub(crate) async fn dialogue_repeats_itself_but_not_its_turns(store: Arc<dyn Store>) {
    let scope = scope();
    let loose = NewMemory {
        kind: Kind::Dialogue,
        ..note("yes")
    };
    let first = store_one(&*store, &scope, loose.clone()).await;
    assert_ne!(
        store_one(
            &*store,
            &scope,
            NewMemory {
                id: new_id(),
                ..loose.clone()
            }
        )
        .await,
        first
    );
    let without_turn = NewMemory {
        id: new_id(),
        session: Some("s".into()),
        ..loose.clone()
    };
    store_one(&*store, &scope, without_turn.clone()).await;
    store_one(
        &*store,
        &scope,
        NewMemory {
            id: new_id(),
            ..without_turn
        },
    )
    .await;

    let one = store_one(&*store, &scope, turn("s", 1, "yes")).await;
    store_one(&*store, &scope, turn("s", 2, "yes")).await;
    store_one(&*store, &scope, turn("t", 1, "yes")).await;
    let again = remember(&*store, &scope, vec![turn("s", 1, "yes")])
        .await
        .unwrap();
    assert_eq!((again[0].id, again[0].created), (one, false));
    let error = remember(
        &*store,
        &scope,
        vec![note("not stored"), turn("s", 1, "no")],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(&error, StoreError::TurnExists { session, turn: 1, existing } if session == "s" && *existing == one),
        "{error:?}"
    );
    assert!(found(&*store, &scope, "not stored").await.is_empty());
    // A deleted or superseded turn frees its position.
    let corrected = NewMemory {
        supersedes: vec![one],
        ..turn("s", 1, "no, I meant")
    };
    let corrected = store_one(&*store, &scope, corrected).await;
    forget(&*store, &scope, corrected, ForgetMode::Delete).await;
    store_one(&*store, &scope, turn("s", 1, "maybe")).await;
    // Equal turns in one batch become one.
    let twice = remember(&*store, &scope, vec![turn("u", 1, "x"), turn("u", 1, "x")])
        .await
        .unwrap();
    assert_eq!(
        (twice[0].id, twice[0].created, twice[1].created),
        (twice[1].id, true, false)
    );
    let error = remember(&*store, &scope, vec![turn("v", 1, "x"), turn("v", 1, "y")])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::TurnExists { .. }), "{error:?}");
    // Another project has its own conversations.
    store_one(&*store, &super::scope(), turn("s", 1, "else")).await;
}

pub(crate) async fn an_idempotent_request_is_carried_out_once(store: Arc<dyn Store>) {
    let scope = scope();
    let request = |items: Vec<NewMemory>, key: &str, hash: u8| Remember {
        items: analyzed(items),
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            request_hash: [hash; 32],
        }),
        now: at(0),
    };
    let said = || NewMemory {
        kind: Kind::Dialogue,
        ..note("said once")
    };
    let first = store
        .remember(&scope, request(vec![said(), note("with it")], "k", 1))
        .await
        .unwrap();
    assert!(first.iter().all(|item| item.created));
    let again = store
        .remember(&scope, request(vec![said(), note("with it")], "k", 1))
        .await
        .unwrap();
    assert_eq!(
        again.iter().map(|item| item.id).collect::<Vec<_>>(),
        [first[0].id, first[1].id]
    );
    assert!(again.iter().all(|item| !item.created));
    assert_eq!(found(&*store, &scope, "said once").await.len(), 1);
    let error = store
        .remember(&scope, request(vec![note("else")], "k", 2))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::IdempotencyConflict { key } if key == "k"),
        "{error:?}"
    );
    assert!(found(&*store, &scope, "else").await.is_empty());
    // The answer remains stored even if the memory does not; keys belong to a project.
    forget(&*store, &scope, first[0].id, ForgetMode::Purge).await;
    let purged = store
        .remember(&scope, request(vec![said(), note("with it")], "k", 1))
        .await
        .unwrap();
    assert_eq!(purged, again);
    assert!(found(&*store, &scope, "said once").await.is_empty());
    assert!(
        store
            .remember(&super::scope(), request(vec![note("else")], "k", 2))
            .await
            .unwrap()[0]
            .created
    );
    // A refused request does not use up its key.
    let bad = NewMemory {
        sources: vec![new_id()],
        ..note("bad")
    };
    store
        .remember(&scope, request(vec![bad], "retry", 3))
        .await
        .unwrap_err();
    assert!(
        store
            .remember(&scope, request(vec![note("good")], "retry", 4))
            .await
            .unwrap()[0]
            .created
    );
}

pub(crate) async fn what_is_superseded_is_kept_and_marked(store: Arc<dyn Store>) {
    let scope = scope();
    let berlin = store_one(&*store, &scope, note("she lives in Berlin")).await;
    let paris = NewMemory {
        supersedes: vec![berlin, berlin],
        ..note("she lives in Paris")
    };
    let paris = store_one(&*store, &scope, paris).await;
    let old = load(&*store, &scope, berlin).await;
    assert_eq!(
        (old.superseded_by, old.version, old.updated_at),
        (Some(paris), 2, at(0))
    );
    assert_eq!(load(&*store, &scope, paris).await.version, 1);
    let history = super::history(&*store, &scope, berlin).await;
    assert_eq!(
        history.iter().map(|entry| entry.change).collect::<Vec<_>>(),
        [Change::Created, Change::Superseded]
    );
    assert_eq!(history[1].version, 2);
    assert_eq!(
        history[1].old.as_ref().unwrap()["superseded_by"],
        json!(null)
    );
    assert_eq!(found(&*store, &scope, "she lives").await, [paris]);
    let all = Filter {
        include_outdated: true,
        ..Filter::at(at(10))
    };
    assert_eq!(
        super::search(&*store, &scope, "she lives", all).await.len(),
        2
    );

    let rome = NewMemory {
        supersedes: vec![berlin],
        ..note("she lives in Rome")
    };
    let error = remember(&*store, &scope, vec![rome]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::AlreadySuperseded { id, by } if id == berlin && by == paris),
        "{error:?}"
    );
    assert_eq!(
        store
            .browse(&scope, &Filter::at(at(10)), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn an_existing_memory_takes_the_place_of_its_repetition(store: Arc<dyn Store>) {
    let scope = scope();
    let old = store_one(&*store, &scope, note("old")).await;
    let existing = store_one(&*store, &scope, note("new")).await;
    for _ in 0..2 {
        let item = NewMemory {
            supersedes: vec![old],
            ..note("new")
        };
        let answer = remember(&*store, &scope, vec![item]).await.unwrap();
        assert_eq!((answer[0].id, answer[0].created), (existing, false));
        let old = load(&*store, &scope, old).await;
        assert_eq!((old.superseded_by, old.version), (Some(existing), 2));
    }
}

pub(crate) async fn unknown_ids_are_all_named_and_nothing_is_stored(store: Arc<dyn Store>) {
    let scope = scope();
    let stranger = store_one(&*store, &super::scope(), note("elsewhere")).await;
    let deleted = store_one(&*store, &scope, note("deleted")).await;
    forget(&*store, &scope, deleted, ForgetMode::Delete).await;
    let live = store_one(&*store, &scope, note("live")).await;
    let nobody = new_id();
    let lost = vec![nobody, live, stranger, deleted];
    for field in ["sources", "supersedes"] {
        let mut item = note("not stored");
        if field == "sources" {
            &mut item.sources
        } else {
            &mut item.supersedes
        }
        .clone_from(&lost);
        let error = remember(&*store, &scope, vec![note("not stored either"), item])
            .await
            .unwrap_err();
        let StoreError::NotFound {
            field: named,
            mut ids,
        } = error
        else {
            panic!("{error:?}")
        };
        let mut expected = vec![nobody, stranger, deleted];
        ids.sort();
        expected.sort();
        assert_eq!((named, ids), (field, expected));
    }
    assert!(found(&*store, &scope, "not stored either").await.is_empty());
    // Sources may be in any readable project, superseded memories only in the own one.
    let project = store.get(&scope, &[live], false).await.unwrap()[0]
        .project
        .clone();
    let reader = Scope::new(super::scope().project(), "reader").reading([project]);
    let insight = NewMemory {
        sources: vec![live],
        ..note("an insight")
    };
    let id = store_one(&*store, &reader, insight).await;
    assert_eq!(load(&*store, &reader, id).await.sources, [live]);
    let thief = NewMemory {
        supersedes: vec![live],
        ..note("a theft")
    };
    assert!(matches!(
        remember(&*store, &reader, vec![thief]).await,
        Err(StoreError::NotFound { .. })
    ));
}

pub(crate) async fn a_batch_is_all_or_nothing(store: Arc<dyn Store>) {
    let scope = scope();
    let old = store_one(&*store, &scope, note("old")).await;
    let batch = vec![
        NewMemory {
            supersedes: vec![old],
            tags: vec!["t".into()],
            ..note("first of the batch")
        },
        turn("s", 1, "one"),
        turn("s", 1, "another"),
    ];
    remember(&*store, &scope, batch).await.unwrap_err();
    assert_eq!(load(&*store, &scope, old).await.superseded_by, None);
    assert_eq!(history(&*store, &scope, old).await.len(), 1);
    assert!(
        found(&*store, &scope, "first of the batch")
            .await
            .is_empty()
    );
    let counts = store.counts(&scope, at(0)).await.unwrap();
    assert_eq!(
        (
            counts.by_kind.get("note"),
            counts.by_kind.get("dialogue"),
            counts.index_backlog
        ),
        (Some(&1), None, 1)
    );
    let stats = store
        .corpus_stats(&scope, &["first".into(), "old".into()])
        .await
        .unwrap();
    assert_eq!(
        (
            stats.documents,
            stats.total_length,
            stats.document_frequencies
        ),
        (1, 1, vec![0, 1])
    );
}

pub(crate) async fn nul_characters_are_refused(store: Arc<dyn Store>) {
    let scope = scope();
    for item in [
        note("a\0b"),
        NewMemory {
            tags: vec!["a\0b".into()],
            ..note("x")
        },
        NewMemory {
            session: Some("a\0b".into()),
            ..note("x")
        },
        NewMemory {
            speaker: Some("a\0b".into()),
            ..note("x")
        },
        episode("x", "a\0b", "y"),
        episode("x", "y", "a\0b"),
    ] {
        remember(&*store, &scope, vec![note("beside it"), item])
            .await
            .unwrap_err();
    }
    assert!(
        store
            .browse(&scope, &Filter::at(at(0)), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn a_large_batch_is_stored(store: Arc<dyn Store>) {
    let scope = scope();
    let items: Vec<NewMemory> = (0..500)
        .map(|i| note(&format!("fact number{i} about whales")))
        .collect();
    let ids: Vec<_> = items.iter().map(|item| item.id).collect();
    let answer = remember(&*store, &scope, items).await.unwrap();
    assert_eq!(answer.iter().map(|item| item.id).collect::<Vec<_>>(), ids);
    assert_eq!(found(&*store, &scope, "321").await, [ids[321]]);
    assert_eq!(found(&*store, &scope, "whales").await.len(), 500);
}

pub(crate) async fn information_names_the_backend(store: Arc<dyn Store>) {
    store.prepare().await.unwrap();
    assert!(store.pending_migrations().await.unwrap().is_empty());
    let info = store.info().await.unwrap();
    assert!(["sqlite", "postgres"].contains(&info.backend));
    assert!(info.schema_version >= 1);
    assert!(!info.version.is_empty() && !info.name.is_empty());
    store.close().await;
    assert!(matches!(
        store.info().await,
        Err(StoreError::Unavailable { .. })
    ));
    let closed = remember(&*store, &scope(), vec![note("late")]).await;
    assert!(matches!(closed, Err(StoreError::Unavailable { .. })));
}
