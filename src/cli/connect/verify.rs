//! Verifies the entries of this program in the settings of clients, for `doctor`.

use client_setup::{CLIENTS, Client, ClientFile, Connection, list_connections};
use reqwest::StatusCode;

use super::place::{ask_service, find_program, user_environment};
use crate::config::Sources;

/// The state of one entry, or of a file that cannot be examined.
pub(in crate::cli) enum Verified {
    Works(String),
    /// The client may be able to connect later.
    Doubtful {
        detail: String,
        remedy: String,
    },
    Broken {
        detail: String,
        remedy: String,
    },
}

/// Verifies all entries in the settings of this user's clients. Clients without an entry are not listed.
pub(in crate::cli) async fn verify_connections(sources: &Sources) -> Vec<Verified> {
    let mut verified = Vec::new();
    // Services without a home directory have no clients.
    let Ok(env) = user_environment(sources) else {
        return verified;
    };
    for client in CLIENTS {
        let Some(path) = client.settings_file(&env) else {
            continue;
        };
        // A file that this user cannot write may still be read by the client.
        let Ok(text) = std::fs::read_to_string(&path) else {
            if let Err(problem) = ClientFile::read(&path) {
                verified.push(describe_unreadable(client, &problem.to_string()));
            }
            continue;
        };
        match list_connections(client, &text) {
            Ok(connections) => {
                for (name, connection) in connections {
                    let entry = format!("{} ({name})", client.title);
                    verified.push(verify_connection(sources, client, &entry, connection).await);
                }
            }
            Err(problem) => {
                let problem = format!("{}: {problem}", path.display());
                verified.push(describe_unreadable(client, &problem));
            }
        }
    }
    verified
}

fn describe_unreadable(client: &Client, problem: &str) -> Verified {
    Verified::Doubtful {
        detail: format!("{}: {problem}", client.title),
        remedy: "correct the file; the client may ignore it".to_owned(),
    }
}

async fn verify_connection(
    sources: &Sources,
    client: &Client,
    entry: &str,
    connection: Connection,
) -> Verified {
    match connection {
        Connection::Command { program, args } => {
            verify_program(sources, client, entry, &program, &args)
        }
        Connection::Url(url) => match ask_service(&url).await {
            Ok(status) if is_endpoint(status) => {
                Verified::Works(format!("{entry} connects to {url}, which answers"))
            }
            Ok(status) => Verified::Broken {
                detail: format!(
                    "{entry} connects to {url}, which answers with status {}",
                    status.as_u16()
                ),
                remedy: format!(
                    "name the address of the service, which ends with /mcp: `cognitive-memory-mcp connect {} --url URL`",
                    client.name
                ),
            },
            Err(_) => Verified::Doubtful {
                detail: format!("{entry} connects to {url}, where nothing answers"),
                remedy: "start the service: `cognitive-memory-mcp serve`".to_owned(),
            },
        },
    }
}

/// Returns whether the status is that of an MCP endpoint: it accepts the request, requires a token, or refuses GET.
fn is_endpoint(status: StatusCode) -> bool {
    status.is_success()
        || [
            StatusCode::UNAUTHORIZED,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::NOT_ACCEPTABLE,
            StatusCode::BAD_REQUEST,
        ]
        .contains(&status)
}

fn verify_program(
    sources: &Sources,
    client: &Client,
    entry: &str,
    program: &str,
    args: &[String],
) -> Verified {
    let words = std::iter::once(program).chain(args.iter().map(String::as_str));
    let command = words.collect::<Vec<_>>().join(" ");
    if find_program(sources, program).is_some() {
        return Verified::Works(format!("{entry} starts {command}"));
    }
    Verified::Broken {
        detail: format!("{entry} starts {command}, but {program} is not an executable file"),
        remedy: format!(
            "write the current path into its settings: `cognitive-memory-mcp connect {}`",
            client.name
        ),
    }
}
