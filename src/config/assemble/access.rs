//! Who may use the service, and how much of it.

use std::net::SocketAddr;

use super::super::credential;
use super::super::setting as table;
use super::super::settings::{Auth, Environment, OAuth, ProjectLimits, Retention, RowSecurity};
use super::Reader;

impl Reader<'_> {
    pub(super) fn auth(
        &mut self,
        environment: Option<Environment>,
        listen: Option<SocketAddr>,
        oauth: bool,
    ) -> Option<Auth> {
        let wanted = self.choice(&table::AUTH, &["tokens", "none"]);
        let credentials = self.parse(&table::TOKENS, |text| {
            credential::parse(text).map_err(|faults| sentence(&faults))
        });
        if self.is_broken(&table::AUTH) || self.is_broken(&table::TOKENS) {
            return None;
        }
        match (wanted, credentials) {
            (Some("none"), Some(_)) => {
                self.report(
                    &table::AUTH,
                    "Remove it to use the tokens of MEMORY_TOKENS, or remove those to ask for none.",
                );
                None
            }
            (Some("none"), None) if oauth => {
                self.report(
                    &table::AUTH,
                    "Remove it to ask for tokens of MEMORY_OAUTH_ISSUER, or remove that setting.",
                );
                None
            }
            (Some("none"), None) => Some(Auth::None),
            (_, Some(credentials)) => {
                self.worked_out
                    .insert(table::AUTH.name, "tokens".to_owned());
                Some(Auth::Tokens(credentials))
            }
            // Those of the database and of the issuer, then.
            (Some(_), None) => Some(Auth::Tokens(Vec::new())),
            (None, None) if oauth || self.is_set(&table::OAUTH_ISSUER) => {
                self.worked_out
                    .insert(table::AUTH.name, "tokens".to_owned());
                Some(Auth::Tokens(Vec::new()))
            }
            (None, None) => {
                let why = match (environment?, listen?) {
                    (Environment::Production, _) => "production asks for tokens",
                    (Environment::Development, listen) if !is_loopback(listen) => {
                        "MEMORY_LISTEN is not a loopback address, so others could connect"
                    }
                    (Environment::Development, _) => {
                        self.worked_out.insert(table::AUTH.name, "none".to_owned());
                        return Some(Auth::None);
                    }
                };
                self.report(
                    &table::AUTH,
                    format!(
                        "Set MEMORY_AUTH=tokens and make tokens with `token create NAME`, or set MEMORY_TOKENS_FILE to a \
                         file with credentials (`token new NAME` makes one), or MEMORY_AUTH=none to let everybody in \
                         who can connect: {why}."
                    ),
                );
                None
            }
        }
    }

    /// The issuer whose tokens are accepted, if there is one.
    pub(super) fn oauth(&mut self) -> Option<OAuth> {
        let issuer = self.parse(&table::OAUTH_ISSUER, |text| issuer(text).map(str::to_owned));
        let audience = self.parse(&table::OAUTH_AUDIENCE, |text| match text {
            text if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                Err("It is one word, without spaces.".to_owned())
            }
            text => Ok(text.to_owned()),
        });
        let project_claim = self.parse(&table::OAUTH_PROJECT_CLAIM, |text| match text {
            text if text.len() > 200 || text.chars().any(char::is_control) => {
                Err("It is no name.".to_owned())
            }
            text => Ok(text.to_owned()),
        });
        match (&issuer, &audience) {
            (Some(_), None) if !self.is_broken(&table::OAUTH_AUDIENCE) => {
                self.report(
                    &table::OAUTH_AUDIENCE,
                    "Set it to what the issuer writes into `aud` for this service, usually its address: without it, \
                     tokens that were made for others would open this service.",
                );
            }
            (None, Some(_)) if !self.is_broken(&table::OAUTH_ISSUER) => {
                self.report(
                    &table::OAUTH_AUDIENCE,
                    "Set MEMORY_OAUTH_ISSUER too, or remove it: nothing uses it.",
                );
            }
            _ => {}
        }
        Some(OAuth {
            issuer: issuer?,
            audience: audience?,
            project_claim: project_claim?,
        })
    }

    pub(super) fn limits(&mut self) -> ProjectLimits {
        ProjectLimits {
            memories: self.number(&table::PROJECT_MAX_MEMORIES),
            bytes: self.number(&table::PROJECT_MAX_BYTES),
            entries: self.number(&table::PROJECT_MAX_ENTRIES),
        }
    }

    pub(super) fn retention(&mut self) -> Retention {
        let days = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Retention {
            history_days: days(self.number(&table::HISTORY_DAYS)),
            idempotency_days: days(self.number(&table::IDEMPOTENCY_DAYS)),
        }
    }

    pub(super) fn row_security(&mut self) -> Option<RowSecurity> {
        self.choice(
            &table::DATABASE_ROW_SECURITY,
            &[RowSecurity::Auto, RowSecurity::On, RowSecurity::Off],
        )
    }
}

/// Keys that come over plain HTTP could be anybody's, except from this machine.
fn issuer(text: &str) -> Result<&str, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(String::new());
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let local = name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match scheme {
        _ if name.is_empty() || host.contains('@') || text.contains(['?', '#', ' ']) => {
            Err(String::new())
        }
        "https" => Ok(text),
        "http" if local => Ok(text),
        "http" => Err("Only https is accepted from other machines.".to_owned()),
        _ => Err(String::new()),
    }
}

/// The prefix of tools: with the longest name of a tool it must fit into 64 characters of what every provider accepts.
pub(super) fn tool_prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let fits = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(allowed);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(String::new())
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Faults as sentences on one line.
fn sentence(faults: &[String]) -> String {
    let mut text = faults.join("; ");
    if let Some(first) = text.get(..1) {
        let upper = first.to_uppercase();
        text.replace_range(..1, &upper);
    }
    text.push('.');
    text
}
