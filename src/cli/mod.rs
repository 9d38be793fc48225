//! The command line: one file a subcommand, and the place where the parts are put together.
//!
//! May depend on everything. Maps every error to an exit code: 0 ok, 64 usage, 69 dependency unavailable, 70 internal,
//! 78 configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Flags, Purpose, Settings, Sources, is_transient};
use crate::store::StoreError;
use crate::telemetry::{self, Service, Stream, Telemetry, TelemetryError};

mod announcement;
mod backup;
mod client;
mod compact;
mod config_command;
mod control;
mod discovery;
mod doctor;
mod edit;
mod eval;
mod foreign;
mod generated;
mod healthcheck;
mod help;
mod local;
mod migrate;
mod model;
mod option_name;
mod overview;
mod paper;
mod people;
mod port;
#[cfg(test)]
mod quoted_command;
mod remote;
mod review;
mod serve;
mod service;
mod stdio;
mod token;

use paper::Paper;

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const INTERNAL: u8 = 70;
const CONFIGURATION: u8 = 78;

/// Persistent memory for AI agents, served over the Model Context Protocol.
#[derive(Parser)]
#[command(name = "cognitive-memory-mcp", version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Every command also accepts the settings as options, such as --data-dir or --listen: \
`cognitive-memory-mcp help settings` lists them.";

#[derive(Subcommand)]
enum Command {
    /// Serve MCP over HTTP, as a service does
    #[command(after_help = AFTER_HELP)]
    Serve(service::Switches),
    /// Serve MCP on standard input and output, through the running service if there is one
    #[command(after_help = AFTER_HELP)]
    Stdio,
    /// Ask the running service whether it is ready: exit code 0 or 1
    Healthcheck,
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Bring the schema of the database up to date, as `serve` does at start
    Migrate {
        /// Only print what would be done; exit code 1 if there is something to do
        #[arg(long)]
        check: bool,
    },
    /// The embedding model on this machine
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Compute all vectors again, in the background of the service
    Reindex,
    /// Store a memory
    Remember(people::RememberArgs),
    /// Find memories; exit code 1 if there are none
    Recall(people::RecallArgs),
    /// List the newest memories
    List(people::ListArgs),
    /// Show memories in full
    Show(people::ShowArgs),
    /// Change a memory, in your editor or by options
    Edit(edit::EditArgs),
    /// Delete memories, restore them, or remove them permanently
    Forget(people::ForgetArgs),
    /// Show what the memory contains: counts, tags, sessions, speakers
    Status(overview::StatusArgs),
    /// List the tags in use, with the number of memories
    Tags(overview::TagsArgs),
    /// List the entities of the graph
    Entities(overview::EntitiesArgs),
    /// Write all memories to a file (JSON lines), also while the service runs
    Export(port::ExportArgs),
    /// Import such a file, or the data of another program; memories that exist already are skipped
    Import(port::ImportArgs),
    /// Check everything the service needs and suggest remedies: exit code 0 or 1
    Doctor(doctor::DoctorArgs),
    /// Return the space of purged memories to the disk; the service must be stopped
    Compact,
    /// Save the database to a file, also while the service runs; the file is tested before it is kept
    Backup(backup::BackupArgs),
    /// Fill the database from a backup or an export; the service must be stopped
    Restore(backup::RestoreArgs),
    /// Measure recall by questions with known answers
    Eval(eval::EvalArgs),
    /// Decide on changes that models proposed for protected memories
    Review(review::ReviewArguments),
    /// Create, list and revoke tokens for clients
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: generated::Shell,
    },
    /// Print the manual page
    Man,
    /// Print the help of the program or of a command; `help settings` lists the settings
    Help {
        /// A command, or `settings`
        topic: Vec<String>,
    },
}

/// Runs the program and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to tell when even that cannot be written.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    crate::embed::http::prepare_tls();
    let sources = Sources::of_process(cli.flags);
    let result = match cli.command {
        Command::Serve(switches) => serve::run(&sources, &switches),
        Command::Stdio => stdio::run(&sources),
        Command::Healthcheck => healthcheck::run(&sources),
        Command::Config(command) => config_command::run(command, &sources),
        Command::Migrate { check } => migrate::run(check, &sources),
        Command::Model(command) => model::run(command, &sources),
        Command::Reindex => model::reindex(&sources),
        Command::Remember(args) => people::remember(args, &sources),
        Command::Recall(args) => people::recall(&args, &sources),
        Command::List(args) => people::list(&args, &sources),
        Command::Show(args) => people::show(&args, &sources),
        Command::Edit(args) => edit::run(&args, &sources),
        Command::Status(args) => overview::status(&args, &sources),
        Command::Tags(args) => overview::tags(&args, &sources),
        Command::Entities(args) => overview::entities(&args, &sources),
        Command::Help { topic } => help::run(&topic),
        Command::Forget(args) => people::forget(&args, &sources),
        Command::Completions { shell } => generated::completions(shell),
        Command::Man => generated::man(),
        Command::Export(args) => port::export(&args, &sources),
        Command::Import(args) => port::import(&args, &sources),
        Command::Doctor(args) => doctor::run(&args, &sources),
        Command::Compact => compact::run(&sources),
        Command::Backup(args) => backup::backup(&args, &sources),
        Command::Restore(args) => backup::restore(&args, &sources),
        Command::Eval(args) => eval::run(&args, &sources),
        Command::Review(arguments) => review::run(arguments, &sources),
        Command::Token(command) => token::run(command, &sources),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say_error(&failure.error);
            ExitCode::from(failure.code)
        }
    }
}

/// An error and the exit code it has.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: INTERNAL,
            error: error.into(),
        }
    }
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        let code = if error.is_transient() {
            UNAVAILABLE
        } else {
            CONFIGURATION
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        let code = match &error {
            TelemetryError::File { source, .. } if is_transient(source) => UNAVAILABLE,
            TelemetryError::File { .. } => CONFIGURATION,
            _ => INTERNAL,
        };
        let is_file = matches!(error, TelemetryError::File { .. });
        let mut error = anyhow::Error::new(error);
        if is_file {
            error = error.context("MEMORY_LOG_FILE cannot be used");
        }
        Self { code, error }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. } | StoreError::InUse { .. } => UNAVAILABLE,
            StoreError::Setup { .. } => CONFIGURATION,
            _ => INTERNAL,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

/// Prints an error in the style of the argument parser, with the causes that it does not mention itself. A reader of an
/// export that has gone away needs no message.
fn say_error(error: &anyhow::Error) {
    if let Some(port::ClosedPipe) = error.downcast_ref() {
        return;
    }
    let mut text = error.to_string();
    let label = Paper::of_stderr().error_label("error:");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
    }
    say_aside(&format!("{label} {text}"));
}

/// Prints a line to the standard error, even if nobody reads it.
fn say_aside(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints the result of a command.
fn say(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has gone away (`| head`) has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::internal(
            anyhow::Error::from(error).context("cannot write to the standard output"),
        )),
        _ => Ok(()),
    }
}

/// Settings of a command that ends by itself. Warnings go to the standard error, since the standard output is its result.
fn settings(sources: &Sources) -> Result<Settings, Failure> {
    let settings = config::load(sources, Purpose::Command)?;
    warn(&settings.warnings);
    Ok(settings)
}

fn warn(warnings: &[String]) {
    let label = Paper::of_stderr().warning_label("warning:");
    for warning in warnings {
        say_aside(&format!("{label} {warning}"));
    }
}

/// The service in log lines. Events of the embedding model follow the same level.
const SERVICE: Service = Service {
    name: "cognitive-memory-mcp",
    targets: &["cognitive_memory_mcp", "sentence_bert"],
};

/// Settings and logging, for commands that run as long as they are wanted.
fn start(
    sources: &Sources,
    purpose: Purpose,
    stream: Stream,
) -> Result<(Settings, Telemetry), Failure> {
    let settings = config::load(sources, purpose)?;
    let telemetry = telemetry::init(&settings.log, &SERVICE, stream)?;
    if purpose == Purpose::Command {
        announcement::log_warnings(&settings);
    }
    Ok((settings, telemetry))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::internal)
}
