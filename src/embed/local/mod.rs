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

use super::{EmbedError, Embedder, Model, Vector, normalised};

mod bert;
mod text;
mod weights;

use self::bert::Bert;
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
}

impl Default for LocalOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { query_threads: cores.min(4), index_threads: (cores / 2).clamp(1, 4) }
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
        let encoder = index_threads.install(|| Encoder::load(folder))?;
        Ok(Self {
            model: Model { id: id.to_owned(), dimension: encoder.bert.config.hidden_size },
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    First,
}

/// The model with its tokenizer and pooling.
struct Encoder {
    bert: Bert,
    chunker: Chunker,
    pooling: Pooling,
    query_prompt: String,
    passage_prompt: String,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PoolingFile {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SentenceFile {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptsFile {
    prompts: std::collections::HashMap<String, String>,
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

impl Pooling {
    fn read(folder: &Path) -> io::Result<Self> {
        let modules: Vec<Module> = optional(folder, "modules.json")?.unwrap_or_default();
        let kind = |module: &Module| module.kind.rsplit('.').next().unwrap_or_default().to_owned();
        if let Some(other) =
            modules.iter().map(kind).find(|k| !["Transformer", "Pooling", "Normalize"].contains(&k.as_str()))
        {
            return Err(named("modules.json", format!("a module of type {other} is not known")));
        }
        let place = modules.iter().find(|module| kind(module) == "Pooling").map_or("1_Pooling", |module| &module.path);
        let name = format!("{place}/config.json");
        let file: PoolingFile = optional(folder, &name)?
            .unwrap_or(PoolingFile { pooling_mode_mean_tokens: true, ..PoolingFile::default() });
        match (file.pooling_mode_cls_token, file.pooling_mode_mean_tokens) {
            _ if file.pooling_mode_max_tokens || file.pooling_mode_mean_sqrt_len_tokens => {
                Err(named(&name, "only pooling by mean or by the first token is known"))
            }
            (true, false) => Ok(Self::First),
            (false, true) => Ok(Self::Mean),
            _ => Err(named(&name, "pooling by mean or by the first token is expected, and one of them")),
        }
    }

    /// The vector of a text from the states of its tokens.
    fn pool(self, states: &[f32], hidden: usize) -> Vector {
        match self {
            Self::First => states[..hidden].to_vec(),
            Self::Mean => {
                // The direction is all that counts, so there is no need to divide.
                let mut sum = vec![0.0; hidden];
                for row in states.chunks_exact(hidden) {
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                sum
            }
        }
    }
}

impl Encoder {
    fn load(folder: &Path) -> io::Result<Self> {
        let bert = Bert::load(folder)?;
        let sentence: SentenceFile = optional(folder, "sentence_bert_config.json")?.unwrap_or_default();
        let most = sentence.max_seq_length.unwrap_or(MAX_TOKENS).min(MAX_TOKENS).min(bert.config.max_tokens());
        let prompts: PromptsFile = optional(folder, "config_sentence_transformers.json")?.unwrap_or_default();
        let prompt =
            |names: [&str; 2]| names.iter().find_map(|name| prompts.prompts.get(*name)).cloned().unwrap_or_default();
        let encoder = Self {
            chunker: Chunker::load(folder, most).map_err(|error| named("tokenizer.json", error))?,
            pooling: Pooling::read(folder)?,
            query_prompt: prompt(["query", "search_query"]),
            passage_prompt: prompt(["document", "passage"]),
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
            let of_text = self.chunker.all(&format!("{}{text}", self.passage_prompt)).map_err(io::Error::other)?;
            counts.push(of_text.len());
            chunks.extend(of_text);
        }
        let mut vectors = self.vectors(&chunks)?.into_iter();
        Ok(counts.into_iter().map(|count| vectors.by_ref().take(count).collect()).collect())
    }

    fn query(&self, text: &str) -> io::Result<Vector> {
        let chunks = self.chunker.chunks(&format!("{}{text}", self.query_prompt), 1).map_err(io::Error::other)?;
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
