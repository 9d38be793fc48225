//! Implements the primitives of tokens.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::cache::Delta;
use super::param::{Query, json, micros};
use super::{SqliteStore, sql};
use crate::domain::token::Token;
use crate::store::rules::TokenTable;
use crate::store::statement::bind;
use crate::store::{Result, StoredToken, fields};

impl SqliteStore {
    /// Runs a statement and returns its token.
    async fn change_token(&self, query: Query<'_>) -> Result<Option<Token>> {
        let changing = async |connection: &mut SqliteConnection, _: &mut Delta| {
            let row = query.fetch_optional(connection).await?;
            Ok(row.as_ref().map(fields::token).transpose()?)
        };
        let token = self.write("changing a token", changing).await?;
        Ok(token.map(|stored| stored.token))
    }

    /// Replaces all tokens by these.
    ///
    /// # Errors
    /// Fails if the database is not writable.
    pub async fn replace_tokens(&self, tokens: &[StoredToken]) -> Result<()> {
        self.write("replacing the tokens", async |connection, _| {
            sqlx::query(sql::DELETE_TOKENS)
                .execute(&mut *connection)
                .await?;
            for StoredToken { token, sha256 } in tokens {
                bind!(sqlx::query(sql::INSERT_TOKEN) =>
                    &token.name, sha256.as_slice(), &token.prefix, &token.project,
                    json(&token.reads), token.created_at.timestamp_micros(),
                    micros(token.expires_at), micros(token.revoked_at))
                .execute(&mut *connection)
                .await?;
            }
            Ok(())
        })
        .await
    }
}

impl TokenTable for SqliteStore {
    async fn insert_token(&self, stored: &StoredToken) -> Result<Option<Token>> {
        let token = &stored.token;
        let query = bind!(sqlx::query(sql::CREATE_TOKEN) =>
            &token.name, stored.sha256.to_vec(), &token.prefix, &token.project, json(&token.reads),
            token.created_at.timestamp_micros(), micros(token.expires_at));
        self.change_token(query).await
    }

    async fn replace_secret(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Token>> {
        let query = bind!(sqlx::query(sql::ROTATE_TOKEN) =>
            name, sha256.to_vec(), prefix, now.timestamp_micros());
        self.change_token(query).await
    }

    async fn mark_revoked(&self, name: &str, now: DateTime<Utc>) -> Result<Option<Token>> {
        let query = bind!(sqlx::query(sql::REVOKE_TOKEN) => name, now.timestamp_micros());
        self.change_token(query).await
    }

    async fn read_tokens(&self) -> Result<Vec<StoredToken>> {
        let open = self.opened()?;
        self.bounded("reading the tokens", async {
            let mut connection = open.connection().await?;
            let rows = sqlx::query(sql::TOKENS).fetch_all(&mut *connection).await?;
            Ok(rows
                .iter()
                .map(fields::token)
                .collect::<sqlx::Result<_>>()?)
        })
        .await
    }
}
