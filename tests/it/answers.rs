//! The notes that use cases add to their results: what was cut, what remains, and what prevented an
//! action.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Judgement, Scope, SystemClock};
use cognitive_memory_mcp::engine::{
    Call, Engine, EngineError, ExploreMode, ExploreOutput, ExploreParams, Feedback, FocusAction,
    FocusParams, ForgetParams, GetParams, LinkParams, Mode, RecallParams, RelationItem,
    RememberItem, RememberParams, ReviewAction, ReviewParams, UnlinkMode, UpdateParams,
};
use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use serde_json::json;

use crate::contract::analyzer;

struct Bench {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(
            SqliteOptions::new(folder.path().join("memory.db")),
            analyzer(),
        ));
        store.prepare().await.unwrap();
        Self {
            engine: Engine::new(store, analyzer(), Arc::new(SystemClock)),
            _folder: folder,
        }
    }

    async fn remember(&self, items: Vec<RememberItem>) -> Vec<String> {
        let params = RememberParams {
            items,
            idempotency_key: None,
        };
        let stored = self.engine.remember(&call(), params).await.unwrap();
        stored
            .memories
            .into_iter()
            .map(|memory| memory.id)
            .collect()
    }

    async fn note(&self, content: &str) -> String {
        self.remember(vec![item(content)]).await.remove(0)
    }

    async fn superseded_by(&self, id: &str) -> Option<String> {
        let params = GetParams {
            ids: vec![id.to_owned()],
            ..GetParams::default()
        };
        self.engine
            .get(&call(), params)
            .await
            .unwrap()
            .memories
            .remove(0)
            .superseded_by
    }

    async fn forget(&self, id: &str, mode: Mode) {
        let params = ForgetParams {
            ids: vec![id.to_owned()],
            mode,
            reason: None,
        };
        self.engine.forget(&call(), params).await.unwrap();
    }

    async fn link(&self, project: &str, relations: Vec<RelationItem>) -> Vec<String> {
        let params = LinkParams {
            entities: Vec::new(),
            relations,
        };
        let call = Call::new(Scope::new(project, "tester"));
        self.engine.link(&call, params).await.unwrap().notes
    }

    async fn explore(&self, params: ExploreParams) -> ExploreOutput {
        let call = Call::new(
            Scope::new("default", "tester").reading(["other".to_owned(), "third".to_owned()]),
        );
        self.engine.explore(&call, params).await.unwrap()
    }
}

fn call() -> Call {
    Call::new(Scope::new("default", "tester"))
}

fn item(content: &str) -> RememberItem {
    RememberItem {
        content: content.to_owned(),
        ..RememberItem::default()
    }
}

fn telling(content: &str, names: impl IntoIterator<Item = String>) -> RememberItem {
    let entities = names
        .into_iter()
        .map(|name| serde_json::from_value(json!(name)).unwrap())
        .collect();
    RememberItem {
        entities,
        ..item(content)
    }
}

fn relation(from: &str, kind: &str, to: &str) -> RelationItem {
    RelationItem {
        from: from.into(),
        to: to.into(),
        kind: Some(kind.into()),
        ..RelationItem::default()
    }
}

#[tokio::test]
async fn links_of_a_call_are_limited() {
    let bench = Bench::new().await;
    let items = |count: usize| -> Vec<RememberItem> {
        (0..count)
            .map(|n| telling(&format!("{n}"), (0..50).map(|m| format!("{n} {m}"))))
            .collect()
    };
    let params = RememberParams {
        items: items(101),
        idempotency_key: None,
    };
    let error = bench.engine.remember(&call(), params).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("items") && text.contains("5050") && text.contains("at most 5000"),
        "{text}"
    );
    let params = RecallParams::default();
    assert!(
        bench
            .engine
            .recall(&call(), params)
            .await
            .unwrap()
            .hits
            .is_empty(),
        "nothing was stored"
    );
    assert_eq!(bench.remember(items(100)).await.len(), 100);
}

#[tokio::test]
async fn a_list_skips_no_entity_of_the_same_name() {
    let bench = Bench::new().await;
    for project in ["default", "other", "third"] {
        let names = ["b", "c"].map(|name| relation("a", "knows", name));
        bench.link(project, names.to_vec()).await;
    }
    for limit in 1..=9 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let params = ExploreParams {
                mode: Some(ExploreMode::List),
                limit: Some(limit),
                after,
                ..ExploreParams::default()
            };
            let page = bench.explore(params).await;
            after = page.entities.last().map(|entity| entity.name.clone());
            seen.extend(page.entities.into_iter().map(|entity| entity.name));
            if !page.partial {
                break;
            }
        }
        assert_eq!(
            seen,
            ["a", "a", "a", "b", "b", "b", "c", "c", "c"],
            "limit {limit}"
        );
    }
}

#[tokio::test]
async fn suggestions_say_when_there_are_more() {
    let bench = Bench::new().await;
    let ends = ["c", "d", "e"].map(|name| relation("b", "knows", name));
    bench
        .link(
            "default",
            [vec![relation("a", "knows", "b")], ends.to_vec()].concat(),
        )
        .await;
    let suggest = |limit| ExploreParams {
        mode: Some(ExploreMode::Suggest),
        name: Some("a".into()),
        limit: Some(limit),
        ..ExploreParams::default()
    };
    let whole = bench.explore(suggest(3)).await;
    assert_eq!((whole.entities.len(), whole.partial), (3, false));
    let cut = bench.explore(suggest(2)).await;
    assert_eq!((cut.entities.len(), cut.partial), (2, true));
    // More neighbors than the service reads.
    let many = (0..150)
        .map(|number| relation("hub", "knows", &format!("n{number}")))
        .collect();
    bench.link("default", many).await;
    let hub = bench
        .explore(ExploreParams {
            name: Some("hub".into()),
            ..suggest(500)
        })
        .await;
    assert!(hub.partial);
}

#[tokio::test]
async fn what_cannot_end_yet_is_told() {
    let bench = Bench::new().await;
    let later = RelationItem {
        valid_from: Some("2100-01-01".into()),
        ..relation("Ada", "will own", "Acme")
    };
    bench
        .link("default", vec![relation("Ada", "works at", "Acme"), later])
        .await;
    let end = RelationItem {
        kind: None,
        unlink: Some(UnlinkMode::End),
        ..relation("Ada", "", "Acme")
    };
    let notes = bench.link("default", vec![end]).await;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("will own") && note.contains("2100-01-01")),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_protected_memory_is_told_to_stay() {
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
async fn only_what_holds_is_current() {
    let bench = Bench::new().await;
    let old = bench.note("she lives in Berlin").await;
    let new = RememberItem {
        supersedes: vec![old.clone()],
        ..item("she lives in Paris")
    };
    let new = bench.remember(vec![new]).await.remove(0);
    let current = async || {
        let params = GetParams {
            ids: vec![old.clone()],
            include_deleted: true,
            ..GetParams::default()
        };
        bench
            .engine
            .get(&call(), params)
            .await
            .unwrap()
            .memories
            .remove(0)
            .current
    };
    assert_eq!(current().await.as_ref(), Some(&new));
    for (mode, expected) in [
        (Mode::Delete, None),
        (Mode::Restore, Some(&new)),
        (Mode::Purge, None),
    ] {
        bench.forget(&new, mode).await;
        assert_eq!(current().await.as_ref(), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn what_was_promoted_goes_with_its_memory() {
    let bench = Bench::new().await;
    let focus = async |params: FocusParams| bench.engine.focus(&call(), params).await.unwrap();
    let added = FocusParams {
        action: Some(FocusAction::Add),
        content: Some("ask Ada".into()),
        ..FocusParams::default()
    };
    let id = focus(added).await.items.remove(0).id;
    let promote = |memory| FocusParams {
        action: Some(FocusAction::Promote),
        id: Some(id.clone()),
        memory,
        ..FocusParams::default()
    };
    let memory = focus(promote(true)).await.memory.unwrap();
    let reworded = UpdateParams {
        id: memory.clone(),
        content: Some("asked Ada".into()),
        ..UpdateParams::default()
    };
    bench.engine.update(&call(), reworded).await.unwrap();
    assert_eq!(
        focus(promote(false)).await.items[0].memory.as_ref(),
        Some(&memory)
    );
    bench.forget(&memory, Mode::Purge).await;
    for archived in [false, true] {
        assert!(
            focus(FocusParams {
                archived,
                ..FocusParams::default()
            })
            .await
            .items
            .is_empty()
        );
    }
}

#[tokio::test]
async fn a_look_back_says_what_it_did_not_read() {
    let bench = Bench::new().await;
    // Few distinct words, because the analysis would take longer than the rest.
    let text = |number: usize, word: &str| format!("{number} {word} {}", "x".repeat(65_000));
    let stored = bench
        .remember(
            (0..140)
                .map(|number| item(&text(number, "walrus")))
                .collect(),
        )
        .await;
    let then = chrono::Utc::now();
    for (number, id) in stored.iter().enumerate() {
        let content = Some(text(number, "seal"));
        let params = UpdateParams {
            id: id.clone(),
            content,
            ..UpdateParams::default()
        };
        bench.engine.update(&call(), params).await.unwrap();
    }
    let params = RecallParams {
        query: Some("walrus".into()),
        as_of: Some(then.to_rfc3339()),
        max_chars: Some(100),
        ..RecallParams::default()
    };
    let found = bench.engine.recall(&call(), params).await.unwrap();
    assert!(!found.hits.is_empty());
    assert!(
        found.notes.iter().any(|note| note.contains("16 MiB")),
        "{:?}",
        found.notes
    );
}

#[tokio::test]
async fn an_answer_says_what_stood_for_a_misspelled_word() {
    let bench = Bench::new().await;
    let right = bench.note("Postgres runs on port 5433").await;
    for n in 0..30 {
        bench.note(&format!("the port of tool {n} is open")).await;
    }
    let recall = async |query: &str| {
        let params = RecallParams {
            query: Some(query.to_owned()),
            explain: true,
            ..RecallParams::default()
        };
        let mut found = bench.engine.recall(&call(), params).await.unwrap();
        let first = found.hits.remove(0);
        assert_eq!(first.memory.id, right, "{query}");
        (first.why.unwrap().terms, found.confidence.unwrap())
    };
    let (terms, spelled) = recall("postgres port").await;
    assert_eq!(terms, ["port", "postgr"]);
    let (terms, misspelled) = recall("postgers port").await;
    assert_eq!(terms, ["port", "postger~postgr"]);
    let (terms, unfinished) = recall("postg port").await;
    assert_eq!(terms, ["port", "postg~postgr"]);
    assert!(
        spelled > misspelled && spelled > unfinished,
        "{spelled} {misspelled} {unfinished}"
    );
}

#[tokio::test]
async fn a_judgement_names_what_is_kept_and_what_is_replaced() {
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
    let judge = |keep: Option<&String>,
                 replace: Option<&String>,
                 id: Option<&String>,
                 other: Option<&String>| {
        let mut params = ReviewParams::new(ReviewAction::Judge);
        params.judgement = Some(Judgement::Contradiction);
        (params.keep, params.replace) = (keep.cloned(), replace.cloned());
        (params.id, params.other) = (id.cloned(), other.cloned());
        params
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
    for (params, field) in [
        (judge(Some(&a), None, None, None), "replace"),
        (judge(None, Some(&a), None, None), "keep"),
        (judge(None, None, Some(&a), None), "keep"),
        (judge(Some(&a), Some(&b), Some(&new), None), "id"),
        (judge(Some(&a), Some(&a), None, None), "replace"),
        (
            ReviewParams {
                judgement: None,
                ..judge(Some(&a), Some(&b), None, None)
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

#[tokio::test]
async fn memory_ids_are_no_names_of_entities() {
    let bench = Bench::new().await;
    let (one, other) = (bench.note("one").await, bench.note("other").await);
    let link = async |relation: RelationItem| {
        bench
            .engine
            .link(
                &call(),
                LinkParams {
                    entities: Vec::new(),
                    relations: vec![relation],
                },
            )
            .await
    };
    let error = link(relation(&one, "supports", &other))
        .await
        .unwrap_err()
        .to_string();
    for part in ["relations[0].from", "sources", "supersedes"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    let telling = RememberItem {
        relations: vec![relation("Ada", "wrote", &one)],
        ..item("Ada wrote it")
    };
    let params = RememberParams {
        items: vec![telling],
        idempotency_key: None,
    };
    let error = bench
        .engine
        .remember(&call(), params)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("items[0].relations[0].to"), "{error}");
    let listed = ExploreParams {
        mode: Some(ExploreMode::List),
        ..ExploreParams::default()
    };
    assert!(
        bench.explore(listed).await.entities.is_empty(),
        "nothing was stored"
    );
    // Such names from earlier versions can be removed.
    let end = RelationItem {
        unlink: Some(UnlinkMode::Erase),
        ..relation(&one, "supports", &other)
    };
    assert!(
        link(end)
            .await
            .unwrap_err()
            .to_string()
            .contains("existing entity")
    );
}

#[tokio::test]
async fn new_and_similar_entities_are_reported() {
    let bench = Bench::new().await;
    let notes = bench
        .link(
            "default",
            vec![relation("Marta Lindqvist", "works at", "Acme")],
        )
        .await;
    assert_eq!(notes, ["New entities: \"Marta Lindqvist\", \"Acme\"."]);
    let notes = bench
        .link("default", vec![relation("Marta", "knows", "acme")])
        .await
        .join("\n");
    for part in [
        "\"acme\" is the existing entity \"Acme\"",
        "New entities: \"Marta\"",
        "existing \"Marta Lindqvist\"",
    ] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    let params = RememberParams {
        items: vec![telling("x", ["Lindquist, Marta".to_owned()])],
        idempotency_key: None,
    };
    let notes = bench
        .engine
        .remember(&call(), params)
        .await
        .unwrap()
        .notes
        .join("\n");
    assert!(
        notes.contains("New entities") && notes.contains("\"Marta\""),
        "{notes}"
    );
}

#[tokio::test]
async fn entities_are_recognised_in_texts() {
    let bench = Bench::new().await;
    bench
        .link(
            "default",
            vec![
                relation("Marta Lindqvist", "uses", "Apple"),
                relation("Zed", "knows", "May"),
            ],
        )
        .await;
    let recognised = async |content: &str| {
        let params = RememberParams {
            items: vec![item(content)],
            idempotency_key: None,
        };
        let notes = bench
            .engine
            .remember(&call(), params)
            .await
            .unwrap()
            .notes
            .join("\n");
        notes
            .lines()
            .find(|note| note.contains("Recognised"))
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let note = recognised("Yesterday marta lindqvist met Zed.").await;
    assert!(
        note.contains("\"Marta Lindqvist\"") && note.contains("\"Zed\""),
        "{note}"
    );
    assert_eq!(
        recognised("She ate an apple in the zedonk house.").await,
        "",
        "common words are no names"
    );
    let params = GetParams {
        entities: vec!["Zed".into()],
        ..GetParams::default()
    };
    assert_eq!(
        bench
            .engine
            .get(&call(), params)
            .await
            .unwrap()
            .memories
            .len(),
        1,
        "linked as mentioned"
    );
}

#[tokio::test]
async fn a_repetition_says_what_it_added() {
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
async fn an_update_says_what_it_changed() {
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
async fn forgetting_says_what_it_did() {
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

#[tokio::test]
async fn the_working_memory_drops_nothing_that_it_is_given() {
    let bench = Bench::new().await;
    let focus = async |params: FocusParams| bench.engine.focus(&call(), params).await;
    let content = Some("ask Ada".to_owned());
    let added = focus(FocusParams {
        content: content.clone(),
        ..FocusParams::default()
    })
    .await
    .unwrap();
    let id = added.items[0].id.clone();
    assert_eq!(focus(FocusParams::default()).await.unwrap().items.len(), 1);
    let list = FocusParams {
        action: Some(FocusAction::List),
        content,
        ..FocusParams::default()
    };
    assert!(
        focus(list)
            .await
            .unwrap_err()
            .to_string()
            .contains("use action add")
    );
    let unnamed = FocusParams {
        id: Some(id.clone()),
        ..FocusParams::default()
    };
    assert!(
        focus(unnamed)
            .await
            .unwrap_err()
            .to_string()
            .contains("restore or save")
    );
    let act = |action| FocusParams {
        action: Some(action),
        id: Some(id.clone()),
        ..FocusParams::default()
    };
    let dropped = focus(FocusParams {
        importance: Some(0.9),
        ..act(FocusAction::Drop)
    })
    .await
    .unwrap();
    assert!(dropped.notes[0].contains("importance"), "{dropped:?}");
    focus(act(FocusAction::Restore)).await.unwrap();
    assert_eq!(focus(FocusParams::default()).await.unwrap().items.len(), 1);
    let saved = focus(act(FocusAction::Save)).await.unwrap();
    let alias = focus(FocusParams {
        memory: true,
        ..act(FocusAction::Promote)
    })
    .await
    .unwrap();
    assert!(saved.memory.is_some() && saved.memory == alias.memory);
    assert!(alias.notes[0].contains("now called save"), "{alias:?}");
}
