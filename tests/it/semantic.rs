//! Recall by meaning, from the words of a client to the vectors of a model and back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cognitive_memory_mcp::domain::ranking::Calibration;
use cognitive_memory_mcp::domain::{Clock, Scope, SystemClock};
use cognitive_memory_mcp::embed::{Desk, EmbedError, Embedder, Model, Vector};
use cognitive_memory_mcp::engine::{
    Call, Detail, Engine, HitView, RecallOutput, RecallParams, RememberItem, RememberParams,
};
use cognitive_memory_mcp::jobs;
use cognitive_memory_mcp::lifecycle::{ExitReason, Readiness, Supervisor};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{Embedded, IndexJob, Store};
use serde_json::json;

use crate::contract::analyzer;
use crate::embed::model_folder;
use crate::process::{PATIENCE, Setup};
use crate::requirement::needs;

/// An embedder that knows three subjects and ignores the other words.
#[derive(Debug)]
struct Subjects {
    model: Model,
    away: AtomicU32,
    seen: Mutex<HashSet<String>>,
}

const SUBJECTS: [&[&str]; 3] = [
    &["cat", "dog", "pet", "kitten"],
    &["deploy", "release", "ship"],
    &["pizza", "food"],
];

impl Subjects {
    fn new(id: &str) -> Arc<Self> {
        let model = Model {
            id: id.to_owned(),
            dimension: 3,
        };
        Arc::new(Self {
            model,
            away: AtomicU32::new(0),
            seen: Mutex::default(),
        })
    }

    fn vector(&self, text: &str) -> Result<Vector, EmbedError> {
        if text.contains("indigestible") {
            return Err(EmbedError::Refused("no such text".into()));
        }
        let away = |n: u32| n.checked_sub(1);
        if self
            .away
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, away)
            .is_ok()
        {
            return Err(EmbedError::Unavailable {
                reason: "gone for lunch".into(),
                retry_after: Some(Duration::from_millis(20)),
            });
        }
        self.seen.lock().unwrap().insert(text.to_owned());
        let about = |words: &&[&str]| {
            if words.iter().any(|word| text.contains(word)) {
                1.0
            } else {
                0.01
            }
        };
        cognitive_memory_mcp::embed::normalize_vector(SUBJECTS.iter().map(about).collect(), 3)
    }
}

#[async_trait]
impl Embedder for Subjects {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        texts
            .iter()
            .map(|text| Ok(vec![self.vector(text)?]))
            .collect()
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        self.vector(&text)
    }
}

/// An engine with its jobs, and the values that must live as long.
struct Service {
    engine: Engine,
    store: Arc<dyn Store>,
    desk: Arc<Desk>,
    supervisor: Supervisor,
    readiness: Readiness,
    folder: Arc<tempfile::TempDir>,
}

impl Service {
    async fn start(folder: Option<Arc<tempfile::TempDir>>) -> Self {
        let folder = folder.unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(
            SqliteOptions::new(folder.path().join("memory.db")),
            analyzer(),
        ));
        store.prepare().await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let desk = Arc::new(Desk::expecting("subjects"));
        let engine = Engine::new(Arc::clone(&store), analyzer(), Arc::clone(&clock))
            .with_embedder(Arc::clone(&desk));
        let (supervisor, readiness) = (Supervisor::new(), Readiness::new());
        let condition = readiness.condition("embedding", "starting");
        jobs::index_vectors(&supervisor, &store, &desk, &clock, condition);
        Self {
            engine,
            store,
            desk,
            supervisor,
            readiness,
            folder,
        }
    }

    fn call(&self) -> Call {
        Call::new(Scope::new("default", "tester"))
    }

    async fn remember(&self, texts: &[&str]) {
        let items = texts
            .iter()
            .map(|text| RememberItem {
                content: (*text).to_owned(),
                ..RememberItem::default()
            })
            .collect();
        self.engine
            .remember(
                &self.call(),
                RememberParams {
                    items,
                    idempotency_key: None,
                },
            )
            .await
            .unwrap();
    }

    async fn recall(&self, query: &str) -> RecallOutput {
        let params = RecallParams {
            query: Some(query.to_owned()),
            explain: true,
            ..RecallParams::default()
        };
        self.engine.recall(&self.call(), params).await.unwrap()
    }

    async fn backlog_of(&self, count: u64) {
        let end = Instant::now() + PATIENCE;
        while self.store.index_backlog().await.unwrap() != count {
            assert!(
                Instant::now() < end,
                "the backlog stays at {:?}",
                self.store.index_backlog().await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Arc<tempfile::TempDir> {
        self.supervisor.stop(ExitReason::Finished);
        self.store.close().await;
        self.folder
    }
}

fn texts(output: &RecallOutput) -> Vec<&str> {
    output
        .hits
        .iter()
        .map(|hit| hit.memory.content.as_str())
        .collect()
}

#[tokio::test]
async fn other_words_for_the_same_are_found() {
    let service = Service::start(None).await;
    service
        .remember(&[
            "The kitten sleeps",
            "We ship on Fridays",
            "A word about pizza",
        ])
        .await;
    let early = service.recall("pet dog").await;
    assert!(early.hits.is_empty());
    assert!(
        early.notes[0].contains("by words alone"),
        "{:?}",
        early.notes
    );
    service.desk.open(Subjects::new("subjects"));
    service.backlog_of(0).await;
    let found = service.recall("pet dog").await;
    assert_eq!(texts(&found), ["The kitten sleeps"]);
    // The scale of this model is unknown, and no word matches.
    assert!(
        found.notes.len() == 1 && found.notes[0].starts_with("Weak matches only"),
        "{:?}",
        found.notes
    );
    // Each hit reports the channels that found it.
    let found = service.recall("a word on food").await;
    assert_eq!(texts(&found), ["A word about pizza"]);
    let why = serde_json::to_value(found.hits[0].why.as_ref().unwrap()).unwrap();
    assert_eq!(
        (
            &why["channels"]["words"]["rank"],
            &why["channels"]["meaning"]["rank"]
        ),
        (&json!(1), &json!(1))
    );
    let report = serde_json::to_string(&service.readiness.report()).unwrap();
    assert!(
        service.readiness.is_ready() && report.contains("subjects (3 dimensions)"),
        "{report}"
    );
    service.stop().await;
}

/// Sentences about nothing that the embedder knows.
fn filler(count: usize) -> String {
    let sentence = |n: usize| {
        format!("Paragraph {n} of the minutes is about a subject that nobody will ever ask for.")
    };
    let sentences: Vec<String> = (0..count).map(sentence).collect();
    sentences.join(" ")
}

#[tokio::test]
async fn one_passage_of_a_long_memory_is_found_and_shown() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("subjects"));
    let long = format!(
        "{} Next door a kitten sleeps on the warm roof of the car. {}",
        filler(40),
        filler(40)
    );
    let mixed = format!("{} We ship on Fridays. {}", filler(2), filler(2));
    service.remember(&[&long, &mixed]).await;
    service.backlog_of(0).await;
    let recall = async |max_chars: usize, detail: Detail| {
        let params = RecallParams {
            query: Some("pet dog".to_owned()),
            explain: true,
            detail,
            max_chars: Some(max_chars),
            limit: Some(1),
            ..RecallParams::default()
        };
        service
            .engine
            .recall(&service.call(), params)
            .await
            .unwrap()
    };
    let found = recall(600, Detail::Text).await;
    let hit = &found.hits[0];
    assert!(
        hit.cut && hit.memory.content.contains("a kitten sleeps"),
        "{hit:?}"
    );
    let why = hit.why.as_ref().unwrap();
    let passage = why.passage.as_deref().unwrap();
    assert!(
        passage.starts_with("Next door a kitten sleeps"),
        "{passage}"
    );
    let why = serde_json::to_value(why).unwrap();
    assert!(
        why["channels"]["meaning"]["score"].as_f64() > Some(0.99),
        "not an average: {why}"
    );
    let index = recall(600, Detail::Index).await;
    assert!(
        index.hits[0].memory.content.starts_with("Paragraph 0"),
        "{index:?}"
    );
    service.stop().await;
}

#[tokio::test]
async fn a_long_prompt_is_searched_for_its_question() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("subjects"));
    let prompt = format!("{} Which pet sleeps at home? {}", filler(8), filler(12));
    service
        .remember(&["We ship on Fridays", "The kitten is called Mimi", &prompt])
        .await;
    service.backlog_of(0).await;
    let other = format!("{} Which pet sleeps at home? {}", filler(3), filler(2));
    let found = service.recall(&other).await;
    assert!(
        texts(&found).contains(&"The kitten is called Mimi"),
        "{found:?}"
    );
    assert!(!texts(&found).contains(&"We ship on Fridays"), "{found:?}");
    assert_eq!(
        found.notes[0],
        "Searched for the question \"Which pet sleeps at home?\"."
    );
    // A stored text is still found by itself.
    assert_eq!(texts(&service.recall(&prompt).await)[0], prompt);
    service.stop().await;
}

#[tokio::test]
async fn a_request_without_a_question_is_found_before_and_after_other_text() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("subjects"));
    service.engine.set_calibration(Calibration::IDENTITY);
    service
        .remember(&[
            "We ship on Fridays",
            "The kitten is called Mimi",
            "No pizza on Mondays",
        ])
        .await;
    service.backlog_of(0).await;
    let request = "The name of our pet.";
    for prompt in [
        format!("{request} {}", filler(8)),
        format!("{} {request}", filler(8)),
    ] {
        let found = service.recall(&prompt).await;
        assert_eq!(texts(&found), ["The kitten is called Mimi"], "{prompt}");
        assert_eq!(
            found.notes[0],
            "Searched for the question \"The name of our pet.\"."
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn a_request_typed_in_the_middle_of_other_text_is_found() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("subjects"));
    service
        .remember(&["We ship on Fridays", "The kitten is called Mimi"])
        .await;
    service.backlog_of(0).await;
    let request = "the name of our pet";
    for prompt in [
        format!("{} {request}. {}", filler(5), filler(7)),
        format!("{}\n\n{request}\n\n{}", filler(5), filler(7)),
    ] {
        let found = service.recall(&prompt).await;
        assert_eq!(texts(&found), ["The kitten is called Mimi"], "{prompt}");
        assert!(found.notes[0].contains(request), "{found:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn vectors_of_whole_texts_are_recomputed_in_the_background() {
    let service = Service::start(None).await;
    let long = format!("{} A kitten sleeps. {}", filler(9), filler(9));
    service.remember(&[&long, "The dog barks"]).await;
    // As a version before passages left them.
    let now = SystemClock.now();
    let jobs = service.store.claim_index_jobs(9, now).await.unwrap();
    let whole = |job: &IndexJob| Embedded {
        key: job.key,
        version: job.version,
        first_passage: 0,
        vectors: vec![vec![0.6, 0.8, 0.0]],
    };
    let whole: Vec<Embedded> = jobs.iter().map(whole).collect();
    service
        .store
        .save_vectors("subjects", &whole, now)
        .await
        .unwrap();
    let model = "subjects (3 dimensions)";
    service.store.set_queued_model(model).await.unwrap();
    let subjects = Subjects::new("subjects");
    service
        .desk
        .open(Arc::clone(&subjects) as Arc<dyn Embedder>);
    let end = Instant::now() + PATIENCE;
    loop {
        let found = service.recall("pet").await;
        assert_eq!(found.hits.len(), 2, "found meanwhile: {found:?}");
        let passage = |hit: &HitView| hit.why.as_ref().and_then(|why| why.passage.clone());
        if found.hits.iter().any(|hit| passage(hit).is_some()) {
            break;
        }
        assert!(Instant::now() < end, "{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = subjects.seen.lock().unwrap().clone();
    assert!(
        !seen.contains("The dog barks"),
        "the vector of a short text stays"
    );
    service.stop().await;
}

#[tokio::test]
async fn an_embedder_that_goes_away_loses_nothing() {
    let service = Service::start(None).await;
    let subjects = Subjects::new("subjects");
    subjects.away.store(3, Ordering::Relaxed);
    service
        .desk
        .open(Arc::clone(&subjects) as Arc<dyn Embedder>);
    service
        .remember(&["The kitten sleeps", "indigestible"])
        .await;
    // The refused memory waits for its next attempt, and delays no other.
    service.backlog_of(1).await;
    assert_eq!(texts(&service.recall("dog").await), ["The kitten sleeps"]);
    assert_eq!(
        texts(&service.recall("indigestible").await),
        ["indigestible"]
    );
    service.stop().await;
}

#[tokio::test]
async fn another_model_takes_over_in_the_background() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("one"));
    service
        .remember(&["The kitten sleeps", "We ship on Fridays"])
        .await;
    service.backlog_of(0).await;
    let folder = service.stop().await;

    let service = Service::start(Some(folder)).await;
    service.desk.open(Subjects::new("two"));
    let end = Instant::now() + PATIENCE;
    while texts(&service.recall("dog").await) != ["The kitten sleeps"] {
        assert!(Instant::now() < end, "no vectors of the new model");
        assert_eq!(
            texts(&service.recall("kitten").await),
            ["The kitten sleeps"],
            "by words all the while"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        service.store.queued_model().await.unwrap().as_deref(),
        Some("two (3 dimensions), passages 1")
    );
    service.stop().await;
}

#[tokio::test]
async fn pages_are_of_one_list() {
    let service = Service::start(None).await;
    service.desk.open(Subjects::new("subjects"));
    let memories: Vec<String> = (0..240)
        .map(|n| {
            if n % 2 == 0 {
                format!("A pizza, number {n}")
            } else {
                format!("Some food, number {n}")
            }
        })
        .collect();
    for part in memories.chunks(100) {
        service
            .remember(&part.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    }
    service.backlog_of(0).await;
    let mut params = RecallParams {
        query: Some("pizza".to_owned()),
        explain: true,
        limit: Some(40),
        ..RecallParams::default()
    };
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page = service
            .engine
            .recall(&service.call(), params.clone())
            .await
            .unwrap();
        for hit in &page.hits {
            seen.push(hit.memory.content.clone());
            assert_eq!(hit.why.as_ref().unwrap().rank, seen.len());
        }
        params.cursor = page.next_cursor;
        if params.cursor.is_none() {
            break;
        }
    }
    assert_eq!(
        seen.iter().collect::<HashSet<_>>().len(),
        seen.len(),
        "each once"
    );
    assert_eq!(seen.len(), memories.len(), "all of them");
    assert!(
        seen[..40].iter().all(|text| text.contains("pizza")),
        "{seen:?}"
    );
    // A longer page has the same beginning.
    let params = RecallParams {
        query: Some("pizza".to_owned()),
        explain: true,
        limit: Some(100),
        ..RecallParams::default()
    };
    let page = service
        .engine
        .recall(&service.call(), params)
        .await
        .unwrap();
    assert_eq!(texts(&page), seen[..100]);
    service.stop().await;
}

#[tokio::test]
async fn who_asks_about_something_else_is_told_so_and_gets_few_of_the_nearest() {
    let service = Service::start(None).await;
    let weeks: Vec<String> = (1..=12)
        .map(|week| format!("The report of week {week} is late"))
        .collect();
    service
        .remember(&weeks.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let recall = async |query: &str, limit: Option<usize>, cursor: Option<String>| {
        let params = RecallParams {
            query: Some(query.to_owned()),
            explain: true,
            limit,
            cursor,
            ..RecallParams::default()
        };
        service
            .engine
            .recall(&service.call(), params)
            .await
            .unwrap()
    };
    let told = |output: &RecallOutput| {
        output
            .notes
            .iter()
            .any(|note| note.starts_with("Nothing stored seems"))
    };
    let known = recall("Which report is late?", None, None).await;
    assert!(
        known.hits.len() == 10 && !told(&known) && known.confidence > Some(0.9),
        "{:?}",
        known.notes
    );
    let stranger = "Which report does Melanie read?";
    let first = recall(stranger, None, None).await;
    assert!(
        first.hits.len() == 5 && told(&first) && first.confidence < Some(0.05),
        "{:?}",
        first.confidence
    );
    assert!(
        first
            .hits
            .iter()
            .all(|hit| hit.why.as_ref().unwrap().confidence < Some(0.05))
    );
    let rest = recall(stranger, None, first.next_cursor.clone()).await;
    let all: HashSet<&str> = texts(&first).into_iter().chain(texts(&rest)).collect();
    assert!(
        all.len() == 12 && rest.next_cursor.is_none(),
        "the cursor leads to the rest"
    );
    assert_eq!(
        recall(stranger, Some(10), None).await.hits.len(),
        10,
        "who names a number gets it"
    );
    service.stop().await;
}

#[tokio::test]
async fn when_it_happened_need_not_be_in_the_text() {
    let service = Service::start(None).await;
    let item = |content: &str, at: &str| RememberItem {
        content: content.to_owned(),
        occurred_at: Some(at.to_owned()),
        ..RememberItem::default()
    };
    let items = vec![
        item("The boiler broke", "2025-07-09"),
        item("The boiler was cleaned", "2025-11-02"),
    ];
    service
        .engine
        .remember(
            &service.call(),
            RememberParams {
                items,
                idempotency_key: None,
            },
        )
        .await
        .unwrap();
    let found = service.recall("What about the boiler in July 2025?").await;
    assert_eq!(texts(&found)[0], "The boiler broke");
    assert!(found.confidence > Some(0.9), "{:?}", found.confidence);
    service.stop().await;
}

#[tokio::test]
async fn a_name_may_be_misspelled_but_its_beginning_is_another_one() {
    let service = Service::start(None).await;
    service
        .remember(&[
            "A carol was sung late",
            "Every report is late",
            "Priya read a novel",
        ])
        .await;
    let told = async |query: &str| {
        let found = service.recall(query).await;
        found
            .notes
            .iter()
            .any(|note| note.starts_with("Nothing stored seems"))
    };
    assert!(told("Which report does Caroline read?").await);
    assert!(!told("Which novel did Prija read?").await);
    service.stop().await;
}

/// The program with the real model, run as by a person.
#[tokio::test]
async fn the_program_finds_by_meaning() {
    needs!(Model);
    let folder = model_folder().expect("the model is there");
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("MEMORY_MODEL_SOURCE", &folder);
    let server = setup.serve().await;
    let client = server.client();
    client
        .call(
            "remember",
            json!({ "items": [
        { "content": "Her feline companion is called Mimi." },
        { "content": "The nightly backup runs at two in the morning." },
        { "content": "Invoices are paid within thirty days." },
    ] }),
        )
        .await;
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client
            .call(
                "recall",
                json!({ "query": "What is the name of the cat?", "limit": 1, "explain": true }),
            )
            .await;
        if answer["hits"][0]["content"] == "Her feline companion is called Mimi." {
            assert_eq!(
                answer["hits"][0]["why"]["channels"]["meaning"]["rank"], 1,
                "{answer}"
            );
            break;
        }
        assert!(Instant::now() < end, "{answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = client.call("status", json!({})).await;
    assert_eq!(
        (&status["model"], &status["index_backlog"]),
        (&json!("all-MiniLM-L6-v2"), &json!(0))
    );
    let memory = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let resident = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    assert!(
        kilobytes < 150 * 1024,
        "{kilobytes} kB resident with the model"
    );
    server.stop().await;
}
