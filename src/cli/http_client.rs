//! HTTP clients of the command line.

use std::path::Path;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Response};

/// Returns a client for a service on this machine or behind a proxy on it, without TLS. The certificates of the
/// system are not loaded, because reading them takes time and containers may lack them. It follows no redirects: the
/// service sends none, and those of another program could lead to any host.
pub(super) fn plain_client() -> ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .tls_certs_only([])
}

/// Returns a client for the control socket of a running service.
pub(super) fn socket_client(socket: &Path) -> ClientBuilder {
    plain_client().unix_socket(socket)
}

/// Maximum size of an answer. Answers of the service are far smaller.
pub(super) const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// An incomplete answer.
pub(super) struct Body {
    response: Response,
    bytes: Vec<u8>,
}

impl Body {
    pub(super) fn new(response: Response) -> Self {
        Self {
            response,
            bytes: Vec::new(),
        }
    }

    /// Reads until the end or until more than `limit` bytes arrived. Returns whether the end was reached. Nothing can be
    /// read after an answer exceeded [`LARGEST_ANSWER`].
    pub(super) async fn read_up_to(&mut self, limit: usize) -> anyhow::Result<bool> {
        // The system provides the pages when they are filled. Growing step by step would copy the answer, which then
        // needs up to three times its size.
        self.bytes
            .reserve_exact(limit.saturating_sub(self.bytes.len()));
        while self.bytes.len() <= limit {
            match self
                .response
                .chunk()
                .await
                .map_err(reqwest::Error::without_url)
                .context("the answer is incomplete")?
            {
                // The buffer must not grow for the chunk that exceeds the limit of all answers.
                Some(chunk) if self.bytes.len() + chunk.len() > LARGEST_ANSWER => return Ok(false),
                Some(chunk) => self.bytes.extend_from_slice(&chunk),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Returns the text that was read; invalid bytes are replaced.
    pub(super) fn into_text(self) -> String {
        String::from_utf8(self.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Reads an answer of at most [`LARGEST_ANSWER`] bytes, because it may come from any program.
pub(super) async fn bounded_text(response: Response) -> anyhow::Result<String> {
    let mut body = Body::new(response);
    if body.read_up_to(LARGEST_ANSWER).await? {
        return Ok(body.into_text());
    }
    anyhow::bail!(
        "the answer is larger than {} MiB; this is not a memory service",
        LARGEST_ANSWER / 1024 / 1024
    )
}
