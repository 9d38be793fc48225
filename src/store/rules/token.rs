//! The rules of tokens, which do not belong to a project.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::token::Token;
use crate::store::{Result, StoreError, StoredToken, TokenStore};

/// The table of tokens.
#[trait_variant::make(Send)]
pub(crate) trait TokenTable: Send + Sync + 'static {
    /// Inserts a token, or replaces a revoked one of its name. Returns `None` if a token of the name is not
    /// revoked.
    async fn insert_token(&self, token: &StoredToken) -> Result<Option<Token>>;

    /// Replaces the secret of a token. Returns `None` if no unrevoked token has the name.
    async fn replace_secret(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Token>>;

    /// Marks a token as revoked, unless it is. Returns `None` if no token has the name.
    async fn mark_revoked(&self, name: &str, now: DateTime<Utc>) -> Result<Option<Token>>;

    /// Returns all tokens by name.
    async fn read_tokens(&self) -> Result<Vec<StoredToken>>;
}

#[async_trait]
impl<T: TokenTable> TokenStore for T {
    async fn create_token(&self, stored: &StoredToken) -> Result<()> {
        let name = stored.token.name.clone();
        let created = self.insert_token(stored).await?;
        created.map(drop).ok_or(StoreError::TokenExists { name })
    }

    async fn rotate_token(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Token> {
        let rotated = self.replace_secret(name, sha256, prefix, now).await?;
        rotated.ok_or_else(|| unknown_token(name))
    }

    async fn revoke_token(&self, name: &str, now: DateTime<Utc>) -> Result<Token> {
        let revoked = self.mark_revoked(name, now).await?;
        revoked.ok_or_else(|| unknown_token(name))
    }

    async fn tokens(&self) -> Result<Vec<StoredToken>> {
        self.read_tokens().await
    }
}

fn unknown_token(name: &str) -> StoreError {
    StoreError::TokenUnknown {
        name: name.to_owned(),
    }
}
