//! A sentence model of the BERT family, run by this process.
//!
//! Two pools of threads: questions never wait behind texts that are being indexed. Everything about the model is read
//! from its own files: sizes (`config.json`), tokens (`tokenizer.json`), pooling (`modules.json`), length
//! (`sentence_bert_config.json`), what is put before a text (`config_sentence_transformers.json`).

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

use super::{EmbedError, Embedder, Model, Prefixes, Vector, normalised};

mod architecture;
mod bert;
mod pooling;
mod text;
mod weights;

use self::bert::Bert;
use self::pooling::Pooling;
use self::text::Chunker;

/// Tokens of a chunk; attention costs their square.
const MAX_TOKENS: usize = 256;
/// Tokens that go through the model at once; more need more memory and are no faster.
const BATCH_TOKENS: usize = 1_024;
/// Questions that may wait. Beyond, recall does better without.
const MAX_WAITING: usize = 256;
/// Batches that may wait to be indexed.
const MAX_BATCHES: usize = 2;

/// How a local model is run.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Threads for questions.
    pub query_threads: usize,
    /// Threads for texts that are being indexed.
    pub index_threads: usize,
    /// What stands before texts.
    pub prefixes: Prefixes,
}

impl Default for LocalOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { query_threads: cores.min(4), index_threads: (cores / 2).clamp(1, 4), prefixes: Prefixes::default() }
    }
}

/// The model in this process.
pub struct LocalEmbedder {
    model: Model,
    encoder: Arc<Encoder>,
    query_threads: Arc<rayon::ThreadPool>,
    index_threads: Arc<rayon::ThreadPool>,
    waiting: Semaphore,
    batches: Semaphore,
}

impl fmt::Debug for LocalEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEmbedder").field("model", &self.model).finish_non_exhaustive()
    }
}

impl LocalEmbedder {
    /// Loads the model in `folder`, whose vectors are stored as those of `id`. Takes some hundred milliseconds of
    /// blocking work.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of a model that is not known; says which.
    pub fn load(folder: &Path, id: &str, options: &LocalOptions) -> io::Result<Self> {
        let threads = |name: &'static str, count: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(count.max(1))
                .thread_name(move |number| format!("{name}-{number}"))
                .build()
                .map(Arc::new)
                .map_err(io::Error::other)
        };
        let index_threads = threads("embed-index", options.index_threads)?;
        let encoder = index_threads.install(|| Encoder::load(folder, &options.prefixes))?;
        Ok(Self {
            model: Model { id: options.prefixes.model(id), dimension: encoder.bert.config.hidden_size },
            encoder: Arc::new(encoder),
            query_threads: threads("embed-query", options.query_threads)?,
            index_threads,
            waiting: Semaphore::new(MAX_WAITING),
            batches: Semaphore::new(MAX_BATCHES),
        })
    }

    /// Runs `work` on a pool; the caller waits without holding a thread.
    async fn on<T: Send + 'static>(
        &self,
        pool: &rayon::ThreadPool,
        work: impl FnOnce(&Encoder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, EmbedError> {
        let (reply, answer) = oneshot::channel();
        let encoder = Arc::clone(&self.encoder);
        pool.spawn(move || {
            // Who has gone away in the meantime is not served.
            if !reply.is_closed() {
                let _ = reply.send(work(&encoder));
            }
        });
        let gone = || EmbedError::unavailable("the model stopped in the middle of a text");
        answer.await.map_err(|_| gone())?.map_err(|error| EmbedError::Refused(error.to_string().into()))
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        let closed = |_| EmbedError::unavailable("the model is being unloaded");
        let _permit = self.batches.acquire().await.map_err(closed)?;
        self.on(&self.index_threads, move |encoder| encoder.passages(&texts)).await
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        let busy = |_| EmbedError::unavailable("too many questions wait for the model");
        let _permit = self.waiting.try_acquire().map_err(busy)?;
        self.on(&self.query_threads, move |encoder| encoder.query(&text)).await
    }
}

/// The model with its tokenizer and pooling.
struct Encoder {
    bert: Bert,
    chunker: Chunker,
    pooling: Pooling,
    query_prompt: String,
    passage_prompt: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceFile {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

/// Newer models tell their length here. Where there is no limit, it is a number beyond all integers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerFile {
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptsFile {
    prompts: std::collections::HashMap<String, String>,
    default_prompt_name: Option<String>,
}

impl PromptsFile {
    /// The first of these that there is, else the one for everything.
    fn prompt(&self, names: &[&str]) -> String {
        let all = names.iter().copied().chain(self.default_prompt_name.as_deref());
        all.filter_map(|name| self.prompts.get(name)).next().cloned().unwrap_or_default()
    }
}

/// A file of the model, where it has it.
fn optional<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| named(name, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(name, error)),
    }
}

fn named(file: &str, error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {error}"))
}

impl Encoder {
    fn load(folder: &Path, prefixes: &Prefixes) -> io::Result<Self> {
        let bert = Bert::load(folder)?;
        let sentence: SentenceFile = optional(folder, "sentence_bert_config.json")?.unwrap_or_default();
        let tokenizer: TokenizerFile = optional(folder, "tokenizer_config.json")?.unwrap_or_default();
        let most = tokenizer.model_max_length.map_or(MAX_TOKENS, |length| length.clamp(0.0, 1e6) as usize);
        let most = sentence.max_seq_length.unwrap_or(most).min(MAX_TOKENS).min(bert.config.max_tokens());
        let prompts: PromptsFile = optional(folder, "config_sentence_transformers.json")?.unwrap_or_default();
        let stated = |prefix: &Option<String>, names: &[&str]| {
            prefix.as_deref().map_or_else(|| prompts.prompt(names), super::spaced)
        };
        let query_prompt = stated(&prefixes.query, &["query", "search_query"]);
        let passage_prompt = stated(&prefixes.passage, &["document", "passage", "corpus"]);
        let prompted = !query_prompt.is_empty() || !passage_prompt.is_empty();
        let chunker = Chunker::load(folder, most, sentence.do_lower_case);
        let encoder = Self {
            chunker: chunker.map_err(|error| named("tokenizer.json", error))?,
            pooling: Pooling::read(folder, prompted)?,
            query_prompt,
            passage_prompt,
            bert,
        };
        // Files that do not belong together show themselves here rather than with the first text.
        encoder.query("a first text")?;
        Ok(encoder)
    }

    fn passages(&self, texts: &[String]) -> io::Result<Vec<Vec<Vector>>> {
        let mut chunks = Vec::new();
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let of_text = self.chunker.all(&self.passage_prompt, text).map_err(io::Error::other)?;
            counts.push(of_text.len());
            chunks.extend(of_text);
        }
        let mut vectors = self.vectors(&chunks)?.into_iter();
        Ok(counts.into_iter().map(|count| vectors.by_ref().take(count).collect()).collect())
    }

    fn query(&self, text: &str) -> io::Result<Vector> {
        let chunks = self.chunker.chunks(&self.query_prompt, text, 1).map_err(io::Error::other)?;
        let mut vectors = self.vectors(&chunks)?;
        vectors.pop().ok_or_else(|| io::Error::other("no vector"))
    }

    fn vectors(&self, chunks: &[Vec<u32>]) -> io::Result<Vec<Vector>> {
        let hidden = self.bert.config.hidden_size;
        let mut vectors = Vec::with_capacity(chunks.len());
        let mut rest = chunks;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take_while(|chunk| {
                tokens += chunk.len();
                tokens <= BATCH_TOKENS
            });
            let batch: Vec<&[u32]> = rest[..fitting.count().max(1)].iter().map(Vec::as_slice).collect();
            let states = self.bert.forward(&batch)?;
            let mut from = 0;
            for text in &batch {
                let to = from + text.len() * hidden;
                let pooled = self.pooling.pool(&states[from..to], hidden);
                vectors.push(normalised(pooled, hidden).map_err(io::Error::other)?);
                from = to;
            }
            rest = &rest[batch.len()..];
        }
        Ok(vectors)
    }
}
