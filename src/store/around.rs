//! What stands around the memories that words and meaning found.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use super::graph::Named;
use crate::domain::conversation::Turn;
use crate::domain::{Filter, Scope, Setting, Standing};

/// What is wanted.
#[derive(Debug, Clone)]
pub struct AroundQuery {
    /// These turns, as far as they are there, were not replaced, and pass the filter.
    pub turns: Vec<Turn>,
    /// Memories that mention entities by one of these names, which have the form of
    /// [`crate::domain::graph::names_in`].
    pub names: Vec<String>,
    /// At most so many of those, the newest.
    pub mentioning: usize,
    /// What may be returned.
    pub filter: Filter,
}

/// A turn near to others that were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// The memory.
    pub id: Uuid,
    /// Its storage order.
    pub seq: i64,
    /// How it stands apart from the question.
    pub standing: Standing,
    /// Where and by whom it was said.
    pub setting: Setting,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Around {
    /// In no order.
    pub turns: Vec<Neighbour>,
    /// What named entities contribute.
    pub named: Named,
}

/// Neighbours and mentions: one statement for both. See [`super::Store`], of which this is a part.
#[async_trait]
pub trait AroundStore: Send + Sync {
    /// Turns by their places, and memories that mention named entities.
    async fn around(&self, scope: &Scope, query: &AroundQuery) -> Result<Around>;
}
