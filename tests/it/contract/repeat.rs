//! Storing a text again: the other fields of the new item are merged into the memory, or reported.

use std::sync::Arc;

use cognitive_memory_mcp::domain::memory::{Patch, Stated};
use cognitive_memory_mcp::domain::{Change, Episode, Memory, NewMemory, Scope};
use cognitive_memory_mcp::store::{Idempotency, Remember, Remembered, Store, StoreError, Update};
use serde_json::json;
use uuid::Uuid;

use super::{analyzed, at, episode, found, load, new_id, note, remember, scope, store_one, turn};

fn tagged(content: &str, tags: &[&str]) -> NewMemory {
    NewMemory {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..note(content)
    }
}

/// Stores a text again whose memory exists.
async fn repeat(store: &dyn Store, scope: &Scope, known: Uuid, item: NewMemory) -> Remembered {
    let answer = remember(store, scope, vec![item]).await.unwrap().remove(0);
    assert_eq!(
        (answer.id, answer.created, answer.replayed),
        (known, false, false)
    );
    answer
}

pub(crate) async fn new_values_are_merged(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let source = store_one(store, &scope, note("a source")).await;
    let metadata = |value: serde_json::Value| value.as_object().cloned().unwrap();
    let first = NewMemory {
        metadata: metadata(json!({"a": 1, "b": 1})).into(),
        ..tagged("the walrus sleeps", &["Sea"])
    };
    let id = store_one(store, &scope, first).await;
    let again = NewMemory {
        importance: 0.9,
        stated: Stated {
            importance: true,
            occurred_at: false,
        },
        metadata: metadata(json!({"b": 2, "c": 3})).into(),
        valid_until: Some(at(1_000)),
        sources: vec![source],
        protected: true,
        ..tagged("the walrus sleeps", &["sea", "zoo"])
    };
    let answer = repeat(store, &scope, id, again.clone()).await;
    let merged = answer.repeat.merged.join("; ");
    for part in [
        "tags zoo",
        "metadata b, c",
        "1 source",
        "importance 0.9 (was 0.5)",
        "valid_until",
        "protected",
    ] {
        assert!(merged.contains(part), "{part} in {merged}");
    }
    assert!(
        answer.repeat.ignored.is_empty() && !answer.repeat.protected,
        "{answer:?}"
    );
    let memory = load(store, &scope, id).await;
    assert_eq!(
        memory.tags,
        ["Sea", "zoo"],
        "the first spelling of a tag stays"
    );
    assert_eq!(
        (memory.importance, memory.version, memory.protected),
        (0.9, 2, true)
    );
    assert_eq!(
        (memory.valid_until, &memory.sources),
        (Some(at(1_000)), &vec![source])
    );
    assert_eq!(
        serde_json::Value::Object(memory.metadata.to_map()),
        json!({"a": 1, "b": 2, "c": 3})
    );
    assert_eq!(
        found(store, &scope, "zoo").await,
        [id],
        "new tags are in the index"
    );
    let entry = super::history(store, &scope, id).await.pop().unwrap();
    assert_eq!(
        (entry.change, entry.reason.as_deref()),
        (Change::Updated, Some("stored again"))
    );
    let answer = repeat(store, &scope, id, again).await;
    assert_eq!(
        (answer.repeat.merged.len(), answer.repeat.ignored.len()),
        (0, 0),
        "nothing new: {answer:?}"
    );
    assert_eq!(load(store, &scope, id).await, memory);
}

pub(crate) async fn what_is_not_merged_is_reported(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = store_one(
        store,
        &scope,
        episode("deployed", "on Friday", "never on Friday"),
    )
    .await;
    let lesson = Episode {
        situation: "on Friday".into(),
        outcome: 1.0,
        lesson: "it is fine".into(),
    };
    let again = NewMemory {
        episode: Some(lesson),
        occurred_at: at(-5),
        stated: Stated {
            importance: false,
            occurred_at: true,
        },
        session: Some("chat".into()),
        speaker: Some("Ada".into()),
        importance: 0.5,
        ..episode("deployed", "", "")
    };
    let before = load(store, &scope, id).await;
    let answer = repeat(store, &scope, id, again).await;
    let ignored = answer.repeat.ignored.join("; ");
    for part in [
        "occurred_at (change it with update)",
        "outcome",
        "lesson",
        "session (cannot be changed)",
        "speaker",
    ] {
        assert!(ignored.contains(part), "{part} in {ignored}");
    }
    assert!(
        !ignored.contains("situation") && answer.repeat.merged.is_empty(),
        "{answer:?}"
    );
    assert_eq!(load(store, &scope, id).await, before);
    let many: Vec<String> = (0..32).map(|number| format!("tag {number}")).collect();
    let full = store_one(
        store,
        &scope,
        NewMemory {
            tags: many,
            ..note("full of tags")
        },
    )
    .await;
    let answer = repeat(
        store,
        &scope,
        full,
        tagged("full of tags", &["tag 0", "one more"]),
    )
    .await;
    assert!(
        answer
            .repeat
            .ignored
            .iter()
            .any(|part| part.contains("one more")),
        "{answer:?}"
    );
    assert_eq!(load(store, &scope, full).await.tags.len(), 32);
}

pub(crate) async fn a_protected_memory_stays_as_it_is(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = store_one(
        store,
        &scope,
        NewMemory {
            protected: true,
            ..note("the owner's word")
        },
    )
    .await;
    let before = load(store, &scope, id).await;
    let answer = repeat(store, &scope, id, tagged("the owner's word", &["forged"])).await;
    assert!(
        answer.repeat.protected && answer.repeat.merged.is_empty(),
        "{answer:?}"
    );
    assert!(
        answer
            .repeat
            .ignored
            .iter()
            .any(|part| part.contains("tags")),
        "{answer:?}"
    );
    assert_eq!(load(store, &scope, id).await, before);
}

pub(crate) async fn equal_items_of_a_batch_are_united(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let known = store_one(store, &scope, tagged("known", &["a"])).await;
    let items = vec![
        tagged("new", &["x"]),
        tagged("known", &["b"]),
        tagged("new", &["y"]),
        tagged("known", &["c"]),
    ];
    let answer = remember(store, &scope, items).await.unwrap();
    assert_eq!(
        answer.iter().map(|item| item.created).collect::<Vec<_>>(),
        [true, false, false, false]
    );
    assert!(
        answer[2]
            .repeat
            .merged
            .iter()
            .any(|part| part.contains('y')),
        "{answer:?}"
    );
    let new = load(store, &scope, answer[0].id).await;
    assert_eq!(
        (new.version, new.tags.as_slice()),
        (1, &["x".to_owned(), "y".to_owned()][..])
    );
    assert_eq!(found(store, &scope, "y").await, [new.id]);
    assert_eq!(load(store, &scope, known).await.tags, ["a", "b", "c"]);
}

pub(crate) async fn a_turn_is_merged_and_a_replay_is_not(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = store_one(store, &scope, turn("chat", 1, "hello")).await;
    let again = NewMemory {
        tags: vec!["greeting".into()],
        ..turn("chat", 1, "hello")
    };
    let answer = repeat(store, &scope, id, again).await;
    assert!(
        answer
            .repeat
            .merged
            .iter()
            .any(|part| part.contains("greeting")),
        "{answer:?}"
    );
    let idempotency = Some(Idempotency {
        key: "once".into(),
        request_hash: [7; 32],
    });
    let command = |tags: &[&str]| Remember {
        items: analyzed([NewMemory {
            id: new_id(),
            ..tagged("merged once", tags)
        }]),
        idempotency: idempotency.clone(),
        now: at(1),
    };
    let note = store_one(store, &scope, tagged("merged once", &[])).await;
    let first = store
        .remember(&scope, command(&["tag"]))
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (first.id, first.repeat.merged.len(), first.replayed),
        (note, 1, false),
        "{first:?}"
    );
    let untag = Patch {
        tags: Some(Vec::new()),
        ..Patch::default()
    };
    let untag = Update {
        id: note,
        expected_version: None,
        patch: untag,
        reason: None,
        now: at(2),
    };
    store.update(&scope, untag).await.unwrap();
    let replay = store
        .remember(&scope, command(&["tag"]))
        .await
        .unwrap()
        .remove(0);
    assert_eq!(replay, Remembered::replayed(note));
    assert!(
        load(store, &scope, note).await.tags.is_empty(),
        "a repeated call does not undo what came after it"
    );
}

pub(crate) async fn sources_can_be_added_and_taken_back(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let (one, two) = (
        store_one(store, &scope, note("one")).await,
        store_one(store, &scope, note("two")).await,
    );
    let id = store_one(
        store,
        &scope,
        NewMemory {
            sources: vec![one],
            ..note("conclusion")
        },
    )
    .await;
    let update = async |sources: Vec<Uuid>| -> Result<Memory, StoreError> {
        let patch = Patch {
            sources: Some(sources),
            ..Patch::default()
        };
        store
            .update(
                &scope,
                Update {
                    id,
                    expected_version: None,
                    patch,
                    reason: None,
                    now: at(1),
                },
            )
            .await
    };
    let memory = update(vec![two, one]).await.unwrap();
    assert_eq!(
        (memory.sources.as_slice(), memory.version),
        (&[one, two][..], 2)
    );
    assert_eq!(load(store, &scope, id).await, memory);
    assert_eq!(update(vec![one]).await.unwrap().version, 2, "nothing new");
    let unknown = new_id();
    let error = update(vec![unknown]).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NotFound { field: "sources", ids } if *ids == [unknown]),
        "{error:?}"
    );
    let error = update(vec![id]).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Invalid(invalid) if invalid.field == "sources"),
        "{error:?}"
    );
    let history = super::history(store, &scope, id).await.pop().unwrap();
    assert_eq!(history.old.unwrap()["sources"], json!([one]));
}
