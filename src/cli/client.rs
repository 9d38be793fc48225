//! HTTP clients of the command line.

use std::path::Path;

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// For a service on this machine or behind a proxy on it, which speaks no TLS: the certificates of the system, which
/// take a while to read and may be missing in a container, are left alone. It follows no redirects: the service sends
/// none, and a stranger's would lead requests elsewhere.
pub(super) fn plain() -> ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(Policy::none()).tls_certs_only([])
}

/// For the control socket of a running service.
pub(super) fn control(socket: &Path) -> ClientBuilder {
    plain().unix_socket(socket)
}
