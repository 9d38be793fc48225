//! Partial IDs of memories, items and reviews.

use std::sync::Arc;

use cognitive_memory_mcp::domain::reference::short_id;
use cognitive_memory_mcp::domain::{IdPart, IdReference, NewMemory, Proposal, Scope, SystemClock};
use cognitive_memory_mcp::engine::{
    Call, Engine, EngineError, FocusAction, FocusParams, ForgetParams, GetParams, Mode,
    RememberItem, RememberParams, UpdateParams,
};
use cognitive_memory_mcp::store::focus::NewFocus;
use cognitive_memory_mcp::store::{ForgetMode, NewReview, Referable, Referent, Store};
use uuid::Uuid;

use super::{analyzer, at, forget, new_id, note, scope, store_one};

fn part(text: &str) -> IdPart {
    match IdReference::parse(text) {
        Some(IdReference::Part(part)) => part,
        other => panic!("{text:?} is no part of an ID: {other:?}"),
    }
}

fn with_tail(tail: u32) -> Uuid {
    Uuid::from_u128((new_id().as_u128() & !0xffff_ffff) | u128::from(tail))
}

fn digits(id: Uuid) -> String {
    id.simple().to_string()
}

async fn found(store: &dyn Store, scope: &Scope, kind: Referable<'_>, text: &str) -> Vec<Uuid> {
    let found = store
        .referents(scope, kind, &[part(text)], 3)
        .await
        .unwrap();
    found.into_iter().map(|referent| referent.id).collect()
}

pub(crate) async fn parts_of_ids_are_found_in_their_scope(store: Arc<dyn Store>) {
    let (mine, other) = (scope(), scope());
    let store = &*store;
    let make = |tail: u32, text: &str| NewMemory {
        id: with_tail(tail),
        ..note(text)
    };
    let first = store_one(store, &mine, make(0x0bad_cafe, "first")).await;
    let second = store_one(store, &mine, make(0x0bad_cafe, "second")).await;
    let gone = store_one(store, &mine, make(0x0000_0001, "gone")).await;
    forget(store, &mine, gone, ForgetMode::Delete).await;
    let theirs = store_one(store, &other, make(0x0bad_cafe, "theirs")).await;

    let mut both = vec![first, second];
    both.sort();
    assert_eq!(
        found(store, &mine, Referable::Memory, "0badcafe").await,
        both
    );
    assert_eq!(
        found(store, &mine, Referable::Memory, &digits(first)[12..]).await,
        [first],
        "a longer end is one's own"
    );
    assert_eq!(
        found(store, &mine, Referable::Memory, &digits(second)[..31]).await,
        [second],
        "a prefix"
    );
    assert_eq!(
        found(store, &mine, Referable::Memory, "00000001").await,
        [gone],
        "deleted ones can be restored"
    );
    assert!(
        found(store, &mine, Referable::Memory, &digits(theirs)[..31])
            .await
            .is_empty()
    );
    assert!(
        found(store, &mine, Referable::Memory, "ffffffff")
            .await
            .is_empty()
    );
    assert!(
        found(store, &scope(), Referable::Memory, "0badcafe")
            .await
            .is_empty(),
        "fails closed"
    );
    let wider = mine.clone().reading([other.project().to_owned()]);
    assert_eq!(
        found(store, &wider, Referable::Memory, "0badcafe")
            .await
            .len(),
        3
    );

    let parts = [part("ffffffff"), part("0badcafe"), part("00000001")];
    let several = store
        .referents(&mine, Referable::Memory, &parts, 1)
        .await
        .unwrap();
    let expected = |part, id, text: &str| Referent {
        part,
        id,
        text: text.to_owned(),
    };
    let text = if both[0] == first { "first" } else { "second" };
    assert_eq!(
        several,
        [expected(1, both[0], text), expected(2, gone, "gone")],
        "at most one for each part"
    );
}

pub(crate) async fn items_and_reviews_are_found_by_parts_of_their_ids(store: Arc<dyn Store>) {
    let mine = scope();
    let store = &*store;
    let item = NewFocus {
        id: with_tail(7),
        content: "in mind".to_owned(),
        importance: 0.5,
        now: at(0),
    };
    store.focus_add(&mine, "s", item.clone(), 10).await.unwrap();
    let in_session = Referable::FocusItem { session: "s" };
    assert_eq!(found(store, &mine, in_session, "00000007").await, [item.id]);
    assert!(
        found(
            store,
            &mine,
            Referable::FocusItem { session: "" },
            "00000007"
        )
        .await
        .is_empty(),
        "another session"
    );
    store
        .focus_drop(&mine, "s", item.id, "done", None, at(1))
        .await
        .unwrap();
    assert_eq!(
        found(store, &mine, in_session, &digits(item.id)[..30]).await,
        [item.id],
        "in the archive"
    );

    let memory = store_one(store, &mine, note("to be deleted")).await;
    let review = NewReview {
        id: with_tail(8),
        memory,
        proposal: Proposal::Delete,
        reason: None,
        now: at(0),
        expires_at: at(1_000),
    };
    store
        .propose(&mine, std::slice::from_ref(&review))
        .await
        .unwrap();
    let reviews = store
        .referents(&mine, Referable::Review, &[part("00000008")], 3)
        .await
        .unwrap();
    assert_eq!(
        reviews,
        [Referent {
            part: 0,
            id: review.id,
            text: "to be deleted".to_owned()
        }]
    );
    assert!(
        found(store, &mine, Referable::Memory, "00000008")
            .await
            .is_empty()
    );
    assert!(
        found(store, &scope(), Referable::Review, "00000008")
            .await
            .is_empty()
    );
}

fn engine(store: &Arc<dyn Store>) -> (Engine, Call) {
    (
        Engine::new(Arc::clone(store), analyzer(), Arc::new(SystemClock)),
        Call::new(scope()),
    )
}

async fn remember(engine: &Engine, call: &Call, item: RememberItem) -> String {
    let params = RememberParams {
        items: vec![item],
        idempotency_key: None,
    };
    engine
        .remember(call, params)
        .await
        .unwrap()
        .memories
        .remove(0)
        .id
}

fn text(content: &str) -> RememberItem {
    RememberItem {
        content: content.to_owned(),
        ..RememberItem::default()
    }
}

pub(crate) async fn tools_accept_short_ids(store: Arc<dyn Store>) {
    let (engine, call) = engine(&store);
    let old = remember(&engine, &call, text("The queue runs on RabbitMQ.")).await;
    let replaced = RememberItem {
        supersedes: vec![short_id(&old).to_owned()],
        ..text("The queue runs on Postgres.")
    };
    let new = remember(&engine, &call, replaced).await;
    let rests = RememberItem {
        sources: vec![old[..35].to_owned()],
        ..text("Queues change every year.")
    };
    let insight = remember(&engine, &call, rests).await;
    let ids = vec![
        short_id(&old).to_owned(),
        format!("memory://{insight}"),
        new.to_uppercase(),
        "eeeeeeee".to_owned(),
    ];
    let read = engine
        .get(
            &call,
            GetParams {
                ids,
                ..GetParams::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        read.memories
            .iter()
            .map(|memory| &memory.id)
            .collect::<Vec<_>>(),
        [&old, &insight, &new]
    );
    assert_eq!(
        read.memories[0].superseded_by.as_deref(),
        Some(new.as_str())
    );
    assert_eq!(read.memories[1].sources, [old.as_str()]);
    assert_eq!(read.missing, ["eeeeeeee"]);

    let change = UpdateParams {
        id: short_id(&new).to_owned(),
        importance: Some(0.9),
        ..UpdateParams::default()
    };
    assert_eq!(engine.update(&call, change).await.unwrap().memory.id, new);
    let delete = |id: &str| ForgetParams {
        ids: vec![id.to_owned()],
        mode: Mode::Delete,
        reason: None,
    };
    assert_eq!(
        engine
            .forget(&call, delete(short_id(&insight)))
            .await
            .unwrap()
            .changed,
        1
    );
    let unknown = engine.forget(&call, delete("eeeeeeee")).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.to_string().as_str()),
        ("not_found", "ids: no ID begins or ends with eeeeeeee")
    );
    let invalid = engine
        .forget(&call, delete("first one"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        invalid.starts_with("ids[0]: expected the ID of a memory"),
        "{invalid}"
    );

    focus_accepts_short_ids(&engine, &call).await;
}

async fn focus_accepts_short_ids(engine: &Engine, call: &Call) {
    let focus = |action, id: Option<&str>| FocusParams {
        action: Some(action),
        id: id.map(str::to_owned),
        content: (action == FocusAction::Add).then(|| "Deploy on Friday".to_owned()),
        ..FocusParams::default()
    };
    let item = engine
        .focus(call, focus(FocusAction::Add, None))
        .await
        .unwrap()
        .items
        .remove(0)
        .id;
    let dropped = engine
        .focus(call, focus(FocusAction::Drop, Some(short_id(&item))))
        .await
        .unwrap();
    assert_eq!(dropped.items[0].id, item);
}

pub(crate) async fn ambiguous_ids_list_their_candidates(store: Arc<dyn Store>) {
    let (engine, call) = engine(&store);
    let ids = [with_tail(0x0bad_cafe), with_tail(0x0bad_cafe)];
    for (id, content) in ids
        .iter()
        .zip(["Tea at four.\nIn the garden.", "Coffee at nine."])
    {
        store_one(
            &*store,
            &call.scope,
            NewMemory {
                id: *id,
                ..note(content)
            },
        )
        .await;
    }
    let delete = ForgetParams {
        ids: vec!["0BADCAFE".to_owned()],
        mode: Mode::Purge,
        reason: None,
    };
    let refused = engine.forget(&call, delete).await.unwrap_err();
    assert_eq!(refused.code(), "ambiguous_id");
    assert!(
        matches!(&refused, EngineError::AmbiguousReference { candidates, .. } if candidates.len() == 2)
    );
    let said = refused.to_string();
    for words in [
        format!("{} (Tea at four. …)", ids[0]),
        format!("{} (Coffee at nine.)", ids[1]),
    ] {
        assert!(said.contains(&words), "{said}");
    }
    assert_eq!(
        store.get(&call.scope, &ids, false).await.unwrap().len(),
        2,
        "nothing was changed"
    );
}
