//! An endpoint that speaks as OpenAI's does: Ollama, TEI, vLLM, llama.cpp, OpenAI and others.
//!
//! Texts go in batches. What may pass (429, 5xx, a line that breaks) is tried again some times, as late as the endpoint
//! asks; after that the caller waits. A question gets one attempt, since somebody waits for it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{EmbedError, Embedder, Model, Prefixes, Vector, normalised, spaced};

/// Characters of a chunk: some 500 tokens, which every model takes.
const CHUNK: usize = 2_000;
/// Characters that two neighbouring chunks share.
const OVERLAP: usize = 200;
/// Most chunks of a text; what lies behind is still found by its words.
const MAX_CHUNKS: usize = 64;
/// Most chunks in a request.
const BATCH: usize = 32;
/// Attempts at a request.
const ATTEMPTS: u32 = 4;
/// Pause after the first one; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause within a batch. An endpoint that asks for more is left alone for as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Questions under way at the same time.
const MAX_QUERIES: usize = 32;
/// Bytes of an answer for each text: 8,192 dimensions at some 30 characters a number.
const MAX_ANSWER_PER_TEXT: usize = 256 * 1024;

/// How an endpoint is reached.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Base address, without `/embeddings`.
    pub url: String,
    /// What the endpoint calls the model.
    pub model: String,
    /// Bearer token.
    pub key: Option<SecretString>,
    /// What stands before texts.
    pub prefixes: Prefixes,
}

/// An endpoint that has answered.
pub struct HttpEmbedder {
    model: Model,
    endpoint: Endpoint,
    queries: Semaphore,
}

impl fmt::Debug for HttpEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEmbedder")
            .field("model", &self.model)
            .field("url", &self.endpoint.options.url)
            .finish()
    }
}

struct Endpoint {
    client: Client,
    options: HttpOptions,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// Says which cryptography TLS uses. To be called before any HTTP client is made.
pub fn prepare_tls() {
    // The first one stays; it is the same each time.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with time limits and the certificates of the platform.
pub(super) fn client_builder(connect: Duration, silence: Duration) -> reqwest::ClientBuilder {
    prepare_tls();
    Client::builder()
        .connect_timeout(connect)
        .read_timeout(silence)
        .user_agent(concat!("cognitive-memory-mcp/", env!("CARGO_PKG_VERSION")))
}

/// Why the body of a response was not read.
enum BodyError {
    TooLarge,
    Network(reqwest::Error),
}

/// Reads a body of at most `limit` bytes, whatever length the server announced.
async fn read_body(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    if response
        .content_length()
        .is_some_and(|length| length > limit as u64)
    {
        return Err(BodyError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Network)? {
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes, without the address: that may hold a secret.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        String::new()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = if text.is_empty() {
            inner.to_string()
        } else {
            format!("{text}: {inner}")
        };
        cause = inner.source();
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}

impl HttpEmbedder {
    /// Asks the endpoint for a first vector, which tells the dimension.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub async fn connect(options: HttpOptions) -> Result<Self, EmbedError> {
        // A redirect would send the texts, and perhaps the key, to an address that nobody configured.
        let client = client_builder(CONNECT, ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| EmbedError::unavailable(describe(&error)))?;
        let endpoint = Endpoint { client, options };
        let first = endpoint.ask(&["a first text".to_owned()], None).await?;
        let dimension = first.first().map_or(0, Vec::len);
        normalised(first.into_iter().next().unwrap_or_default(), dimension)?;
        let model = Model {
            id: endpoint.options.prefixes.model(&endpoint.options.model),
            dimension,
        };
        Ok(Self {
            model,
            endpoint,
            queries: Semaphore::new(MAX_QUERIES),
        })
    }

    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vector>, EmbedError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.endpoint.ask(texts, Some(self.model.dimension)).await {
                Err(EmbedError::Unavailable {
                    reason,
                    retry_after,
                }) => {
                    let wait = retry_after.unwrap_or(pause);
                    if attempt == ATTEMPTS || wait > LONGEST_PAUSE {
                        return Err(EmbedError::Unavailable {
                            reason,
                            retry_after,
                        });
                    }
                    tokio::time::sleep(wait).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }
}

impl Endpoint {
    async fn ask(
        &self,
        texts: &[String],
        dimension: Option<usize>,
    ) -> Result<Vec<Vector>, EmbedError> {
        let body = Request {
            model: &self.options.model,
            input: texts,
            encoding_format: "float",
        };
        let mut request = self
            .client
            .post(format!("{}/embeddings", self.options.url))
            .json(&body)
            .timeout(ANSWER);
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let passing = |error: reqwest::Error| {
            EmbedError::unavailable(format!(
                "the embedding endpoint cannot be reached: {}",
                describe(&error)
            ))
        };
        let response = request.send().await.map_err(passing)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        if !status.is_success() {
            let reason = format!("the embedding endpoint answered {status}");
            if status.is_redirection() {
                let hint = "redirects are not followed, since they would send the texts elsewhere";
                return Err(EmbedError::unavailable(format!(
                    "{reason}: {hint}; set MEMORY_EMBEDDER_URL to the final address"
                )));
            }
            return Err(match status {
                StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY => EmbedError::Refused(reason.into()),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    EmbedError::unavailable(format!("{reason}: check MEMORY_EMBEDDER_KEY"))
                }
                StatusCode::NOT_FOUND => EmbedError::unavailable(format!(
                    "{reason}: check MEMORY_EMBEDDER_URL and MEMORY_MODEL"
                )),
                _ => EmbedError::Unavailable {
                    reason: reason.into(),
                    retry_after,
                },
            });
        }
        let limit = texts.len().max(1) * MAX_ANSWER_PER_TEXT;
        let bytes = read_body(response, limit)
            .await
            .map_err(|error| match error {
                BodyError::TooLarge => EmbedError::Invalid(
                    format!(
                        "the embedding endpoint answered with more than {limit} bytes for {} texts",
                        texts.len()
                    )
                    .into(),
                ),
                BodyError::Network(error) => passing(error),
            })?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
            EmbedError::Invalid(
                format!("the embedding endpoint answered with something else: {error}").into(),
            )
        })?;
        let mut vectors = vec![None; texts.len()];
        for (place, item) in answer.data.into_iter().enumerate() {
            if let Some(slot) = vectors.get_mut(item.index.unwrap_or(place)) {
                *slot = Some(item.embedding);
            }
        }
        let vectors: Option<Vec<Vector>> = vectors.into_iter().collect();
        let vectors = vectors.ok_or_else(|| {
            EmbedError::Invalid(
                "the embedding endpoint did not answer with a vector for each text".into(),
            )
        })?;
        match dimension {
            Some(dimension) => vectors
                .into_iter()
                .map(|vector| normalised(vector, dimension))
                .collect(),
            None => Ok(vectors),
        }
    }
}

#[async_trait]
impl Embedder for HttpEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        let chunks: Vec<Vec<String>> = texts.iter().map(|text| chunks(text)).collect();
        let prefix = spaced(
            self.endpoint
                .options
                .prefixes
                .passage
                .as_deref()
                .unwrap_or_default(),
        );
        let all: Vec<String> = chunks
            .iter()
            .flatten()
            .map(|chunk| format!("{prefix}{chunk}"))
            .collect();
        let mut vectors = Vec::with_capacity(all.len());
        for batch in all.chunks(BATCH) {
            vectors.extend(self.vectors(batch).await?);
        }
        let mut vectors = vectors.into_iter();
        Ok(chunks
            .iter()
            .map(|chunks| vectors.by_ref().take(chunks.len()).collect())
            .collect())
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        let busy =
            |_| EmbedError::unavailable("too many questions wait for the embedding endpoint");
        let _permit = self.queries.try_acquire().map_err(busy)?;
        let prefix = spaced(
            self.endpoint
                .options
                .prefixes
                .query
                .as_deref()
                .unwrap_or_default(),
        );
        let text: String = prefix.chars().chain(text.chars().take(CHUNK)).collect();
        let mut vectors = self
            .endpoint
            .ask(&[text], Some(self.model.dimension))
            .await?;
        vectors
            .pop()
            .ok_or_else(|| EmbedError::Invalid("no vector was returned".into()))
    }
}

/// A text in pieces that every model takes. An empty one is a space: endpoints refuse what is empty.
fn chunks(text: &str) -> Vec<String> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    if starts.is_empty() {
        return vec![" ".to_owned()];
    }
    let mut chunks = Vec::new();
    let mut first = 0;
    loop {
        let end = (first + CHUNK).min(starts.len());
        chunks.push(text[starts[first]..starts.get(end).copied().unwrap_or(text.len())].to_owned());
        if end == starts.len() || chunks.len() == MAX_CHUNKS {
            return chunks;
        }
        first = end - OVERLAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_overlap_and_lose_nothing() {
        assert_eq!(chunks(""), [" "]);
        assert_eq!(chunks("ü"), ["ü"]);
        let text: String = (0..5_000)
            .map(|n| char::from_u32(0x4e00 + n).unwrap())
            .collect();
        let parts = chunks(&text);
        assert_eq!(
            parts
                .iter()
                .map(|part| part.chars().count())
                .collect::<Vec<_>>(),
            [2_000, 2_000, 1_400]
        );
        let whole: String = parts
            .iter()
            .enumerate()
            .flat_map(|(n, part)| part.chars().skip(if n == 0 { 0 } else { OVERLAP }))
            .collect();
        assert_eq!(whole, text);
    }
}
