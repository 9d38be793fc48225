//! Implements the primitives of tokens. Changes use the owner's rights on a separate connection; reads use those of the
//! service.

use chrono::{DateTime, Utc};
use sqlx::Connection;

use super::attempt::{Effect, attempt};
use super::row_security::View;
use super::tx::Query;
use super::{CHECK, PostgresStore, sql};
use crate::domain::token::Token;
use crate::store::rules::TokenTable;
use crate::store::statement::bind;
use crate::store::{Result, StoredToken, fields};

impl PostgresStore {
    /// Runs a statement with the owner's rights and returns its token.
    async fn change_token(&self, query: Query<'_>) -> Result<Option<Token>> {
        let mut connection = self.connect().await?;
        let changing = async {
            let row = query.fetch_optional(&mut connection).await?;
            Ok(row.as_ref().map(fields::token).transpose()?)
        };
        let token = self.within("change a token", CHECK, changing).await?;
        let _ = tokio::time::timeout(CHECK, connection.close()).await;
        Ok(token.map(|stored| stored.token))
    }
}

impl TokenTable for PostgresStore {
    async fn insert_token(&self, stored: &StoredToken) -> Result<Option<Token>> {
        let token = &stored.token;
        let query = bind!(sqlx::query(sql::CREATE_TOKEN) =>
            &token.name, stored.sha256.to_vec(), &token.prefix, &token.project, &token.reads,
            token.created_at, token.expires_at);
        self.change_token(query).await
    }

    async fn replace_secret(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Token>> {
        let query = bind!(sqlx::query(sql::ROTATE_TOKEN) => name, sha256.to_vec(), prefix, now);
        self.change_token(query).await
    }

    async fn mark_revoked(&self, name: &str, now: DateTime<Utc>) -> Result<Option<Token>> {
        let query = bind!(sqlx::query(sql::REVOKE_TOKEN) => name, now);
        self.change_token(query).await
    }

    async fn read_tokens(&self) -> Result<Vec<StoredToken>> {
        attempt!(self.attempts(View::Nothing, "read the tokens", Effect::Read)?, connection => async {
            let rows = sqlx::query(sql::TOKENS).fetch_all(connection).await?;
            Ok(rows.iter().map(fields::token).collect::<sqlx::Result<_>>()?)
        })
    }
}
