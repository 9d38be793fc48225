//! Tokens. Changed with the rights of the owner, on a connection of its own; read with those of the service.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, Row};

use super::attempt::{Effect, attempt};
use super::row_security::View;
use super::{CHECK, PostgresStore, sql};
use crate::domain::token::Token;
use crate::store::{Result, StoreError, StoredToken, TokenStore};

struct TokenRow(StoredToken);

impl FromRow<'_, PgRow> for TokenRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let sha256: Vec<u8> = row.try_get("sha256")?;
        Ok(Self(StoredToken {
            token: Token {
                name: row.try_get("name")?,
                project: row.try_get("project")?,
                reads: row.try_get("reads")?,
                prefix: row.try_get("prefix")?,
                created_at: row.try_get("created_at")?,
                expires_at: row.try_get("expires_at")?,
                revoked_at: row.try_get("revoked_at")?,
            },
            sha256: sha256
                .try_into()
                .map_err(|_| sqlx::Error::Decode("a hash has 32 bytes".into()))?,
        }))
    }
}

impl PostgresStore {
    /// The token that a statement of the owner's gave back.
    async fn change_token<'q>(
        &self,
        query: sqlx::query::QueryAs<'q, sqlx::Postgres, TokenRow, sqlx::postgres::PgArguments>,
    ) -> Result<Option<Token>> {
        let mut connection = self.connect().await?;
        let row = self
            .within("change a token", CHECK, async {
                Ok(query.fetch_optional(&mut connection).await?)
            })
            .await?;
        let _ = tokio::time::timeout(CHECK, connection.close()).await;
        Ok(row.map(|row| row.0.token))
    }
}

#[async_trait]
impl TokenStore for PostgresStore {
    async fn create_token(&self, stored: &StoredToken) -> Result<()> {
        let token = &stored.token;
        let query = sqlx::query_as(sql::CREATE_TOKEN)
            .bind(&token.name)
            .bind(stored.sha256.as_slice())
            .bind(&token.prefix)
            .bind(&token.project)
            .bind(&token.reads)
            .bind(token.created_at)
            .bind(token.expires_at);
        match self.change_token(query).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::TokenExists {
                name: token.name.clone(),
            }),
        }
    }

    async fn rotate_token(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Token> {
        let hash = sha256.to_vec();
        let query = sqlx::query_as(sql::ROTATE_TOKEN)
            .bind(name)
            .bind(hash)
            .bind(prefix)
            .bind(now);
        self.change_token(query)
            .await?
            .ok_or_else(|| StoreError::TokenUnknown {
                name: name.to_owned(),
            })
    }

    async fn revoke_token(&self, name: &str, now: DateTime<Utc>) -> Result<Token> {
        let query = sqlx::query_as(sql::REVOKE_TOKEN).bind(name).bind(now);
        self.change_token(query)
            .await?
            .ok_or_else(|| StoreError::TokenUnknown {
                name: name.to_owned(),
            })
    }

    async fn tokens(&self) -> Result<Vec<StoredToken>> {
        let mut attempts = self.attempts(View::Nothing, "read the tokens", Effect::Read)?;
        let rows: Vec<TokenRow> = attempt!(attempts, connection => async {
            Ok(sqlx::query_as(sql::TOKENS).fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }
}
