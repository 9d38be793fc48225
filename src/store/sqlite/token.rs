//! Tokens in the embedded database.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::error::from_sqlx;
use super::write::{json, micros};
use super::{SqliteStore, sql};
use crate::domain::token::Token;
use crate::store::{Result, StoreError, StoredToken, TokenStore};

fn read(row: &SqliteRow) -> sqlx::Result<StoredToken> {
    let time = |column: &str| {
        Ok::<_, sqlx::Error>(
            row.try_get::<Option<i64>, _>(column)?
                .and_then(DateTime::from_timestamp_micros),
        )
    };
    let decode = |error: &str| sqlx::Error::Decode(error.into());
    let reads: &str = row.try_get("reads")?;
    Ok(StoredToken {
        token: Token {
            name: row.try_get("name")?,
            project: row.try_get("project")?,
            reads: serde_json::from_str(reads)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            prefix: row.try_get("prefix")?,
            created_at: time("created_at")?.ok_or_else(|| decode("a token without a time"))?,
            expires_at: time("expires_at")?,
            revoked_at: time("revoked_at")?,
        },
        sha256: row
            .try_get::<&[u8], _>("sha256")?
            .try_into()
            .map_err(|_| decode("a hash has 32 bytes"))?,
    })
}

async fn one(
    connection: &mut SqliteConnection,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<Option<Token>> {
    let failed = |error| from_sqlx(error, "changing a token");
    let row = query.fetch_optional(connection).await.map_err(failed)?;
    row.as_ref()
        .map(read)
        .transpose()
        .map_err(failed)
        .map(|found| found.map(|stored| stored.token))
}

impl SqliteStore {
    /// Puts these tokens in the place of all that there are.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn replace_tokens(&self, tokens: &[StoredToken]) -> Result<()> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let failed = |error| from_sqlx(error, "replacing the tokens");
            sqlx::query(sql::DELETE_TOKENS)
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            for StoredToken { token, sha256 } in tokens {
                sqlx::query(sql::INSERT_TOKEN)
                    .bind(&token.name)
                    .bind(sha256.as_slice())
                    .bind(&token.prefix)
                    .bind(&token.project)
                    .bind(json(&token.reads))
                    .bind(token.created_at.timestamp_micros())
                    .bind(micros(token.expires_at))
                    .bind(micros(token.revoked_at))
                    .execute(&mut *connection)
                    .await
                    .map_err(failed)?;
            }
            Ok(())
        }))
        .await
    }
}

#[async_trait]
impl TokenStore for SqliteStore {
    async fn create_token(&self, stored: &StoredToken) -> Result<()> {
        let open = self.opened()?;
        let token = &stored.token;
        self.bounded(open.write(async |connection, _| {
            let query = sqlx::query(sql::CREATE_TOKEN)
                .bind(&token.name)
                .bind(stored.sha256.as_slice())
                .bind(&token.prefix)
                .bind(&token.project)
                .bind(json(&token.reads))
                .bind(token.created_at.timestamp_micros())
                .bind(micros(token.expires_at));
            match one(connection, query).await? {
                Some(_) => Ok(()),
                None => Err(StoreError::TokenExists {
                    name: token.name.clone(),
                }),
            }
        }))
        .await
    }

    async fn rotate_token(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Token> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let query = sqlx::query(sql::ROTATE_TOKEN)
                .bind(name)
                .bind(sha256.as_slice())
                .bind(prefix)
                .bind(now.timestamp_micros());
            one(connection, query)
                .await?
                .ok_or_else(|| StoreError::TokenUnknown {
                    name: name.to_owned(),
                })
        }))
        .await
    }

    async fn revoke_token(&self, name: &str, now: DateTime<Utc>) -> Result<Token> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let query = sqlx::query(sql::REVOKE_TOKEN)
                .bind(name)
                .bind(now.timestamp_micros());
            one(connection, query)
                .await?
                .ok_or_else(|| StoreError::TokenUnknown {
                    name: name.to_owned(),
                })
        }))
        .await
    }

    async fn tokens(&self) -> Result<Vec<StoredToken>> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let failed = |error| from_sqlx(error, "reading the tokens");
            let rows = sqlx::query(sql::TOKENS)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            rows.iter()
                .map(read)
                .collect::<sqlx::Result<_>>()
                .map_err(failed)
        })
        .await
    }
}
