//! `model`: the embedding model on this machine. `reindex`: recomputes all embeddings.

use clap::{Subcommand, ValueEnum};
use std::io::IsTerminal;
use std::path::PathBuf;

use super::open_store::create_store;
use super::output::print_result;
use super::{CONFIGURATION, Failure, UNAVAILABLE, control, fail, load_settings, start_runtime};
use crate::config::{Embedding, Settings, Sources};
use crate::domain::count::{count_of, verb_for};
use crate::embed::catalog::{KNOWN_MODELS, KnownModel, find_model};
use crate::embed::fetch::{FetchError, Meter, Plan, Precision, State};
use crate::engine::EngineError;
use crate::store::StoreError;

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Download the missing files of the configured model
    Fetch,
    /// Check every file of the configured model; exit code 1 if one is missing or damaged
    Verify,
    /// List the known models with their properties, and whether they are on this machine
    List,
    /// Copy the configured model to a new, smaller folder, to be named in MEMORY_MODEL_SOURCE
    Compact {
        /// Folder, which must not exist yet
        folder: PathBuf,
        /// Bits per number: 16 for the word embeddings only, or 8 for the word embeddings and all layers
        #[arg(long, default_value = "16")]
        bits: Bits,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Bits {
    #[value(name = "8")]
    Eight,
    #[value(name = "16")]
    Sixteen,
}

impl From<Bits> for Precision {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::Eight => Self::Bits8,
            Bits::Sixteen => Self::Bits16,
        }
    }
}

/// Returns the sources of the configured model.
pub(super) fn model_plan(settings: &Settings) -> Option<Plan> {
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
            hub: Some(hub.clone()),
        }),
        Embedding::None | Embedding::Http { .. } => None,
    }
}

pub(super) fn run(command: ModelCommand, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let plan = model_plan(&settings).ok_or_else(|| Failure {
        code: CONFIGURATION,
        error: anyhow::anyhow!("no model runs in this process: MEMORY_EMBEDDER is not local"),
    })?;
    match command {
        ModelCommand::Fetch => {
            let meter = Meter::new(std::io::stderr().is_terminal());
            let folder = start_runtime()?
                .block_on(plan.fetch(&meter))
                .map_err(|error| Failure {
                    code: if matches!(error, FetchError::Disk { .. }) {
                        CONFIGURATION
                    } else {
                        UNAVAILABLE
                    },
                    error: error.into(),
                })?;
            print_result(&format!("{} is in {}\n", plan.id(), folder.display()))?;
            Ok(0)
        }
        ModelCommand::Compact { folder, bits } => {
            let failed = |error| {
                let error =
                    anyhow::Error::new(error).context(format!("{} was not copied", plan.id()));
                Failure::new(CONFIGURATION, error)
            };
            plan.compact(&folder, bits.into()).map_err(failed)?;
            print_result(&format!(
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
                text.push_str(&format!("  {:<10} {name}\n", describe_state(*state)));
            }
            print_result(&text)?;
            Ok(u8::from(states.iter().any(|(_, state)| {
                matches!(state, State::Missing | State::Damaged)
            })))
        }
        ModelCommand::List => {
            print_result(&list_models(&plan))?;
            Ok(0)
        }
    }
}

/// Draws a table of the known models and the configured one, which has a mark.
fn list_models(plan: &Plan) -> String {
    let mut text = format!(
        "  {:<38} {:>6}  {:<11} {:<10} {}\n",
        "NAME", "SIZE", "LANGUAGES", "CALIBRATED", "HERE"
    );
    for known in &KNOWN_MODELS {
        let size = format!("{} MB", known.megabytes);
        let calibrated = known
            .calibration
            .map_or_else(|| "no".to_owned(), |it| it.to_string());
        text.push_str(&format!(
            "{} {:<38} {size:>6}  {:<11} {calibrated:<10} {}\n",
            mark(plan, known.id()),
            known.name,
            known.languages,
            locate_model(plan, known.id()),
        ));
        text.push_str(&format!("    {}\n", describe_model(known)));
    }
    if find_model(&plan.model).is_none() {
        let (id, place) = (plan.id(), locate_model(plan, plan.id()));
        text.push_str(&format!(
            "* {id:<38} {:>6}  {:<11} {:<10} {place}\n",
            "", "", "no"
        ));
    }
    text
}

fn describe_model(known: &KnownModel) -> String {
    let mut parts = vec![
        known.repository.to_owned(),
        format!("{} dimensions", known.dimension),
        format!("pooling: {}", known.pooling),
    ];
    parts.extend(
        known
            .query_prompt
            .map(|prompt| format!("prompt of questions: {prompt:?}")),
    );
    parts.extend(
        known
            .passage_prompt
            .map(|prompt| format!("of passages: {prompt:?}")),
    );
    parts.join(", ")
}

fn mark(plan: &Plan, id: &str) -> &'static str {
    if plan.id() == id { "*" } else { " " }
}

/// Returns the folder of a model that is on this machine.
fn locate_model(plan: &Plan, id: &str) -> String {
    let plan = Plan {
        model: id.to_owned(),
        source: plan.source.clone().filter(|_| plan.id() == id),
        ..plan.clone()
    };
    let folder = plan.folder();
    if folder.join("model.safetensors").is_file() {
        folder.display().to_string()
    } else {
        "no".to_owned()
    }
}

fn describe_state(state: State) -> &'static str {
    match state {
        State::Sound => "sound",
        State::Missing => "missing",
        State::Damaged => "damaged",
        State::Unpinned => "not pinned",
    }
}

/// Queues every memory for new vectors, through the service if one has the file open; the service computes them in
/// the background.
pub(super) fn reindex(sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let backlog = start_runtime()?.block_on(queue_all(&settings))?;
    let first = match &settings.embedding {
        Embedding::None => "MEMORY_EMBEDDER is none, so they wait until it is set.",
        _ => {
            "the service computes them in the background; `status` and /health/ready show how many are left."
        }
    };
    print_result(&format!(
        "{} {} new embeddings; {first}\n",
        count_of(backlog, "memory"),
        verb_for(backlog, "awaits", "await")
    ))?;
    Ok(0)
}

async fn queue_all(settings: &Settings) -> Result<u64, Failure> {
    let local = create_store(settings)?;
    match local.store.prepare().await {
        Ok(()) => {}
        Err(error @ StoreError::InUse { .. }) => {
            let answer = control::send_command(settings, "reindex", &()).await;
            return match answer.map_err(|error| Failure::new(UNAVAILABLE, error))? {
                Some(Ok(backlog)) => Ok(backlog),
                Some(Err(refusal)) => fail!(UNAVAILABLE, "{}. {}", refusal.message, refusal.advice),
                None => Err(control::unreachable_socket(error, settings)),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let engine = local.build_engine(settings);
    let queued = engine.reindex().await;
    local.store.close().await;
    queued.map_err(|error| match error {
        EngineError::Store(error) => error.into(),
        EngineError::Invalid(_)
        | EngineError::UnknownReference { .. }
        | EngineError::AmbiguousReference { .. } => Failure::internal(error),
    })
}
