//! Protected memories, and reviews.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{
    Change, Decision, Judgement, Memory, NewMemory, Patch, Proposal, Review, ReviewState, Scope,
};
use cognitive_memory_mcp::store::{
    Decide, ForgetMode, NewReview, Remember, ReviewQuery, Store, StoreError, Update,
};
use uuid::Uuid;

use super::{analyzed, at, episode, found, history, load, new_id, note, scope, store_one};

const DAY: i64 = 86_400;

fn review(memory: Uuid, proposal: Proposal) -> NewReview {
    let reason = Some("because".to_owned());
    NewReview {
        id: new_id(),
        memory,
        proposal,
        reason,
        now: at(10),
        expires_at: at(10 + DAY),
    }
}

fn patch(content: &str) -> Patch {
    Patch {
        content: Some(content.to_owned()),
        ..Patch::default()
    }
}

fn reworded(content: &str) -> Proposal {
    Proposal::Update {
        patch: Box::new(patch(content)),
    }
}

async fn propose(store: &dyn Store, scope: &Scope, memory: Uuid, proposal: Proposal) -> Review {
    store
        .propose(scope, &[review(memory, proposal)])
        .await
        .unwrap()
        .remove(0)
}

async fn decide(
    store: &dyn Store,
    scope: &Scope,
    id: Uuid,
    decision: Decision,
    seconds: i64,
) -> Result<Review, StoreError> {
    let owner = Scope::new(scope.project(), "owner");
    store
        .decide(
            &owner,
            &Decide {
                id,
                decision,
                reason: Some("decided".into()),
                now: at(seconds),
            },
        )
        .await
}

async fn protected(store: &dyn Store, scope: &Scope, content: &str) -> Uuid {
    let item = NewMemory {
        protected: true,
        tags: vec!["kept".into()],
        ..episode(content, "a situation", "a lesson")
    };
    store_one(store, scope, item).await
}

/// Returns the fields that an undo must restore: all except those that record a change.
fn plain(memory: Memory) -> Memory {
    Memory {
        version: 0,
        updated_at: at(0),
        ..memory
    }
}

pub(crate) async fn only_votes_pass_the_protection(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "the owner's word").await;
    let free = store_one(store, &scope, note("free")).await;
    let command = |patch| Update {
        id,
        expected_version: None,
        patch,
        reason: None,
        now: at(1),
    };
    let vote = Patch {
        helpful: Some(true),
        ..Patch::default()
    };
    assert_eq!(
        store.update(&scope, command(vote)).await.unwrap().helpful,
        1
    );
    assert_eq!(
        list_protected(
            store
                .update(&scope, command(patch("a lie")))
                .await
                .unwrap_err()
        ),
        [id]
    );
    let unprotect = Patch {
        protected: Some(false),
        ..Patch::default()
    };
    assert_eq!(
        list_protected(store.update(&scope, command(unprotect)).await.unwrap_err()),
        [id]
    );
    for mode in [ForgetMode::Delete, ForgetMode::Purge] {
        let error = store
            .forget(&scope, &[free, id], mode, None, at(2))
            .await
            .unwrap_err();
        assert_eq!(list_protected(error), [id]);
    }
    assert_eq!(
        store
            .forget(&scope, &[id], ForgetMode::Restore, None, at(2))
            .await
            .unwrap(),
        0,
        "nothing to do"
    );
    check_supersession_is_refused(store, &scope, id).await;
    let memory = load(store, &scope, id).await;
    assert_eq!(
        (memory.version, memory.protected, memory.content.as_str()),
        (1, true, "the owner's word")
    );
    assert!(load(store, &scope, free).await.deleted_at.is_none());
    let protect = Patch {
        protected: Some(true),
        ..Patch::default()
    };
    let command = Update {
        id: free,
        expected_version: None,
        patch: protect,
        reason: None,
        now: at(4),
    };
    assert!(
        store.update(&scope, command).await.unwrap().protected,
        "anybody may protect"
    );
}

async fn check_supersession_is_refused(store: &dyn Store, scope: &Scope, id: Uuid) {
    let items = vec![NewMemory {
        supersedes: vec![id],
        ..note("a usurper")
    }];
    let error = store
        .remember(
            scope,
            Remember {
                items: analyzed(items),
                idempotency: None,
                now: at(3),
            },
        )
        .await
        .unwrap_err();
    assert_eq!(list_protected(error), [id]);
    assert!(found(store, scope, "usurper").await.is_empty());
}

/// The IDs of the protected memories for which a write was refused.
fn list_protected(error: StoreError) -> Vec<Uuid> {
    match error {
        StoreError::Protected { ids } => ids,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn what_is_approved_is_done_and_can_be_undone(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "walrus").await;
    let before = load(store, &scope, id).await;
    let everything = Patch {
        tags: Some(vec!["other".into()]),
        importance: Some(0.9),
        lesson: Some("another lesson".into()),
        protected: Some(false),
        ..patch("penguin")
    };
    let proposals = [
        (
            Proposal::Update {
                patch: Box::new(everything),
            },
            Change::Updated,
        ),
        (Proposal::Delete, Change::Deleted),
    ];
    for (number, (proposal, change)) in (0..).zip(proposals) {
        let proposed = propose(store, &scope, id, proposal.clone()).await;
        assert_eq!(
            (proposed.state, proposed.memory, &proposed.proposal),
            (ReviewState::Open, id, &proposal)
        );
        assert_eq!(
            plain(load(store, &scope, id).await),
            plain(before.clone()),
            "a proposal changes nothing"
        );
        let version = load(store, &scope, id).await.version;
        let approved = decide(
            store,
            &scope,
            proposed.id,
            Decision::Approve,
            20 + number * 10,
        )
        .await
        .unwrap();
        assert_eq!(approved.decided_at, Some(at(20 + number * 10)));
        check_approval(store, &scope, &approved, change, version).await;
        assert!(found(store, &scope, "walrus").await.is_empty());
        if change == Change::Updated {
            let now = load(store, &scope, id).await;
            assert_eq!(
                (now.content.as_str(), now.importance, now.protected),
                ("penguin", 0.9, false)
            );
            assert_eq!(found(store, &scope, "penguin").await, [id]);
        }
        let undone = decide(store, &scope, proposed.id, Decision::Undo, 22 + number * 10)
            .await
            .unwrap();
        assert_eq!(undone.state, ReviewState::Undone);
        assert_eq!(
            plain(load(store, &scope, id).await),
            plain(before.clone()),
            "an undo brings back exactly"
        );
        assert_eq!(found(store, &scope, "walrus").await, [id]);
        assert!(found(store, &scope, "penguin").await.is_empty());
        let counts = store.counts(&scope, at(40)).await.unwrap();
        assert_eq!((counts.deleted, counts.index_backlog), (0, 1));
    }
    let versions: Vec<i64> = history(store, &scope, id)
        .await
        .iter()
        .map(|entry| entry.version)
        .collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
}

async fn check_approval(
    store: &dyn Store,
    scope: &Scope,
    approved: &Review,
    change: Change,
    version: i64,
) {
    assert_eq!(
        (approved.state, approved.applied_version),
        (ReviewState::Approved, Some(version + 1))
    );
    assert_eq!(approved.decided_by.as_deref(), Some("owner"));
    let entry = history(store, scope, approved.memory).await.pop().unwrap();
    assert_eq!(
        (entry.change, entry.version, entry.actor.as_str()),
        (change, version + 1, "owner")
    );
    let reason = entry.reason.unwrap();
    assert!(
        reason.contains(&approved.id.to_string()) && reason.contains("decided"),
        "{reason}"
    );
}

pub(crate) async fn a_replacement_can_be_approved_and_undone(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let old = protected(store, &scope, "she lives in Berlin").await;
    let new = store_one(store, &scope, note("she lives in Paris")).await;
    let before = load(store, &scope, old).await;
    let proposal = |by| Proposal::Supersede {
        by,
        judgement: Judgement::Contradiction,
    };
    let proposed = propose(store, &scope, old, proposal(new)).await;
    decide(store, &scope, proposed.id, Decision::Approve, 20)
        .await
        .unwrap();
    assert_eq!(load(store, &scope, old).await.superseded_by, Some(new));
    assert_eq!(found(store, &scope, "lives").await, [new]);
    let backwards = propose(store, &scope, new, proposal(old)).await;
    let error = decide(store, &scope, backwards.id, Decision::Approve, 21)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Invalid(_)),
        "a circle: {error:?}"
    );
    let itself = propose(store, &scope, new, proposal(new)).await;
    let error = decide(store, &scope, itself.id, Decision::Approve, 21)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Invalid(_)),
        "a circle: {error:?}"
    );
    decide(store, &scope, proposed.id, Decision::Undo, 22)
        .await
        .unwrap();
    assert_eq!(plain(load(store, &scope, old).await), plain(before));
    assert_eq!(found(store, &scope, "lives").await.len(), 2);
}

pub(crate) async fn a_judgement_takes_effect_unless_the_memory_is_protected(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let proposal = |by| Proposal::Supersede {
        by,
        judgement: Judgement::Duplicate,
    };
    let new = store_one(store, &scope, note("she lives in Paris")).await;
    let free = store_one(store, &scope, note("she lives in Berlin")).await;
    let settled = store
        .settle(&scope, &review(free, proposal(new)))
        .await
        .unwrap();
    assert_eq!(
        (settled.state, settled.decided_by.as_deref()),
        (ReviewState::Approved, Some("tester"))
    );
    assert_eq!(load(store, &scope, free).await.superseded_by, Some(new));
    assert_eq!(found(store, &scope, "lives").await, [new]);
    decide(store, &scope, settled.id, Decision::Undo, 20)
        .await
        .unwrap();
    assert_eq!(load(store, &scope, free).await.superseded_by, None);
    let kept = protected(store, &scope, "she lives in Rome").await;
    let settled = store
        .settle(&scope, &review(kept, proposal(new)))
        .await
        .unwrap();
    assert_eq!(
        (settled.state, settled.decided_by),
        (ReviewState::Open, None)
    );
    assert_eq!(load(store, &scope, kept).await.superseded_by, None);
    let circle = store
        .settle(&scope, &review(new, proposal(new)))
        .await
        .unwrap_err();
    assert!(matches!(circle, StoreError::Invalid(_)), "{circle:?}");
    assert_eq!(
        store
            .reviews(&scope, &ReviewQuery::All, 10)
            .await
            .unwrap()
            .len(),
        2,
        "a refusal leaves no review"
    );
}

pub(crate) async fn an_approved_purge_leaves_nothing(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "to be purged").await;
    let proposed = propose(store, &scope, id, Proposal::Purge).await;
    let approved = decide(store, &scope, proposed.id, Decision::Approve, 20)
        .await
        .unwrap();
    assert_eq!(approved.state, ReviewState::Approved);
    assert!(store.get(&scope, &[id], true).await.unwrap().is_empty());
    assert!(history(store, &scope, id).await.is_empty());
    assert!(
        store
            .reviews(&scope, &ReviewQuery::All, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(found(store, &scope, "purged").await.is_empty());
}

pub(crate) async fn an_undo_outlives_the_successor(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let old = protected(store, &scope, "she lives in Berlin").await;
    let (new, newer) = (
        store_one(store, &scope, note("in Paris")).await,
        store_one(store, &scope, note("in Rome")).await,
    );
    let before = load(store, &scope, old).await;
    let proposal = |by| Proposal::Supersede {
        by,
        judgement: Judgement::Contradiction,
    };
    let approved = propose(store, &scope, old, proposal(new)).await;
    let waiting = propose(store, &scope, old, proposal(newer)).await;
    let unrelated = propose(store, &scope, old, Proposal::Nothing { other: new }).await;
    decide(store, &scope, approved.id, Decision::Approve, 20)
        .await
        .unwrap();
    store
        .forget(&scope, &[new, newer], ForgetMode::Purge, None, at(21))
        .await
        .unwrap();
    let listed = async |query| -> Vec<Uuid> {
        store
            .reviews(&scope, &query, 10)
            .await
            .unwrap()
            .iter()
            .map(|review| review.id)
            .collect()
    };
    assert_eq!(
        listed(ReviewQuery::All).await,
        [unrelated.id, waiting.id, approved.id]
    );
    assert_eq!(
        listed(ReviewQuery::About(vec![old])).await,
        [unrelated.id, waiting.id, approved.id]
    );
    assert_eq!(listed(ReviewQuery::Open(at(22))).await, [waiting.id]);
    assert_eq!(listed(ReviewQuery::One(approved.id)).await, [approved.id]);
    let error = decide(store, &scope, waiting.id, Decision::Approve, 22)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::NotFound { field: "other", ids } if *ids == [newer]),
        "{error:?}"
    );
    decide(store, &scope, waiting.id, Decision::Reject, 22)
        .await
        .unwrap();
    assert_eq!(
        load(store, &scope, old).await.superseded_by,
        Some(new),
        "what is purged stays the successor"
    );
    decide(store, &scope, approved.id, Decision::Undo, 23)
        .await
        .unwrap();
    assert_eq!(plain(load(store, &scope, old).await), plain(before));
    assert_eq!(found(store, &scope, "lives").await, [old]);
}

pub(crate) async fn an_undo_takes_back_its_own_change_only(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let old = protected(store, &scope, "she lives in Berlin").await;
    let new = store_one(store, &scope, note("she lives in Paris")).await;
    let by = Proposal::Supersede {
        by: new,
        judgement: Judgement::Contradiction,
    };
    let replaced = propose(store, &scope, old, by).await;
    decide(store, &scope, replaced.id, Decision::Approve, 20)
        .await
        .unwrap();
    let heavier = Patch {
        importance: Some(0.9),
        ..Patch::default()
    };
    let heavier = propose(
        store,
        &scope,
        old,
        Proposal::Update {
            patch: Box::new(heavier),
        },
    )
    .await;
    decide(store, &scope, heavier.id, Decision::Approve, 21)
        .await
        .unwrap();
    decide(store, &scope, replaced.id, Decision::Undo, 22)
        .await
        .unwrap();
    let memory = load(store, &scope, old).await;
    assert_eq!(
        (memory.superseded_by, memory.importance, memory.version),
        (None, 0.9, 4),
        "the later change stays"
    );
    // The obstacle disappears once it is undone itself.
    let first = propose(store, &scope, old, reworded("in Rome")).await;
    let second = propose(store, &scope, old, reworded("in Oslo")).await;
    decide(store, &scope, first.id, Decision::Approve, 23)
        .await
        .unwrap();
    decide(store, &scope, second.id, Decision::Approve, 24)
        .await
        .unwrap();
    assert!(matches!(
        decide(store, &scope, first.id, Decision::Undo, 25).await,
        Err(StoreError::Overtaken(_))
    ));
    decide(store, &scope, second.id, Decision::Undo, 26)
        .await
        .unwrap();
    decide(store, &scope, first.id, Decision::Undo, 27)
        .await
        .unwrap();
    assert_eq!(
        load(store, &scope, old).await.content,
        "she lives in Berlin"
    );
}

pub(crate) async fn decisions_are_taken_once_and_in_time(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "walrus").await;
    let state = |error: StoreError| match error {
        StoreError::Decided { state, .. } => state,
        other => panic!("{other:?}"),
    };
    let proposed = propose(store, &scope, id, reworded("seal")).await;
    assert_eq!(
        state(
            decide(store, &scope, proposed.id, Decision::Undo, 20)
                .await
                .unwrap_err()
        ),
        "open"
    );
    decide(store, &scope, proposed.id, Decision::Reject, 20)
        .await
        .unwrap();
    for decision in [Decision::Approve, Decision::Reject, Decision::Undo] {
        assert_eq!(
            state(
                decide(store, &scope, proposed.id, decision, 21)
                    .await
                    .unwrap_err()
            ),
            "rejected"
        );
    }
    let late = propose(store, &scope, id, reworded("seal")).await;
    assert_ne!(late.id, proposed.id, "the other one was rejected");
    let open = |seconds| ReviewQuery::Open(at(seconds));
    assert_eq!(
        store
            .reviews(&scope, &open(10 + DAY - 1), 10)
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        store
            .reviews(&scope, &open(10 + DAY), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        state(
            decide(store, &scope, late.id, Decision::Approve, 10 + DAY)
                .await
                .unwrap_err()
        ),
        "expired"
    );
    assert_eq!(load(store, &scope, id).await.version, 1);
    let error = decide(store, &scope, new_id(), Decision::Approve, 20)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::NotFound { field: "id", .. }),
        "{error:?}"
    );
}

pub(crate) async fn an_undo_does_not_overwrite_what_came_after(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "walrus").await;
    let first = propose(store, &scope, id, reworded("seal")).await;
    let second = propose(store, &scope, id, reworded("otter")).await;
    decide(store, &scope, first.id, Decision::Approve, 20)
        .await
        .unwrap();
    decide(store, &scope, second.id, Decision::Approve, 21)
        .await
        .unwrap();
    let error = decide(store, &scope, first.id, Decision::Undo, 22)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Overtaken(obstacle) if obstacle.version == Some(3)),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("its content")
            && error.to_string().contains(&second.id.to_string()),
        "{error}"
    );
    assert_eq!(load(store, &scope, id).await.content, "otter");
    let nothing = propose(store, &scope, id, reworded("otter")).await;
    let approved = decide(store, &scope, nothing.id, Decision::Approve, 23)
        .await
        .unwrap();
    assert_eq!(approved.applied_version, None, "it was so already");
    decide(store, &scope, nothing.id, Decision::Undo, 24)
        .await
        .unwrap();
    assert_eq!(load(store, &scope, id).await.version, 3);
}

pub(crate) async fn the_same_proposal_is_stored_once(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let id = protected(store, &scope, "walrus").await;
    let other = store_one(store, &scope, note("seal")).await;
    let first = propose(store, &scope, id, reworded("seal")).await;
    assert_eq!(propose(store, &scope, id, reworded("seal")).await, first);
    assert_ne!(
        propose(store, &scope, id, reworded("otter")).await.id,
        first.id
    );
    let unrelated = propose(store, &scope, id, Proposal::Nothing { other }).await;
    assert_eq!(unrelated.state, ReviewState::Dismissed);
    assert_eq!(
        propose(store, &scope, id, Proposal::Nothing { other })
            .await
            .id,
        unrelated.id
    );
    assert_eq!(
        store
            .reviews(&scope, &ReviewQuery::All, 10)
            .await
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        store
            .reviews(&scope, &ReviewQuery::Open(at(20)), 10)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        store
            .reviews(&scope, &ReviewQuery::About(vec![other]), 10)
            .await
            .unwrap(),
        std::slice::from_ref(&unrelated)
    );
    for one_of_the_pair in [id, other] {
        assert_eq!(
            store
                .reviews(&scope, &ReviewQuery::Pairs(vec![one_of_the_pair]), 10)
                .await
                .unwrap(),
            std::slice::from_ref(&unrelated),
            "the others are about one memory"
        );
    }
    let missing = review(new_id(), Proposal::Delete);
    let error = store
        .propose(&scope, &[review(id, Proposal::Delete), missing])
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::NotFound { field: "id", .. }),
        "{error:?}"
    );
    assert_eq!(
        store
            .reviews(&scope, &ReviewQuery::All, 10)
            .await
            .unwrap()
            .len(),
        3,
        "all or none"
    );
}

pub(crate) async fn reviews_stay_in_their_project(store: Arc<dyn Store>) {
    let (store, mine) = (&*store, scope());
    let id = protected(store, &mine, "walrus").await;
    let proposed = propose(store, &mine, id, Proposal::Delete).await;
    let theirs = scope();
    store_one(store, &theirs, note("elsewhere")).await;
    let reader = Scope::new(theirs.project(), "reader").reading([mine.project().to_owned()]);
    for other in [&theirs, &reader] {
        for query in [
            ReviewQuery::One(proposed.id),
            ReviewQuery::Open(at(20)),
            ReviewQuery::About(vec![id]),
            ReviewQuery::All,
        ] {
            assert!(store.reviews(other, &query, 10).await.unwrap().is_empty());
        }
        let error = decide(store, other, proposed.id, Decision::Approve, 20)
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
        let error = store
            .propose(other, &[review(id, Proposal::Delete)])
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    }
    assert!(load(store, &mine, id).await.deleted_at.is_none());
}
