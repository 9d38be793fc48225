//! Notes that a conversation has new turns, and starts the process that stores them.

use std::process::{Command, Stdio};

use anyhow::Context;
use session_hooks::{Job, StateFolder};

use super::Request;
use crate::config::{SETTINGS, Sources};

/// Adds the turns of an event, or its transcript, to the queue, and starts the delivery.
pub(super) fn store_turns(request: &Request) -> anyhow::Result<()> {
    let event = request.event;
    let project = request.args.project.as_deref();
    let Some(session) = event.turn_session() else {
        anyhow::bail!("session_id: expected the ID of the conversation, got none");
    };
    match &event.transcript {
        Some(transcript) => request.folder.add_job(&Job {
            session,
            transcript: transcript.clone(),
            project: project.map(str::to_owned),
        })?,
        None if event.turns.is_empty() => {}
        None => request.folder.add_turns(&session, &event.turns, project)?,
    }
    start_delivery(request.sources, request.folder)
}

/// Starts a process that delivers what waits. It outlives this process and its terminal.
pub(super) fn start_delivery(sources: &Sources, folder: &StateFolder) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    if !folder.has_jobs() {
        return Ok(());
    }
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    Command::new(program)
        .args(given_options(sources))
        .args(["hook", "--deliver"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("the process that stores turns cannot be started")?;
    Ok(())
}

/// Returns the settings of the command line as options.
fn given_options(sources: &Sources) -> Vec<String> {
    SETTINGS
        .iter()
        .filter_map(|setting| {
            let value = sources.flags.get(setting.name)?;
            Some(format!("--{}={value}", setting.flag?))
        })
        .collect()
}
