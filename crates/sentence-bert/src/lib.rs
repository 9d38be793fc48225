//! Embeddings of sentences with models of the BERT family, computed by this process.
//!
//! Depends on nothing in the product. Invariants: an embedding is finite and of length 1, and questions never wait for
//! passages, because each have their own threads. All properties of a model are read from its files; a model that is
//! not fully understood is refused.

#![warn(missing_docs)]

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use tokio::sync::oneshot;

mod architecture;
mod bert;
mod compact;
mod dense;
mod file;
mod huge_pages;
mod loader;
mod matrix;
mod modules;
mod pooling;
mod question_queue;
mod team;
mod text;
mod tokenizer;
mod unigram;
mod weights;

pub use compact::{Precision, compact_json, compact_weights};
pub use file::{SAVE_AGAIN, WEIGHTS_FILE};
pub use matrix::Arithmetic;
pub use modules::list_module_files;

use bert::Bert;
use file::{read_optional, with_file_name};
use huge_pages::HugePages;
use modules::Head;
use question_queue::QuestionQueue;
use team::{Team, run_beside};
use text::Chunker;

/// Maximum number of tokens of a chunk. The cost of attention grows with its square.
const MAX_TOKENS: usize = 256;
/// Number of tokens of a batch. Larger batches need more memory and are not faster.
const BATCH_TOKENS: usize = 1_024;

/// Options for running a model.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads for questions.
    pub query_threads: usize,
    /// Threads for passages.
    pub index_threads: usize,
    /// Text before each question. `None` uses the prompt in the files of the model.
    pub query_prompt: Option<String>,
    /// Text before each passage. `None` uses the prompt in the files of the model.
    pub passage_prompt: Option<String>,
    /// Arithmetic of products with weights.
    pub arithmetic: Arithmetic,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            query_threads: cores.min(4),
            index_threads: (cores / 2).clamp(1, 4),
            query_prompt: None,
            passage_prompt: None,
            arithmetic: Arithmetic::Integer,
        }
    }
}

/// The reason why there is no embedding.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The model cannot work now; a retry may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The model does not accept this text.
    #[error("{0}")]
    Refused(String),
}

/// A loaded model.
pub struct SentenceModel {
    encoder: Arc<Encoder>,
    questions: Arc<QuestionQueue>,
    index_team: Arc<Team>,
}

impl fmt::Debug for SentenceModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentenceModel").finish_non_exhaustive()
    }
}

impl SentenceModel {
    /// Loads the model in `folder`. Blocks for some hundred milliseconds.
    ///
    /// # Errors
    /// Fails if a file is missing or damaged, or if the model is not supported. The error names the file.
    pub fn load(folder: &Path, options: &Options) -> io::Result<Self> {
        // Outside a pool, the first text would start one for the whole process.
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .map_err(io::Error::other)?;
        let encoder = pool.install(|| {
            let _allowed = HugePages::allow();
            Encoder::load(folder, options)
        })?;
        let encoder = Arc::new(encoder);
        let query_team = Team::new("embed-query", options.query_threads.max(1))?;
        Ok(Self {
            questions: QuestionQueue::new(Arc::clone(&encoder), query_team),
            index_team: Team::new("embed-index", options.index_threads.max(1))?,
            encoder,
        })
    }

    /// Returns the dimension of an embedding.
    pub fn dimension(&self) -> usize {
        self.encoder.head.dimension
    }

    /// Embeds passages: one embedding per chunk of each text, at least one per text.
    ///
    /// # Errors
    /// See [`Error`]. No text is embedded then.
    pub async fn embed_passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let unloaded = |_| Error::Unavailable("the model is being unloaded".to_owned());
        let (reply, answer) = oneshot::channel();
        let encoder = Arc::clone(&self.encoder);
        let members = self.index_team.take_members().await.map_err(unloaded)?;
        members.spawn_work(move |helpers| {
            let _ = reply.send(encoder.embed_passages(&texts, helpers));
        });
        await_answer(answer).await
    }

    /// Embeds a question.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn embed_query(&self, text: String) -> Result<Vec<f32>, Error> {
        await_answer(self.questions.add_question(text)?).await
    }
}

/// Waits for the result of a thread without blocking this one.
async fn await_answer<T>(answer: oneshot::Receiver<io::Result<T>>) -> Result<T, Error> {
    let stopped = |_| Error::Unavailable("the model stopped in the middle of a text".to_owned());
    answer
        .await
        .map_err(stopped)?
        .map_err(|error| classify_error(&error))
}

/// Classifies an error: a text that the model does not accept is refused, but an unreadable file is not the fault of
/// the text.
fn classify_error(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error().is_some() {
        return Error::Unavailable(format!(
            "the weights of the model cannot be read any more ({error}): check the file with `model verify`, then restart \
             the service"
        ));
    }
    Error::Refused(error.to_string())
}

/// Scales a vector to length 1. Returns `None` if it has no direction, or NaN or infinite elements.
pub fn scale_to_unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    // Also catches NaN.
    if !(square.is_finite() && square > 0.0) {
        return None;
    }
    let scale = (1.0 / square.sqrt()) as f32;
    vector.iter_mut().for_each(|x| *x *= scale);
    Some(vector)
}

/// The model with its tokenizer and pooling.
struct Encoder {
    bert: Bert,
    chunker: Chunker,
    head: Head,
    /// Number of parts into which a question is divided. Constant, so that a text always has the same embedding.
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

/// Newer models define their maximum length here. Models without a limit have a number beyond all integers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerFile {
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptsFile {
    prompts: HashMap<String, String>,
    default_prompt_name: Option<String>,
}

impl PromptsFile {
    /// Returns the first prompt of these names, or else the default prompt.
    fn find_prompt(&self, names: &[&str]) -> String {
        let default = self.default_prompt_name.as_deref();
        names
            .iter()
            .copied()
            .chain(default)
            .find_map(|name| self.prompts.get(name).cloned())
            .unwrap_or_default()
    }
}

impl Encoder {
    fn load(folder: &Path, options: &Options) -> io::Result<Self> {
        let bert = Bert::load(folder, options.arithmetic)?;
        let sentence: SentenceFile =
            read_optional(folder, "sentence_bert_config.json")?.unwrap_or_default();
        let prompts: PromptsFile =
            read_optional(folder, "config_sentence_transformers.json")?.unwrap_or_default();
        let choose = |stated: &Option<String>, names: &[&str]| {
            stated.clone().unwrap_or_else(|| prompts.find_prompt(names))
        };
        let query_prompt = choose(&options.query_prompt, &["query", "search_query"]);
        let passage_prompt = choose(&options.passage_prompt, &["document", "passage", "corpus"]);
        let has_prompt = !query_prompt.is_empty() || !passage_prompt.is_empty();
        let max_tokens = read_max_tokens(folder, &sentence)?.min(bert.config.max_tokens());
        let chunker = Chunker::load(folder, max_tokens, sentence.do_lower_case);
        let encoder = Self {
            chunker: chunker.map_err(|error| with_file_name("tokenizer.json", error))?,
            head: Head::read_files(folder, bert.config.hidden_size, has_prompt)?,
            shares: options.query_threads.max(1),
            query_prompt,
            passage_prompt,
            bert,
        };
        // Files of different models fail here rather than with the first text.
        encoder.embed_query("a first text", &[])?;
        Ok(encoder)
    }

    fn embed_passages(
        &self,
        texts: &[String],
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vec<Vec<f32>>>> {
        let mut chunks = Vec::new();
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let of_text = self
                .chunker
                .split_all(&self.passage_prompt, text)
                .map_err(io::Error::other)?;
            counts.push(of_text.len());
            chunks.extend(of_text);
        }
        let mut vectors = self.embed_batches(&chunks, helpers)?.into_iter();
        Ok(counts
            .into_iter()
            .map(|count| vectors.by_ref().take(count).collect())
            .collect())
    }

    /// Embeds chunks. Each thread processes its own batch, so that threads do not wait for each other.
    fn embed_batches(
        &self,
        chunks: &[Vec<u32>],
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vec<f32>>> {
        let batches = divide_into_batches(chunks, helpers.len() + 1);
        let vectors: Vec<OnceLock<_>> = batches.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let number = next.fetch_add(1, Ordering::Relaxed)
                && let Some(batch) = batches.get(number)
            {
                vectors[number].get_or_init(|| self.embed_chunks(batch, 1, &[]));
            }
        };
        run_beside(helpers, &work, &mut || work());
        let vectors = vectors
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .collect::<io::Result<Vec<_>>>()?;
        Ok(vectors.into_iter().flatten().collect())
    }

    fn embed_query(&self, text: &str, helpers: &[Arc<ThreadPool>]) -> io::Result<Vec<f32>> {
        let mut vectors = self.embed_queries(&[text], helpers)?;
        vectors.pop().ok_or_else(|| io::Error::other("no vector"))
    }

    /// Embeds questions in one pass through the model.
    fn embed_queries(
        &self,
        texts: &[&str],
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vec<f32>>> {
        let mut chunks = Vec::with_capacity(texts.len());
        for text in texts {
            let of_text = self
                .chunker
                .split_text(&self.query_prompt, text, 1)
                .map_err(io::Error::other)?;
            chunks.extend(of_text.into_iter().next_back());
        }
        let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
        let vectors = self.embed_chunks(&chunks, self.shares, helpers)?;
        match vectors.len() == texts.len() {
            true => Ok(vectors),
            false => Err(io::Error::other("a text has no tokens")),
        }
    }

    /// Embeds chunks in one pass through the model.
    fn embed_chunks(
        &self,
        chunks: &[&[u32]],
        shares: usize,
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<Vec<f32>>> {
        let states = self.bert.run_forward(chunks, shares, helpers)?;
        let mut rest = states.as_slice();
        let mut vectors = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (states, others) = rest.split_at(chunk.len() * self.bert.config.hidden_size);
            vectors.push(self.head.embed_states(states)?);
            rest = others;
        }
        Ok(vectors)
    }
}

fn read_max_tokens(folder: &Path, sentence: &SentenceFile) -> io::Result<usize> {
    let tokenizer: TokenizerFile =
        read_optional(folder, "tokenizer_config.json")?.unwrap_or_default();
    let of_tokenizer = tokenizer
        .model_max_length
        .map_or(MAX_TOKENS, |length| length.clamp(0.0, 1e6) as usize);
    Ok(sentence
        .max_seq_length
        .unwrap_or(of_tokenizer)
        .min(MAX_TOKENS))
}

/// Divides consecutive texts into batches of about the same number of tokens. Their number is a multiple of `threads`.
fn divide_into_batches(texts: &[Vec<u32>], threads: usize) -> Vec<Vec<&[u32]>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vectors_with_a_direction_are_scaled() {
        assert_eq!(scale_to_unit(vec![3.0, 4.0]), Some(vec![0.6, 0.8]));
        for wrong in [
            vec![f32::NAN, 1.0],
            vec![f32::INFINITY, 0.0],
            vec![0.0, 0.0],
            Vec::new(),
        ] {
            assert_eq!(scale_to_unit(wrong), None);
        }
    }
}
