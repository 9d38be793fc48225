//! `get` within its budget: the answer names the remaining parts, which further calls return.

use std::collections::BTreeSet;
use std::sync::Arc;

use cognitive_memory_mcp::domain::{Change, SystemClock};
use cognitive_memory_mcp::engine::{
    Detail, Engine, ExploreParams, GetOutput, GetParams, HistoryView, LinkParams, RecallParams,
    RelationItem, RememberItem, UpdateParams,
};
use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use serde_json::{Map, Value, json};

use crate::answers::{call, remember_items};
use crate::contract::analyzer;
use crate::postgres_server::Database;
use crate::requirement::needs;

struct Bench {
    engine: Engine,
    _keep: Box<dyn std::any::Any>,
}

impl Bench {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(
            SqliteOptions::new(folder.path().join("memory.db")),
            analyzer(),
        );
        Self::on(Arc::new(store), Box::new(folder)).await
    }

    async fn postgres() -> Self {
        let database = Database::migrated().await;
        Self::on(Arc::new(database.store()), Box::new(database)).await
    }

    async fn on(store: Arc<dyn Store>, keep: Box<dyn std::any::Any>) -> Self {
        store.prepare().await.unwrap();
        Self {
            engine: Engine::new(store, analyzer(), Arc::new(SystemClock)),
            _keep: keep,
        }
    }

    async fn remember(&self, items: Vec<RememberItem>) -> Vec<String> {
        remember_items(&self.engine, items).await
    }

    async fn update(&self, id: &str, content: String) {
        let params = UpdateParams {
            id: id.to_owned(),
            content: Some(content),
            ..UpdateParams::default()
        };
        self.engine.update(&call(), params).await.unwrap();
    }

    async fn get(&self, params: GetParams) -> GetOutput {
        self.engine.get(&call(), params).await.unwrap()
    }

    /// Reads all pages of a history, from the newest entry to the creation.
    async fn whole_history(&self, params: GetParams) -> (Vec<HistoryView>, usize) {
        let (mut all, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let output = self
                .get(GetParams {
                    cursor,
                    ..params.clone()
                })
                .await;
            pages += 1;
            assert!(pages > 1 || output.memories.len() + output.not_read.len() == params.ids.len());
            assert!(
                pages == 1 || output.memories.is_empty(),
                "memories come once"
            );
            all.extend(output.history);
            cursor = output.next_cursor;
            if cursor.is_none() {
                return (all, pages);
            }
            assert!(pages < 1_000, "the pages do not end");
        }
    }
}

fn item(content: String) -> RememberItem {
    RememberItem {
        content,
        ..RememberItem::default()
    }
}

fn size(output: &GetOutput) -> usize {
    serde_json::to_string(output).unwrap().chars().count()
}

async fn many_memories_are_read_call_by_call(bench: Bench) {
    let text = |number: usize| format!("{number} {}", "x".repeat(60_000));
    let ids = bench
        .remember((0..30).map(|number| item(text(number))).collect())
        .await;
    let mut wanted = ids.clone();
    wanted.push("0192d3c0-0000-7000-8000-000000000000".to_owned());
    let (mut read, mut missing, mut calls) = (BTreeSet::new(), 0, 0);
    while !wanted.is_empty() {
        let output = bench
            .get(GetParams {
                ids: wanted,
                max_chars: Some(200_000),
                ..GetParams::default()
            })
            .await;
        calls += 1;
        assert!(size(&output) < 210_000, "{}", size(&output));
        assert!(calls > 30 || output.memories.len() <= 3);
        for memory in output.memories {
            assert!(memory.content.len() > 60_000, "memories come in full");
            assert!(read.insert(memory.id), "each comes once");
        }
        missing += output.missing.len();
        assert_eq!(
            output.not_read.is_empty(),
            output.notes.is_empty(),
            "{:?}",
            output.notes
        );
        wanted = output.not_read;
    }
    assert_eq!((read, missing, calls), (ids.into_iter().collect(), 1, 10));
    a_large_memory_is_shortened(&bench).await;
}

/// However small the limit, the first memory comes, and no answer has more of it than asked for.
async fn a_large_memory_is_shortened(bench: &Bench) {
    let large = RememberItem {
        metadata: costly_object(),
        ..item(format!("large {}", "y\n\"".repeat(20_000)))
    };
    let ids = bench.remember(vec![large]).await;
    let read = async |max_chars| {
        let params = GetParams {
            ids: ids.clone(),
            max_chars: Some(max_chars),
            ..GetParams::default()
        };
        bench.get(params).await
    };
    for max_chars in [100, 300, 500, 700, 1_000, 5_000, 40_000, 100_000] {
        let output = read(max_chars).await;
        let memory = &output.memories[0];
        assert!(memory.content.starts_with("large y") && memory.content.ends_with('…'));
        assert!(
            output
                .notes
                .iter()
                .any(|note| note.contains("larger max_chars")),
            "{:?}",
            output.notes
        );
        // IDs, times and field names are not shortened.
        assert!(size(&output) <= max_chars.max(900), "{}", size(&output));
    }
    let params = GetParams {
        ids: ids.clone(),
        ..GetParams::default()
    };
    let usual = bench.get(params).await;
    assert_eq!(usual.memories[0].content.len(), 6 + 60_000);
    assert!(
        usual.notes[0].contains("structured content is complete"),
        "{:?}",
        usual.notes
    );
    let whole = read(1_000_000).await;
    assert_eq!(whole.memories[0].content.len(), 6 + 60_000);
    assert!(whole.notes.is_empty(), "{:?}", whole.notes);
}

#[tokio::test]
async fn many_memories_are_read_call_by_call_on_sqlite() {
    many_memories_are_read_call_by_call(Bench::sqlite().await).await;
}

#[tokio::test]
async fn many_memories_are_read_call_by_call_on_postgres() {
    needs!(Postgres);
    many_memories_are_read_call_by_call(Bench::postgres().await).await;
}

async fn a_history_is_read_page_by_page(bench: Bench) {
    let text = |version: usize| format!("version {version} {}", "z".repeat(5_000));
    let ids = bench
        .remember(vec![item("first".to_owned()), item("other".to_owned())])
        .await;
    for version in 2..=60 {
        bench.update(&ids[0], text(version)).await;
    }
    bench.update(&ids[1], "another".to_owned()).await;
    for max_chars in [100, 30_000, 1_000_000] {
        let params = GetParams {
            ids: ids.clone(),
            history: true,
            max_chars: Some(max_chars),
            ..GetParams::default()
        };
        let (history, pages) = bench.whole_history(params).await;
        let versions: Vec<i64> = history.iter().map(|entry| entry.version).collect();
        assert_eq!(
            versions,
            (1..=60).rev().chain([2, 1]).collect::<Vec<i64>>(),
            "{max_chars}"
        );
        for entry in history.iter().filter(|entry| entry.version > 2) {
            let content =
                |side: &Option<serde_json::Value>| side.as_ref().unwrap()["content"].clone();
            let version = usize::try_from(entry.version).unwrap();
            let (old, new) = (content(&entry.old), content(&entry.new));
            if max_chars == 100 {
                let shortened = |value: Value| value.as_str().unwrap().ends_with('…');
                assert!(
                    shortened(old) && shortened(new),
                    "the first entry is shortened"
                );
                continue;
            }
            assert_eq!((old, new), (json!(text(version - 1)), json!(text(version))));
        }
        assert!(
            history
                .iter()
                .filter(|entry| entry.change == Change::Created)
                .count()
                == 2
        );
        assert!(max_chars > 100 || pages > 60, "{pages}");
        assert!(max_chars < 1_000_000 || pages == 1, "{pages}");
    }
    let params = GetParams {
        ids: ids.clone(),
        history: true,
        ..GetParams::default()
    };
    let first = bench.get(params.clone()).await;
    assert!(
        size(&first) < 60_000 && first.notes.iter().any(|note| note.contains("next_cursor")),
        "{:?}",
        first.notes
    );
    let other = GetParams {
        ids: ids[..1].to_vec(),
        cursor: first.next_cursor,
        ..params
    };
    let refused = bench.engine.get(&call(), other).await.unwrap_err();
    assert!(refused.to_string().contains("cursor"), "{refused}");
}

#[tokio::test]
async fn a_history_is_read_page_by_page_on_sqlite() {
    a_history_is_read_page_by_page(Bench::sqlite().await).await;
}

#[tokio::test]
async fn a_history_is_read_page_by_page_on_postgres() {
    needs!(Postgres);
    a_history_is_read_page_by_page(Bench::postgres().await).await;
}

async fn entities_tell_how_much_there_is(bench: Bench) {
    let about = |number: usize| RememberItem {
        entities: vec![serde_json::from_value(json!("Ada")).unwrap()],
        ..item(format!("memory {number} of Ada"))
    };
    let ids = bench.remember((0..45).map(about).collect()).await;
    let relation = |to: String, valid_to: Option<&str>| RelationItem {
        from: "Ada".to_owned(),
        to,
        kind: Some("knows".to_owned()),
        valid_to: valid_to.map(str::to_owned),
        ..RelationItem::default()
    };
    let mut relations: Vec<RelationItem> = (0..25)
        .map(|number| relation(format!("friend {number}"), None))
        .collect();
    relations.extend(
        (0..3).map(|number| relation(format!("past {number}"), Some("2020-01-01T00:00:00Z"))),
    );
    bench
        .engine
        .link(
            &call(),
            LinkParams {
                entities: Vec::new(),
                relations,
            },
        )
        .await
        .unwrap();
    let ask = |cursor| GetParams {
        entities: vec!["Ada".to_owned()],
        cursor,
        ..GetParams::default()
    };
    let (mut seen, mut cursor, mut counts) = (BTreeSet::new(), None, Vec::new());
    loop {
        let output = bench.get(ask(cursor)).await;
        let detail = &output.entities[0];
        assert_eq!(
            (
                detail.memory_count,
                detail.relation_count,
                detail.ended_relations
            ),
            (45, 25, 3)
        );
        assert_eq!(
            detail.memories,
            output
                .memories
                .iter()
                .map(|memory| memory.id.clone())
                .collect::<Vec<_>>()
        );
        counts.push(detail.memories.len());
        seen.extend(detail.memories.iter().cloned());
        cursor = output.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((counts, seen), (vec![20, 20, 5], ids.into_iter().collect()));
    let both = GetParams {
        entities: vec!["Ada".to_owned(), "friend 1".to_owned()],
        ..GetParams::default()
    };
    let both = bench.get(both).await;
    assert!(
        both.next_cursor.is_none() && both.notes[0].contains("alone"),
        "{:?}",
        both.notes
    );
}

#[tokio::test]
async fn entities_tell_how_much_there_is_on_sqlite() {
    entities_tell_how_much_there_is(Bench::sqlite().await).await;
}

#[tokio::test]
async fn entities_tell_how_much_there_is_on_postgres() {
    needs!(Postgres);
    entities_tell_how_much_there_is(Bench::postgres().await).await;
}

/// 15 KiB of JSON text that need more than 1 MiB of memory as a tree.
fn costly_object() -> Map<String, Value> {
    let object = json!({ "a": vec![json!({ "": 0 }); 1_900] });
    serde_json::from_value(object).unwrap()
}

async fn costly_metadata_is_read_in_several_answers(bench: Bench) {
    let costly = |number: usize| RememberItem {
        metadata: costly_object(),
        ..item(format!("costly {number}"))
    };
    let ids = bench.remember((0..12).map(costly).collect()).await;
    let params = GetParams {
        ids: ids.clone(),
        max_chars: Some(1_000_000),
        ..GetParams::default()
    };
    let output = bench.get(params).await;
    assert_eq!((output.memories.len(), output.not_read.len()), (5, 7));
    assert_eq!(output.memories[0].metadata.to_map(), costly_object());
    assert!(
        output.notes[0].contains("5 of 12 memories fit into one answer"),
        "{:?}",
        output.notes
    );
    let (mut found, mut cursor, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let params = RecallParams {
            limit: Some(100),
            max_chars: Some(1_000_000),
            cursor,
            ..RecallParams::default()
        };
        let output = bench.engine.recall(&call(), params).await.unwrap();
        found.extend(output.hits.into_iter().map(|hit| hit.memory.id));
        (cursor, pages) = (output.next_cursor, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (ids.into_iter().collect(), 3));
    let index = RecallParams {
        limit: Some(100),
        detail: Detail::Index,
        ..RecallParams::default()
    };
    let output = bench.engine.recall(&call(), index).await.unwrap();
    assert_eq!(output.hits.len(), 12, "an index has no metadata");
}

#[tokio::test]
async fn costly_metadata_is_read_in_several_answers_on_sqlite() {
    costly_metadata_is_read_in_several_answers(Bench::sqlite().await).await;
}

#[tokio::test]
async fn costly_metadata_is_read_in_several_answers_on_postgres() {
    needs!(Postgres);
    costly_metadata_is_read_in_several_answers(Bench::postgres().await).await;
}

async fn costly_properties_are_left_out_with_a_note(bench: Bench) {
    let relation = |number: usize| RelationItem {
        from: "Ada".to_owned(),
        to: format!("friend {number}"),
        kind: Some("knows".to_owned()),
        properties: costly_object(),
        ..RelationItem::default()
    };
    let params = LinkParams {
        relations: (0..10).map(relation).collect(),
        ..LinkParams::default()
    };
    bench.engine.link(&call(), params).await.unwrap();
    let note = "properties of 8 relations are left out";
    let with_properties = |empty: Vec<bool>| empty.into_iter().filter(|empty| !empty).count();
    let params = ExploreParams {
        name: Some("Ada".to_owned()),
        ..ExploreParams::default()
    };
    let output = bench.engine.explore(&call(), params).await.unwrap();
    let empty =
        |relation: &cognitive_memory_mcp::engine::RelationView| relation.properties.is_empty();
    assert_eq!(output.relations.len(), 10);
    assert_eq!(
        with_properties(output.relations.iter().map(empty).collect()),
        2
    );
    assert!(
        output.notes.iter().any(|each| each.contains(note)),
        "{:?}",
        output.notes
    );
    let params = GetParams {
        entities: vec!["Ada".to_owned()],
        ..GetParams::default()
    };
    let output = bench.get(params).await;
    let relations = &output.entities[0].relations;
    assert_eq!(relations.len(), 10);
    assert_eq!(with_properties(relations.iter().map(empty).collect()), 2);
    assert!(
        output.notes.iter().any(|each| each.contains(note)),
        "{:?}",
        output.notes
    );
}

#[tokio::test]
async fn costly_properties_are_left_out_with_a_note_on_sqlite() {
    costly_properties_are_left_out_with_a_note(Bench::sqlite().await).await;
}

#[tokio::test]
async fn costly_properties_are_left_out_with_a_note_on_postgres() {
    needs!(Postgres);
    costly_properties_are_left_out_with_a_note(Bench::postgres().await).await;
}
