//! A change of the model recomputes all vectors: the real program on both databases, with an endpoint that the test
//! delays. Recall works meanwhile, and the backlog is reported everywhere.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::State;
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::postgres_server::Database;
use crate::process::{Client, PATIENCE, Server, Setup, get};
use crate::requirement::needs;
use crate::transfer::on_postgres;

const SUBJECTS: [&[&str]; 3] = [
    &["kitten", "pet"],
    &["deploy", "release"],
    &["pizza", "food"],
];

/// An endpoint that knows three subjects, with other dimensions for each model, so that comparing vectors of two
/// models would find the wrong memories.
struct Endpoint {
    /// Number of batches that may still be answered; questions are always answered.
    batches: Semaphore,
    texts: Mutex<Vec<(String, String)>>,
}

fn vector(model: &str, text: &str) -> Vec<f64> {
    let mut axes: Vec<f64> = SUBJECTS
        .iter()
        .map(|words| {
            if words.iter().any(|word| text.contains(word)) {
                1.0
            } else {
                0.01
            }
        })
        .collect();
    match model {
        "turned" => axes.rotate_left(1),
        "wide" => axes.extend([0.02, 0.03]),
        _ => {}
    }
    axes
}

async fn embeddings(State(endpoint): State<Arc<Endpoint>>, Json(body): Json<Value>) -> Json<Value> {
    let model = body["model"].as_str().unwrap().to_owned();
    let texts: Vec<&str> = body["input"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    if texts.len() > 1 {
        endpoint.batches.acquire().await.unwrap().forget();
        let mut seen = endpoint.texts.lock().unwrap();
        seen.extend(texts.iter().map(|text| (model.clone(), (*text).to_owned())));
    }
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| json!({ "index": n, "embedding": vector(&model, text) }))
        .collect();
    Json(json!({ "data": data }))
}

/// The setup and the endpoint that it uses.
struct Scene {
    endpoint: Arc<Endpoint>,
    setup: Setup,
}

const MANY: usize = 1_000;
const MEMORIES: usize = 72;
/// Batch size of the indexer.
const BATCH: usize = 32;

impl Scene {
    async fn new(setup: Setup) -> Self {
        let endpoint = Arc::new(Endpoint {
            batches: Semaphore::new(MANY),
            texts: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/embeddings", post(embeddings))
            .with_state(Arc::clone(&endpoint));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let key = setup.file("key", "sesame\n");
        let setup = setup
            .env("MEMORY_EMBEDDER", "http")
            .env("MEMORY_EMBEDDER_URL", url)
            .env("MEMORY_EMBEDDER_KEY_FILE", key)
            .env("MEMORY_MODEL", "first");
        Self { endpoint, setup }
    }

    fn model(self, name: &str) -> Self {
        Self {
            setup: self.setup.env("MEMORY_MODEL", name),
            ..self
        }
    }

    /// Answers no further batch.
    fn hold(&self) {
        self.endpoint.batches.forget_permits(MANY);
        self.endpoint.texts.lock().unwrap().clear();
    }

    fn let_go(&self, batches: usize) {
        self.endpoint.batches.add_permits(batches);
    }

    /// Runs the command, which ends before the work is done.
    fn reindex(&self) {
        let ran = tokio::task::block_in_place(|| self.setup.run(&["reindex"]));
        assert!(
            ran.code == Some(0) && ran.stdout.contains(&format!("{MEMORIES} memories await")),
            "{ran:?}"
        );
    }

    /// Returns the number of texts embedded since the last hold, and the models.
    fn embedded(&self) -> (usize, Vec<String>) {
        let texts = self.endpoint.texts.lock().unwrap();
        let mut models: Vec<String> = texts.iter().map(|(model, _)| model.clone()).collect();
        models.dedup();
        (texts.len(), models)
    }
}

/// Waits until status, readiness and metrics report this backlog and this model.
async fn backlog(server: &Server, client: &Client, count: usize, model: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = client.call("status", json!({})).await;
        let (code, _, ready) = get(&server.url("/health/ready")).await;
        let told = ready.contains(&format!("{model} ("))
            && ready.contains(&format!(", {count} memories wait"));
        let (_, _, metrics) = get(&server.url("/metrics")).await;
        let measured = metrics.contains(&format!("\ncognitive_memory_index_backlog {count}\n"));
        // The sources are read one after the other, and the embedder may work in between.
        if status["index_backlog"] == count && status["model"] == model && told && measured {
            assert_eq!(code, 200, "it is ready all the while: {ready}");
            return;
        }
        assert!(
            Instant::now() < end,
            "{count} for {model} expected: {status} {ready} {metrics}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn found(client: &Client, query: &str) -> Vec<String> {
    let answer = client
        .call("recall", json!({ "query": query, "limit": 100 }))
        .await;
    answer["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["content"].as_str().unwrap().to_owned())
        .collect()
}

/// Recalls by a word of the text, which works at any time.
async fn by_words(client: &Client) {
    let hits = found(client, "kitten").await;
    assert!(
        hits.iter().filter(|hit| hit.contains("kitten")).count() == MEMORIES / 3,
        "{hits:?}"
    );
}

/// Recalls by a synonym: finds only memories with vectors of the current model, and none of another subject.
async fn by_meaning(client: &Client, count: std::ops::RangeInclusive<usize>) {
    let hits = found(client, "a pet").await;
    assert!(count.contains(&hits.len()), "{hits:?}");
    assert!(
        hits.iter().all(|hit| hit.contains("kitten")),
        "vectors of two models were compared: {hits:?}"
    );
}

async fn fill(client: &Client) {
    let items: Vec<Value> = (0..MEMORIES)
        .map(|n| json!({ "content": format!("{} number {n}", ["The kitten", "We deploy", "Some pizza"][n % 3]) }))
        .collect();
    client.call("remember", json!({ "items": items })).await;
}

async fn story(scene: Scene) {
    let third = MEMORIES / 3;
    let server = scene.setup.serve().await;
    let client = server.client();
    fill(&client).await;
    backlog(&server, &client, 0, "first").await;
    by_meaning(&client, third..=third).await;
    server.stop().await;

    // Other axes and another dimension: nothing is found by meaning until it was embedded again.
    let mut scene = scene;
    for model in ["turned", "wide"] {
        scene.hold();
        scene = scene.model(model);
        let server = scene.setup.serve().await;
        let client = server.client();
        backlog(&server, &client, MEMORIES, model).await;
        by_words(&client).await;
        by_meaning(&client, 0..=0).await;
        scene.let_go(1);
        backlog(&server, &client, MEMORIES - BATCH, model).await;
        by_words(&client).await;
        by_meaning(&client, 1..=third - 1).await;
        scene.let_go(MANY);
        backlog(&server, &client, 0, model).await;
        by_meaning(&client, third..=third).await;
        assert_eq!(scene.embedded(), (MEMORIES, vec![model.to_owned()]));
        server.stop().await;
    }

    // Started by hand while the service runs. Existing vectors are used until they are replaced.
    scene.hold();
    let server = scene.setup.serve().await;
    let client = server.client();
    backlog(&server, &client, 0, "wide").await;
    scene.reindex();
    backlog(&server, &client, MEMORIES, "wide").await;
    by_meaning(&client, third..=third).await;
    scene.let_go(MANY);
    backlog(&server, &client, 0, "wide").await;
    by_meaning(&client, third..=third).await;
    assert_eq!(
        scene.embedded(),
        (MEMORIES, vec!["wide".to_owned()]),
        "each once, and none at the start"
    );
    server.stop().await;

    // The same without any embedder.
    scene.hold();
    scene.reindex();
    let server = scene.setup.serve().await;
    let client = server.client();
    backlog(&server, &client, MEMORIES, "wide").await;
    scene.let_go(MANY);
    backlog(&server, &client, 0, "wide").await;
    assert_eq!(scene.embedded().0, MEMORIES);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_takes_over_while_recall_goes_on_in_sqlite() {
    story(Scene::new(Setup::new()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_takes_over_while_recall_goes_on_in_postgresql() {
    needs!(Postgres);
    let database = Database::empty().await;
    story(Scene::new(on_postgres(&database)).await).await;
}

#[test]
fn nothing_to_embed_with_is_told() {
    let setup = Setup::new();
    let ran = setup.run(&["reindex"]);
    assert!(
        ran.code == Some(0) && ran.stdout.contains("MEMORY_EMBEDDER is none"),
        "{ran:?}"
    );
}
