//! Bearer tokens: hashed, compared in constant time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::problem;
use crate::config::{self, Auth};
use crate::domain::Scope;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::mcp::Identity;

/// Who comes in, and as whom.
#[derive(Debug)]
pub struct Gate {
    holders: Option<Vec<([u8; 32], Identity)>>,
    open: Identity,
}

impl Gate {
    /// The gate of the configuration.
    #[must_use]
    pub fn new(auth: &Auth) -> Self {
        let identity = |project: &str, actor: &str| Identity(Arc::new(Scope::new(project, actor)));
        Self {
            holders: match auth {
                Auth::None => None,
                Auth::Tokens(credentials) => {
                    Some(credentials.iter().map(|c| (c.sha256, identity(&c.project, &c.name))).collect())
                }
            },
            open: identity(DEFAULT_PROJECT, "local"),
        }
    }

    fn admit(&self, header: Option<&HeaderValue>) -> Result<Identity, &'static str> {
        let Some(holders) = &self.holders else { return Ok(self.open.clone()) };
        let Some(header) = header else {
            return Err("no token: send the header `Authorization: Bearer TOKEN` with a token of this service");
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or("the Authorization header is not of the form `Bearer TOKEN`")?;
        let hash = config::sha256(token);
        // Every holder is compared, so that time tells nothing about which one is close.
        let mut found = None;
        for (known, identity) in holders {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(identity.clone());
            }
        }
        found.ok_or(
            "this token is not known: it was mistyped or replaced; `cognitive-memory-mcp token new NAME` makes one",
        )
    }
}

/// Puts the caller's identity into the request, or answers 401 with the reason.
pub(super) async fn authenticate(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    // The self-probe never leaves the process and has its identity already; nothing on the wire can set an extension.
    if request.extensions().get::<Identity>().is_none() {
        match gate.admit(request.headers().get(header::AUTHORIZATION)) {
            Ok(identity) => {
                request.extensions_mut().insert(identity);
            }
            Err(sentence) => {
                let mut response = problem(StatusCode::UNAUTHORIZED, sentence);
                let challenge = HeaderValue::from_static("Bearer realm=\"cognitive-memory-mcp\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                return response;
            }
        }
    }
    next.run(request).await
}
