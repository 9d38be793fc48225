//! Tokens in the database. They are the one thing here that has no scope: they are where scopes come from, and only
//! the gate and the owner's command line ask for them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Result;
use crate::domain::token::Token;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Whose it is.
    pub token: Token,
    /// SHA-256 of the token itself, which is kept nowhere.
    pub sha256: [u8; 32],
}

/// Keeps tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Keeps a new token. One of the same name that was revoked gives way to it.
    ///
    /// # Errors
    /// [`StoreError::TokenExists`](super::StoreError::TokenExists).
    async fn create_token(&self, token: &StoredToken) -> Result<()>;

    /// Puts another secret in the place of the old one, which opens nothing from then on.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`](super::StoreError::TokenUnknown), also when it was revoked.
    async fn rotate_token(
        &self,
        name: &str,
        sha256: [u8; 32],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Token>;

    /// Ends a token. Revoking it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TokenUnknown`](super::StoreError::TokenUnknown).
    async fn revoke_token(&self, name: &str, now: DateTime<Utc>) -> Result<Token>;

    /// All tokens by name, also those that no longer hold.
    async fn tokens(&self) -> Result<Vec<StoredToken>>;
}
