//! `hook`: answers the events of coding agents. It recalls at the start of a session and with each prompt, and stores
//! the turns of the conversation.
//!
//! A hook must not delay or disturb its client: it ends within `MEMORY_HOOK_TIMEOUT` and with exit code 0, whatever
//! happens. A separate thread does the work, and the process ends without waiting for it. Turns are stored by a second
//! process (`hook --deliver`), because a transcript may be long and a service slow.

use std::io::Read;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, CommandFactory};
use session_hooks::{Event, EventKind, MAX_EVENT_BYTES, Operation, StateFolder};

use super::output::{print_note, print_result, with_causes};
use super::{Cli, Failure};
use crate::config::{self, Purpose, Settings, Sources};

mod answer;
mod capture;
mod delivery;
mod health;

pub(super) use health::describe_health;

/// Time until the settings are loaded, with the time that they allow.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
/// Part of the time that remains for writing the answer and ending.
const LAST_STEPS: Duration = Duration::from_millis(30);

#[derive(Args, Clone)]
pub(super) struct HookArgs {
    /// The event: session-start, user-prompt, stop, pre-compact, session-end or subagent-stop
    event: Option<String>,
    /// The event's JSON, for clients that pass it as an argument; by default it is read from standard input
    json: Option<String>,
    /// Project of the memories; by default, that of the token
    #[arg(long)]
    project: Option<String>,
    /// Store the turns that wait; hooks start this by themselves
    #[arg(long)]
    deliver: bool,
}

/// A message of the thread that does the work.
enum Progress {
    /// It may take so long.
    Timeout(Duration),
    /// It has finished, perhaps with text for the client.
    Finished(Option<String>),
}

/// Parts of an event that its answer depends on.
struct Request<'a> {
    args: &'a HookArgs,
    sources: &'a Sources,
    settings: &'a Settings,
    folder: &'a StateFolder,
    event: &'a Event,
    /// When the hook must have ended.
    end: Instant,
}

/// Returns whether the command line calls `hook`, even if its options are invalid: a client would report the exit code.
pub(super) fn is_called() -> bool {
    let matches = Cli::command().ignore_errors(true).try_get_matches();
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("hook"))
}

pub(super) fn run(args: &HookArgs, sources: &Sources) -> Result<u8, Failure> {
    let start = Instant::now();
    let operation = operation_of(args);
    let (sender, progress) = channel();
    let (owned_args, owned_sources) = (args.clone(), sources.clone());
    let work = move || {
        let folder = open_folder(&owned_sources);
        let finished = if owned_args.deliver {
            delivery::deliver_all(&owned_sources, &folder).map(|()| None)
        } else {
            answer_event(&owned_args, &owned_sources, &folder, start, &sender)
        };
        let answer = finished.unwrap_or_else(|error| {
            folder.record_failure(operation, &with_causes(&error));
            print_note(&format!("hook: {}", with_causes(&error)));
            None
        });
        // Nobody listens after the timeout.
        let _ = sender.send(Progress::Finished(answer));
    };
    let first = if args.deliver {
        delivery::LONGEST_DELIVERY
    } else {
        FIRST_TIMEOUT
    };
    if std::thread::Builder::new().spawn(work).is_err() {
        return Ok(0);
    }
    match wait_for_answer(&progress, start, first) {
        // The client may have closed the pipe.
        Ok(Some(answer)) => drop(print_result(&(answer + "\n"))),
        Ok(None) => {}
        Err(elapsed) => {
            let message = format!("the hook did not finish within {} ms", elapsed.as_millis());
            open_folder(sources).record_failure(operation, &message);
        }
    }
    Ok(0)
}

fn operation_of(args: &HookArgs) -> Operation {
    let kind = args.event.as_deref().and_then(EventKind::parse_name);
    if args.deliver || kind.is_some_and(EventKind::stores_turns) {
        Operation::Storing
    } else {
        Operation::Recalling
    }
}

/// Waits for the answer, as long as the settings allow. Fails with that time.
fn wait_for_answer(
    progress: &Receiver<Progress>,
    start: Instant,
    mut timeout: Duration,
) -> Result<Option<String>, Duration> {
    loop {
        match progress.recv_timeout(timeout.saturating_sub(start.elapsed())) {
            Ok(Progress::Timeout(allowed)) => timeout = allowed,
            Ok(Progress::Finished(answer)) => return Ok(answer),
            Err(_) => return Err(timeout),
        }
    }
}

fn open_folder(sources: &Sources) -> StateFolder {
    StateFolder::at(sources.state_dir().join("hooks"))
}

/// Does what an event requires, and returns the text for the client.
fn answer_event(
    args: &HookArgs,
    sources: &Sources,
    folder: &StateFolder,
    start: Instant,
    sender: &Sender<Progress>,
) -> anyhow::Result<Option<String>> {
    let settings = config::load(sources, Purpose::Command)?;
    // Nobody listens after the timeout.
    let _ = sender.send(Progress::Timeout(settings.hooks.timeout));
    let kind = parse_event_name(args)?;
    let event = Event::parse_json(kind, &read_event(args)?)?;
    folder.prepare()?;
    let request = Request {
        args,
        sources,
        settings: &settings,
        folder,
        event: &event,
        end: start + settings.hooks.timeout.saturating_sub(LAST_STEPS),
    };
    if kind.stores_turns() {
        capture::store_turns(&request).map(|()| None)
    } else {
        answer::compose_answer(&request)
    }
}

fn parse_event_name(args: &HookArgs) -> anyhow::Result<EventKind> {
    let names: Vec<&str> = EventKind::command_names().collect();
    let Some(name) = &args.event else {
        bail!("no event is named; expected one of {}", names.join(", "));
    };
    EventKind::parse_name(name)
        .with_context(|| format!("event: expected one of {}, got {name:?}", names.join(", ")))
}

fn read_event(args: &HookArgs) -> anyhow::Result<Vec<u8>> {
    if let Some(json) = &args.json {
        return Ok(json.clone().into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_EVENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .context("the event on standard input cannot be read")?;
    Ok(bytes)
}
