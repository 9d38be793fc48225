//! Stores the turns that wait, in a process that no client waits for.
//!
//! Each turn is stored once: its ID is the idempotency key of the call, a turn of a session with the same number and
//! text is not stored again, and the position in the transcript advances only after its turns are stored.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};
use session_hooks::{DeliveryLock, Job, Operation, StateFolder, Transcript, Turn, split_turn};

use crate::cli::service_client::{Memory, Refused};
use crate::cli::{Failure, UNAVAILABLE};
use crate::config::{self, Purpose, SecretHandling, Settings, Sources};

/// Maximum time of a delivery. The rest waits for the next event.
pub(super) const LONGEST_DELIVERY: Duration = Duration::from_secs(60);
/// Number of turns between two saved positions.
const BATCH: usize = 50;

/// The outcome of a turn that the service did not fail to take.
#[derive(Debug, PartialEq, Eq)]
enum Stored {
    /// It is stored, now or since an earlier delivery.
    Yes,
    /// Another turn of the session has its number.
    NumberTaken,
    /// The service does not accept it, and never will.
    Refused(String),
}

/// Delivers all jobs, unless another process does.
pub(super) fn deliver_all(sources: &Sources, folder: &StateFolder) -> anyhow::Result<()> {
    let settings = config::load(sources, Purpose::Command)?;
    folder.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // A job may be added after the last look and before the lock is free: its own process then finds the lock taken.
    let mut has_jobs = folder.has_jobs();
    while has_jobs {
        let Some(lock) = folder.try_lock()? else {
            return Ok(());
        };
        let delivered = runtime.block_on(async {
            let work = deliver_jobs(&settings, folder, &lock);
            tokio::time::timeout(LONGEST_DELIVERY, work).await
        });
        delivered.map_err(|_| {
            anyhow!(
                "turns could not be stored within {} s; the rest follows after the next event",
                LONGEST_DELIVERY.as_secs()
            )
        })??;
        drop(lock);
        has_jobs = folder.has_waiting_jobs();
    }
    Ok(())
}

async fn deliver_jobs(
    settings: &Settings,
    folder: &StateFolder,
    lock: &DeliveryLock,
) -> anyhow::Result<()> {
    let abandoned = folder.remove_old_state();
    let mut problems = Vec::new();
    if abandoned > 0 {
        problems.push(format!(
            "the turns of {abandoned} transcripts were given up, because too many waited"
        ));
    }
    for job in folder.claim_jobs(lock) {
        match deliver_job(settings, folder, &job).await {
            Ok(refused) => {
                problems.extend(refused);
                folder.finish_job(&job, lock);
            }
            // The transcript will not become readable: without this, the job would fail for ever.
            Err(error) if error.is::<session_hooks::TranscriptError>() => {
                problems.push(error.to_string());
                folder.finish_job(&job, lock);
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(problem) = problems.first() {
        folder.record_failure(Operation::Storing, problem);
    } else {
        folder.clear_failure(Operation::Storing);
        folder.record_delivery();
    }
    Ok(())
}

/// Stores the new turns of a transcript. Returns the reason why some were refused.
async fn deliver_job(
    settings: &Settings,
    folder: &StateFolder,
    job: &Job,
) -> anyhow::Result<Option<String>> {
    let mut transcript = Transcript::open(&job.transcript, folder.read_position(job))?;
    let mut batch = transcript.read_batch(BATCH)?;
    let mut refused = None;
    let mut memory = None;
    loop {
        if !batch.turns.is_empty() && memory.is_none() {
            memory = Some(open_memory(settings, job).await?);
        }
        for turn in batch.turns.into_iter().flat_map(split_turn) {
            let memory = memory.as_ref().context("the memory is open")?;
            let outcome = store_turn(settings, memory, job, &mut transcript, &turn).await?;
            refused = refused.or(outcome);
        }
        folder.write_position(job, &transcript.position()?)?;
        if batch.is_last {
            break;
        }
        batch = transcript.read_batch(BATCH)?;
    }
    folder.trim_spool(job, &transcript.position()?)?;
    if let Some(memory) = memory {
        memory.close().await;
    }
    Ok(refused)
}

async fn open_memory(settings: &Settings, job: &Job) -> anyhow::Result<Memory> {
    Memory::open(settings, job.project.as_deref())
        .await
        .map_err(|failure| failure.error)
}

/// Stores a turn. Returns the reason if the service refuses it for good.
async fn store_turn(
    settings: &Settings,
    memory: &Memory,
    job: &Job,
    transcript: &mut Transcript,
    turn: &Turn,
) -> anyhow::Result<Option<String>> {
    let Some(text) = screen_text(settings, &turn.text) else {
        return Ok(Some(
            "a turn contains a credential and was not stored (MEMORY_SECRETS=refuse)".to_owned(),
        ));
    };
    let number = transcript.take_turn_number();
    match send_turn(memory, job, turn, &text, number).await? {
        Stored::Yes => Ok(None),
        Stored::Refused(reason) => Ok(Some(reason)),
        Stored::NumberTaken => {
            let number = transcript.take_free_number();
            match send_turn(memory, job, turn, &text, number).await? {
                Stored::Yes => Ok(None),
                Stored::Refused(reason) => Ok(Some(reason)),
                Stored::NumberTaken => Ok(Some(format!(
                    "turn {number} of session {:?} exists with another text",
                    job.session
                ))),
            }
        }
    }
}

/// Masks credentials; `None` if the text must not be stored. Nobody reads a refusal, so that masking is the default.
fn screen_text(settings: &Settings, text: &str) -> Option<String> {
    match settings.secrets {
        Some(SecretHandling::Allow) => Some(text.to_owned()),
        Some(SecretHandling::Refuse) => secret_filter::find_secrets(text)
            .is_empty()
            .then(|| text.to_owned()),
        Some(SecretHandling::Mask) | None => {
            Some(secret_filter::mask(text).unwrap_or_else(|| text.to_owned()))
        }
    }
}

async fn send_turn(
    memory: &Memory,
    job: &Job,
    turn: &Turn,
    text: &str,
    number: u64,
) -> anyhow::Result<Stored> {
    let mut item = Map::new();
    let mut set = |name: &str, value: Value| item.insert(name.to_owned(), value);
    set("content", json!(text));
    set("kind", json!("dialogue"));
    set("session", json!(job.session));
    set("speaker", json!(turn.speaker));
    set("turn", json!(number));
    if let Some(time) = &turn.time {
        set("occurred_at", json!(time));
    }
    let key = format!("hook:{}", turn.id);
    let arguments = json!({ "items": [item], "idempotency_key": key });
    match memory.call("remember", arguments).await {
        Ok(_) => Ok(Stored::Yes),
        Err(failure) => judge_failure(failure),
    }
}

/// Distinguishes turns that are stored already, or never can be, from failures after which the delivery ends.
fn judge_failure(failure: Failure) -> anyhow::Result<Stored> {
    let code = failure
        .error
        .downcast_ref::<Refused>()
        .map(|refused| refused.code.clone());
    match code.as_deref() {
        // A copy of the transcript, or one that was replaced, has this turn with another number or session.
        Some("idempotency_conflict") => Ok(Stored::Yes),
        Some("turn_exists") => Ok(Stored::NumberTaken),
        Some("invalid_argument") if failure.code != UNAVAILABLE => {
            Ok(Stored::Refused(failure.error.to_string()))
        }
        _ => Err(failure.error),
    }
}
