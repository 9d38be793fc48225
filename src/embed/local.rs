//! A sentence model of the BERT family in this process, by the crate `sentence-bert`.

use std::io;
use std::path::Path;

use async_trait::async_trait;
pub use sentence_bert::Arithmetic;
use sentence_bert::{Options, SentenceModel};

use super::{EmbedError, Embedder, Model, Prefixes, Vector, with_space};

/// Options of a local model.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Number of threads for questions.
    pub query_threads: usize,
    /// Number of threads for texts that are being indexed.
    pub index_threads: usize,
    /// Text before questions and passages.
    pub prefixes: Prefixes,
    /// Arithmetic of products with weights.
    pub arithmetic: Arithmetic,
}

impl Default for LocalOptions {
    fn default() -> Self {
        let Options {
            query_threads,
            index_threads,
            arithmetic,
            ..
        } = Options::default();
        Self {
            query_threads,
            index_threads,
            prefixes: Prefixes::default(),
            arithmetic,
        }
    }
}

/// The model in this process.
#[derive(Debug)]
pub struct LocalEmbedder {
    model: Model,
    sentences: SentenceModel,
}

impl LocalEmbedder {
    /// Loads the model in `folder`, whose embeddings are stored under `id`. Blocks for some hundred milliseconds.
    ///
    /// # Errors
    /// Fails if a file is missing or damaged, or if the model is not supported. The error names the file.
    pub fn load(folder: &Path, id: &str, options: &LocalOptions) -> io::Result<Self> {
        let prefixes = &options.prefixes;
        let sentences = SentenceModel::load(
            folder,
            &Options {
                query_threads: options.query_threads,
                index_threads: options.index_threads,
                query_prompt: prefixes.query.as_deref().map(with_space),
                passage_prompt: prefixes.passage.as_deref().map(with_space),
                arithmetic: options.arithmetic,
            },
        )?;
        Ok(Self {
            model: Model {
                id: prefixes.model_id(id),
                dimension: sentences.dimension(),
            },
            sentences,
        })
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        Ok(self.sentences.embed_passages(texts).await?)
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        Ok(self.sentences.embed_query(text).await?)
    }
}

impl From<sentence_bert::Error> for EmbedError {
    fn from(error: sentence_bert::Error) -> Self {
        match error {
            sentence_bert::Error::Unavailable(reason) => Self::unavailable(reason),
            sentence_bert::Error::Refused(reason) => Self::Refused(reason.into()),
        }
    }
}
