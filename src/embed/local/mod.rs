//! A sentence model of the BERT family, run by this process.
//!
//! Two teams of threads: questions never wait behind texts that are being indexed. Everything about the model is read
//! from its own files: sizes (`config.json`), tokens (`tokenizer.json`), pooling and what follows it (`modules.json`), length
//! (`sentence_bert_config.json`), what is put before a text (`config_sentence_transformers.json`).

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use tokio::sync::{Semaphore, oneshot};

use super::{EmbedError, Embedder, Model, Prefixes, Vector, normalised};

mod architecture;
mod bert;
mod dense;
mod huge_pages;
pub(super) mod modules;
mod pooling;
mod team;
mod text;
mod weights;

use self::bert::Bert;
use self::huge_pages::HugePages;
use self::modules::Head;
use self::team::{Team, beside};
use self::text::Chunker;

/// The file that numbers are in, of the model and of each dense module.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// What to do where they are in PyTorch's own file, which is a program and is not run.
pub(super) const SAVE_ANEW: &str = "load the model with sentence-transformers, save it again, and name that folder in \
    MEMORY_MODEL_SOURCE";
/// Tokens of a chunk; attention costs their square.
const MAX_TOKENS: usize = 256;
/// Tokens that go through the model at once; more need more memory and are no faster.
const BATCH_TOKENS: usize = 1_024;
/// Questions that may wait. Beyond, recall does better without.
const MAX_WAITING: usize = 256;

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
        Self {
            query_threads: cores.min(4),
            index_threads: (cores / 2).clamp(1, 4),
            prefixes: Prefixes::default(),
        }
    }
}

/// The model in this process.
pub struct LocalEmbedder {
    model: Model,
    encoder: Arc<Encoder>,
    query_threads: Arc<Team>,
    index_threads: Arc<Team>,
    waiting: Semaphore,
}

impl fmt::Debug for LocalEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEmbedder")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl LocalEmbedder {
    /// Loads the model in `folder`, whose vectors are stored as those of `id`. Takes some hundred milliseconds of
    /// blocking work.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of a model that is not known; says which.
    pub fn load(folder: &Path, id: &str, options: &LocalOptions) -> io::Result<Self> {
        // Outside of any pool the first text would start one for the whole process.
        let alone = ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .map_err(io::Error::other)?;
        let encoder = alone.install(|| {
            let _allowed = HugePages::allow();
            Encoder::load(folder, options)
        })?;
        Ok(Self {
            model: Model {
                id: options.prefixes.model(id),
                dimension: encoder.head.dimension,
            },
            encoder: Arc::new(encoder),
            query_threads: Team::new("embed-query", options.query_threads.max(1))?,
            index_threads: Team::new("embed-index", options.index_threads.max(1))?,
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// Copies the weights of a model, `from` and `to` being files, with word embeddings of 16 instead of 32 bits a number.
    /// Vectors then differ by less than 1e-4.
    ///
    /// # Errors
    /// When `from` is no safetensors file of the BERT family, or `to` cannot be written.
    pub fn compact(from: &Path, to: &Path) -> io::Result<()> {
        weights::compact(from, to)
    }

    /// Runs `work` on threads of a team; the caller waits without holding a thread.
    async fn on<T: Send + 'static>(
        &self,
        team: &Arc<Team>,
        work: impl FnOnce(&Encoder, &[Arc<ThreadPool>]) -> io::Result<T> + Send + 'static,
    ) -> Result<T, EmbedError> {
        let (reply, answer) = oneshot::channel();
        let encoder = Arc::clone(&self.encoder);
        let closed = |_| EmbedError::unavailable("the model is being unloaded");
        team.members().await.map_err(closed)?.spawn(move |helpers| {
            let _ = reply.send(work(&encoder, helpers));
        });
        let gone = || EmbedError::unavailable("the model stopped in the middle of a text");
        answer
            .await
            .map_err(|_| gone())?
            .map_err(|error| embedding_error(&error))
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        self.on(&self.index_threads, move |encoder, helpers| {
            encoder.passages(&texts, helpers)
        })
        .await
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        let busy = |_| EmbedError::unavailable("too many questions wait for the model");
        let _permit = self.waiting.try_acquire().map_err(busy)?;
        self.on(&self.query_threads, move |encoder, helpers| {
            encoder.query(&text, helpers)
        })
        .await
    }
}

/// The model with its tokenizer, and what makes vectors of its states.
struct Encoder {
    bert: Bert,
    chunker: Chunker,
    head: Head,
    /// Among which a question is divided, whoever then has time for them: a text has one vector.
    shares: usize,
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
        let all = names
            .iter()
            .copied()
            .chain(self.default_prompt_name.as_deref());
        all.filter_map(|name| self.prompts.get(name))
            .next()
            .cloned()
            .unwrap_or_default()
    }
}

/// A file of the model, where it has it.
fn optional<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| named(name, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(name, error)),
    }
}

/// A text that the model cannot take is refused. A file that can no longer be read says nothing about the text.
fn embedding_error(error: &io::Error) -> EmbedError {
    if error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error().is_some() {
        return EmbedError::unavailable(format!(
            "the weights of the model cannot be read any more ({error}): check the file with `model verify`, then restart \
             the service"
        ));
    }
    EmbedError::Refused(error.to_string().into())
}

fn named(file: &str, error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {error}"))
}

impl Encoder {
    fn load(folder: &Path, options: &LocalOptions) -> io::Result<Self> {
        let prefixes = &options.prefixes;
        let bert = Bert::load(folder)?;
        let sentence: SentenceFile =
            optional(folder, "sentence_bert_config.json")?.unwrap_or_default();
        let tokenizer: TokenizerFile =
            optional(folder, "tokenizer_config.json")?.unwrap_or_default();
        let most = tokenizer
            .model_max_length
            .map_or(MAX_TOKENS, |length| length.clamp(0.0, 1e6) as usize);
        let most = sentence
            .max_seq_length
            .unwrap_or(most)
            .min(MAX_TOKENS)
            .min(bert.config.max_tokens());
        let prompts: PromptsFile =
            optional(folder, "config_sentence_transformers.json")?.unwrap_or_default();
        let stated = |prefix: &Option<String>, names: &[&str]| {
            prefix
                .as_deref()
                .map_or_else(|| prompts.prompt(names), super::spaced)
        };
        let query_prompt = stated(&prefixes.query, &["query", "search_query"]);
        let passage_prompt = stated(&prefixes.passage, &["document", "passage", "corpus"]);
        let prompted = !query_prompt.is_empty() || !passage_prompt.is_empty();
        let chunker = Chunker::load(folder, most, sentence.do_lower_case);
        let encoder = Self {
            chunker: chunker.map_err(|error| named("tokenizer.json", error))?,
            head: Head::read(folder, bert.config.hidden_size, prompted)?,
            shares: options.query_threads.max(1),
            query_prompt,
            passage_prompt,
            bert,
        };
        // Files that do not belong together show themselves here rather than with the first text.
        encoder.query("a first text", &[])?;
        Ok(encoder)
    }

    fn passages(
        &self,
        texts: &[String],
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vec<Vector>>> {
        let mut chunks = Vec::new();
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let of_text = self
                .chunker
                .all(&self.passage_prompt, text)
                .map_err(io::Error::other)?;
            counts.push(of_text.len());
            chunks.extend(of_text);
        }
        // Each thread a batch of its own: nobody waits for anybody in the middle.
        let batches = batches(&chunks, helpers.len() + 1);
        let vectors: Vec<OnceLock<_>> = batches.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let number = next.fetch_add(1, Ordering::Relaxed)
                && let Some(batch) = batches.get(number)
            {
                vectors[number].get_or_init(|| self.vectors(batch, 1, &[]));
            }
        };
        beside(helpers, &work, &mut || work());
        let vectors = vectors
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .collect::<io::Result<Vec<_>>>()?;
        let mut vectors = vectors.into_iter().flatten();
        Ok(counts
            .into_iter()
            .map(|count| vectors.by_ref().take(count).collect())
            .collect())
    }

    fn query(&self, text: &str, helpers: &[Arc<ThreadPool>]) -> io::Result<Vector> {
        let chunks = self
            .chunker
            .chunks(&self.query_prompt, text, 1)
            .map_err(io::Error::other)?;
        let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
        let mut vectors = self.vectors(&chunks, self.shares, helpers)?;
        vectors.pop().ok_or_else(|| io::Error::other("no vector"))
    }

    /// Of texts that go through the model together.
    fn vectors(
        &self,
        texts: &[&[u32]],
        shares: usize,
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vector>> {
        let hidden = self.bert.config.hidden_size;
        let states = self.bert.forward(texts, shares, helpers)?;
        let mut from = 0;
        let vector = |text: &&[u32]| {
            let to = from + text.len() * hidden;
            let vector = self.head.vector(&states[from..to]);
            from = to;
            vector
        };
        texts.iter().map(vector).collect()
    }
}

/// Consecutive texts in batches of about the same number of tokens, as many as there are threads or a multiple of it.
fn batches(texts: &[Vec<u32>], threads: usize) -> Vec<Vec<&[u32]>> {
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let count = tokens.div_ceil(BATCH_TOKENS).next_multiple_of(threads);
    let mut batches = vec![Vec::new(); count];
    let mut before = 0;
    for text in texts {
        batches[before * count / tokens].push(text.as_slice());
        before += text.len();
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}
