//! Effects that take days: decay, and expiring reviews. The use cases run on a store with a clock that the test sets.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use cognitive_memory_mcp::domain::{Clock, Decision, Scope};
use cognitive_memory_mcp::engine::{
    Call, Engine, GetParams, RecallOutput, RecallParams, RememberItem, RememberParams,
    ReviewCommand, UpdateParams,
};
use cognitive_memory_mcp::store::Store;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use uuid::Uuid;

use crate::contract::{analyzer, at};

/// A clock that only moves when the test moves it.
struct HandClock(Mutex<DateTime<Utc>>);

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

struct Bench {
    engine: Engine,
    clock: Arc<HandClock>,
    store: Arc<SqliteStore>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new(review_days: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(folder.path().join("memory.db"));
        let store = Arc::new(SqliteStore::open(options, analyzer()));
        store.prepare().await.unwrap();
        let clock = Arc::new(HandClock(Mutex::new(at(0))));
        let engine =
            Engine::new(store.clone(), analyzer(), clock.clone()).with_review_days(review_days);
        Self {
            engine,
            clock,
            store,
            _folder: folder,
        }
    }

    fn call() -> Call {
        Call::new(Scope::new("default", "tester"))
    }

    fn days_go_by(&self, days: i64) {
        *self.clock.0.lock().unwrap() += TimeDelta::days(days);
    }

    async fn remember(&self, item: RememberItem) -> String {
        let params = RememberParams {
            items: vec![item],
            idempotency_key: None,
        };
        self.engine
            .remember(&Self::call(), params)
            .await
            .unwrap()
            .memories
            .remove(0)
            .id
    }

    async fn note(&self, content: &str) -> String {
        self.remember(RememberItem {
            content: content.to_owned(),
            ..RememberItem::default()
        })
        .await
    }

    async fn recall(&self, params: RecallParams) -> RecallOutput {
        let output = self.engine.recall(&Self::call(), params).await.unwrap();
        self.engine.flush_recall_notes().await.unwrap();
        output
    }

    async fn search(&self, query: &str) -> RecallOutput {
        self.recall(RecallParams {
            query: Some(query.to_owned()),
            explain: true,
            ..RecallParams::default()
        })
        .await
    }

    async fn recalls(&self, id: &str) -> i64 {
        let id = Uuid::parse_str(id).unwrap();
        self.store
            .get(&Self::call().scope, &[id], true)
            .await
            .unwrap()[0]
            .recall_count
    }
}

fn ids(output: &RecallOutput) -> Vec<&str> {
    output
        .hits
        .iter()
        .map(|hit| hit.memory.id.as_str())
        .collect()
}

fn factors(output: &RecallOutput, place: usize) -> Option<&str> {
    output.hits[place].why.as_ref().unwrap().factors.as_deref()
}

#[tokio::test]
async fn what_is_used_outlives_what_is_not() {
    let bench = Bench::new(30).await;
    let used = bench.note("walrus feeding times, tusk").await;
    let unused = bench.note("walrus feeding times, fins").await;
    let fresh = bench.search("walrus feeding").await;
    assert_eq!(ids(&fresh), [&unused, &used], "equals: the newest first");
    assert_eq!((factors(&fresh, 0), factors(&fresh, 1)), (None, None));
    bench.days_go_by(45);
    assert_eq!(ids(&bench.search("tusk").await), [&used]);
    bench.days_go_by(45);
    let later = bench.search("walrus feeding").await;
    assert_eq!(ids(&later), [&used, &unused]);
    let told = factors(&later, 1).unwrap();
    assert!(
        told.starts_with("×0.9") && told.contains("recency"),
        "{told}"
    );
    // However old, the better answer remains first.
    bench.days_go_by(3_000);
    let recent = bench
        .note("fins are what whales have, and other animals of the sea, many of them")
        .await;
    assert_eq!(ids(&bench.search("walrus fins").await)[0], unused);
    assert_eq!(ids(&bench.search("whales").await), [&recent]);
}

#[tokio::test]
async fn only_a_recall_counts_as_use() {
    let bench = Bench::new(30).await;
    let id = bench.note("walrus").await;
    bench.days_go_by(1);
    bench.recall(RecallParams::default()).await;
    let back = RecallParams {
        query: Some("walrus".into()),
        as_of: Some("2026-01-01T12:00:00Z".into()),
        ..RecallParams::default()
    };
    assert_eq!(ids(&bench.recall(back).await), [&id]);
    let params = GetParams {
        ids: vec![id.clone()],
        history: true,
        ..GetParams::default()
    };
    bench.engine.get(&Bench::call(), params).await.unwrap();
    bench
        .note("walrus again, looked for as a near-duplicate")
        .await;
    assert_eq!(bench.recalls(&id).await, 0);
    bench.search("walrus").await;
    assert_eq!(bench.recalls(&id).await, 1);
}

#[tokio::test]
async fn a_review_that_nobody_decides_expires() {
    let bench = Bench::new(3).await;
    let item = RememberItem {
        content: "the owner's word".into(),
        protected: true,
        ..RememberItem::default()
    };
    let id = bench.remember(item).await;
    let params = UpdateParams {
        id,
        content: Some("another word".into()),
        ..UpdateParams::default()
    };
    let review = bench
        .engine
        .update(&Bench::call(), params)
        .await
        .unwrap()
        .review
        .unwrap();
    let open = || bench.engine.administer_list(false);
    assert_eq!(open().await.len(), 1);
    bench.days_go_by(3);
    assert!(open().await.is_empty());
    assert_eq!(bench.engine.administer_list(true).await, ["expired"]);
    let approve = ReviewCommand::Decide {
        id: review.id,
        decision: Decision::Approve,
        reason: None,
    };
    let error = bench
        .engine
        .administer(&Bench::call(), approve)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "already_decided");
    assert!(error.to_string().contains("expired"), "{error}");
}

/// The states of a list of reviews.
trait States {
    async fn administer_list(&self, all: bool) -> Vec<String>;
}

impl States for Engine {
    async fn administer_list(&self, all: bool) -> Vec<String> {
        let report = self
            .administer(&Bench::call(), ReviewCommand::List { all, limit: 10 })
            .await
            .unwrap();
        report
            .reviews
            .into_iter()
            .map(|review| review.state)
            .collect()
    }
}
