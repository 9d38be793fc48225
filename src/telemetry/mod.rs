//! Logging: one line an event, JSON for machines or pretty for people, to the standard output and optionally to a file.
//!
//! May depend on the types of `config`. Owns two invariants: logging never stops the service (each output has its own
//! thread behind a bounded queue; what does not fit is counted and dropped), and never ends it (no error of an output
//! reaches the caller). What is logged is the caller's business: never memory text, queries or tokens.
//!
//! To add a form of lines: a variant of `config::LogFormat` and its function in `line.rs`.

mod layer;
mod line;
mod output;
mod queue;
mod rotate;

use std::any::Any;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::config::{FileState, Log, LogFormat, LogLevel, LogPrefix, Settings};
use layer::{LogLayer, Target};
use line::{Form, Record};
use queue::Queue;

/// Name of the service in every JSON line.
const SERVICE: &str = "cognitive-memory-mcp";

/// Our own events begin with this target.
const CRATE: &str = "cognitive_memory_mcp";

/// Longest wait for the outputs when the service ends.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Where lines for the operator go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error, for `stdio`, whose standard output belongs to the protocol.
    Stderr,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log file is of no use.
    #[error("cannot open the log file {path} (MEMORY_LOG_FILE)")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for the log")]
    Thread(#[source] std::io::Error),
    /// There is a subscriber already.
    #[error("logging was started twice")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps the log going. Dropping it waits, not longer than a second, until what was logged is written; call
/// [`flush`](Self::flush) where the process ends without dropping.
#[derive(Debug)]
#[must_use = "the last lines are lost when this is not kept until the end"]
pub struct Telemetry {
    queues: Vec<Queue>,
}

impl Telemetry {
    /// Waits until everything logged so far is written, but not longer than that; says whether it was.
    pub fn flush(&self, longest: Duration) -> bool {
        flush(&self.queues, longest)
    }

    /// A hook for the place where the process ends without dropping this: writes what was logged, for a second at most.
    pub fn flusher(&self) -> impl Fn() + Send + Sync + 'static {
        let queues = self.queues.clone();
        move || {
            flush(&queues, LAST_WAIT);
        }
    }
}

fn flush(queues: &[Queue], longest: Duration) -> bool {
    let end = std::time::Instant::now() + longest;
    // All of them, also after one that is stuck.
    let written: Vec<bool> = queues
        .iter()
        .map(|queue| queue.flush(end.saturating_duration_since(std::time::Instant::now())))
        .collect();
    written.into_iter().all(|written| written)
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush(LAST_WAIT);
    }
}

/// Starts logging for the whole process, and lets panics be logged.
///
/// # Errors
/// When the log file cannot be opened, no thread can be started, or logging was started before.
pub fn init(log: &Log, stream: Stream) -> Result<Telemetry, TelemetryError> {
    let is_terminal = match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    let form = match log.format {
        LogFormat::Json => Form::Json,
        LogFormat::Auto if !is_terminal => Form::Json,
        LogFormat::Auto | LogFormat::Pretty => Form::Pretty {
            colour: is_terminal && !no_colour(),
        },
    };
    let prefix = log.prefix == LogPrefix::Sd;
    let mut targets = vec![start(output::Standard::new(stream), form, prefix)?];
    if let Some(path) = &log.file {
        let file =
            rotate::RotatingFile::open(path, log.file_bytes, log.file_count).map_err(|source| {
                TelemetryError::File {
                    path: path.clone(),
                    source,
                }
            })?;
        targets.push(start(file, Form::Json, false)?);
    }
    let queues = targets.iter().map(|target| target.queue.clone()).collect();
    let subscriber = tracing_subscriber::registry()
        .with(filter(log.level))
        .with(LogLayer::new(SERVICE, now, targets));
    tracing::subscriber::set_global_default(subscriber).map_err(TelemetryError::Twice)?;
    log_panics();
    Ok(Telemetry { queues })
}

/// Says with which settings the service works: "production environment loaded".
pub fn announce(settings: &Settings) {
    let summary = settings.summary();
    tracing::info!(
        environment = summary.environment.as_str(),
        env_file = summary.env_file.as_ref().map(|path| tracing::field::display(path.display())),
        backend = summary.backend,
        database = summary.database,
        server = summary.server,
        listen = %summary.listen,
        auth = if summary.credentials.is_some() { "tokens" } else { "none" },
        credentials = summary.credentials,
        "{} environment loaded",
        summary.environment,
    );
    log_warnings(settings);
    for file in &settings.files {
        if let FileState::Ignored(reason) = &file.state {
            tracing::warn!(file = file.path, reason, "a settings file was ignored");
        }
    }
}

/// Logs what looks like a mistake in the settings but stops nothing.
pub fn log_warnings(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}

fn start<O: output::Output>(output: O, form: Form, prefix: bool) -> Result<Target, TelemetryError> {
    let notice = move |dropped: u64| {
        let record = Record {
            time: now(),
            level: tracing::Level::WARN,
            target: CRATE,
            message: "log lines were dropped, the output was too slow".to_owned(),
            fields: vec![("dropped".to_owned(), dropped.into())],
        };
        line::render(&record, SERVICE, form, prefix)
    };
    let queue = Queue::start(output, notice).map_err(TelemetryError::Thread)?;
    Ok(Target {
        queue,
        form,
        prefix,
    })
}

/// Our own events by level. Libraries warn at most: below that rmcp prints whole messages of clients.
fn filter(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::WARN),
    };
    // Its warnings quote what a client sent: names of tools and methods, arguments of a wrong form.
    Targets::new()
        .with_default(others)
        .with_target("rmcp::service", LevelFilter::ERROR)
        .with_target(CRATE, ours)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line carries the time of the machine, whatever the Clock of a test says"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// https://no-color.org: any value but an empty one.
fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Logs panics instead of printing them: one line, findable like any other.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
            .then(|| backtrace.to_string());
        tracing::error!(
            reason = panic_reason(panic.payload()),
            place,
            thread = std::thread::current().name(),
            backtrace,
            "a panic was caught, this is a bug"
        );
    }));
}

/// The text of a panic if it is known at compile time. A formatted one may quote what a client sent, as that of a
/// string cut within a character does.
fn panic_reason(payload: &(dyn Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown, it may hold data)")
}

#[cfg(test)]
mod tests;
