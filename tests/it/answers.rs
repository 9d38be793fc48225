//! What the use cases say beside what they do: what was cut, what stays, what stands in the way.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Scope, SystemClock};
use cognitive_memory_mcp::engine::{
    Call, Engine, ExploreMode, ExploreOutput, ExploreParams, FocusAction, FocusParams, ForgetParams, GetParams,
    LinkParams, Mode, RecallParams, RelationItem, RememberItem, RememberParams, UnlinkMode, UpdateParams,
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
        let store = Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("memory.db")), analyzer()));
        store.prepare().await.unwrap();
        Self { engine: Engine::new(store, analyzer(), Arc::new(SystemClock)), _folder: folder }
    }

    async fn remember(&self, items: Vec<RememberItem>) -> Vec<String> {
        let params = RememberParams { items, idempotency_key: None };
        let stored = self.engine.remember(&call(), params).await.unwrap();
        stored.memories.into_iter().map(|memory| memory.id).collect()
    }

    async fn note(&self, content: &str) -> String {
        self.remember(vec![item(content)]).await.remove(0)
    }

    async fn forget(&self, id: &str, mode: Mode) {
        let params = ForgetParams { ids: vec![id.to_owned()], mode, reason: None };
        self.engine.forget(&call(), params).await.unwrap();
    }

    async fn link(&self, project: &str, relations: Vec<RelationItem>) -> Vec<String> {
        let params = LinkParams { entities: Vec::new(), relations };
        let call = Call::new(Scope::new(project, "tester"));
        self.engine.link(&call, params).await.unwrap().notes
    }

    async fn explore(&self, params: ExploreParams) -> ExploreOutput {
        let call = Call::new(Scope::new("default", "tester").reading(["other".to_owned(), "third".to_owned()]));
        self.engine.explore(&call, params).await.unwrap()
    }
}

fn call() -> Call {
    Call::new(Scope::new("default", "tester"))
}

fn item(content: &str) -> RememberItem {
    RememberItem { content: content.to_owned(), ..RememberItem::default() }
}

fn telling(content: &str, names: impl IntoIterator<Item = String>) -> RememberItem {
    let entities = names.into_iter().map(|name| serde_json::from_value(json!(name)).unwrap()).collect();
    RememberItem { entities, ..item(content) }
}

fn relation(from: &str, kind: &str, to: &str) -> RelationItem {
    RelationItem { from: from.into(), to: to.into(), kind: Some(kind.into()), ..RelationItem::default() }
}

#[tokio::test]
async fn links_of_a_call_are_limited() {
    let bench = Bench::new().await;
    let items = |count: usize| -> Vec<RememberItem> {
        (0..count).map(|n| telling(&format!("{n}"), (0..50).map(|m| format!("{n} {m}")))).collect()
    };
    let params = RememberParams { items: items(101), idempotency_key: None };
    let error = bench.engine.remember(&call(), params).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("items") && text.contains("5050") && text.contains("at most 5000"), "{text}");
    let params = RecallParams::default();
    assert!(bench.engine.recall(&call(), params).await.unwrap().hits.is_empty(), "nothing was stored");
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
            let params =
                ExploreParams { mode: ExploreMode::List, limit: Some(limit), after, ..ExploreParams::default() };
            let page = bench.explore(params).await;
            after = page.entities.last().map(|entity| entity.name.clone());
            seen.extend(page.entities.into_iter().map(|entity| entity.name));
            if !page.partial {
                break;
            }
        }
        assert_eq!(seen, ["a", "a", "a", "b", "b", "b", "c", "c", "c"], "limit {limit}");
    }
}

#[tokio::test]
async fn suggestions_say_when_there_are_more() {
    let bench = Bench::new().await;
    let ends = ["c", "d", "e"].map(|name| relation("b", "knows", name));
    bench.link("default", [vec![relation("a", "knows", "b")], ends.to_vec()].concat()).await;
    let suggest = |limit| ExploreParams {
        mode: ExploreMode::Suggest,
        name: Some("a".into()),
        limit: Some(limit),
        ..ExploreParams::default()
    };
    let whole = bench.explore(suggest(3)).await;
    assert_eq!((whole.entities.len(), whole.partial), (3, false));
    let cut = bench.explore(suggest(2)).await;
    assert_eq!((cut.entities.len(), cut.partial), (2, true));
    // More neighbours than are looked at.
    let many = (0..150).map(|number| relation("hub", "knows", &format!("n{number}"))).collect();
    bench.link("default", many).await;
    let hub = bench.explore(ExploreParams { name: Some("hub".into()), ..suggest(500) }).await;
    assert!(hub.partial);
}

#[tokio::test]
async fn what_cannot_end_yet_is_told() {
    let bench = Bench::new().await;
    let later = RelationItem { valid_from: Some("2100-01-01".into()), ..relation("Ada", "will own", "Acme") };
    bench.link("default", vec![relation("Ada", "works at", "Acme"), later]).await;
    let end = RelationItem { kind: None, unlink: Some(UnlinkMode::End), ..relation("Ada", "", "Acme") };
    let notes = bench.link("default", vec![end]).await;
    assert!(notes.iter().any(|note| note.contains("will own") && note.contains("2100-01-01")), "{notes:?}");
}

#[tokio::test]
async fn a_protected_memory_is_told_to_stay() {
    let bench = Bench::new().await;
    let word = RememberItem { protected: true, ..telling("the owner's word", ["Ada".to_owned()]) };
    let id = bench.remember(vec![word]).await.remove(0);
    let params = RememberParams { items: vec![telling("the owner's word", ["Eve".to_owned()])], idempotency_key: None };
    let again = bench.engine.remember(&call(), params).await.unwrap();
    assert_eq!((again.memories[0].id.as_str(), again.memories[0].created), (id.as_str(), false));
    assert!(again.notes.iter().any(|note| note.contains(&id) && note.contains("protected")), "{:?}", again.notes);
    let names = ["Ada", "Eve"].map(str::to_owned).to_vec();
    let params = GetParams { entities: names, ..GetParams::default() };
    let found = bench.engine.get(&call(), params).await.unwrap();
    assert_eq!(found.entities.iter().map(|entity| entity.memories.len()).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn only_what_holds_is_current() {
    let bench = Bench::new().await;
    let old = bench.note("she lives in Berlin").await;
    let new = RememberItem { supersedes: vec![old.clone()], ..item("she lives in Paris") };
    let new = bench.remember(vec![new]).await.remove(0);
    let current = async || {
        let params = GetParams { ids: vec![old.clone()], include_deleted: true, ..GetParams::default() };
        bench.engine.get(&call(), params).await.unwrap().memories.remove(0).current
    };
    assert_eq!(current().await.as_ref(), Some(&new));
    for (mode, expected) in [(Mode::Delete, None), (Mode::Restore, Some(&new)), (Mode::Purge, None)] {
        bench.forget(&new, mode).await;
        assert_eq!(current().await.as_ref(), expected, "{mode:?}");
    }
}

#[tokio::test]
async fn what_was_promoted_goes_with_its_memory() {
    let bench = Bench::new().await;
    let focus = async |params: FocusParams| bench.engine.focus(&call(), params).await.unwrap();
    let added = FocusParams { action: FocusAction::Add, content: Some("ask Ada".into()), ..FocusParams::default() };
    let id = focus(added).await.items.remove(0).id;
    let promote =
        |memory| FocusParams { action: FocusAction::Promote, id: Some(id.clone()), memory, ..FocusParams::default() };
    let memory = focus(promote(true)).await.memory.unwrap();
    let reworded = UpdateParams { id: memory.clone(), content: Some("asked Ada".into()), ..UpdateParams::default() };
    bench.engine.update(&call(), reworded).await.unwrap();
    assert_eq!(focus(promote(false)).await.items[0].memory.as_ref(), Some(&memory));
    bench.forget(&memory, Mode::Purge).await;
    for archived in [false, true] {
        assert!(focus(FocusParams { archived, ..FocusParams::default() }).await.items.is_empty());
    }
}

#[tokio::test]
async fn a_look_back_says_what_it_did_not_read() {
    let bench = Bench::new().await;
    // Few words, or the analysis takes longer than the rest.
    let text = |number: usize, word: &str| format!("{number} {word} {}", "x".repeat(65_000));
    let stored = bench.remember((0..140).map(|number| item(&text(number, "walrus"))).collect()).await;
    let then = chrono::Utc::now();
    for (number, id) in stored.iter().enumerate() {
        let content = Some(text(number, "seal"));
        let params = UpdateParams { id: id.clone(), content, ..UpdateParams::default() };
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
    assert!(found.notes.iter().any(|note| note.contains("16 MiB")), "{:?}", found.notes);
}

#[tokio::test]
async fn an_answer_says_what_stood_for_a_misspelled_word() {
    let bench = Bench::new().await;
    let right = bench.note("Postgres runs on port 5433").await;
    for n in 0..30 {
        bench.note(&format!("the port of tool {n} is open")).await;
    }
    let recall = async |query: &str| {
        let params = RecallParams { query: Some(query.to_owned()), explain: true, ..RecallParams::default() };
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
    assert!(spelled > misspelled && spelled > unfinished, "{spelled} {misspelled} {unfinished}");
}
