//! Who comes in: holders of tokens of the settings, of tokens in the database, and of access tokens of an issuer.

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
use super::problem;
use super::refusal_log::{RefusalLog, RefusalReason};
use crate::config::{self, Auth};
use crate::domain::Scope;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::Engine;
use crate::mcp::Identity;

/// A token that is revoked opens nothing after this time, whichever process revoked it.
const FRESH: Duration = Duration::from_secs(2);
/// The tokens of the database are not read more often, whatever is sent here.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who comes in, and as whom.
pub struct Gate {
    holders: Option<Vec<([u8; 32], Identity)>>,
    directory: Option<Directory>,
    oauth: Option<OAuth>,
    open: Identity,
    refusals: RefusalLog,
}

/// Why somebody does not.
enum Refusal {
    /// There is no token, or it is none of ours.
    Unauthorized {
        sentence: String,
        reason: RefusalReason,
    },
    /// It is right and does not suffice.
    Forbidden { scope: &'static str },
    /// Nobody can tell now.
    Unavailable { sentence: String },
}

impl Gate {
    /// The gate of the settings.
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

    /// Also lets in who holds a token of the database.
    #[must_use]
    pub fn with_directory(mut self, engine: Arc<Engine>) -> Self {
        self.directory = Some(Directory {
            engine,
            known: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        });
        self
    }

    /// Also lets in who holds an access token of an issuer.
    #[must_use]
    pub fn with_oauth(mut self, oauth: Option<OAuth>) -> Self {
        self.oauth = oauth;
        self
    }

    /// The issuer, if there is one.
    #[must_use]
    pub fn oauth(&self) -> Option<&OAuth> {
        self.oauth.as_ref()
    }

    /// Notes what is refused.
    pub(super) fn refusals(&self) -> &RefusalLog {
        &self.refusals
    }

    async fn admit(&self, header: Option<&HeaderValue>) -> Result<Identity, Refusal> {
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
        // Every holder is compared, so that time tells nothing about which one is close.
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
            return match oauth.accept(token).await {
                Ok(scope) => Ok(Identity(Arc::new(scope))),
                Err(Rejection::Invalid(why)) => Err(refuse(
                    &format!("this access token is not accepted: {why}"),
                    RefusalReason::Invalid,
                )),
                Err(Rejection::Scope(scope)) => Err(Refusal::Forbidden { scope }),
                Err(Rejection::Unavailable(sentence)) => Err(Refusal::Unavailable { sentence }),
            };
        }
        if let Some(directory) = &self.directory
            && let Some(identity) = directory.find(&hash).await?
        {
            return Ok(identity);
        }
        Err(refuse(
            "this token is not known: it was mistyped, replaced or revoked, or it has expired; \
             `cognitive-memory-mcp token create NAME` makes one",
            RefusalReason::Unknown,
        ))
    }

    /// The answer to somebody who is not let in.
    fn answer(&self, refusal: Refusal, host: Option<&HeaderValue>) -> Response {
        let (status, sentence, details) = match refusal {
            Refusal::Unavailable { sentence } => {
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, &sentence);
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
                    "this access token lacks the scope {scope}: ask its issuer for one that has it"
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
        let mut response = problem(status, &sentence);
        let challenge = HeaderValue::from_str(&challenge)
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer realm=\"cognitive-memory-mcp\""));
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        response
    }

    /// The answer to a change by somebody who may only read.
    pub(super) fn refuse_write(&self, host: Option<&HeaderValue>) -> Response {
        self.answer(
            Refusal::Forbidden {
                scope: super::oauth::WRITE,
            },
            host,
        )
    }
}

/// The tokens of the database, all of them at once: there are few, and so a flood of wrong ones costs the database
/// the same four statements a second as a single one.
struct Directory {
    engine: Arc<Engine>,
    known: Mutex<Option<Known>>,
    reading: tokio::sync::Mutex<()>,
}

struct Known {
    read_at: Instant,
    /// Why there are none.
    failure: Option<String>,
    tokens: HashMap<[u8; 32], (Identity, crate::domain::token::Token)>,
}

impl Directory {
    async fn find(&self, hash: &[u8; 32]) -> Result<Option<Identity>, Refusal> {
        let arrived = Instant::now();
        // Who was known a moment ago need not wait for anything.
        if let Some(Ok(Some(identity))) = self.look(hash, |read_at| read_at.elapsed() < FRESH) {
            return Ok(Some(identity));
        }
        let _alone = tokio::time::timeout(PATIENCE, self.reading.lock())
            .await
            .map_err(|_| unavailable("it is slow"))?;
        // Everybody else gets an answer that is newer than the question: a token holds as soon as it is made. All who
        // wait here share one reading.
        if let Some(found) = self.look(hash, |read_at| read_at >= arrived) {
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
        self.look(hash, |_| true)
            .unwrap_or_else(|| Err(unavailable("it is slow")))
    }

    /// What was read, if its time will do.
    fn look(
        &self,
        hash: &[u8; 32],
        will_do: impl Fn(Instant) -> bool,
    ) -> Option<Result<Option<Identity>, Refusal>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|known| will_do(known.read_at))?;
        Some(match &known.failure {
            Some(why) => Err(unavailable(why)),
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

fn unavailable(why: &str) -> Refusal {
    Refusal::Unavailable {
        sentence: format!("tokens cannot be looked up now: {why}; try again in some seconds"),
    }
}

/// Puts the caller's identity into the request, or answers with the reason why not.
pub(super) async fn authenticate(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    // The self-probe never leaves the process and has its identity already; nothing on the wire can set an extension.
    if request.extensions().get::<Identity>().is_none() {
        match gate
            .admit(request.headers().get(header::AUTHORIZATION))
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
                    gate.refusals
                        .refused(reason, request.extensions().get::<Peer>(), headers);
                }
                return gate.answer(refusal, headers.get(header::HOST));
            }
        }
    }
    next.run(request).await
}
