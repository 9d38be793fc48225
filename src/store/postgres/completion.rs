//! [`CompletionStore`] on PostgreSQL.

use async_trait::async_trait;
use uuid::Uuid;

use super::attempt::read;
use super::sql::{COMPLETE_IDS, COMPLETE_TAGS};
use super::{PostgresStore, bounded};
use crate::domain::Scope;
use crate::store::Result;
use crate::store::completion::{COMPLETION_WINDOW, CompletionStore};
use crate::store::statement::bind;

#[async_trait]
impl CompletionStore for PostgresStore {
    async fn tags_with_prefix(
        &self,
        scope: &Scope,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        read!(self, scope, "complete a tag", connection, readable => async {
            let query = bind!(sqlx::query_scalar(COMPLETE_TAGS) =>
                &readable, COMPLETION_WINDOW, prefix, bounded(limit));
            Ok(query.fetch_all(connection).await?)
        })
    }

    async fn ids_with_prefix(
        &self,
        scope: &Scope,
        digits: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>> {
        read!(self, scope, "complete an id", connection, readable => async {
            let query = bind!(sqlx::query_scalar(COMPLETE_IDS) =>
                &readable, COMPLETION_WINDOW, digits, bounded(limit));
            Ok(query.fetch_all(connection).await?)
        })
    }
}
