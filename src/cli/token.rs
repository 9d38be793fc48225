//! `token`: credentials for clients, in the database or for the settings.

use std::io::IsTerminal;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Subcommand;

use super::local::{self, Local};
use super::{Failure, INTERNAL, UNAVAILABLE, USAGE, control, runtime, say};
use crate::config::{Auth, Settings, Sources, is_credential_name, sha256};
use crate::domain::SystemClock;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::{
    Engine, EngineError, TokenAnswer, TokenCommand as Operation, TokenView, fresh_token,
};
use crate::store::StoreError;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token in the database: shown once; holds at once, also in a running service
    Create {
        /// Name of the client, kept in the history of what it stores
        name: String,
        /// Project that it reads and writes
        #[arg(long, default_value = DEFAULT_PROJECT)]
        project: String,
        /// Further projects that it only reads, separated by commas
        #[arg(long, value_name = "PROJECTS", value_delimiter = ',')]
        read: Vec<String>,
        /// When it ends: a date or RFC 3339
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the tokens of the database, without their secrets
    List {
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// End a token of the database; a running service refuses it within seconds
    Revoke {
        /// Name of the client
        name: String,
    },
    /// Give a token of the database a new secret; the old one ends
    Rotate {
        /// Name of the client
        name: String,
        /// Answer in JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a token for MEMORY_TOKENS: shown once, with the line that holds its hash
    New {
        /// Name of the client, kept in the history of what it stores
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
        } => return new(&name, &project, &read),
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
    let settings = super::settings(sources)?;
    let answer = runtime()?.block_on(carry_out(&settings, operation.clone()))?;
    if json {
        say(&(serde_json::to_string_pretty(&answer).map_err(Failure::internal)? + "\n"))?;
        return Ok(0);
    }
    say(&word(&settings, &operation, &answer))?;
    Ok(0)
}

fn check_names<'a>(names: impl Iterator<Item = (&'a str, &'a String)>) -> Result<(), Failure> {
    for (what, value) in names {
        if !is_credential_name(value) {
            let error = anyhow!(
                "{what} {value:?} is not accepted; expected letters, digits, `-`, `_` and `.`"
            );
            return Err(Failure { code: USAGE, error });
        }
    }
    Ok(())
}

fn new(name: &String, project: &String, read: &[String]) -> Result<u8, Failure> {
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
    say(&format!(
        "Token, for the client (it is not shown again):\n  {token}\n\n\
         Line for the file that MEMORY_TOKENS_FILE names:\n  {name} sha256:{hash} project={project}{reads}\n"
    ))?;
    Ok(0)
}

/// In the database itself, or, where a running service has it open, by that service.
async fn carry_out(settings: &Settings, operation: Operation) -> Result<TokenAnswer, Failure> {
    let local = local::store(settings)?;
    match local.store.prepare().await {
        Ok(()) => {}
        Err(error @ StoreError::InUse { .. }) => {
            return ask(settings, &operation, error).await;
        }
        Err(error) => return Err(error.into()),
    }
    let Local {
        store, analyzer, ..
    } = local;
    let engine = Engine::new(Arc::clone(&store), analyzer, Arc::new(SystemClock));
    let answer = engine.token(operation).await;
    store.close().await;
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

async fn ask(
    settings: &Settings,
    operation: &Operation,
    in_use: StoreError,
) -> Result<TokenAnswer, Failure> {
    let answer = control::ask(settings, "token", operation).await;
    match answer.map_err(|error| Failure {
        code: UNAVAILABLE,
        error,
    })? {
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
        None => Err(control::unreachable(in_use, settings)),
    }
}

fn word(settings: &Settings, operation: &Operation, answer: &TokenAnswer) -> String {
    let mut text = String::new();
    if let Some(secret) = &answer.secret {
        text += &format!("Token, for the client (it is not shown again):\n  {secret}\n\n");
    }
    match operation {
        Operation::List if answer.tokens.is_empty() => {
            text += "There is no token in the database.\n"
        }
        Operation::List => text += &table(&answer.tokens),
        Operation::Revoke { name } => {
            text += &format!(
                "The token of {name} is revoked; a running service refuses it within 5 seconds.\n"
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
                    .map(|end| format!("; it ends {end}"))
                    .unwrap_or_default();
                text += ".\n";
            }
        }
    }
    let makes = matches!(operation, Operation::Create { .. });
    if makes && matches!(settings.auth, Auth::None) && std::io::stdout().is_terminal() {
        text +=
            "Here no token is asked for (MEMORY_AUTH): set MEMORY_AUTH=tokens for the service.\n";
    }
    text
}

fn table(tokens: &[TokenView]) -> String {
    let mut rows =
        vec![["NAME", "PROJECT", "READS", "TOKEN", "STATE", "MADE", "ENDS"].map(str::to_owned)];
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
