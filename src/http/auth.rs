//! Authentication: tokens of the settings, tokens in the database, and access tokens of an issuer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::connection::Peer;
use super::oauth::{OAuth, Rejection};
use super::problem::describe_problem;
use super::refusal_log::{RefusalLog, RefusalReason};
use crate::config::{self, Auth};
use crate::domain::Scope;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::Engine;
use crate::mcp::Identity;

/// A revoked token is rejected after this time at the latest, whichever process revoked it.
const FRESH: Duration = Duration::from_secs(2);
/// Minimum time between two reads of the tokens in the database.
const PAUSE: Duration = Duration::from_millis(250);
/// Maximum wait for the tokens of the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Identifies callers by their tokens.
pub struct Authenticator {
    holders: Option<Vec<([u8; 32], Identity)>>,
    directory: Option<Directory>,
    oauth: Option<Arc<OAuth>>,
    open: Identity,
    refusals: RefusalLog,
}

/// The reason why a caller is refused.
enum Refusal {
    /// The token is missing or not valid here.
    Unauthorized {
        sentence: String,
        reason: RefusalReason,
    },
    /// The token is valid and lacks a scope.
    Forbidden { scope: &'static str },
    /// The token cannot be checked now.
    Unavailable { sentence: String },
}

impl Authenticator {
    /// Creates the authenticator of the settings.
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        Self {
            holders: match auth {
                Auth::None => None,
                Auth::Tokens(credentials) => {
                    let scope = |c: &config::Credential| {
                        Scope::new(&c.project, &c.name).reading(c.reads.clone())
                    };
                    Some(
                        credentials
                            .iter()
                            .map(|c| (c.sha256, Identity(Arc::new(scope(c)))))
                            .collect(),
                    )
                }
            },
            directory: None,
            oauth: None,
            open: Identity(Arc::new(Scope::new(DEFAULT_PROJECT, "local"))),
            refusals: RefusalLog::default(),
        }
    }

    /// Also accepts tokens of the database.
    #[must_use]
    pub fn with_directory(mut self, engine: Arc<Engine>) -> Self {
        self.directory = Some(Directory {
            engine,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        });
        self
    }

    /// Also accepts access tokens of an issuer.
    #[must_use]
    pub fn with_oauth(mut self, oauth: Option<OAuth>) -> Self {
        self.oauth = oauth.map(Arc::new);
        self
    }

    /// Returns the issuer, if there is one.
    #[must_use]
    pub fn oauth(&self) -> Option<&Arc<OAuth>> {
        self.oauth.as_ref()
    }

    /// Counts and logs refusals.
    pub(super) fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    async fn authenticate(&self, header: Option<&HeaderValue>) -> Result<Identity, Refusal> {
        let Some(holders) = &self.holders else {
            return Ok(self.open.clone());
        };
        let refuse = |sentence: &str, reason| Refusal::Unauthorized {
            sentence: sentence.to_owned(),
            reason,
        };
        let Some(header) = header else {
            return Err(refuse(
                "no token: send the header `Authorization: Bearer TOKEN` with a token of this service",
                RefusalReason::Missing,
            ));
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| {
                refuse(
                    "the Authorization header is not of the form `Bearer TOKEN`",
                    RefusalReason::Malformed,
                )
            })?;
        let hash = config::sha256(token);
        // Every token is compared, so that the time does not reveal which one is close.
        let mut found = None;
        for (known, identity) in holders {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(identity.clone());
            }
        }
        if let Some(identity) = found {
            return Ok(identity);
        }
        if let Some(oauth) = self.oauth.as_ref().filter(|_| OAuth::is_jwt(token)) {
            return match oauth.accept_token(token).await {
                Ok(scope) => Ok(Identity(Arc::new(scope))),
                Err(Rejection::Invalid(why)) => Err(refuse(
                    &format!("the access token is not valid: {why}"),
                    RefusalReason::Invalid,
                )),
                Err(Rejection::Scope(scope)) => Err(Refusal::Forbidden { scope }),
                Err(Rejection::Unavailable(sentence)) => Err(Refusal::Unavailable { sentence }),
            };
        }
        if let Some(directory) = &self.directory
            && let Some(identity) = directory.find_identity(&hash).await?
        {
            return Ok(identity);
        }
        Err(refuse(
            "unknown token: it was mistyped, replaced or revoked, or it has expired; create one with \
             `cognitive-memory-mcp token create NAME`",
            RefusalReason::Unknown,
        ))
    }

    /// Returns the answer to a caller who is refused.
    fn refuse_request(&self, refusal: Refusal, host: Option<&HeaderValue>) -> Response {
        let (status, sentence, details) = match refusal {
            Refusal::Unavailable { sentence } => {
                let mut response = describe_problem(StatusCode::SERVICE_UNAVAILABLE, &sentence);
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                return response;
            }
            Refusal::Unauthorized { sentence, reason } => {
                let details = if reason == RefusalReason::Missing {
                    ""
                } else {
                    ", error=\"invalid_token\""
                };
                (StatusCode::UNAUTHORIZED, sentence, details.to_owned())
            }
            Refusal::Forbidden { scope } => (
                StatusCode::FORBIDDEN,
                format!(
                    "the access token lacks the scope {scope}; ask its issuer for one that has it"
                ),
                format!(", error=\"insufficient_scope\", scope=\"{scope}\""),
            ),
        };
        let mut challenge = format!("Bearer realm=\"cognitive-memory-mcp\"{details}");
        if let Some(url) = self
            .oauth
            .as_ref()
            .and_then(|oauth| oauth.metadata_url(host))
        {
            challenge += &format!(", resource_metadata=\"{url}\"");
        }
        let mut response = describe_problem(status, &sentence);
        let challenge = HeaderValue::from_str(&challenge)
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"cognitive-memory-mcp\""));
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        response
    }

    /// Returns the answer to a change by a caller who may only read.
    pub(super) fn refuse_write(&self, host: Option<&HeaderValue>) -> Response {
        self.refuse_request(
            Refusal::Forbidden {
                scope: super::oauth::WRITE,
            },
            host,
        )
    }
}

/// All tokens of the database. They are few, and a flood of wrong tokens causes at most four statements per second.
struct Directory {
    engine: Arc<Engine>,
    known: Mutex<Option<Known>>,
    reading: tokio::sync::Mutex<()>,
}

struct Known {
    read_at: Instant,
    /// The reason if they could not be read.
    failure: Option<String>,
    tokens: HashMap<[u8; 32], (Identity, crate::domain::token::Token)>,
}

impl Directory {
    async fn find_identity(&self, hash: &[u8; 32]) -> Result<Option<Identity>, Refusal> {
        let arrived = Instant::now();
        // A caller who was known a moment ago does not wait.
        if let Some(Ok(Some(identity))) = self.look_up(hash, |read_at| read_at.elapsed() < FRESH) {
            return Ok(Some(identity));
        }
        let _alone = tokio::time::timeout(PATIENCE, self.reading.lock())
            .await
            .map_err(|_| tokens_unavailable("it is slow"))?;
        // Other callers get an answer that is newer than their request, because a token is valid as soon as it is created.
        // All waiting callers share one read.
        if let Some(found) = self.look_up(hash, |read_at| read_at >= arrived) {
            return found;
        }
        let last = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|known| known.read_at);
        if let Some(pause) = last.and_then(|last| PAUSE.checked_sub(last.elapsed())) {
            tokio::time::sleep(pause).await;
        }
        let read_at = Instant::now();
        let read = tokio::time::timeout(PATIENCE, self.engine.valid_tokens()).await;
        let (tokens, failure) = match read {
            Ok(Ok(tokens)) => (tokens, None),
            Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
            Err(_) => (Vec::new(), Some("it did not answer in time".to_owned())),
        };
        let tokens = tokens
            .into_iter()
            .map(|stored| {
                (
                    stored.sha256,
                    (Identity(Arc::new(stored.token.scope())), stored.token),
                )
            })
            .collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known {
            read_at,
            failure,
            tokens,
        });
        self.look_up(hash, |_| true)
            .unwrap_or_else(|| Err(tokens_unavailable("it is slow")))
    }

    /// Returns the identity of a token if the last read is recent enough.
    fn look_up(
        &self,
        hash: &[u8; 32],
        will_do: impl Fn(Instant) -> bool,
    ) -> Option<Result<Option<Identity>, Refusal>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|known| will_do(known.read_at))?;
        Some(match &known.failure {
            Some(why) => Err(tokens_unavailable(why)),
            None => {
                let now = self.engine.now();
                let held = known
                    .tokens
                    .get(hash)
                    .filter(|(_, token)| token.holds_at(now));
                Ok(held.map(|(identity, _)| identity.clone()))
            }
        })
    }
}

fn tokens_unavailable(why: &str) -> Refusal {
    Refusal::Unavailable {
        sentence: format!("tokens cannot be checked now: {why}; try again in a few seconds"),
    }
}

/// Adds the identity of the caller to the request, or refuses it.
pub(super) async fn require_identity(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    // The self-probe never leaves the process and already has an identity. Nothing on the wire can set an extension.
    if request.extensions().get::<Identity>().is_none() {
        match authenticator
            .authenticate(request.headers().get(header::AUTHORIZATION))
            .await
        {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
            }
            Err(refusal) => {
                let headers = request.headers();
                let reason = match &refusal {
                    Refusal::Unauthorized { reason, .. } => Some(*reason),
                    Refusal::Forbidden { .. } => Some(RefusalReason::Scope),
                    Refusal::Unavailable { .. } => None,
                };
                if let Some(reason) = reason {
                    authenticator.refusals.refused(
                        reason,
                        request.extensions().get::<Peer>(),
                        headers,
                    );
                }
                return authenticator.refuse_request(refusal, headers.get(header::HOST));
            }
        }
    }
    next.run(request).await
}
