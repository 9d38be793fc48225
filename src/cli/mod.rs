//! The command line: one file a subcommand, and the place where the parts are put together.
//!
//! May depend on everything. Maps every error to an exit code: 0 ok, 64 usage, 69 dependency unavailable, 70 internal,
//! 78 configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Flags, Purpose, Settings, Sources, is_transient};
use crate::store::StoreError;
use crate::telemetry::{self, Stream, Telemetry, TelemetryError};

mod backup;
mod client;
mod compact;
mod config_command;
mod control;
mod discovery;
mod doctor;
mod eval;
mod foreign;
mod generated;
mod healthcheck;
mod local;
mod migrate;
mod model;
mod paper;
mod people;
mod port;
mod remote;
mod review;
mod serve;
mod service;
mod stdio;
mod token;

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const INTERNAL: u8 = 70;
const CONFIGURATION: u8 = 78;

/// Persistent memory for AI agents, served over the Model Context Protocol.
#[derive(Parser)]
#[command(name = "cognitive-memory-mcp", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Every setting can be given as an option (--help lists them), in the environment, as a file (NAME_FILE), \
or in .env.development and .env.production of the configuration directory (~/.config/cognitive-memory-mcp, --config-dir); \
`config show` prints the values in force, their origins and the files that were read.";

#[derive(Subcommand)]
enum Command {
    /// Serve MCP over HTTP, as a service does
    Serve(service::Switches),
    /// Serve MCP on standard input and output, through the running service if there is one
    Stdio,
    /// Ask the running service whether it is ready: exit code 0 or 1
    Healthcheck,
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Bring the schema of the database up to date, as `serve` does at start
    Migrate {
        /// Only say what would be done; exit code 1 when there is something to do
        #[arg(long)]
        check: bool,
    },
    /// The embedding model on this machine
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Make all vectors anew, in the background of the service
    Reindex,
    /// Store a memory
    Remember(people::RememberArgs),
    /// Find memories; exit code 1 when there is none
    Recall(people::RecallArgs),
    /// List the newest memories
    List(people::ListArgs),
    /// Show memories with everything about them
    Show(people::ShowArgs),
    /// Delete memories, bring them back, or remove every trace of them
    Forget(people::ForgetArgs),
    /// Write everything that is remembered into a file (JSON lines), also while the service runs
    Export(port::ExportArgs),
    /// Read such a file; what is there already is left alone, so that it can be repeated
    Import(port::ImportArgs),
    /// Check everything the service needs and say what to do about it: exit code 0 or 1
    Doctor(doctor::DoctorArgs),
    /// Return the space of purged memories to the disk; the service must be stopped
    Compact,
    /// Save the database into a file, also while the service runs; the file is tried before it is kept
    Backup(backup::BackupArgs),
    /// Fill the database from a backup or an export; the service must be stopped
    Restore(backup::RestoreArgs),
    /// Measure recall by questions with known answers
    Eval(eval::EvalArgs),
    /// Decide what models proposed for protected memories
    Review(review::ReviewArguments),
    /// Make, list and revoke tokens for clients
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: generated::Shell,
    },
    /// Print the manual page
    Man,
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
        Self { code: INTERNAL, error: error.into() }
    }
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        let code = if error.is_transient() { UNAVAILABLE } else { CONFIGURATION };
        Self { code, error: error.into() }
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        let code = match &error {
            TelemetryError::File { source, .. } if is_transient(source) => UNAVAILABLE,
            TelemetryError::File { .. } => CONFIGURATION,
            _ => INTERNAL,
        };
        Self { code, error: error.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. } | StoreError::InUse { .. } => UNAVAILABLE,
            StoreError::Setup { .. } => CONFIGURATION,
            _ => INTERNAL,
        };
        Self { code, error: error.into() }
    }
}

/// Prints an error with its causes, each on a line of its own.
#[expect(clippy::print_stderr, reason = "the last words of a command")]
fn say_error(error: &anyhow::Error) {
    eprintln!("cognitive-memory-mcp: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// Prints the result of a command.
fn say(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has gone away (`| head`) has read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::internal(anyhow::Error::from(error).context("cannot write to the standard output")))
        }
        _ => Ok(()),
    }
}

/// Settings of a command that ends by itself. Warnings go to the standard error, since the standard output is its result.
fn settings(sources: &Sources) -> Result<Settings, Failure> {
    let settings = config::load(sources, Purpose::Command)?;
    warn(&settings.warnings);
    Ok(settings)
}

#[expect(clippy::print_stderr, reason = "commands have no log")]
fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("cognitive-memory-mcp: warning: {warning}");
    }
}

/// Settings and logging, for commands that run as long as they are wanted.
fn start(sources: &Sources, purpose: Purpose, stream: Stream) -> Result<(Settings, Telemetry), Failure> {
    let settings = config::load(sources, purpose)?;
    let telemetry = telemetry::init(&settings.log, stream)?;
    if purpose == Purpose::Command {
        telemetry::log_warnings(&settings);
    }
    Ok((settings, telemetry))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::internal)
}
