//! Parsers of single values.
//!
//! An error is a hint for people: a sentence, or an empty text. It never contains a secret.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use secrecy::SecretString;
use service_kit::config::quote_value;

use super::credential::{Credential, parse_lines};
use super::settings::{Calibration, Environment};

type Parsed<T> = Result<T, String>;

/// Accepts any text for which `is_valid` is true.
fn accept_if(text: &str, is_valid: bool, hint: &str) -> Parsed<String> {
    match is_valid {
        true => Ok(text.to_owned()),
        false => Err(hint.to_owned()),
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

pub(super) fn parse_environment(text: &str) -> Parsed<Environment> {
    match text {
        "production" => Ok(Environment::Production),
        "development" => Ok(Environment::Development),
        text if text.starts_with("prod") => Err("Did you mean production?".to_owned()),
        text if text.starts_with("dev") => Err("Did you mean development?".to_owned()),
        _ => Err(String::new()),
    }
}

pub(super) fn parse_listen(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some((host, port))
            if port.parse::<u16>().is_ok()
                && host.chars().any(char::is_alphabetic)
                && !host.contains(':') =>
        {
            "Write the address in numbers, not a name.".to_owned()
        }
        None if text.parse::<IpAddr>().is_ok() => "The port is missing.".to_owned(),
        _ => String::new(),
    })
}

pub(super) fn parse_hosts(text: &str) -> Parsed<Vec<String>> {
    parse_list(text, check_host)
}

pub(super) fn parse_origins(text: &str) -> Parsed<Vec<String>> {
    parse_list(text, check_origin)
}

/// Returns the items of a comma-separated list in lower case, without empty and repeated ones.
fn parse_list(text: &str, check: impl Fn(&str) -> Result<(), &'static str>) -> Parsed<Vec<String>> {
    let mut items: Vec<String> = Vec::new();
    for item in text.split(',') {
        let item = item.trim().to_lowercase();
        if item.is_empty() || items.contains(&item) {
            continue;
        }
        check(&item).map_err(|fault| format!("{}: {fault}.", quote_value(&item, false)))?;
        items.push(item);
    }
    match items.is_empty() {
        true => Err("The list is empty.".to_owned()),
        false => Ok(items),
    }
}

/// Checks a value of the `Host` header: a name or an address, with or without a port.
fn check_host(host: &str) -> Result<(), &'static str> {
    if host.contains('*') {
        return Err("name each host, there are no wildcards");
    }
    if host.contains('/') {
        return Err("write a host without scheme and path");
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let (is_valid, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or("`]` is missing")?;
            (ip.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            (is_host_name(name), port)
        }
    };
    if !port.is_empty() && port[1..].parse::<u16>().is_err() {
        return Err("the port is not a number");
    }
    match is_valid && (port.is_empty() || port.starts_with(':')) {
        true => Ok(()),
        false => Err("it is not a host name"),
    }
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn check_origin(origin: &str) -> Result<(), &'static str> {
    let Some((scheme, host)) = origin.split_once("://") else {
        return Err("write an origin with its scheme, such as `https://`");
    };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return Err("the scheme is not valid");
    }
    if host.contains('/') {
        return Err("an origin has no path and no slash at its end");
    }
    check_host(host)
}

/// With the longest name of a tool, the prefix must fit into the 64 characters that every provider accepts.
pub(super) fn parse_tool_prefix(text: &str) -> Parsed<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_valid = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_allowed);
    accept_if(text, is_valid, "")
}

pub(super) fn parse_credentials(text: &str) -> Parsed<Vec<Credential>> {
    parse_lines(text).map_err(|faults| {
        let text = faults.join("; ");
        let first = text.chars().next().map(|c| c.to_ascii_uppercase());
        let rest: String = text.chars().skip(1).collect();
        format!("{}{rest}.", first.unwrap_or_default())
    })
}

/// Over plain HTTP, the keys of another machine could be replaced.
pub(super) fn parse_issuer(text: &str) -> Parsed<String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(String::new());
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if name.is_empty() || host.contains('@') || text.contains(['?', '#', ' ']) {
        return Err(String::new());
    }
    match scheme {
        "https" => Ok(text.to_owned()),
        "http" if is_local => Ok(text.to_owned()),
        "http" => Err("Only https is accepted from other machines.".to_owned()),
        _ => Err(String::new()),
    }
}

pub(super) fn parse_audience(text: &str) -> Parsed<String> {
    let is_valid = !text.contains(char::is_whitespace) && !has_control(text);
    accept_if(text, is_valid, "Spaces are not allowed.")
}

pub(super) fn parse_claim(text: &str) -> Parsed<String> {
    let is_valid = text.len() <= 200 && !has_control(text);
    accept_if(
        text,
        is_valid,
        "A name has at most 200 bytes and no control characters.",
    )
}

pub(super) fn parse_service_url(text: &str) -> Parsed<String> {
    match text.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        Some(("https", _)) => {
            Err("Only http is supported; use a proxy on this machine for https.".to_owned())
        }
        _ => Err(String::new()),
    }
}

pub(super) fn parse_token(text: &str) -> Parsed<SecretString> {
    Ok(SecretString::from(text.trim()))
}

pub(super) fn parse_identifier(text: &str) -> Parsed<String> {
    match text {
        text if text.len() > 63 => Err("The name is too long.".to_owned()),
        text => accept_if(
            text,
            !has_control(text),
            "Control characters are not allowed.",
        ),
    }
}

pub(super) fn parse_password(text: &str) -> Parsed<SecretString> {
    match text.contains(['\n', '\r', '\0']) {
        true => Err("A password has only one line.".to_owned()),
        false => Ok(SecretString::from(text)),
    }
}

/// Checks `MEMORY_DATABASE_HOST`.
pub(super) fn parse_host(text: &str) -> Parsed<String> {
    if text.starts_with('/') || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.contains("://") {
        return Err("Put an address with a scheme into MEMORY_DATABASE_URL.".to_owned());
    }
    if text.contains(':') {
        return Err("Put the port into MEMORY_DATABASE_PORT.".to_owned());
    }
    accept_if(text, is_host_name(text), "Write one host name.")
}

pub(super) fn parse_model(text: &str) -> Parsed<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let is_valid = text.len() <= 200
        && text.chars().all(is_allowed)
        && !text.split('/').any(|part| part.starts_with('.'));
    accept_if(
        text,
        is_valid,
        "Letters, digits and `._-/:@+` are allowed, and no part that begins with a dot.",
    )
}

/// Returns the address without slashes at its end.
pub(super) fn parse_http_url(text: &str) -> Parsed<String> {
    match text.split_once("://") {
        Some(("http" | "https", rest))
            if !rest.is_empty() && !rest.contains(char::is_whitespace) =>
        {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(String::new()),
    }
}

pub(super) fn parse_prefix(text: &str) -> Parsed<String> {
    let is_valid = text.len() <= 500 && !has_control(text);
    accept_if(
        text,
        is_valid,
        "At most 500 bytes are allowed, without control characters.",
    )
}

pub(super) fn parse_calibration(text: &str) -> Parsed<Calibration> {
    let numbers: Option<(f64, f64)> = text.split_once(',').and_then(|(offset, scale)| {
        Some((offset.trim().parse().ok()?, scale.trim().parse().ok()?))
    });
    match numbers {
        Some((offset, scale))
            if (-1.0..=1.0).contains(&offset) && (0.01..=100.0).contains(&scale) =>
        {
            Ok(Calibration { offset, scale })
        }
        _ => Err("The first number is from -1 to 1, the second from 0.01 to 100.".to_owned()),
    }
}

pub(super) fn parse_key(text: &str) -> Parsed<SecretString> {
    match text.trim() {
        key if key.chars().all(|c| c.is_ascii_graphic()) => Ok(SecretString::from(key)),
        _ => Err("The key has characters that are not allowed in a header.".to_owned()),
    }
}
