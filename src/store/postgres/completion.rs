//! [`CompletionStore`] on PostgreSQL.

use async_trait::async_trait;
use uuid::Uuid;

use super::attempt::{Effect, attempt};
use super::sql::{COMPLETE_IDS, COMPLETE_TAGS};
use super::{PostgresStore, bounded};
use crate::domain::Scope;
use crate::store::Result;
use crate::store::completion::{COMPLETION_WINDOW, CompletionStore};

#[async_trait]
impl CompletionStore for PostgresStore {
    async fn tags_with_prefix(
        &self,
        scope: &Scope,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "complete a tag", Effect::Read)?;
        attempt!(attempts, connection => async {
            let query = sqlx::query_scalar(COMPLETE_TAGS)
                .bind(&readable)
                .bind(COMPLETION_WINDOW)
                .bind(prefix)
                .bind(bounded(limit));
            Ok(query.fetch_all(connection).await?)
        })
    }

    async fn ids_with_prefix(
        &self,
        scope: &Scope,
        digits: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "complete an id", Effect::Read)?;
        attempt!(attempts, connection => async {
            let query = sqlx::query_scalar(COMPLETE_IDS)
                .bind(&readable)
                .bind(COMPLETION_WINDOW)
                .bind(digits)
                .bind(bounded(limit));
            Ok(query.fetch_all(connection).await?)
        })
    }
}
