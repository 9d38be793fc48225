//! The keys of the issuer: found by its metadata, cached, and requested again when they are old or a token names an
//! unknown key. A token that was signed by a known key never waits, because keys are refreshed in the background.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::claim::{Algorithm, Header};
use super::rejection::Rejection;
use crate::http::body_scan::BodyScan;
use crate::lifecycle::Supervisor;
use crate::outbound;

/// Maximum wait for one answer of the issuer.
const ANSWER: Duration = Duration::from_secs(4);
/// Maximum wait for all answers that one refresh needs.
const REFRESH: Duration = Duration::from_secs(10);
/// Maximum size of an answer.
const MAX_ANSWER_BYTES: usize = 512 * 1024;
/// Maximum number of objects and arrays in an answer: a key has a few.
const MAX_ANSWER_CONTAINERS: usize = 2_000;
/// Maximum number of values in an answer.
const MAX_ANSWER_VALUES: usize = 20_000;
/// Minimum time between two requests to the issuer.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys are refreshed at this age, so that a withdrawn key is soon rejected.
const FRESH: Duration = Duration::from_secs(300);
/// Maximum time of using keys while the issuer does not answer.
const LONGEST_USE: Duration = Duration::from_secs(3600);
/// Maximum number of keys.
const MOST_KEYS: usize = 64;
/// Maximum number of keys that are tried for one token.
const MOST_TRIED: usize = 8;

/// The keys of one issuer.
pub(super) struct Keys {
    source: Arc<Source>,
    supervisor: Supervisor,
}

/// The data of a refresh, which continues after its callers have left.
struct Source {
    client: Client,
    issuer: String,
    state: Mutex<State>,
    /// Number of refreshes that have ended.
    refreshed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<Key>>,
    /// When the keys were received.
    since: Option<Instant>,
    /// Time of the last request to the issuer, and its error.
    asked: Option<(Instant, Option<String>)>,
    /// Whether a request to the issuer is running.
    asking: bool,
}

impl State {
    fn keys_age(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    fn usable_keys(&self) -> Option<Arc<Vec<Key>>> {
        self.keys_age()
            .is_some_and(|age| age < LONGEST_USE)
            .then(|| Arc::clone(&self.keys))
    }

    fn was_just_asked(&self) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|(at, _)| at.elapsed() < PAUSE)
    }
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

/// The fields of a JSON Web Key that this module uses (RFC 7517, 7518, 8037).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn into_key(self) -> Option<Key> {
        if self.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Public::Rsa {
                n: bytes(self.n)?,
                e: bytes(self.e)?,
            },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(self.x)?, bytes(self.y)?);
                // An uncompressed point.
                Public::P256([&[4], x.as_slice(), y.as_slice()].concat())
            }
            ("OKP", Some("Ed25519")) => Public::Ed25519(bytes(self.x)?),
            _ => return None,
        };
        let serves = |algorithm: &str| match public {
            Public::Rsa { .. } => algorithm == "RS256",
            Public::P256(_) => algorithm == "ES256",
            Public::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        };
        if !self.alg.as_deref().is_none_or(serves) {
            return None;
        }
        Some(Key {
            id: self.kid,
            public,
        })
    }
}

impl Key {
    /// Returns whether the token names this key, or none.
    fn is_meant_by(&self, header: &Header) -> bool {
        header.key.is_none() || self.id == header.key
    }

    fn supports_algorithm(&self, algorithm: Algorithm) -> bool {
        matches!(
            (&self.public, algorithm),
            (Public::Rsa { .. }, Algorithm::Rs256)
                | (Public::P256(_), Algorithm::Es256)
                | (Public::Ed25519(_), Algorithm::EdDsa)
        )
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            Public::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Public::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
                    .is_ok()
            }
            Public::Ed25519(point) => UnparsedPublicKey::new(&signature::ED25519, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

impl Keys {
    pub(super) fn new(issuer: &str, supervisor: Supervisor) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(ANSWER)
            .redirect(outbound::follow_same_origin())
            .build()?;
        let source = Source {
            client,
            issuer: issuer.to_owned(),
            state: Mutex::default(),
            refreshed: watch::Sender::new(0),
        };
        Ok(Self {
            source: Arc::new(source),
            supervisor,
        })
    }

    /// Returns whether one of the issuer's keys made the signature.
    pub(super) async fn verify(
        &self,
        header: &Header,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Rejection> {
        let known = self.known_keys();
        let mut keys = match known {
            Some(keys) => keys,
            None => self.request_keys().await?,
        };
        let means = |key: &Key| key.is_meant_by(header);
        if !keys.iter().any(means) {
            // The key may be newer than the cached ones.
            keys = self.request_keys().await?;
        }
        if !keys.iter().any(means) {
            return Err(Rejection::Invalid("its issuer has no such key".to_owned()));
        }
        let mut candidates = keys
            .iter()
            .filter(|key| means(key) && key.supports_algorithm(header.algorithm));
        // Without this limit, a forged token would be checked against every key of a set without names.
        if candidates
            .by_ref()
            .take(MOST_TRIED)
            .any(|key| key.verify(message, signature))
        {
            return Ok(());
        }
        Err(Rejection::Invalid(match candidates.next() {
            None => "its signature is wrong".to_owned(),
            Some(_) => format!(
                "its signature is wrong, or made by a key that was not tried: its issuer has more than {MOST_TRIED} \
                 keys that it could mean, and it names none (kid)"
            ),
        }))
    }

    /// Returns the cached keys that may be used. Old keys are refreshed in the background.
    fn known_keys(&self) -> Option<Arc<Vec<Key>>> {
        let (keys, is_old) = {
            let state = self.source.lock_state();
            (
                state.usable_keys()?,
                state.keys_age().is_none_or(|age| age >= FRESH),
            )
        };
        if is_old {
            self.start_refresh();
        }
        Some(keys)
    }

    /// Requests the keys of the issuer and returns them; returns the cached keys after a recent request.
    async fn request_keys(&self) -> Result<Arc<Vec<Key>>, Rejection> {
        let mut refreshed = self.source.refreshed.subscribe();
        if self.start_refresh() {
            // All waiting callers share one refresh, whose own time is limited, too.
            let _ = timeout(REFRESH + ANSWER, refreshed.changed()).await;
        }
        let state = self.source.lock_state();
        if let Some(keys) = state.usable_keys() {
            return Ok(keys);
        }
        Err(Rejection::Unavailable(match &state.asked {
            Some((_, Some(why))) => {
                format!(
                    "access tokens cannot be checked now, since their issuer gives no keys: {why}"
                )
            }
            _ => "the issuer of tokens is slow".to_owned(),
        }))
    }

    /// Starts a refresh unless there was one just now. Returns whether one is running.
    fn start_refresh(&self) -> bool {
        {
            let mut state = self.source.lock_state();
            if state.asking {
                return true;
            }
            if state.was_just_asked() {
                return false;
            }
            state.asking = true;
        }
        let refresh = Refresh(Arc::clone(&self.source));
        drop(
            self.supervisor
                .spawn_request("issuer keys", async move { refresh.refresh_keys().await }),
        );
        true
    }
}

/// One refresh. However it ends, the next one can start and all waiting callers continue.
struct Refresh(Arc<Source>);

impl Refresh {
    async fn refresh_keys(self) {
        let answer = timeout(REFRESH, self.0.fetch_keys()).await;
        let answer = answer.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
        let mut state = self.0.lock_state();
        let failure = match answer {
            Ok(keys) => {
                (state.keys, state.since) = (Arc::new(keys), Some(Instant::now()));
                None
            }
            Err(why) => {
                tracing::warn!(
                    issuer = self.0.issuer,
                    "cannot fetch the keys of the issuer: {why}"
                );
                Some(why)
            }
        };
        state.asked = Some((Instant::now(), failure));
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.lock_state().asking = false;
        self.0.refreshed.send_modify(|count| *count += 1);
    }
}

impl Source {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch_keys(&self) -> Result<Vec<Key>, String> {
        let mut failures = Vec::new();
        for url in metadata_urls(&self.issuer) {
            let metadata = match self.fetch_json(&url).await {
                Ok(metadata) => metadata,
                Err(why) => {
                    failures.push(why);
                    continue;
                }
            };
            // Without this check one tenant of a provider could impersonate another (RFC 8414, 3.3).
            if metadata["issuer"].as_str() != Some(&self.issuer) {
                failures.push(format!("{url} is the metadata of another issuer"));
                continue;
            }
            let Some(keys) = metadata["jwks_uri"].as_str() else {
                failures.push(format!("{url} names no jwks_uri"));
                continue;
            };
            if !(keys.starts_with("https://")
                || self.issuer.starts_with("http://") && keys.starts_with("http://"))
            {
                return Err("its keys are not served by https".to_owned());
            }
            return Ok(read_keys(self.fetch_json(keys).await?));
        }
        Err(failures.join("; "))
    }

    /// Fetches a document, again after a failure that may pass. [`REFRESH`] bounds the time of all attempts.
    async fn fetch_json(&self, url: &str) -> Result<Value, String> {
        let mut attempt = 1;
        loop {
            match self.fetch_json_once(url).await {
                Ok(value) => return Ok(value),
                Err(Failure { why, may_pass }) if attempt == outbound::ATTEMPTS || !may_pass => {
                    return Err(format!("{url} {why}"));
                }
                Err(_) => tokio::time::sleep(outbound::pause_after(attempt)).await,
            }
            attempt += 1;
        }
    }

    async fn fetch_json_once(&self, url: &str) -> Result<Value, Failure> {
        let mut response = self.client.get(url).send().await?;
        if let Some(target) = outbound::redirect_target(&response) {
            return Err(Failure::lasting(format!(
                "redirects to {target}; redirects to another address, or more than five, are not followed"
            )));
        }
        if !response.status().is_success() {
            return Err(Failure {
                why: format!("answers {}", response.status().as_u16()),
                may_pass: outbound::may_pass(response.status()),
            });
        }
        let (mut body, mut scan) = (Vec::new(), BodyScan::default());
        while let Some(part) = response.chunk().await? {
            scan.push(&part);
            let is_too_much = body.len() + part.len() > MAX_ANSWER_BYTES
                || scan.excess().is_some()
                || scan.containers() > MAX_ANSWER_CONTAINERS
                || scan.values() > MAX_ANSWER_VALUES;
            if is_too_much {
                return Err(Failure::lasting("answers with too much".to_owned()));
            }
            body.extend_from_slice(&part);
        }
        let parsed = serde_json::from_slice(&body);
        parsed.map_err(|_| Failure::lasting("does not answer with JSON".to_owned()))
    }
}

/// Why a document of the issuer was not read.
struct Failure {
    why: String,
    /// Whether another attempt may help.
    may_pass: bool,
}

impl Failure {
    fn lasting(why: String) -> Self {
        Self {
            why,
            may_pass: false,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let why = if error.is_timeout() {
            "does not answer in time"
        } else {
            "cannot be reached"
        };
        Self {
            why: why.to_owned(),
            may_pass: outbound::is_broken_connection(&error),
        }
    }
}

/// Returns the usable keys of a set and ignores the others.
fn read_keys(mut set: Value) -> Vec<Key> {
    let Some(list) = set
        .get_mut("keys")
        .and_then(Value::as_array_mut)
        .map(std::mem::take)
    else {
        return Vec::new();
    };
    list.into_iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.into_key())
        .take(MOST_KEYS)
        .collect()
}

/// Returns the URLs of the metadata: RFC 8414 puts the well-known part before the path, OpenID Connect after it.
fn metadata_urls(issuer: &str) -> Vec<String> {
    let issuer = issuer.trim_end_matches('/');
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("https", issuer));
    let (host, path) = rest
        .split_once('/')
        .map_or((rest, String::new()), |(host, path)| {
            (host, format!("/{path}"))
        });
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
            [
                "https://h:1/.well-known/oauth-authorization-server/t",
                "https://h:1/t/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            metadata_urls("https://h")[0],
            "https://h/.well-known/oauth-authorization-server"
        );
    }

    #[test]
    fn a_key_is_tried_for_its_own_algorithm_only() {
        let set = serde_json::json!({ "keys": [
            { "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "a" },
            { "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS512" },
            { "kty": "OKP", "crv": "Ed25519", "x": "AQAB", "alg": "EdDSA" },
            { "kty": 5 },
        ] });
        let keys = read_keys(set);
        assert_eq!(keys.len(), 2);
        let header = |algorithm, key: Option<&str>| Header {
            algorithm,
            key: key.map(str::to_owned),
        };
        let could_have_signed = |key: &&Key, header: &Header| {
            key.is_meant_by(header) && key.supports_algorithm(header.algorithm)
        };
        let count = |header: Header| {
            keys.iter()
                .filter(|key| could_have_signed(key, &header))
                .count()
        };
        assert_eq!(count(header(Algorithm::Rs256, None)), 1);
        assert_eq!(count(header(Algorithm::Rs256, Some("a"))), 1);
        assert_eq!(count(header(Algorithm::EdDsa, Some("a"))), 0);
        assert_eq!(count(header(Algorithm::Es256, None)), 0);
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let read = |text: &str| {
            serde_json::from_str::<Jwk>(text)
                .ok()
                .and_then(Jwk::into_key)
                .is_some()
        };
        assert!(read(
            r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "sig"}"#
        ));
        assert!(!read(
            r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}"#
        ));
        assert!(!read(r#"{"kty": "oct", "k": "AQAB"}"#));
        assert!(!read(
            r#"{"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"}"#
        ));
    }
}
