//! The resource server of OAuth 2.1: access tokens of one issuer, and the metadata that leads clients to it.
//!
//! A token is a JWT that the issuer signed with its own public key (RS256, ES256 or EdDSA; other algorithms are
//! refused), for our audience, and for the present time. The signature is checked by ring, which TLS already
//! requires.

mod claim;
mod key;
mod metadata;
mod rejection;

use std::sync::Arc;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use self::claim::Header;
use self::key::Keys;
pub(super) use self::metadata::metadata;
pub(super) use self::rejection::Rejection;
use crate::config;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::token::is_name;
use crate::domain::{Clock, Scope};
use crate::lifecycle::Supervisor;

/// The scope that every access needs.
pub(super) const READ: &str = "memory:read";
/// The scope that changes need.
pub(super) const WRITE: &str = "memory:write";
/// Path of the metadata of a protected resource (RFC 9728); the path of the resource follows it.
pub(super) const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// Maximum length of a token.
const LONGEST_TOKEN: usize = 16 * 1024;
/// Maximum length of the name of an actor.
const LONGEST_ACTOR: usize = 200;

/// Accepts the tokens of one issuer.
pub struct OAuth {
    settings: config::OAuth,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

impl OAuth {
    /// Creates the verifier. It connects to nothing before the first token arrives.
    ///
    /// # Errors
    /// Fails if no HTTPS client can be created, for example without root certificates.
    pub fn new(
        settings: config::OAuth,
        clock: Arc<dyn Clock>,
        supervisor: &Supervisor,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            keys: Keys::new(&settings.issuer, supervisor.clone())?,
            settings,
            clock,
        })
    }

    /// Returns whether a bearer token is a JWT. Our own tokens have no dots.
    pub(super) fn is_jwt(token: &str) -> bool {
        token.split('.').count() == 3 && token.starts_with("ey")
    }

    /// Returns the scope of the caller.
    pub(super) async fn accept_token(&self, token: &str) -> Result<Scope, Rejection> {
        let invalid = |why: &str| Rejection::Invalid(why.to_owned());
        if token.len() > LONGEST_TOKEN {
            return Err(invalid("it is too long"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or_else(|| invalid("it is no JWT"))?;
        let (head, payload) = signed
            .split_once('.')
            .ok_or_else(|| invalid("it is no JWT"))?;
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| invalid("it is no JWT"))
        };
        let header = Header::parse_header(&decode(head)?).map_err(Rejection::Invalid)?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        self.keys
            .verify(&header, signed.as_bytes(), &signature)
            .await?;
        // Before this line, no claim is trusted or printed.
        let claims: Value =
            serde_json::from_slice(&payload).map_err(|_| invalid("its claims are no JSON"))?;
        claim::check_claims(&claims, &self.settings, self.clock.now())
            .map_err(Rejection::Invalid)?;
        let scopes = claim::read_scopes(&claims);
        if !scopes.contains(&READ) {
            return Err(Rejection::Scope(READ));
        }
        let project = match claims.get(&self.settings.project_claim) {
            None | Some(Value::Null) => DEFAULT_PROJECT,
            Some(Value::String(name)) if is_name(name) => name,
            Some(_) => {
                let claim = &self.settings.project_claim;
                return Err(Rejection::Invalid(format!(
                    "its claim {claim} is not the name of a project"
                )));
            }
        };
        let subject = ["sub", "client_id"]
            .into_iter()
            .find_map(|claim| claims[claim].as_str())
            .unwrap_or("oauth");
        let actor: String = subject
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_ACTOR)
            .collect();
        let scope = Scope::new(project, actor);
        Ok(if scopes.contains(&WRITE) {
            scope
        } else {
            scope.reading_only()
        })
    }

    /// Returns the URL of the metadata as the client reaches it.
    pub(super) fn metadata_url(&self, host: Option<&HeaderValue>) -> Option<String> {
        let resource = self.resource_url(host)?;
        let (scheme, rest) = resource.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let slash = if path.is_empty() { "" } else { "/" };
        Some(format!(
            "{scheme}://{authority}{METADATA_PATH}{slash}{path}"
        ))
    }

    /// Returns the URL of this resource: the audience, if that is a URL.
    fn resource_url(&self, host: Option<&HeaderValue>) -> Option<String> {
        let audience = &self.settings.audience;
        if audience.starts_with("https://") || audience.starts_with("http://") {
            return Some(audience.clone());
        }
        let host = host?.to_str().ok()?;
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        host.chars()
            .all(plain)
            .then(|| format!("http://{host}/mcp"))
    }
}
