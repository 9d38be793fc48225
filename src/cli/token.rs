//! `token`: credentials for clients, in the database or for the settings.

use anyhow::anyhow;
use clap::Subcommand;
use std::io::IsTerminal;

use super::open_store::create_store;
use super::output::{print_result, to_json};
use super::{Failure, INTERNAL, UNAVAILABLE, USAGE, control, fail, load_settings, start_runtime};
use crate::config::{Auth, Settings, Sources, is_credential_name, sha256};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::{EngineError, TokenAnswer, TokenCommand as Operation, TokenView, fresh_token};
use crate::store::StoreError;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token in the database; it is printed once and valid at once, also in a running service
    Create {
        /// Name of the client, recorded in the history of its memories
        name: String,
        /// Project that it reads and writes
        #[arg(long, default_value = DEFAULT_PROJECT)]
        project: String,
        /// Further projects that it only reads, separated by commas
        #[arg(long, value_name = "PROJECTS", value_delimiter = ',')]
        read: Vec<String>,
        /// When it expires: a date or RFC 3339
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the tokens of the database, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token of the database; a running service rejects it within seconds
    Revoke {
        /// Name of the client
        name: String,
    },
    /// Replace the secret of a token in the database; the old one is no longer valid
    Rotate {
        /// Name of the client
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Create a token for MEMORY_TOKENS; it is printed once, with the line for its hash
    New {
        /// Name of the client, recorded in the history of its memories
        name: String,
        /// Project that it reads and writes
        #[arg(long, default_value = DEFAULT_PROJECT)]
        project: String,
        /// Further projects that it only reads, separated by commas
        #[arg(long, value_name = "PROJECTS", value_delimiter = ',')]
        read: Vec<String>,
    },
}

pub(super) fn run(command: TokenCommand, sources: &Sources) -> Result<u8, Failure> {
    let (operation, json) = match command {
        TokenCommand::New {
            name,
            project,
            read,
        } => return create_offline(&name, &project, &read),
        TokenCommand::Create {
            name,
            project,
            read,
            expires,
            json,
        } => {
            check_names(
                [("NAME", &name), ("--project", &project)]
                    .into_iter()
                    .chain(read.iter().map(|r| ("--read", r))),
            )?;
            (
                Operation::Create {
                    name,
                    project,
                    reads: read,
                    expires,
                },
                json,
            )
        }
        TokenCommand::List { json } => (Operation::List, json),
        TokenCommand::Revoke { name } => (Operation::Revoke { name }, false),
        TokenCommand::Rotate { name, json } => (Operation::Rotate { name }, json),
    };
    let settings = load_settings(sources)?;
    let answer = start_runtime()?.block_on(carry_out(&settings, operation.clone()))?;
    if json {
        print_result(&(to_json(&answer)?))?;
        return Ok(0);
    }
    print_result(&describe_answer(&settings, &operation, &answer))?;
    Ok(0)
}

fn check_names<'a>(names: impl Iterator<Item = (&'a str, &'a String)>) -> Result<(), Failure> {
    for (what, value) in names {
        if !is_credential_name(value) {
            fail!(
                USAGE,
                "{what}: expected letters, digits, `-`, `_` and `.`, got {value:?}"
            );
        }
    }
    Ok(())
}

fn create_offline(name: &String, project: &String, read: &[String]) -> Result<u8, Failure> {
    check_names(
        [("NAME", name), ("--project", project)]
            .into_iter()
            .chain(read.iter().map(|r| ("--read", r))),
    )?;
    let token = fresh_token().map_err(Failure::internal)?;
    let hash: String = sha256(&token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let reads = if read.is_empty() {
        String::new()
    } else {
        format!(" read={}", read.join(","))
    };
    print_result(&format!(
        "Token for the client (it is not printed again):\n  {token}\n\n\
         Line for the file that MEMORY_TOKENS_FILE names:\n  {name} sha256:{hash} project={project}{reads}\n"
    ))?;
    Ok(0)
}

/// Executes the operation in the database, or through a running service that has it open.
async fn carry_out(settings: &Settings, operation: Operation) -> Result<TokenAnswer, Failure> {
    let local = create_store(settings)?;
    match local.store.prepare().await {
        Ok(()) => {}
        Err(error @ StoreError::InUse { .. }) => {
            return send_command(settings, &operation, error).await;
        }
        Err(error) => return Err(error.into()),
    }
    let engine = local.build_engine(settings);
    let answer = engine.token(operation).await;
    local.store.close().await;
    answer.map_err(|error| {
        let code = match &error {
            EngineError::Store(StoreError::Unavailable { .. }) => UNAVAILABLE,
            EngineError::Store(StoreError::Internal { .. }) => INTERNAL,
            _ => USAGE,
        };
        let advice = error.advice();
        Failure {
            code,
            error: anyhow!("{error}. {advice}"),
        }
    })
}

async fn send_command(
    settings: &Settings,
    operation: &Operation,
    in_use: StoreError,
) -> Result<TokenAnswer, Failure> {
    let answer = control::send_command(settings, "token", operation).await;
    match answer.map_err(|error| Failure::new(UNAVAILABLE, error))? {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(refusal)) => {
            let code = if refusal.code == "database_unavailable" {
                UNAVAILABLE
            } else {
                USAGE
            };
            Err(Failure {
                code,
                error: anyhow!("{}. {}", refusal.message, refusal.advice),
            })
        }
        None => Err(control::unreachable_socket(in_use, settings)),
    }
}

fn describe_answer(settings: &Settings, operation: &Operation, answer: &TokenAnswer) -> String {
    let mut text = String::new();
    if let Some(secret) = &answer.secret {
        text += &format!("Token for the client (it is not printed again):\n  {secret}\n\n");
    }
    match operation {
        Operation::List if answer.tokens.is_empty() => text += "The database has no tokens.\n",
        Operation::List => text += &format_table(&answer.tokens),
        Operation::Revoke { name } => {
            text += &format!(
                "The token of {name} is revoked; a running service rejects it within 5 seconds.\n"
            );
        }
        Operation::Create { .. } | Operation::Rotate { .. } => {
            for token in &answer.tokens {
                text += &format!("{} writes and reads project {}", token.name, token.project);
                if !token.reads.is_empty() {
                    text += &format!(", and reads {}", token.reads.join(", "));
                }
                text += &token
                    .expires_at
                    .as_ref()
                    .map(|end| format!("; it expires {end}"))
                    .unwrap_or_default();
                text += ".\n";
            }
        }
    }
    let makes = matches!(operation, Operation::Create { .. });
    if makes && matches!(settings.auth, Auth::None) && std::io::stdout().is_terminal() {
        text +=
            "The service requires no token (MEMORY_AUTH); set MEMORY_AUTH=tokens to require one.\n";
    }
    text
}

fn format_table(tokens: &[TokenView]) -> String {
    let mut rows = vec![
        [
            "NAME", "PROJECT", "READS", "TOKEN", "STATE", "CREATED", "EXPIRES",
        ]
        .map(str::to_owned),
    ];
    for token in tokens {
        rows.push([
            token.name.clone(),
            token.project.clone(),
            if token.reads.is_empty() {
                "-".to_owned()
            } else {
                token.reads.join(",")
            },
            format!("{}…", token.prefix),
            token.state.clone(),
            token.created_at.clone(),
            token.expires_at.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let widths: Vec<usize> = (0..7)
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}
