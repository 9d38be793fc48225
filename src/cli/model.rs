//! `model`: the embedding model on this machine. `reindex`: all vectors anew.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::{CONFIGURATION, Failure, UNAVAILABLE, control, local, runtime, say};
use crate::config::{Embedding, Settings, Sources};
use crate::domain::SystemClock;
use crate::embed::fetch::{FetchError, Meter, Plan, State, known_models};
use crate::engine::{Engine, EngineError};
use crate::store::StoreError;

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Fetch the configured model, or what is missing of it
    Fetch,
    /// Check every file of the configured model; exit code 1 when one is missing or damaged
    Verify,
    /// List the models that are known, and whether they are here
    List,
    /// Copy the configured model to a new folder with word embeddings of 16 bits, to be named in MEMORY_MODEL_SOURCE
    Compact {
        /// The folder, which must not be there yet
        folder: PathBuf,
    },
}

/// How the configured model is to be had.
pub(super) fn plan(settings: &Settings) -> Option<Plan> {
    match &settings.embedding {
        Embedding::Local {
            model,
            dir,
            source,
            hub,
            ..
        } => Some(Plan {
            model: model.clone(),
            dir: dir.clone(),
            source: source.clone(),
            hub: hub.clone(),
        }),
        Embedding::None | Embedding::Http { .. } => None,
    }
}

pub(super) fn run(command: ModelCommand, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    let plan = plan(&settings).ok_or_else(|| Failure {
        code: CONFIGURATION,
        error: anyhow::anyhow!("no model runs in this process: MEMORY_EMBEDDER is not local"),
    })?;
    match command {
        ModelCommand::Fetch => {
            let meter = Meter::new(std::io::stderr().is_terminal());
            let folder = runtime()?
                .block_on(plan.fetch(&meter))
                .map_err(|error| Failure {
                    code: if matches!(error, FetchError::Disk { .. }) {
                        CONFIGURATION
                    } else {
                        UNAVAILABLE
                    },
                    error: error.into(),
                })?;
            say(&format!("{} is in {}\n", plan.id(), folder.display()))?;
            Ok(0)
        }
        ModelCommand::Compact { folder } => {
            let failed = |error| {
                let error =
                    anyhow::Error::new(error).context(format!("{} was not copied", plan.id()));
                Failure {
                    code: CONFIGURATION,
                    error,
                }
            };
            plan.compact(&folder).map_err(failed)?;
            say(&format!(
                "{} is in {}; name it in MEMORY_MODEL_SOURCE\n",
                plan.id(),
                folder.display()
            ))?;
            Ok(0)
        }
        ModelCommand::Verify => {
            let states = plan.verify().map_err(Failure::internal)?;
            let mut text = format!("{} in {}\n", plan.id(), plan.folder().display());
            for (name, state) in &states {
                text.push_str(&format!("  {:<10} {name}\n", word(*state)));
            }
            say(&text)?;
            Ok(u8::from(states.iter().any(|(_, state)| {
                matches!(state, State::Missing | State::Damaged)
            })))
        }
        ModelCommand::List => {
            let mut models = known_models();
            if !models.contains(&plan.id()) {
                models.push(plan.id());
            }
            let mut text = String::new();
            for model in models {
                let chosen = model == plan.id();
                let one = Plan {
                    model: model.to_owned(),
                    source: plan.source.clone().filter(|_| chosen),
                    ..plan.clone()
                };
                let here = one.folder().join("model.safetensors").is_file();
                let mark = if chosen { "*" } else { " " };
                let place = if here {
                    one.folder().display().to_string()
                } else {
                    "not here".to_owned()
                };
                text.push_str(&format!("{mark} {model}  {place}\n"));
            }
            say(&text)?;
            Ok(0)
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Sound => "sound",
        State::Missing => "missing",
        State::Damaged => "damaged",
        State::Unpinned => "not pinned",
    }
}

/// Queues every memory for new vectors, by way of the service that has the file open where there is one; the service
/// makes them in the background.
pub(super) fn reindex(sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    let backlog = runtime()?.block_on(queue_all(&settings))?;
    let first = match &settings.embedding {
        Embedding::None => "MEMORY_EMBEDDER is none: they wait until it is something else.",
        _ => {
            "the service makes them in the background; `status` and /health/ready tell how many are left."
        }
    };
    say(&format!(
        "{backlog} memories wait for new vectors; {first}\n"
    ))?;
    Ok(0)
}

async fn queue_all(settings: &Settings) -> Result<u64, Failure> {
    let local = local::store(settings)?;
    match local.store.prepare().await {
        Ok(()) => {}
        Err(error @ StoreError::InUse { .. }) => {
            let answer = control::ask(settings, "reindex", &()).await;
            return match answer.map_err(|error| Failure {
                code: UNAVAILABLE,
                error,
            })? {
                Some(Ok(backlog)) => Ok(backlog),
                Some(Err(refusal)) => Err(Failure {
                    code: UNAVAILABLE,
                    error: anyhow::anyhow!("{}. {}", refusal.message, refusal.advice),
                }),
                None => Err(control::unreachable(error, settings)),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let engine = Engine::new(
        Arc::clone(&local.store),
        local.analyzer,
        Arc::new(SystemClock),
    );
    let queued = engine.reindex().await;
    local.store.close().await;
    queued.map_err(|error| match error {
        EngineError::Store(error) => error.into(),
        EngineError::Invalid(_)
        | EngineError::UnknownReference { .. }
        | EngineError::AmbiguousReference { .. } => Failure::internal(error),
    })
}
