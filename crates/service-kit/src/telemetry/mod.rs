//! Logging: one line per event, as JSON for machines or as text for people, to a standard stream and optionally to a
//! file.
//!
//! Depends on nothing in the workspace. Invariants: logging never blocks the service (each output has its own thread
//! behind a bounded queue; lines that do not fit are counted and dropped), and never ends it (no error of an output
//! reaches the caller). Callers must not log memory text, queries or tokens.
//!
//! To add a format, add a variant of [`LogFormat`] and its function in `line.rs`.

mod layer;
mod line;
mod output;
mod queue;
mod rotate;

use std::any::Any;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use layer::{LogLayer, Target};
use line::{Form, Record};
use queue::Queue;

/// Maximum wait for the outputs when the service ends.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The identity of the service that logs.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Name in every JSON line.
    pub name: &'static str,
    /// Targets of the service's own events, which follow the configured level. Lines for people omit the first one.
    pub targets: &'static [&'static str],
}

/// How events are logged.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Format of the lines on the standard stream.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: LogLevel,
    /// File that receives the lines as well.
    pub file: Option<PathBuf>,
    /// Size at which the file is rotated, in bytes.
    pub file_bytes: u64,
    /// Number of files to keep, including the current one.
    pub file_count: u32,
    /// Whether each line on the standard stream begins with `<N>`, the priority that systemd's journal reads.
    pub systemd_priority: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: LogLevel::Info,
            file: None,
            file_bytes: 10 * 1024 * 1024,
            file_count: 5,
            systemd_priority: false,
        }
    }
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `Pretty` on a terminal, otherwise `Json`.
    Auto,
    /// One object per line.
    Json,
    /// Text for people.
    Pretty,
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The standard stream for log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    /// For programs whose standard output belongs to a protocol.
    Stderr,
}

/// The reason why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot open the log file {path}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot start a thread for the log")]
    Thread(#[source] std::io::Error),
    #[error("logging was started twice")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps logging alive. Dropping it waits at most one second until everything is written. Call
/// [`flusher`](Self::flusher) in a process that ends without dropping it.
#[derive(Debug)]
#[must_use = "the last lines are lost if this is dropped before the end"]
pub struct Telemetry {
    queues: Vec<Queue>,
}

impl Telemetry {
    /// Waits at most `longest` until everything logged so far is written. Returns whether it is.
    pub fn flush_within(&self, longest: Duration) -> bool {
        flush_queues(&self.queues, longest)
    }

    /// Returns a function that waits at most one second until everything logged so far is written.
    pub fn flusher(&self) -> impl Fn() + Send + Sync + 'static {
        let queues = self.queues.clone();
        move || {
            flush_queues(&queues, LAST_WAIT);
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush_within(LAST_WAIT);
    }
}

/// Waits at most `longest` in total until all queues are written. Returns whether they are.
fn flush_queues(queues: &[Queue], longest: Duration) -> bool {
    let deadline = Instant::now() + longest;
    let mut all_written = true;
    for queue in queues {
        all_written &= queue.flush_within(deadline.saturating_duration_since(Instant::now()));
    }
    all_written
}

/// Starts logging for the whole process, and logs panics.
///
/// # Errors
/// Fails if the log file cannot be opened, no thread can be started, or logging was started before.
pub fn init(
    options: &LogOptions,
    service: &Service,
    stream: Stream,
) -> Result<Telemetry, TelemetryError> {
    let is_terminal = match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    let form = match options.format {
        LogFormat::Json => Form::Json,
        LogFormat::Auto if !is_terminal => Form::Json,
        LogFormat::Auto | LogFormat::Pretty => Form::Pretty {
            colour: is_terminal && !is_colour_refused(),
        },
    };
    let standard = output::Standard::open(stream);
    let mut targets = vec![Target::start(
        standard,
        *service,
        form,
        options.systemd_priority,
    )?];
    if let Some(path) = &options.file {
        let file = rotate::RotatingFile::open(path, options.file_bytes, options.file_count);
        let file = file.map_err(|source| TelemetryError::File {
            path: path.clone(),
            source,
        })?;
        targets.push(Target::start(file, *service, Form::Json, false)?);
    }
    let queues = targets.iter().map(|target| target.queue.clone()).collect();
    let subscriber = tracing_subscriber::registry()
        .with(level_filter(options.level, service))
        .with(LogLayer {
            now: wall_clock,
            targets,
        });
    tracing::subscriber::set_global_default(subscriber).map_err(TelemetryError::Twice)?;
    log_panics();
    Ok(Telemetry { queues })
}

impl Target {
    fn start(
        output: impl output::Output,
        service: Service,
        form: Form,
        has_priority: bool,
    ) -> Result<Self, TelemetryError> {
        let describe_loss = move |dropped: u64| {
            let record = Record {
                time: wall_clock(),
                level: tracing::Level::WARN,
                target: module_path!(),
                message: "log lines were dropped, the output was too slow".to_owned(),
                fields: vec![("dropped".to_owned(), dropped.into())],
            };
            line::render_line(&record, &service, form, has_priority)
        };
        let queue = Queue::start(output, describe_loss).map_err(TelemetryError::Thread)?;
        Ok(Self {
            queue,
            service,
            form,
            has_priority,
        })
    }
}

/// Passes the service's events from `level` on. Events of libraries are limited to warnings, because rmcp prints whole
/// messages of clients at lower levels.
fn level_filter(level: LogLevel, service: &Service) -> Targets {
    let (ours, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::WARN),
    };
    // Warnings of rmcp::service quote messages of clients.
    Targets::new()
        .with_default(others)
        .with_target("rmcp::service", LevelFilter::ERROR)
        .with_target(env!("CARGO_CRATE_NAME"), ours)
        .with_targets(service.targets.iter().map(|target| (*target, ours)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a line has the time of the machine, whatever the Clock of a test returns"
)]
fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}

/// Returns whether the environment disables color (https://no-color.org): any value except an empty one does.
fn is_colour_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Logs panics instead of printing them.
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

/// Returns the text of a panic if it is known at compile time. A formatted text may quote data of a client.
fn panic_reason(payload: &(dyn Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown, it may hold data)")
}

#[cfg(test)]
mod tests;
