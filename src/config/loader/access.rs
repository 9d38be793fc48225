//! The rules between the settings of access.

use std::net::SocketAddr;

use super::Loader;
use crate::config::setting as table;
use crate::config::settings::{Auth, Environment, OAuth};

impl Loader<'_> {
    pub(super) fn auth(
        &mut self,
        environment: Option<Environment>,
        listen: Option<SocketAddr>,
        has_oauth: bool,
    ) -> Option<Auth> {
        let wants_tokens = self.value(&table::AUTH);
        let credentials = self.value(&table::TOKENS);
        if self.is_broken(&table::AUTH) || self.is_broken(&table::TOKENS) {
            return None;
        }
        let remedy = match (wants_tokens, credentials) {
            (Some(false), Some(_)) => {
                "Remove it to use the tokens of MEMORY_TOKENS, or remove those to use none."
                    .to_owned()
            }
            (Some(false), None) if has_oauth => {
                "Remove it to accept tokens of MEMORY_OAUTH_ISSUER, or remove that setting."
                    .to_owned()
            }
            (Some(false), None) => return Some(Auth::None),
            (_, Some(credentials)) => {
                self.note_default(&table::AUTH, "tokens");
                return Some(Auth::Tokens(credentials));
            }
            // The tokens of the database and of the issuer.
            (Some(true), None) => return Some(Auth::Tokens(Vec::new())),
            (None, None) if has_oauth || self.is_set(&table::OAUTH_ISSUER) => {
                self.note_default(&table::AUTH, "tokens");
                return Some(Auth::Tokens(Vec::new()));
            }
            (None, None) => {
                let reason = match (environment?, listen?) {
                    (Environment::Production, _) => "production requires tokens",
                    (Environment::Development, listen) if !is_loopback(listen) => {
                        "MEMORY_LISTEN is not a loopback address, so others could connect"
                    }
                    (Environment::Development, _) => {
                        self.note_default(&table::AUTH, "none");
                        return Some(Auth::None);
                    }
                };
                format!(
                    "Set MEMORY_AUTH=tokens and create tokens with `token create NAME`, or set MEMORY_TOKENS_FILE to a \
                     file with credentials (`token new NAME` prints one), or MEMORY_AUTH=none to accept everyone \
                     who can connect: {reason}."
                )
            }
        };
        self.report(&table::AUTH, remedy);
        None
    }

    /// Returns the issuer whose tokens are accepted, if there is one.
    pub(super) fn oauth(&mut self) -> Option<OAuth> {
        let issuer = self.value(&table::OAUTH_ISSUER);
        let audience = self.value(&table::OAUTH_AUDIENCE);
        let project_claim = self.value(&table::OAUTH_PROJECT_CLAIM);
        if issuer.is_some() && audience.is_none() && !self.is_broken(&table::OAUTH_AUDIENCE) {
            self.report(
                &table::OAUTH_AUDIENCE,
                "Set it to the value of `aud` in tokens for this service, usually its address: without it, tokens for \
                 other services would be accepted.",
            );
        }
        if issuer.is_none() && audience.is_some() && !self.is_broken(&table::OAUTH_ISSUER) {
            self.report(
                &table::OAUTH_AUDIENCE,
                "Set MEMORY_OAUTH_ISSUER too, or remove it: it has no effect alone.",
            );
        }
        Some(OAuth {
            issuer: issuer?,
            audience: audience?,
            project_claim: project_claim?,
        })
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
