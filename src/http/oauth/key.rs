//! The keys of the issuer: found by its metadata, kept, and asked for again when a token names one that is not among
//! them. How often is bounded, whatever is sent here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, redirect};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::Rejection;
use super::claim::{Algorithm, Header};

/// Longest wait for one answer of the issuer.
const ANSWER: Duration = Duration::from_secs(4);
/// Longest answer.
const LONGEST: usize = 512 * 1024;
/// The issuer is not asked more often.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys are asked for again at this age, so that one that was withdrawn opens nothing for long.
const FRESH: Duration = Duration::from_secs(300);
/// Where the issuer does not answer, they serve so long.
const LONGEST_USE: Duration = Duration::from_secs(3600);
/// Most keys that are kept.
const MOST_KEYS: usize = 64;

pub(super) struct Keys {
    client: Client,
    issuer: String,
    state: Mutex<State>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Key>>,
    /// When the keys came.
    since: Option<Instant>,
    /// When the issuer was asked last, and what was wrong then.
    asked: Option<(Instant, Option<String>)>,
}

struct Key {
    id: Option<String>,
    public: Public,
}

enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key in a set of keys, as far as it concerns us (RFC 7517, 7518, 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn read(self) -> Option<Key> {
        if self.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Public::Rsa { n: bytes(self.n)?, e: bytes(self.e)? },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(self.x)?, bytes(self.y)?);
                // An uncompressed point.
                Public::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            ("OKP", Some("Ed25519")) => Public::Ed25519(bytes(self.x)?),
            _ => return None,
        };
        Some(Key { id: self.kid, public })
    }
}

impl Key {
    /// None: the key is for another algorithm.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        Some(match (&self.public, algorithm) {
            (Public::Rsa { n, e }, Algorithm::Rs256) => RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            (Public::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (Public::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature).is_ok()
            }
            _ => return None,
        })
    }
}

impl Keys {
    pub(super) fn new(issuer: &str) -> Result<Self, reqwest::Error> {
        let client = Client::builder().timeout(ANSWER).redirect(redirect::Policy::none()).build()?;
        Ok(Self {
            client,
            issuer: issuer.to_owned(),
            state: Mutex::new(State::default()),
            asking: tokio::sync::Mutex::new(()),
        })
    }

    /// Whether one of the issuer's keys made the signature.
    pub(super) async fn verify(&self, header: &Header, message: &[u8], signature: &[u8]) -> Result<(), Rejection> {
        let mut keys = self.current(false).await?;
        let mut named = matching(&keys, header);
        if named.is_empty() {
            // It may be one that is newer than our knowledge.
            keys = self.current(true).await?;
            named = matching(&keys, header);
        }
        if named.is_empty() {
            return Err(Rejection::Invalid("its issuer has no such key".to_owned()));
        }
        let holds = |key: &&Key| key.verify(header.algorithm, message, signature) == Some(true);
        if named.iter().any(holds) {
            return Ok(());
        }
        Err(Rejection::Invalid("its signature is wrong".to_owned()))
    }

    /// The keys; asks the issuer when they are missing, old, or (with `newer`) perhaps not the newest.
    async fn current(&self, newer: bool) -> Result<Arc<Vec<Key>>, Rejection> {
        if let Some(keys) = self.known(newer) {
            return Ok(keys);
        }
        let waiting = tokio::time::timeout(3 * ANSWER, self.asking.lock()).await;
        let _alone = waiting.map_err(|_| Rejection::Unavailable("the issuer of tokens is slow".to_owned()))?;
        // Somebody else may have asked in the meantime.
        if self.known(newer).is_none() {
            let answer = self.ask().await;
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let failure = match answer {
                Ok(keys) => {
                    (state.keys, state.since) = (Arc::new(keys), Some(Instant::now()));
                    None
                }
                Err(why) => {
                    tracing::warn!(issuer = self.issuer, "the keys of the issuer are not to be had: {why}");
                    Some(why)
                }
            };
            state.asked = Some((Instant::now(), failure));
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.asked {
            _ if state.since.is_some_and(|since| since.elapsed() < LONGEST_USE) => Ok(Arc::clone(&state.keys)),
            Some((_, Some(why))) => Err(Rejection::Unavailable(format!(
                "access tokens cannot be checked now, since their issuer gives no keys: {why}"
            ))),
            _ => Err(Rejection::Unavailable("the issuer of tokens is slow".to_owned())),
        }
    }

    /// What is to be used without asking.
    fn known(&self, newer: bool) -> Option<Arc<Vec<Key>>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = state.since.is_some_and(|since| since.elapsed() < LONGEST_USE);
        let fresh = !newer && state.since.is_some_and(|since| since.elapsed() < FRESH);
        let just_asked = state.asked.as_ref().is_some_and(|(at, _)| at.elapsed() < PAUSE);
        (usable && (fresh || just_asked)).then(|| Arc::clone(&state.keys))
    }

    async fn ask(&self) -> Result<Vec<Key>, String> {
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, Some(why))) = &state.asked
                && at.elapsed() < PAUSE
            {
                return Err(why.clone());
            }
        }
        let mut failures = Vec::new();
        for url in metadata_urls(&self.issuer) {
            let metadata = match self.get(&url).await {
                Ok(metadata) => metadata,
                Err(why) => {
                    failures.push(why);
                    continue;
                }
            };
            // Otherwise one tenant of a provider could speak for another (RFC 8414, 3.3).
            if metadata["issuer"].as_str() != Some(&self.issuer) {
                failures.push(format!("{url} is the metadata of another issuer"));
                continue;
            }
            let Some(keys) = metadata["jwks_uri"].as_str() else {
                failures.push(format!("{url} names no jwks_uri"));
                continue;
            };
            if !(keys.starts_with("https://") || self.issuer.starts_with("http://") && keys.starts_with("http://")) {
                return Err("its keys are not served by https".to_owned());
            }
            let set = self.get(keys).await?;
            let list = set["keys"].as_array().cloned().unwrap_or_default();
            return Ok(list
                .into_iter()
                .filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.read())
                .take(MOST_KEYS)
                .collect());
        }
        Err(failures.join("; "))
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let failed = |error: reqwest::Error| {
            let kind = if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" };
            format!("{url}: {kind}")
        };
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("{url} answers {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&part);
            if body.len() > LONGEST {
                return Err(format!("{url} answers with too much"));
            }
        }
        serde_json::from_slice(&body).map_err(|_| format!("{url} does not answer with JSON"))
    }
}

/// The key that the token names, or all that could have made its signature.
fn matching<'k>(keys: &'k [Key], header: &Header) -> Vec<&'k Key> {
    keys.iter().filter(|key| header.key.is_none() || key.id == header.key).collect()
}

/// RFC 8414 puts the well-known part in front of the path, OpenID Connect behind it.
fn metadata_urls(issuer: &str) -> Vec<String> {
    let issuer = issuer.trim_end_matches('/');
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("https", issuer));
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    vec![
        format!("{scheme}://{host}/.well-known/oauth-authorization-server{path}"),
        format!("{issuer}/.well-known/openid-configuration"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_standards_put_it() {
        assert_eq!(
            metadata_urls("https://h:1/t/"),
            ["https://h:1/.well-known/oauth-authorization-server/t", "https://h:1/t/.well-known/openid-configuration"]
        );
        assert_eq!(metadata_urls("https://h")[0], "https://h/.well-known/oauth-authorization-server");
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let read = |text: &str| serde_json::from_str::<Jwk>(text).ok().and_then(Jwk::read).is_some();
        assert!(read(r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "sig"}"#));
        assert!(!read(r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}"#));
        assert!(!read(r#"{"kty": "oct", "k": "AQAB"}"#));
        assert!(!read(r#"{"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"}"#));
    }
}
