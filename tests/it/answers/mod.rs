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

mod change;
mod graph;
mod recall;
mod working_memory;

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
        remember_items(&self.engine, items).await
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

pub(crate) fn call() -> Call {
    Call::new(Scope::new("default", "tester"))
}

/// Stores the items and returns their IDs.
pub(crate) async fn remember_items(engine: &Engine, items: Vec<RememberItem>) -> Vec<String> {
    let params = RememberParams {
        items,
        idempotency_key: None,
    };
    let stored = engine.remember(&call(), params).await.unwrap();
    stored
        .memories
        .into_iter()
        .map(|memory| memory.id)
        .collect()
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
