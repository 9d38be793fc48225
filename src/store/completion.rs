//! Completion of a word that a person is typing.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::domain::Scope;

/// Newest live memories of each readable project that are searched. The limit bounds the time of an answer to a
/// keystroke, and recently used values are the likely ones.
pub const COMPLETION_WINDOW: i64 = 5_000;

/// Suggestions from the newest live memories of the scope's readable projects; see [`COMPLETION_WINDOW`].
#[async_trait]
pub trait CompletionStore: Send + Sync + 'static {
    /// Returns tags that begin with `prefix`, most used first, then by name.
    async fn tags_with_prefix(
        &self,
        scope: &Scope,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>>;

    /// Returns IDs whose lower-case hexadecimal digits, without hyphens, begin with `digits`; newest first.
    async fn ids_with_prefix(&self, scope: &Scope, digits: &str, limit: usize)
    -> Result<Vec<Uuid>>;
}
