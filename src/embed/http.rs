//! An endpoint that is compatible with OpenAI: Ollama, TEI, vLLM, llama.cpp, OpenAI and others.
//!
//! Texts are sent in batches. Temporary failures (429, 5xx, a broken connection) are retried, after the time that the
//! endpoint requests; after that the caller waits. A question is repeated only after a broken connection, because a caller
//! waits for it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::outbound;

use super::{EmbedError, Embedder, Model, Prefixes, Vector, normalize_vector, with_space};

/// Number of characters of a chunk: some 500 tokens, which every model accepts.
const CHUNK: usize = 2_000;
/// Number of characters that neighboring chunks share.
const OVERLAP: usize = 200;
/// Maximum number of chunks of a text. The rest is only found by its words.
const MAX_CHUNKS: usize = 64;
/// Maximum number of chunks per request.
const BATCH: usize = 32;
/// Maximum number of attempts per request.
const ATTEMPTS: u32 = 4;
/// Pause after the first attempt, doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Maximum pause within a batch. If the endpoint requests more, the batch fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Maximum wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Maximum number of concurrent questions.
const MAX_QUERIES: usize = 32;
/// Maximum bytes of an answer per text: 8,192 dimensions at some 30 characters per number.
const MAX_ANSWER_PER_TEXT: usize = 256 * 1024;

/// Access to an endpoint.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Base address, without `/embeddings`.
    pub url: String,
    /// Name of the model at the endpoint.
    pub model: String,
    /// Bearer token.
    pub key: Option<SecretString>,
    /// Text before questions and passages.
    pub prefixes: Prefixes,
}

/// An endpoint that has answered once.
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

/// Selects the cryptography provider of TLS. Call it before creating any HTTP client.
pub fn prepare_tls() {
    // Only the first call has an effect, and all calls are equal.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns a client with time limits and the certificates of the platform.
pub(super) fn client_builder(connect: Duration, silence: Duration) -> reqwest::ClientBuilder {
    prepare_tls();
    Client::builder()
        .connect_timeout(connect)
        .read_timeout(silence)
        .user_agent(concat!("cognitive-memory-mcp/", env!("CARGO_PKG_VERSION")))
}

/// The reason why the body of a response was not read.
enum BodyError {
    TooLarge,
    Network(reqwest::Error),
}

/// Reads a body of at most `limit` bytes, whatever length the server announces.
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

/// Describes an error with its causes, without the address, which may contain a secret.
pub(super) fn describe_error(error: &reqwest::Error) -> String {
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
    /// Requests a first vector from the endpoint to determine the dimension.
    ///
    /// # Errors
    /// Fails if the endpoint does not answer, or not with a vector.
    pub async fn connect(options: HttpOptions) -> Result<Self, EmbedError> {
        // A redirect to another address would send the texts, and perhaps the key, to a server that is not configured.
        let client = client_builder(CONNECT, ANSWER)
            .redirect(outbound::follow_same_origin_with_body())
            .build()
            .map_err(|error| EmbedError::unavailable(describe_error(&error)))?;
        let endpoint = Endpoint { client, options };
        let first = endpoint
            .request_vectors(&["a first text".to_owned()], None)
            .await?;
        let dimension = first.first().map_or(0, Vec::len);
        normalize_vector(first.into_iter().next().unwrap_or_default(), dimension)?;
        let model = Model {
            id: endpoint.options.prefixes.model_id(&endpoint.options.model),
            dimension,
        };
        Ok(Self {
            model,
            endpoint,
            queries: Semaphore::new(MAX_QUERIES),
        })
    }

    async fn embed_batch(&self, texts: &[String]) -> Result<Vec<Vector>, EmbedError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self
                .endpoint
                .request_vectors(texts, Some(self.model.dimension))
                .await
            {
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

/// Returns the error for a redirect that was not followed.
fn describe_redirect(response: &reqwest::Response) -> EmbedError {
    let target = outbound::redirect_target(response);
    let target = target.map_or(String::new(), |target| format!(" to {target}"));
    EmbedError::unavailable(format!(
        "the embedding endpoint answered {} with a redirect{target}: redirects are not followed to another address, because \
         they would send the texts there, nor with a status that drops the texts; set MEMORY_EMBEDDER_URL to the final \
         address",
        response.status()
    ))
}

/// Returns the error for an answer without success.
fn classify_status(status: StatusCode, retry_after: Option<Duration>) -> EmbedError {
    let reason = format!("the embedding endpoint answered {status}");
    let hint = match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => return EmbedError::Refused(reason.into()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check MEMORY_EMBEDDER_KEY",
        StatusCode::NOT_FOUND => "check MEMORY_EMBEDDER_URL and MEMORY_MODEL",
        _ => {
            return EmbedError::Unavailable {
                reason: reason.into(),
                retry_after,
            };
        }
    };
    EmbedError::unavailable(format!("{reason}: {hint}"))
}

impl Endpoint {
    /// Sends a request, once more if the connection broke: an endpoint may have closed a connection that was kept open.
    async fn send(&self, body: &Request<'_>) -> Result<reqwest::Response, reqwest::Error> {
        match self.send_once(body).await {
            Err(error) if outbound::is_broken_connection(&error) => {
                tokio::time::sleep(outbound::pause_after(1)).await;
                self.send_once(body).await
            }
            result => result,
        }
    }

    async fn send_once(&self, body: &Request<'_>) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self
            .client
            .post(format!("{}/embeddings", self.options.url))
            .json(body)
            .timeout(ANSWER);
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key.expose_secret());
        }
        request.send().await
    }

    async fn request_vectors(
        &self,
        texts: &[String],
        dimension: Option<usize>,
    ) -> Result<Vec<Vector>, EmbedError> {
        let body = Request {
            model: &self.options.model,
            input: texts,
            encoding_format: "float",
        };
        let passing = |error: reqwest::Error| {
            EmbedError::unavailable(format!(
                "the embedding endpoint cannot be reached: {}",
                describe_error(&error)
            ))
        };
        let response = self.send(&body).await.map_err(passing)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(describe_redirect(&response));
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        if !status.is_success() {
            return Err(classify_status(status, retry_after));
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
                .map(|vector| normalize_vector(vector, dimension))
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
        let chunks: Vec<Vec<String>> = texts.iter().map(|text| split_chunks(text)).collect();
        let prefix = with_space(
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
            vectors.extend(self.embed_batch(batch).await?);
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
        let prefix = with_space(
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
            .request_vectors(&[text], Some(self.model.dimension))
            .await?;
        vectors
            .pop()
            .ok_or_else(|| EmbedError::Invalid("no vector was returned".into()))
    }
}

/// Splits a text into chunks that every model accepts. An empty text becomes a space, because endpoints refuse empty ones.
fn split_chunks(text: &str) -> Vec<String> {
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
        assert_eq!(split_chunks(""), [" "]);
        assert_eq!(split_chunks("ü"), ["ü"]);
        let text: String = (0..5_000)
            .map(|n| char::from_u32(0x4e00 + n).unwrap())
            .collect();
        let parts = split_chunks(&text);
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
