//! The embedder with an HTTP endpoint, against a server that misbehaves on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use cognitive_memory_mcp::embed::http::{HttpEmbedder, HttpOptions};
use cognitive_memory_mcp::embed::{Desk, EmbedError, Embedder, Prefixes};
use serde_json::{Value, json};

/// The requests that the server received, and its next answers.
#[derive(Default)]
struct Told {
    requests: Vec<(HeaderMap, Value)>,
    next: VecDeque<(u16, Option<&'static str>, Value)>,
}

/// Instead of a status: no answer at all.
const NEVER: u16 = 0;

type Shared = Arc<Mutex<Told>>;

async fn embeddings(
    State(told): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let inputs = body["input"].as_array().unwrap().clone();
    let next = {
        let mut told = told.lock().unwrap();
        told.requests.push((headers, body));
        told.next.pop_front()
    };
    if let Some((status, retry_after, answer)) = next {
        if status == NEVER {
            std::future::pending::<()>().await;
        }
        let mut response = (StatusCode::from_u16(status).unwrap(), Json(answer)).into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert("retry-after", seconds.parse().unwrap());
        }
        return response;
    }
    // In reverse order, because the index determines the text.
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .rev()
        .map(|(index, text)| json!({ "index": index, "embedding": [text.as_str().unwrap().chars().count(), 1, 0] }))
        .collect();
    Json(json!({ "object": "list", "data": data })).into_response()
}

async fn server() -> (Shared, HttpOptions) {
    let told = Shared::default();
    let router = Router::new()
        .route("/v1/embeddings", post(embeddings))
        .with_state(Arc::clone(&told));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (
        told,
        HttpOptions {
            url,
            model: "some-model".to_owned(),
            key: Some("sesame".into()),
            prefixes: Prefixes::default(),
        },
    )
}

async fn connected() -> (Shared, HttpEmbedder) {
    let (told, options) = server().await;
    let embedder = HttpEmbedder::connect(options).await.unwrap();
    (told, embedder)
}

fn say(told: &Shared, status: u16, retry_after: Option<&'static str>, answer: Value) {
    told.lock()
        .unwrap()
        .next
        .push_back((status, retry_after, answer));
}

fn count(told: &Shared) -> usize {
    told.lock().unwrap().requests.len()
}

#[tokio::test]
async fn texts_go_in_batches_and_come_back_in_order() {
    let (told, embedder) = connected().await;
    assert_eq!(
        (embedder.model().id.as_str(), embedder.model().dimension),
        ("some-model", 3)
    );
    let texts: Vec<String> = (1..=70).map(|n| "x".repeat(n)).collect();
    let vectors = embedder.passages(texts).await.unwrap();
    for (n, chunks) in (1..=70).zip(&vectors) {
        assert_eq!(chunks.len(), 1);
        assert!(
            (chunks[0][0] / chunks[0][1] - n as f32).abs() < 1e-3,
            "{n}: {chunks:?}"
        );
        assert!((chunks[0].iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(
        embedder
            .passages(vec!["long ".repeat(1_000)])
            .await
            .unwrap()[0]
            .len(),
        3
    );
    let told = told.lock().unwrap();
    let sizes: Vec<usize> = told
        .requests
        .iter()
        .map(|(_, body)| body["input"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1, 32, 32, 6, 3]);
    let (headers, body) = &told.requests[1];
    assert_eq!(
        (headers["authorization"].to_str().unwrap(), &body["model"]),
        ("Bearer sesame", &json!("some-model"))
    );
    assert!(!format!("{embedder:?}").contains("sesame"));
}

#[tokio::test]
async fn what_passes_is_tried_again_as_late_as_asked() {
    let (told, embedder) = connected().await;
    say(&told, 429, Some("1"), json!({ "error": "slow down" }));
    say(&told, 503, None, json!({}));
    let start = Instant::now();
    embedder.passages(vec!["a".to_owned()]).await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "Retry-After was not honoured"
    );
    assert_eq!(count(&told), 4);
    // Longer than the caller waits: the error states when to retry.
    say(&told, 429, Some("300"), json!({}));
    match embedder.passages(vec!["a".to_owned()]).await {
        Err(EmbedError::Unavailable { retry_after, .. }) => {
            assert_eq!(retry_after, Some(Duration::from_secs(300)))
        }
        other => panic!("{other:?}"),
    }
    // A caller waits for a question.
    say(&told, 503, None, json!({}));
    assert!(matches!(
        embedder.query("a".to_owned()).await,
        Err(EmbedError::Unavailable { .. })
    ));
    assert!(embedder.query("a".to_owned()).await.is_ok());
}

#[tokio::test]
async fn a_recall_does_not_wait_for_an_endpoint_that_hangs() {
    let (told, embedder) = connected().await;
    let desk = Desk::expecting("some-model");
    desk.open(Arc::new(embedder));
    say(&told, NEVER, None, json!({}));
    let start = Instant::now();
    let error = desk.query("a").await.unwrap_err();
    assert!(
        error.contains("did not answer within 2 s") && start.elapsed() < Duration::from_secs(10),
        "{error}"
    );
    assert!(
        desk.query("a").await.unwrap().is_some(),
        "the next one is asked again"
    );
}

#[tokio::test]
async fn prefixes_stand_before_texts_and_belong_to_the_model() {
    let (told, options) = server().await;
    let prefixes = Prefixes {
        query: Some("query:".to_owned()),
        passage: Some("passage:".to_owned()),
    };
    let embedder = HttpEmbedder::connect(HttpOptions {
        prefixes,
        ..options
    })
    .await
    .unwrap();
    assert_eq!(embedder.model().id, "some-model behind \"passage:\"");
    embedder.query("a".to_owned()).await.unwrap();
    embedder.passages(vec!["b".to_owned()]).await.unwrap();
    let told = told.lock().unwrap();
    let inputs: Vec<&Value> = told
        .requests
        .iter()
        .skip(1)
        .map(|(_, body)| &body["input"][0])
        .collect();
    assert_eq!(inputs, ["query: a", "passage: b"]);
    assert_eq!(told.requests[1].1["model"], "some-model");
}

#[tokio::test]
async fn what_is_no_vector_of_the_model_is_refused() {
    let (told, embedder) = connected().await;
    let one = |embedding: Value| json!({ "data": [{ "index": 0, "embedding": embedding }] });
    for wrong in [
        one(json!([1, 2])),
        one(json!([0, 0, 0])),
        one(json!([1, "NaN", 0])),
        one(json!([1e300, 1, 1])),
        json!({ "data": [] }),
        json!({ "data": [{ "index": 9, "embedding": [1, 1, 1] }] }),
        json!("no answer at all"),
    ] {
        say(&told, 200, None, wrong.clone());
        let result = embedder.passages(vec!["a".to_owned()]).await;
        assert!(
            matches!(result, Err(EmbedError::Invalid(_))),
            "{wrong}: {result:?}"
        );
    }
    say(&told, 400, None, json!({ "error": "too long" }));
    assert!(matches!(
        embedder.passages(vec!["a".to_owned()]).await,
        Err(EmbedError::Refused(_))
    ));
}

#[tokio::test]
async fn a_start_without_the_endpoint_says_what_to_check() {
    let (told, options) = server().await;
    for (status, expected) in [(401, "MEMORY_EMBEDDER_KEY"), (404, "MEMORY_EMBEDDER_URL")] {
        say(&told, status, None, json!({}));
        let error = HttpEmbedder::connect(options.clone())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && !error.contains("sesame"),
            "{error}"
        );
    }
    let nobody = HttpOptions {
        url: "http://127.0.0.1:9".to_owned(),
        ..options
    };
    let error = HttpEmbedder::connect(nobody).await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
}

/// Starts an endpoint that answers every request with `response`, and counts the requests.
async fn endpoint(
    response: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Arc<Mutex<usize>>, HttpOptions) {
    let requests = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&requests);
    let handler = move || {
        *counter.lock().unwrap() += 1;
        std::future::ready(response())
    };
    let router = Router::new().route("/v1/embeddings", post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (
        requests,
        HttpOptions {
            url,
            model: "m".to_owned(),
            key: Some("sesame".into()),
            prefixes: Prefixes::default(),
        },
    )
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = || {
        let chunk = || Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]);
        Body::from_stream(futures_util::stream::repeat_with(chunk)).into_response()
    };
    let (_, options) = endpoint(endless).await;
    let error = tokio::time::timeout(Duration::from_secs(20), HttpEmbedder::connect(options))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(&error, EmbedError::Invalid(_))
            && error.to_string().contains("more than 262144 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_redirect_does_not_forward_texts() {
    let (elsewhere, target) = endpoint(|| Json(json!({ "data": [] })).into_response()).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/embeddings", target.url);
        let redirect = move || {
            (
                StatusCode::from_u16(status).unwrap(),
                [("location", location.clone())],
            )
                .into_response()
        };
        let (_, options) = endpoint(redirect).await;
        let error = HttpEmbedder::connect(options)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("MEMORY_EMBEDDER_URL") && error.contains("redirects are not followed"),
            "{error}"
        );
        assert!(
            error.contains(&format!("{}/embeddings", target.url)),
            "{error}"
        );
    }
    assert_eq!(*elsewhere.lock().unwrap(), 0, "a text was forwarded");
}

#[tokio::test]
async fn a_redirect_to_the_same_address_is_followed_with_the_texts() {
    for (status, is_followed) in [(307, true), (308, true), (301, false), (302, false)] {
        let (told, options) = server().await;
        let redirect = move || async move {
            let location = [("location", "/v1/embeddings")];
            (StatusCode::from_u16(status).unwrap(), location).into_response()
        };
        let inner = options.url.strip_suffix("/v1").unwrap().to_owned();
        // A proxy in front of the endpoint, on the same address.
        let router = Router::new()
            .route("/old/embeddings", post(redirect))
            .route("/v1/embeddings", post(embeddings))
            .with_state(Arc::clone(&told));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/old", listener.local_addr().unwrap());
        assert_ne!(url, inner);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let connected = HttpEmbedder::connect(HttpOptions { url, ..options }).await;
        assert_eq!(connected.is_ok(), is_followed, "{status}: {connected:?}");
        assert_eq!(count(&told), usize::from(is_followed), "{status}");
    }
}

/// A listener that resets its first connections and then answers; the number of connections it had.
async fn resetting(resets: usize) -> (Arc<Mutex<usize>>, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let number = {
                let mut counter = counter.lock().unwrap();
                *counter += 1;
                *counter
            };
            let mut space = [0; 4096];
            let _ = stream.read(&mut space).await;
            if number <= resets {
                // Unread bytes make the end a reset.
                continue;
            }
            let body = r#"{"data":[{"index":0,"embedding":[1,2,3]}]}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (connections, url)
}

#[tokio::test]
async fn a_broken_connection_is_tried_once_more() {
    for (resets, is_connected, attempts) in [(0, true, 1), (1, true, 2), (5, false, 2)] {
        let (connections, url) = resetting(resets).await;
        let (_, options) = server().await;
        let connected = HttpEmbedder::connect(HttpOptions { url, ..options }).await;
        assert_eq!(connected.is_ok(), is_connected, "{resets}: {connected:?}");
        assert_eq!(*connections.lock().unwrap(), attempts, "{resets}");
    }
}
