//! What completes a word that a person is typing.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::domain::Scope;

/// How many of each readable project's newest live memories are looked at: an answer to a keystroke is bounded, and
/// what was used lately is what people mean.
pub const COMPLETION_WINDOW: i64 = 5_000;

/// Suggestions from the newest live memories of the scope's readable projects, see [`COMPLETION_WINDOW`].
#[async_trait]
pub trait CompletionStore: Send + Sync + 'static {
    /// Tags that begin with `prefix`, the most used first, then by name.
    async fn tags_with_prefix(
        &self,
        scope: &Scope,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>>;

    /// Ids whose hexadecimal digits, without hyphens and in small letters, begin with `digits`; the newest first.
    async fn ids_with_prefix(&self, scope: &Scope, digits: &str, limit: usize)
    -> Result<Vec<Uuid>>;
}
