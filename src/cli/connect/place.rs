//! Where the clients of this user store their settings, and what they are to connect to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use client_setup::{Environment, System, Target};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::cli::output::print_note;
use crate::cli::{Failure, fail, http_client, start_runtime};
use crate::config::{self, Purpose, Sources};

/// The name of this program in a directory for programs.
const PROGRAM: &str = "cognitive-memory-mcp";
/// The setting whose option names the service.
const URL_SETTING: &str = "MEMORY_URL";
/// Path of the MCP endpoint if the address has none.
const ENDPOINT: &str = "/mcp";
/// Maximum wait for an answer of a service.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

/// Returns the places of the user's files; fails if there is no home directory.
pub(in crate::cli) fn user_environment(sources: &Sources) -> Result<Environment, Failure> {
    let Some(home) = sources.home() else {
        fail!(
            USAGE,
            "HOME: expected the absolute path of a home directory; clients store their settings there"
        );
    };
    let variable = |name: &str| sources.env_path(name).map(Path::to_owned);
    let programs = program_folders(sources);
    Ok(Environment::new(
        System::of_build(),
        home,
        variable,
        programs,
    ))
}

fn program_folders(sources: &Sources) -> Vec<PathBuf> {
    let path = sources.env.get(std::ffi::OsStr::new("PATH"));
    let folders = path.into_iter().flat_map(std::env::split_paths);
    folders.filter(|folder| folder.is_absolute()).collect()
}

/// Returns the path of a program that has a path or is in a directory for programs.
pub(in crate::cli) fn find_program(sources: &Sources, program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.is_absolute() {
        return is_executable(path).then(|| path.to_owned());
    }
    let mut candidates = program_folders(sources)
        .into_iter()
        .map(|folder| folder.join(program));
    candidates.find(|candidate| is_executable(candidate))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

/// Returns what clients connect to: a command, or the service that `--url` names.
pub(super) fn find_target(sources: &Sources, for_removal: bool) -> Result<Target, Failure> {
    let program = own_program(sources)?;
    let Some(url) = sources.flags.get(URL_SETTING) else {
        return Ok(Target::Command { program });
    };
    let url = parse_address(url)?;
    let needs_token = !for_removal && needs_token(sources, &url)?;
    Ok(Target::Service {
        url,
        needs_token,
        program,
    })
}

/// Returns the absolute path of this program. A name in a directory for programs stays valid after an upgrade, unlike the
/// versioned file to which it may lead.
fn own_program(sources: &Sources) -> Result<String, Failure> {
    let running = std::env::current_exe().map_err(Failure::internal)?;
    let resolved = running.canonicalize().ok();
    let installed = program_folders(sources)
        .into_iter()
        .map(|folder| folder.join(PROGRAM))
        .find(|path| resolved.is_some() && path.canonicalize().ok() == resolved);
    let path = installed.unwrap_or(running);
    match path.to_str() {
        Some(text) if path.exists() => Ok(text.to_owned()),
        _ => fail!(
            INTERNAL,
            "the path of this program, {}, no longer exists or is not UTF-8; install it again, then repeat the command",
            path.display()
        ),
    }
}

/// Returns the address of the MCP endpoint. A user name, password or query could be a secret, which must not be written.
fn parse_address(text: &str) -> Result<String, Failure> {
    let expected = "--url: expected an http or https address without user name, password, query and fragment, such as \
                    http://127.0.0.1:8765/mcp";
    let Ok(mut url) = Url::parse(text) else {
        fail!(USAGE, "{expected}, got {text:?}");
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain {
        fail!(USAGE, "{expected}");
    }
    if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none() {
        fail!(USAGE, "{expected}, got {text:?}");
    }
    if url.path() == "/" {
        url.set_path(ENDPOINT);
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Returns whether the entry must refer to a token: the user has one, or the service asks for one.
fn needs_token(sources: &Sources, url: &str) -> Result<bool, Failure> {
    let mut other = sources.clone();
    other.flags = other.flags.without(URL_SETTING);
    let settings = config::read(&other, Purpose::Command).settings;
    if settings.is_ok_and(|settings| settings.client.token.is_some()) {
        return Ok(true);
    }
    let status = start_runtime()?.block_on(ask_service(url));
    match status {
        Ok(status) => Ok(status == StatusCode::UNAUTHORIZED),
        Err(_) => {
            print_note(&format!(
                "No service answers at {url} yet. If it requires a token, run this command again when it runs."
            ));
            Ok(false)
        }
    }
}

/// Returns the status of an answer to a request without a token.
pub(in crate::cli) async fn ask_service(url: &str) -> anyhow::Result<StatusCode> {
    let client = if url.starts_with("https://") {
        reqwest::Client::builder().redirect(Policy::none())
    } else {
        http_client::plain_client()
    };
    let client = client.timeout(LONGEST_ANSWER).build()?;
    Ok(client.get(url).send().await?.status())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::USAGE;

    #[test]
    fn an_address_gets_the_endpoint() {
        for (given, expected) in [
            ("http://127.0.0.1:8765", "http://127.0.0.1:8765/mcp"),
            ("http://127.0.0.1:8765/", "http://127.0.0.1:8765/mcp"),
            ("http://127.0.0.1:8765/mcp/", "http://127.0.0.1:8765/mcp"),
            (
                "https://memory.example.org/a/mcp",
                "https://memory.example.org/a/mcp",
            ),
        ] {
            assert_eq!(parse_address(given).expect("an address"), expected);
        }
    }

    #[test]
    fn an_address_with_a_secret_is_refused_and_not_repeated() {
        for wrong in [
            "http://ada:geheim@127.0.0.1:8765/mcp",
            "http://127.0.0.1:8765/mcp?token=geheim",
            "http://127.0.0.1:8765/mcp#geheim",
        ] {
            let failure = parse_address(wrong).expect_err("a secret");
            assert_eq!(failure.code, USAGE);
            let text = failure.error.to_string();
            assert!(
                text.starts_with("--url: ") && !text.contains("geheim"),
                "{text}"
            );
        }
        for wrong in ["", "127.0.0.1:8765", "ftp://host/mcp", "unix:/run/x"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }
}
