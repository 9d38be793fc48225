//! Tokens of the database: the owner creates, lists, rotates and revokes them, and the authenticator
//! looks them up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::SecondsFormat;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Engine, EngineError};
use crate::domain::token::{MAX_NAME_LENGTH, PREFIX_LENGTH, TOKEN_MARK, Token, is_name};
use crate::domain::validate::{self, Invalid};
use crate::store::StoredToken;

/// 256 bits, which cannot be guessed.
const TOKEN_BYTES: usize = 32;
/// Maximum number of projects that one token reads.
const MOST_READS: usize = 100;

/// A command of the owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenCommand {
    /// Creates a token.
    Create {
        /// Name of the token.
        name: String,
        /// The project that the token writes.
        project: String,
        /// Further projects that the token reads.
        #[serde(default)]
        reads: Vec<String>,
        /// RFC 3339, or a date.
        #[serde(default)]
        expires: Option<String>,
    },
    /// Lists all tokens.
    List,
    /// Revokes the token of that name.
    Revoke { name: String },
    /// Replaces the secret and keeps the rights.
    Rotate { name: String },
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The secret, which is shown only this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The affected tokens.
    pub tokens: Vec<TokenView>,
}

/// A token for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Name of the token.
    pub name: String,
    /// The project that the token writes.
    pub project: String,
    /// Further projects that the token reads.
    pub reads: Vec<String>,
    /// The first characters of the secret.
    pub prefix: String,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// When the token was created.
    pub created_at: String,
    /// When the token expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Returns a random secret from the generator of the operating system.
///
/// # Errors
/// Fails if the generator is not available.
pub fn fresh_token() -> std::io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("the operating system gave no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

struct Secret {
    text: String,
    sha256: [u8; 32],
    prefix: String,
}

impl Secret {
    fn fresh() -> Result<Self, EngineError> {
        let random = fresh_token().map_err(|error| {
            let reason = error.to_string();
            EngineError::Store(crate::store::StoreError::Unavailable {
                reason,
                source: None,
            })
        })?;
        let text = format!("{TOKEN_MARK}{random}");
        let sha256 = Sha256::digest(text.as_bytes()).into();
        let prefix = text.chars().take(PREFIX_LENGTH).collect();
        Ok(Self {
            text,
            sha256,
            prefix,
        })
    }
}

impl Engine {
    /// Executes a command of the owner.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for names and times, and the errors of the store.
    pub async fn token(&self, command: TokenCommand) -> Result<TokenAnswer, EngineError> {
        match command {
            TokenCommand::Create {
                name,
                project,
                reads,
                expires,
            } => self.create_token(name, project, reads, expires).await,
            TokenCommand::List => {
                let tokens = self.store.tokens().await?;
                Ok(TokenAnswer {
                    secret: None,
                    tokens: tokens
                        .iter()
                        .map(|stored| self.view(&stored.token))
                        .collect(),
                })
            }
            TokenCommand::Revoke { name } => {
                let token = self.store.revoke_token(&name, self.clock.now()).await?;
                tracing::info!(token = name, project = token.project, "a token was revoked");
                Ok(TokenAnswer {
                    secret: None,
                    tokens: vec![self.view(&token)],
                })
            }
            TokenCommand::Rotate { name } => {
                let secret = Secret::fresh()?;
                let token = self
                    .store
                    .rotate_token(&name, secret.sha256, &secret.prefix, self.clock.now())
                    .await?;
                tracing::info!(
                    token = name,
                    project = token.project,
                    "a token secret was replaced"
                );
                Ok(TokenAnswer {
                    secret: Some(secret.text),
                    tokens: vec![self.view(&token)],
                })
            }
        }
    }

    async fn create_token(
        &self,
        name: String,
        project: String,
        mut reads: Vec<String>,
        expires: Option<String>,
    ) -> Result<TokenAnswer, EngineError> {
        let now = self.clock.now();
        let fields = [("name", &name), ("project", &project)].into_iter();
        for (field, value) in fields.chain(reads.iter().map(|project| ("read", project))) {
            if !is_name(value) {
                let expected = format!("1 to {MAX_NAME_LENGTH} letters, digits, `.`, `_` or `-`");
                return Err(Invalid::new(field, value, expected).into());
            }
        }
        validate::count("read", reads.len(), MOST_READS)?;
        reads.retain(|read| *read != project);
        reads.sort();
        reads.dedup();
        let expires_at = expires
            .as_deref()
            .map(|text| validate::time("expires", text))
            .transpose()?;
        if let (Some(end), Some(text)) = (expires_at, &expires)
            && end <= now
        {
            return Err(Invalid::new("expires", text, "a time in the future").into());
        }
        let secret = Secret::fresh()?;
        let token = Token {
            name,
            project,
            reads,
            prefix: secret.prefix,
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        self.store
            .create_token(&StoredToken {
                token: token.clone(),
                sha256: secret.sha256,
            })
            .await?;
        tracing::info!(
            token = token.name,
            project = token.project,
            "a token was made"
        );
        Ok(TokenAnswer {
            secret: Some(secret.text),
            tokens: vec![self.view(&token)],
        })
    }

    /// Returns the currently valid tokens for the authenticator.
    ///
    /// # Errors
    /// Fails if the database does not respond.
    pub async fn valid_tokens(&self) -> Result<Vec<StoredToken>, EngineError> {
        let now = self.clock.now();
        let mut tokens = self.store.tokens().await?;
        tokens.retain(|stored| stored.token.holds_at(now));
        Ok(tokens)
    }

    fn view(&self, token: &Token) -> TokenView {
        let text =
            |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let state = match token.revoked_at {
            Some(_) => "revoked",
            None if token.holds_at(self.clock.now()) => "valid",
            None => "expired",
        };
        TokenView {
            name: token.name.clone(),
            project: token.project.clone(),
            reads: token.reads.clone(),
            prefix: token.prefix.clone(),
            state: state.to_owned(),
            created_at: text(token.created_at),
            expires_at: token.expires_at.map(text),
        }
    }
}
