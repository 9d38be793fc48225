//! Tokens in the database. Tokens define scopes and therefore have none; only the authenticator and the owner's
//! command line use them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;
use crate::domain::token::Token;

/// A stored token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The description of the token.
    pub token: Token,
    /// SHA-256 of the secret. The secret itself is not stored.
    pub sha256: [u8; 32],
}

/// Storage of tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a new token. It replaces a revoked token of the same name.
    ///
    /// # Errors
    /// [`StoreError::TokenExists`](super::StoreError::TokenExists).
    async fn create_token(&self, token: &StoredToken) -> Result<()>;

    /// Replaces the secret of a token; the old secret stops working.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`](super::StoreError::TokenUnknown), also if the token was revoked.
    async fn rotate_token(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Token>;

    /// Revokes a token. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`](super::StoreError::TokenUnknown).
    async fn revoke_token(&self, name: &str, now: DateTime<Utc>) -> Result<Token>;

    /// Returns all tokens by name, including those that are no longer valid.
    async fn tokens(&self) -> Result<Vec<StoredToken>>;
}
