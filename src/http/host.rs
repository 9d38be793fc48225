//! The accepted host names and origins. They are checked before anything else of a request, so
//! that a page whose name was rebound to this machine reaches nothing (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::connection::Peer;
use super::problem::describe_problem;
use super::refusal_log::{RefusalLog, RefusalReason};
use super::rpc_error::{RpcError, SERVER_ERROR};
use crate::config::Http;

/// Paths that also accept every IP address and loopback names: monitors often use an address, and a name that was
/// rebound is never an address.
const MONITORED: [&str; 2] = ["/health/ready", "/metrics"];
/// A path that accepts every name, because load balancers invent names. It only reports that the process works.
const PUBLIC: &str = "/health/live";

/// The allowed hosts and origins of the settings.
#[derive(Debug)]
pub(super) struct HostPolicy {
    hosts: Vec<HostName>,
    origins: Vec<AllowedOrigin>,
    log: RefusalLog,
}

/// A host in lower case without brackets, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostName {
    name: String,
    port: Option<u16>,
}

impl HostName {
    fn of(authority: &Authority) -> Self {
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        Self {
            name,
            port: authority.port_u16(),
        }
    }

    fn is_address_or_loopback(&self) -> bool {
        self.name == "localhost" || self.name.parse::<IpAddr>().is_ok()
    }
}

/// An allowed origin: without a port, or with `:*`, it stands for every port.
#[derive(Debug)]
enum AllowedOrigin {
    Null,
    Site { scheme: String, host: HostName },
}

/// The reason why the head of a request is refused.
#[derive(Debug, PartialEq, Eq)]
enum HostFault {
    /// The host is missing, not valid, or not unique.
    Malformed(&'static str),
    /// The address of the request and the header name different hosts.
    Misdirected,
    /// The host is not allowed.
    Forbidden,
}

impl HostPolicy {
    pub(super) fn new(settings: &Http, log: RefusalLog) -> Self {
        let host = |allowed: &String| {
            let parsed = Authority::try_from(allowed.as_str())
                .ok()
                .map(|authority| HostName::of(&authority));
            // An IPv6 address without brackets is not an authority.
            parsed
                .filter(|_| allowed.parse::<IpAddr>().is_err())
                .unwrap_or_else(|| HostName {
                    name: allowed.trim_matches(['[', ']']).to_ascii_lowercase(),
                    port: None,
                })
        };
        Self {
            hosts: settings.allowed_hosts.iter().map(host).collect(),
            origins: settings
                .allowed_origins
                .iter()
                .filter_map(|origin| allowed_origin(origin))
                .collect(),
            log,
        }
    }

    /// Returns whether the request comes from a page that may use the service, or from no page.
    pub(super) fn allows_origin(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = given.next() else {
            return true;
        };
        if given.next().is_some() {
            return false;
        }
        let Some(origin) = origin.to_str().ok().and_then(read_origin) else {
            return false;
        };
        self.origins.iter().any(|allowed| match (allowed, &origin) {
            (AllowedOrigin::Null, None) => true,
            (AllowedOrigin::Site { scheme, host }, Some((given_scheme, given))) => {
                let port = given.port.or(match given_scheme.as_str() {
                    "http" => Some(80),
                    "https" => Some(443),
                    _ => None,
                });
                scheme == given_scheme
                    && host.name == given.name
                    && (host.port.is_none() || host.port == port)
            }
            _ => false,
        })
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap, path: &str) -> Result<(), HostFault> {
        let monitored = path == PUBLIC || MONITORED.contains(&path);
        let host = match requested_host(uri, headers)? {
            Some(host) => host,
            // HTTP/1.0 has no hosts, and some load balancers still use it. Browsers do not.
            None if monitored => return Ok(()),
            None => return Err(HostFault::Malformed("the request has no Host header")),
        };
        let listed = |allowed: &HostName| {
            allowed.name == host.name && (allowed.port.is_none() || allowed.port == host.port)
        };
        if path == PUBLIC
            || self.hosts.iter().any(listed)
            || monitored && host.is_address_or_loopback()
        {
            return Ok(());
        }
        Err(HostFault::Forbidden)
    }
}

/// Returns the single host that the request names.
fn requested_host(uri: &Uri, headers: &HeaderMap) -> Result<Option<HostName>, HostFault> {
    let mut given = headers.get_all(header::HOST).iter();
    let header = given
        .next()
        .map(|host| read_authority(host.as_bytes()))
        .transpose()?;
    if given.next().is_some() {
        return Err(HostFault::Malformed(
            "the request has more than one Host header",
        ));
    }
    let address = uri
        .authority()
        .map(|authority| read_authority(authority.as_str().as_bytes()))
        .transpose()?;
    match (header, address) {
        (Some(header), Some(address)) if header != address => Err(HostFault::Misdirected),
        (header, address) => Ok(address.or(header)),
    }
}

fn read_authority(bytes: &[u8]) -> Result<HostName, HostFault> {
    if bytes.contains(&b'@') {
        return Err(HostFault::Malformed("a host must not have a user name"));
    }
    let authority = Authority::try_from(bytes)
        .map_err(|_| HostFault::Malformed("the Host header is not valid"))?;
    let host = HostName::of(&authority);
    // `localhost:` and `localhost:99999` have no port that could be compared.
    let names_port = authority
        .as_str()
        .rsplit_once(':')
        .is_some_and(|(name, _)| !name.starts_with('[') || name.ends_with(']'));
    if host.name.is_empty() || names_port && host.port.is_none() {
        return Err(HostFault::Malformed("the Host header is not valid"));
    }
    Ok(host)
}

fn allowed_origin(text: &str) -> Option<AllowedOrigin> {
    let text = text.trim().strip_suffix(":*").unwrap_or(text.trim());
    Some(match read_origin(text)? {
        None => AllowedOrigin::Null,
        Some((scheme, host)) => AllowedOrigin::Site { scheme, host },
    })
}

/// Scheme and host of an origin; None within for `null`.
#[expect(
    clippy::option_option,
    reason = "the outer one says whether it can be read, the inner one what was read"
)]
fn read_origin(text: &str) -> Option<Option<(String, HostName)>> {
    if text.eq_ignore_ascii_case("null") {
        return Some(None);
    }
    let uri = Uri::try_from(text).ok()?;
    let host = read_authority(uri.authority()?.as_str().as_bytes()).ok()?;
    Some(Some((uri.scheme_str()?.to_ascii_lowercase(), host)))
}

/// Refuses requests that are not meant for this service.
pub(super) async fn check_host(
    State(policy): State<Arc<HostPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let fault = if request.method() == Method::CONNECT {
        Err(HostFault::Malformed("this service is not a proxy"))
    } else {
        policy.check(request.uri(), request.headers(), path)
    };
    let (status, sentence) = match fault {
        Ok(()) => return next.run(request).await,
        Err(HostFault::Malformed(sentence)) => (StatusCode::BAD_REQUEST, sentence),
        Err(HostFault::Misdirected) => (
            StatusCode::MISDIRECTED_REQUEST,
            "the address of the request and its Host header name different hosts",
        ),
        Err(HostFault::Forbidden) => (
            StatusCode::FORBIDDEN,
            "this Host header is not allowed: add the name by which the service is reached to MEMORY_ALLOWED_HOSTS",
        ),
    };
    policy.log.refused(
        RefusalReason::Host,
        request.extensions().get::<Peer>(),
        request.headers(),
    );
    if path.starts_with("/mcp") {
        return RpcError::new(status, SERVER_ERROR, sentence).into_response();
    }
    describe_problem(status, sentence)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy(hosts: &[&str], origins: &[&str]) -> HostPolicy {
        let owned = |list: &[&str]| list.iter().map(|each| (*each).to_owned()).collect();
        let settings = Http {
            listen: ([127, 0, 0, 1], 0).into(),
            allowed_hosts: owned(hosts),
            allowed_origins: owned(origins),
            max_body_bytes: 1,
            request_timeout: Duration::ZERO,
            drain_timeout: Duration::ZERO,
        };
        HostPolicy::new(&settings, RefusalLog::default())
    }

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn check(policy: &HostPolicy, uri: &str, hosts: &[&str]) -> Result<(), HostFault> {
        let uri: Uri = uri.parse().unwrap();
        policy.check(&uri, &headers("host", hosts), uri.path())
    }

    #[test]
    fn only_the_hosts_of_the_list_are_served() {
        let policy = policy(
            &[
                "localhost",
                "127.0.0.1",
                "::1",
                "memory.example",
                "10.0.0.5:8765",
            ],
            &[],
        );
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:8765",
            "[::1]",
            "[::1]:8765",
            "memory.example",
            "10.0.0.5:8765",
        ] {
            assert_eq!(check(&policy, "/mcp", &[host]), Ok(()), "{host}");
            assert_eq!(
                check(&policy, &format!("http://{host}/mcp"), &[host]),
                Ok(()),
                "{host}"
            );
            assert_eq!(
                check(&policy, &format!("http://{host}/mcp"), &[]),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.5:80",
            "10.0.0.5",
            "127.0.0.1.evil.example:80",
            "2130706433",
        ] {
            assert_eq!(
                check(&policy, "/mcp", &[host]),
                Err(HostFault::Forbidden),
                "{host}"
            );
            for path in ["/metrics", "/health/ready"] {
                let expected = if host.starts_with("10.") {
                    Ok(())
                } else {
                    Err(HostFault::Forbidden)
                };
                assert_eq!(check(&policy, path, &[host]), expected, "{path} {host}");
            }
            assert_eq!(check(&policy, "/health/live", &[host]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let policy = policy(&["localhost"], &[]);
        for (uri, hosts) in [
            ("/mcp", &["localhost", "localhost"][..]),
            ("/mcp", &["localhost", "evil.example"]),
            ("/mcp", &["a@localhost"]),
            ("/mcp", &["localhost:"]),
            ("/mcp", &["localhost:99999"]),
            ("/mcp", &["local host"]),
            ("/mcp", &[""]),
            ("/mcp", &[]),
            ("http://a@localhost/mcp", &["localhost"]),
            ("/health/live", &["localhost", "localhost"]),
            ("/metrics", &["a@localhost"]),
        ] {
            assert!(
                matches!(check(&policy, uri, hosts), Err(HostFault::Malformed(_))),
                "{uri} {hosts:?}"
            );
        }
        for uri in ["http://evil.example/mcp", "http://localhost:1/mcp"] {
            assert_eq!(
                check(&policy, uri, &["localhost"]),
                Err(HostFault::Misdirected),
                "{uri}"
            );
        }
        assert_eq!(
            check(&policy, "http://evil.example/mcp", &["evil.example"]),
            Err(HostFault::Forbidden)
        );
        assert_eq!(check(&policy, "/health/ready", &[]), Ok(()));
    }

    #[test]
    fn origins_are_compared_whole() {
        let policy = policy(
            &[],
            &[
                "https://app.example",
                "http://localhost:3000",
                "https://any.example:*",
                "https://one.example:443",
            ],
        );
        for origin in [
            "https://app.example",
            "https://APP.example:444",
            "http://localhost:3000",
            "https://any.example:1",
            "https://one.example",
        ] {
            assert!(
                policy.allows_origin(&headers("origin", &[origin])),
                "{origin}"
            );
        }
        for origin in [
            "null",
            "http://app.example",
            "https://app.example.evil.example",
            "http://localhost:3001",
            "",
            "app.example",
            "https://one.example:444",
            "https://a@app.example",
        ] {
            assert!(
                !policy.allows_origin(&headers("origin", &[origin])),
                "{origin}"
            );
        }
        assert!(policy.allows_origin(&HeaderMap::new()));
        assert!(!policy.allows_origin(&headers(
            "origin",
            &["https://app.example", "https://app.example"]
        )));
    }
}
