//! Requests that the service sends: which redirects it follows, and which failures may pass. Depends on nothing.
//!
//! A redirect to another address could send texts, tokens or trust to a server that nobody configured. It is an error that
//! names the target.

use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Error, Response, StatusCode, Url};

/// Most redirects of a request.
const MOST_REDIRECTS: usize = 5;
/// Attempts of a request that can be repeated.
pub(crate) const ATTEMPTS: u32 = 3;
/// Pause after the first attempt. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Follows redirects to the scheme, host and port of the request only.
pub(crate) fn follow_same_origin() -> Policy {
    Policy::custom(|attempt| {
        if stays_at_origin(&attempt) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Follows the same redirects for requests with a body, which only 307 and 308 keep.
pub(crate) fn follow_same_origin_with_body() -> Policy {
    Policy::custom(|attempt| {
        let keeps_body = matches!(
            attempt.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        if keeps_body && stays_at_origin(&attempt) {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Follows redirects to any host, because model hubs store large files elsewhere, but never from https to another scheme.
pub(crate) fn follow_secure() -> Policy {
    Policy::custom(|attempt| {
        let first = attempt.previous().first();
        let is_secure = first.is_none_or(|first| first.scheme() != "https")
            || attempt.url().scheme() == "https";
        if is_secure && attempt.previous().len() <= MOST_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

fn stays_at_origin(attempt: &Attempt<'_>) -> bool {
    let first = attempt.previous().first();
    first.is_some_and(|first| first.origin() == attempt.url().origin())
        && attempt.previous().len() <= MOST_REDIRECTS
}

/// Returns the target of a redirect that was not followed, without credentials and parameters.
pub(crate) fn redirect_target(response: &Response) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    Some(without_secrets(response.url().join(location).ok()?))
}

fn without_secrets(mut url: Url) -> String {
    // Only URLs without a host have no place for credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Whether a connection could not be made, or broke before the answer was complete.
pub(crate) fn is_broken_connection(error: &Error) -> bool {
    !error.is_timeout()
        && !error.is_redirect()
        && (error.is_connect() || error.is_request() || error.is_body())
}

/// Whether an answer says that another attempt may help.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Returns the pause after an attempt; the first one has number 1.
pub(crate) fn pause_after(attempt: u32) -> Duration {
    FIRST_PAUSE * 2_u32.saturating_pow(attempt.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_without_secrets() {
        let url = Url::parse("https://user:word@other.example/a/b?token=secret#part").unwrap();
        assert_eq!(without_secrets(url), "https://other.example/a/b");
    }

    #[test]
    fn pauses_double() {
        let pauses: Vec<u128> = (1..=3)
            .map(|attempt| pause_after(attempt).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 400]);
    }
}
