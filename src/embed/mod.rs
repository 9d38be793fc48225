//! Embeddings of texts: by a model in the process, or by an endpoint that is compatible with OpenAI.
//!
//! Depends on the crate `sentence-bert` and on `domain`. Owns the invariants that a vector is finite and has length 1 and the
//! dimension of its model, and that the model never changes silently: each vector has the name of its model. To add an embedder,
//! implement [`Embedder`].

#![warn(missing_docs)]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub mod catalog;
mod desk;
pub mod fetch;
pub mod http;
pub mod local;
mod query_cache;

pub use desk::{Desk, QueryVector};

/// The model of a vector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Model {
    /// Name under which its vectors are stored.
    pub id: String,
    /// Dimension of its vectors.
    pub dimension: usize,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} dimensions)", self.id, self.dimension)
    }
}

/// Texts that the user configured before questions and passages, without the following space. `None` uses the prompt in
/// the files of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Before questions.
    pub query: Option<String>,
    /// Before texts that are indexed.
    pub passage: Option<String>,
}

impl Prefixes {
    /// Returns the name under which vectors are stored. The prefix of passages changes the vectors, so it is part of the name.
    fn model_id(&self, id: &str) -> String {
        self.passage.as_ref().map_or_else(
            || id.to_owned(),
            |passage| format!("{id} behind {passage:?}"),
        )
    }
}

/// Adds the space that settings lose at their end.
fn with_space(prefix: &str) -> String {
    if prefix.is_empty() {
        String::new()
    } else {
        format!("{} ", prefix.trim_end())
    }
}

/// An embedding of length 1, without NaN.
pub type Vector = Vec<f32>;

/// Computes vectors of texts. Every method is limited in time.
#[async_trait]
pub trait Embedder: Send + Sync + fmt::Debug {
    /// Returns the model, which never changes.
    fn model(&self) -> &Model;

    /// Computes the vectors of texts that are indexed: one for each chunk, at least one per text.
    ///
    /// # Errors
    /// See [`EmbedError`]. No text of the batch has vectors then.
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError>;

    /// Computes the vector of a question. Never waits for [`Embedder::passages`].
    ///
    /// # Errors
    /// See [`EmbedError`].
    async fn query(&self, text: String) -> Result<Vector, EmbedError>;
}

/// The reason why there is no vector.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// The embedder is unavailable, slow or overloaded. A retry may succeed.
    #[error("{reason}")]
    Unavailable {
        /// Without secrets.
        reason: Arc<str>,
        /// Time until the next attempt, if the embedder returned one.
        retry_after: Option<std::time::Duration>,
    },
    /// The embedder never accepts this input.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The result is not a vector of this model.
    #[error("{0}")]
    Invalid(Arc<str>),
}

impl EmbedError {
    /// Returns an error after which a retry may succeed.
    pub fn unavailable(reason: impl Into<Arc<str>>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// Scales a vector to length 1.
///
/// # Errors
/// Fails if its dimension differs from that of the model, or if it has NaN, infinite or only zero elements.
pub fn normalize_vector(vector: Vector, dimension: usize) -> Result<Vector, EmbedError> {
    if vector.len() != dimension {
        let found = vector.len();
        return Err(EmbedError::Invalid(
            format!("a vector of {found} dimensions was returned, the model has {dimension}")
                .into(),
        ));
    }
    sentence_bert::scale_to_unit(vector).ok_or_else(|| {
        EmbedError::Invalid("a vector with NaN, infinite or only zero elements was returned".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vectors_of_the_model_pass() {
        assert_eq!(normalize_vector(vec![3.0, 4.0], 2).unwrap(), [0.6, 0.8]);
        for wrong in [
            vec![1.0],
            vec![f32::NAN, 1.0],
            vec![f32::INFINITY, 0.0],
            vec![0.0, 0.0],
        ] {
            assert!(matches!(
                normalize_vector(wrong, 2),
                Err(EmbedError::Invalid(_))
            ));
        }
    }
}
