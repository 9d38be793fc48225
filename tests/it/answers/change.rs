//! Answers of tools that change memories.

use super::*;

#[tokio::test]
async fn protected_memories_are_reported_as_unchanged() {
    let bench = Bench::new().await;
    let word = RememberItem {
        protected: true,
        ..telling("the owner's word", ["Ada".to_owned()])
    };
    let id = bench.remember(vec![word]).await.remove(0);
    let params = RememberParams {
        items: vec![telling("the owner's word", ["Eve".to_owned()])],
        idempotency_key: None,
    };
    let again = bench.engine.remember(&call(), params).await.unwrap();
    assert_eq!(
        (again.memories[0].id.as_str(), again.memories[0].created),
        (id.as_str(), false)
    );
    assert!(
        again
            .notes
            .iter()
            .any(|note| note.contains(&id) && note.contains("protected")),
        "{:?}",
        again.notes
    );
    let names = ["Ada", "Eve"].map(str::to_owned).to_vec();
    let params = GetParams {
        entities: names,
        ..GetParams::default()
    };
    let found = bench.engine.get(&call(), params).await.unwrap();
    assert_eq!(
        found
            .entities
            .iter()
            .map(|entity| entity.memories.len())
            .collect::<Vec<_>>(),
        [1, 0]
    );
}

#[tokio::test]
async fn a_judgement_names_the_kept_and_the_replaced_memory() {
    let bench = Bench::new().await;
    let dated = async |content: &str, at: &str| {
        bench
            .remember(vec![RememberItem {
                occurred_at: Some(at.to_owned()),
                ..item(content)
            }])
            .await
            .remove(0)
    };
    // Stored in the reverse order of the events.
    let new = dated("Ada lives in Paris now", "2026-02-01").await;
    let old = dated("Ada lives in Berlin now", "2025-02-01").await;
    let candidates = bench
        .engine
        .review(&call(), ReviewParams::new(ReviewAction::Candidates))
        .await
        .unwrap()
        .candidates;
    assert_eq!(
        (&candidates[0].keep.id, &candidates[0].replace.id),
        (&new, &old)
    );
    // The order of the former arguments does not determine which memory is kept.
    let output = bench
        .engine
        .review(&call(), judge(None, None, Some(&new), Some(&old)))
        .await
        .unwrap();
    assert_eq!(
        (
            output.reviews[0].memory.as_str(),
            output.reviews[0].state.as_str()
        ),
        (old.as_str(), "approved")
    );
    assert!(
        output
            .notes
            .iter()
            .any(|note| note.contains(&new) && note.contains("keep and replace")),
        "{output:?}"
    );
    assert_eq!(
        bench.superseded_by(&old).await.as_ref(),
        Some(&new),
        "at once"
    );
    let again = bench
        .engine
        .review(&call(), judge(Some(&new), Some(&old), None, None))
        .await
        .unwrap();
    assert!(
        again.reviews.is_empty() && again.notes[0].contains("already superseded"),
        "{again:?}"
    );
    // The caller decides, even against the dates.
    let (a, b) = (
        dated("the port is 5433", "2026-02-01").await,
        dated("the port is 5432", "2025-02-01").await,
    );
    bench
        .engine
        .review(&call(), judge(Some(&b), Some(&a), None, None))
        .await
        .unwrap();
    assert_eq!(bench.superseded_by(&a).await.as_ref(), Some(&b));
    check_refused_judgements(&bench, &a, &b, &new).await;
}

async fn check_refused_judgements(bench: &Bench, a: &String, b: &String, other: &String) {
    for (params, field) in [
        (judge(Some(a), None, None, None), "replace"),
        (judge(None, Some(a), None, None), "keep"),
        (judge(None, None, Some(a), None), "keep"),
        (judge(Some(a), Some(b), Some(other), None), "id"),
        (judge(Some(a), Some(a), None, None), "replace"),
        (
            ReviewParams {
                judgement: None,
                ..judge(Some(a), Some(b), None, None)
            },
            "judgement",
        ),
    ] {
        let error = bench.engine.review(&call(), params).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Invalid(invalid) if invalid.field == field),
            "{field}: {error}"
        );
    }
}

fn judge(
    keep: Option<&String>,
    replace: Option<&String>,
    id: Option<&String>,
    other: Option<&String>,
) -> ReviewParams {
    let mut params = ReviewParams::new(ReviewAction::Judge);
    params.judgement = Some(Judgement::Contradiction);
    (params.keep, params.replace) = (keep.cloned(), replace.cloned());
    (params.id, params.other) = (id.cloned(), other.cloned());
    params
}

#[tokio::test]
async fn a_repetition_reports_what_it_added() {
    let bench = Bench::new().await;
    let id = bench.note("the door code is 4711").await;
    let again = RememberItem {
        tags: vec!["door".into()],
        importance: Some(0.9),
        session: Some("chat".into()),
        ..telling("the door code is 4711", ["Ada".to_owned()])
    };
    let params = RememberParams {
        items: vec![again],
        idempotency_key: Some("k".into()),
    };
    let output = bench
        .engine
        .remember(&call(), params.clone())
        .await
        .unwrap();
    let stored = &output.memories[0];
    assert_eq!((stored.id.as_str(), stored.created), (id.as_str(), false));
    let merged = stored.merged.join("; ");
    assert!(
        ["door", "importance 0.9", "entities"]
            .iter()
            .all(|part| merged.contains(part)),
        "{merged}"
    );
    assert!(stored.ignored[0].contains("session"), "{stored:?}");
    let replay = bench.engine.remember(&call(), params).await.unwrap();
    assert!(
        replay.memories[0].merged.is_empty() && replay.notes[0].contains("idempotency_key"),
        "{replay:?}"
    );
    let past = RememberItem {
        valid_until: Some("2020-01-01".into()),
        ..item("an offer")
    };
    let params = RememberParams {
        items: vec![past],
        idempotency_key: None,
    };
    let notes = bench.engine.remember(&call(), params).await.unwrap().notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("items[0]") && note.contains("in the past")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn an_update_reports_the_changed_fields() {
    let bench = Bench::new().await;
    let old = bench.note("she lives in Berlin").await;
    let middle = RememberItem {
        supersedes: vec![old.clone()],
        ..item("she lives in Paris")
    };
    let middle = bench.remember(vec![middle]).await.remove(0);
    let new = RememberItem {
        supersedes: vec![middle.clone()],
        ..item("she lives in Rome")
    };
    let new = bench.remember(vec![new]).await.remove(0);
    let update = async |params: UpdateParams| bench.engine.update(&call(), params).await.unwrap();
    let outdated = UpdateParams {
        id: old.clone(),
        importance: Some(0.9),
        ..UpdateParams::default()
    };
    let output = update(outdated.clone()).await;
    assert_eq!(output.changed, ["importance"]);
    assert!(
        output.notes[0].contains(&middle) && output.notes[0].contains(&new),
        "{:?}",
        output.notes
    );
    let again = update(outdated).await;
    assert!(
        again.changed.is_empty() && again.notes[0].contains("Nothing changed"),
        "{again:?}"
    );
    let vote = UpdateParams {
        id: new.clone(),
        feedback: Some(Feedback::Helpful),
        ..UpdateParams::default()
    };
    let output = update(vote).await;
    assert!(
        output.notes[0].contains("Feedback recorded: helpful (1 helpful, 0 not helpful"),
        "{:?}",
        output.notes
    );
    let sources = UpdateParams {
        id: new,
        sources: Some(vec![old.clone()]),
        ..UpdateParams::default()
    };
    let output = update(sources).await;
    assert_eq!(
        (output.changed, output.memory.sources),
        (vec!["sources".to_owned()], vec![old])
    );
}

#[tokio::test]
async fn forget_reports_what_it_did() {
    let bench = Bench::new().await;
    let free = bench.note("free").await;
    let kept = bench
        .remember(vec![RememberItem {
            protected: true,
            ..item("kept")
        }])
        .await
        .remove(0);
    let forget = async |ids: Vec<String>, mode: Mode| {
        bench
            .engine
            .forget(
                &call(),
                ForgetParams {
                    ids,
                    mode,
                    reason: None,
                },
            )
            .await
            .unwrap()
    };
    let output = forget(vec![free.clone(), kept.clone()], Mode::Delete).await;
    assert_eq!(
        (
            output.changed,
            output.memories[0].id.as_str(),
            output.reviews.len()
        ),
        (1, free.as_str(), 1)
    );
    let output = forget(vec![free.clone()], Mode::Delete).await;
    assert!(
        output.changed == 0 && output.notes[0].contains("already deleted"),
        "{output:?}"
    );
    let output = forget(vec![kept.clone()], Mode::Purge).await;
    assert_eq!(
        (output.changed, output.memories.len(), output.reviews.len()),
        (0, 0, 1)
    );
    let output = forget(vec![free.clone()], Mode::Purge).await;
    assert_eq!(
        (output.changed, output.memories[0].content.as_ref()),
        (1, None),
        "a purged text is not repeated"
    );
}
