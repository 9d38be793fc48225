//! From texts to vectors: a model inside the process, or an endpoint that speaks as OpenAI's does.
//!
//! Depends on `domain` only. Owns the invariants that a vector is finite, of length 1 and of the model's dimension, and
//! that the model is never exchanged silently: each vector travels with the name of its model. To add an embedder,
//! implement [`Embedder`].

#![warn(missing_docs)]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

mod desk;
pub mod fetch;
pub mod http;
pub mod local;
mod query_cache;

pub use desk::{Desk, QueryVector};

/// Which model made a vector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Model {
    /// Name under which its vectors are stored.
    pub id: String,
    /// Numbers in a vector.
    pub dimension: usize,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} dimensions)", self.id, self.dimension)
    }
}

/// What a person wants to stand before texts, without the space that follows it. Nothing: what the model's own files
/// say, if there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Before questions.
    pub query: Option<String>,
    /// Before texts that are to be found.
    pub passage: Option<String>,
}

impl Prefixes {
    /// The model under which vectors of texts behind this prefix are kept: they are others than without it.
    fn model(&self, id: &str) -> String {
        self.passage.as_ref().map_or_else(
            || id.to_owned(),
            |passage| format!("{id} behind {passage:?}"),
        )
    }
}

/// A prefix with the space that settings lose at their end.
fn spaced(prefix: &str) -> String {
    if prefix.is_empty() {
        String::new()
    } else {
        format!("{} ", prefix.trim_end())
    }
}

/// Of length 1 and without NaN.
pub type Vector = Vec<f32>;

/// Makes vectors of texts. Every method is bounded in time.
#[async_trait]
pub trait Embedder: Send + Sync + fmt::Debug {
    /// The model, which never changes.
    fn model(&self) -> &Model;

    /// The vectors of texts that are to be found: one for each chunk of each text, at least one a text.
    ///
    /// # Errors
    /// See [`EmbedError`]; no text of the batch has got its vectors then.
    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError>;

    /// The vector of a question. Never waits behind [`Embedder::passages`].
    ///
    /// # Errors
    /// See [`EmbedError`].
    async fn query(&self, text: String) -> Result<Vector, EmbedError>;
}

/// Why there is no vector.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// The embedder is away, slow or has too much to do. Worth another attempt.
    #[error("{reason}")]
    Unavailable {
        /// What happened, free of secrets.
        reason: Arc<str>,
        /// When to come back, where it was said.
        retry_after: Option<std::time::Duration>,
    },
    /// The embedder does not take this input, today or tomorrow.
    #[error("{0}")]
    Refused(Arc<str>),
    /// What came back is no vector of this model.
    #[error("{0}")]
    Invalid(Arc<str>),
}

impl EmbedError {
    /// Worth another attempt.
    pub fn unavailable(reason: impl Into<Arc<str>>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// Makes a vector one of length 1.
///
/// # Errors
/// When it has another dimension than the model, or a number that is none, or no direction.
pub fn normalised(mut vector: Vector, dimension: usize) -> Result<Vector, EmbedError> {
    if vector.len() != dimension {
        let found = vector.len();
        return Err(EmbedError::Invalid(
            format!("a vector of {found} dimensions was returned, the model has {dimension}")
                .into(),
        ));
    }
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    // Catches NaN and the infinite, too.
    if !(square.is_finite() && square > 0.0) {
        return Err(EmbedError::Invalid(
            "a vector with NaN, infinite or only zero elements was returned".into(),
        ));
    }
    let scale = (1.0 / square.sqrt()) as f32;
    vector.iter_mut().for_each(|x| *x *= scale);
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vectors_of_the_model_pass() {
        assert_eq!(normalised(vec![3.0, 4.0], 2).unwrap(), [0.6, 0.8]);
        for wrong in [
            vec![1.0],
            vec![f32::NAN, 1.0],
            vec![f32::INFINITY, 0.0],
            vec![0.0, 0.0],
        ] {
            assert!(matches!(normalised(wrong, 2), Err(EmbedError::Invalid(_))));
        }
    }
}
