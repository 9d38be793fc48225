//! `model`: the embedding model on this machine. `reindex`: all vectors anew.

use std::io::IsTerminal;

use clap::Subcommand;

use super::{CONFIGURATION, Failure, UNAVAILABLE, local, runtime, say};
use crate::config::{self, Embedding, Settings, Sources};
use crate::domain::{Clock, SystemClock};
use crate::embed::fetch::{FetchError, Meter, Plan, State, known_models};

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Fetch the configured model, or what is missing of it
    Fetch,
    /// Check every file of the configured model; exit code 1 when one is missing or damaged
    Verify,
    /// List the models that are known, and whether they are here
    List,
}

/// How the configured model is to be had.
pub(super) fn plan(settings: &Settings) -> Option<Plan> {
    match &settings.embedding {
        Embedding::Local { model, dir, source, hub } => {
            Some(Plan { model: model.clone(), dir: dir.clone(), source: source.clone(), hub: hub.clone() })
        }
        Embedding::None | Embedding::Http { .. } => None,
    }
}

pub(super) fn run(command: ModelCommand, sources: &Sources) -> Result<u8, Failure> {
    let settings = config::load(sources)?;
    let plan = plan(&settings).ok_or_else(|| Failure {
        code: CONFIGURATION,
        error: anyhow::anyhow!("no model runs in this process: MEMORY_EMBEDDER is not local"),
    })?;
    match command {
        ModelCommand::Fetch => {
            let meter = Meter::new(std::io::stderr().is_terminal());
            let folder = runtime()?.block_on(plan.fetch(&meter)).map_err(|error| Failure {
                code: if matches!(error, FetchError::Disk { .. }) { CONFIGURATION } else { UNAVAILABLE },
                error: error.into(),
            })?;
            say(&format!("{} is in {}\n", plan.id(), folder.display()))?;
            Ok(0)
        }
        ModelCommand::Verify => {
            let states = plan.verify().map_err(Failure::internal)?;
            let mut text = format!("{} in {}\n", plan.id(), plan.folder().display());
            for (name, state) in &states {
                text.push_str(&format!("  {:<10} {name}\n", word(*state)));
            }
            say(&text)?;
            Ok(u8::from(states.iter().any(|(_, state)| matches!(state, State::Missing | State::Damaged))))
        }
        ModelCommand::List => {
            let mut models = known_models();
            if !models.contains(&plan.id()) {
                models.push(plan.id());
            }
            let mut text = String::new();
            for model in models {
                let chosen = model == plan.id();
                let one =
                    Plan { model: model.to_owned(), source: plan.source.clone().filter(|_| chosen), ..plan.clone() };
                let here = one.folder().join("model.safetensors").is_file();
                let mark = if chosen { "*" } else { " " };
                let place = if here { one.folder().display().to_string() } else { "not here".to_owned() };
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

/// Queues every memory for new vectors; the service makes them in the background.
pub(super) fn reindex(sources: &Sources) -> Result<u8, Failure> {
    let settings = config::load(sources)?;
    let local = local::store(&settings)?;
    let backlog = runtime()?.block_on(async {
        local.store.prepare().await?;
        let mut place = None;
        loop {
            place = local.store.queue_missing("", place, SystemClock.now()).await?;
            if place.is_none() {
                break;
            }
        }
        let backlog = local.store.index_backlog().await?;
        local.store.close().await;
        Ok::<_, Failure>(backlog)
    })?;
    say(&format!("{backlog} memories wait for new vectors; the running service makes them in the background.\n"))?;
    Ok(0)
}
