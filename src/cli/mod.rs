//! The command line: one file per subcommand. It combines all parts.
//!
//! May depend on everything. Maps every error to an exit code: 0 ok, 64 usage, 69 dependency unavailable, 70 internal,
//! 78 configuration.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Flags, Purpose, Settings, Sources, is_transient};
use crate::store::StoreError;
use crate::telemetry::{self, Service, Stream, Telemetry, TelemetryError};
use crate::transfer::TransferError;

mod announcement;
mod backup;
mod compact;
mod completions;
mod config_command;
mod connect;
mod control;
mod discovery;
mod doctor;
mod edit;
mod eval;
mod eval_economy;
mod export;
mod files;
mod healthcheck;
mod help;
mod hook;
mod http_client;
mod import;
mod import_source;
mod memory_commands;
mod migrate;
mod model;
mod open_store;
mod option_name;
mod output;
mod overview;
#[cfg(test)]
mod quoted_command;
mod review;
mod scan;
mod serve;
mod service;
mod service_client;
mod stdio;
mod terminal;
mod token;

use output::{print_error, print_warnings};

/// Exit code if the data of the caller cannot be stored or restored.
const DATA: u8 = 1;
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
    /// Add the memory to the settings of Claude Code, Cursor, VS Code, Codex and other clients
    Connect(connect::ConnectArgs),
    /// Ask the running service whether it is ready: exit code 0 or 1
    Healthcheck,
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Update the schema of the database, as `serve` does at start
    Migrate {
        /// Only print pending migrations; exit code 1 if there are any
        #[arg(long)]
        check: bool,
    },
    /// The embedding model on this machine
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Recompute all embeddings in the background of the service
    Reindex,
    /// Store a memory
    Remember(memory_commands::RememberArgs),
    /// Find memories; exit code 1 if there are none
    Recall(memory_commands::RecallArgs),
    /// List the newest memories
    List(memory_commands::ListArgs),
    /// Show memories in full
    Show(memory_commands::ShowArgs),
    /// Change a memory, in your editor or by options
    Edit(edit::EditArgs),
    /// Delete memories, restore them, or remove them permanently
    Forget(memory_commands::ForgetArgs),
    /// Show what the memory contains: counts, tags, sessions, speakers
    Status(overview::StatusArgs),
    /// List the tags in use, with the number of memories
    Tags(overview::TagsArgs),
    /// List the entities of the graph
    Entities(overview::EntitiesArgs),
    /// Write all memories to a file (JSON lines), also while the service runs
    Export(export::ExportArgs),
    /// Import such a file, or the data of another program; memories that exist already are skipped
    Import(import::ImportArgs),
    /// Find credentials in stored memories, also while the service runs; exit code 1 if there are any
    Scan(scan::ScanArgs),
    /// Check everything the service needs and suggest remedies: exit code 0 or 1
    Doctor(doctor::DoctorArgs),
    /// Return the space of purged memories to the disk; the service must be stopped
    Compact,
    /// Save the database to a file, also while the service runs; the file is tested before it is kept
    Backup(backup::BackupArgs),
    /// Fill the database from a backup or an export; the service must be stopped
    Restore(backup::RestoreArgs),
    /// Measure recall with questions whose answers are known
    Eval(eval::EvalArgs),
    /// Answer an event of a coding agent, whose JSON is on standard input; always exits with 0
    Hook(hook::HookArgs),
    /// Decide on changes that models proposed for protected memories
    Review(review::ReviewArguments),
    /// Create, list and revoke tokens for clients
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: completions::Shell,
    },
    /// Print the manual page
    Man,
    /// Print the help of the program or of a command; `help settings` lists the settings
    Help {
        /// A command, or `settings`
        topic: Vec<String>,
    },
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If this cannot be written, neither can any other message.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() && !hook::is_called() {
                USAGE
            } else {
                0
            });
        }
    };
    crate::embed::http::prepare_tls();
    let sources = Sources::of_process(cli.flags);
    let result = match cli.command {
        Command::Serve(switches) => serve::run(&sources, &switches),
        Command::Stdio => stdio::run(&sources),
        Command::Connect(args) => connect::run(&args, &sources),
        Command::Healthcheck => healthcheck::run(&sources),
        Command::Config(command) => config_command::run(command, &sources),
        Command::Migrate { check } => migrate::run(check, &sources),
        Command::Model(command) => model::run(command, &sources),
        Command::Reindex => model::reindex(&sources),
        Command::Remember(args) => memory_commands::remember(args, &sources),
        Command::Recall(args) => memory_commands::recall(&args, &sources),
        Command::List(args) => memory_commands::list(&args, &sources),
        Command::Show(args) => memory_commands::show(&args, &sources),
        Command::Edit(args) => edit::run(&args, &sources),
        Command::Status(args) => overview::status(&args, &sources),
        Command::Tags(args) => overview::tags(&args, &sources),
        Command::Entities(args) => overview::entities(&args, &sources),
        Command::Help { topic } => help::run(&topic),
        Command::Forget(args) => memory_commands::forget(&args, &sources),
        Command::Completions { shell } => completions::print_completions(shell),
        Command::Man => completions::print_manual(),
        Command::Export(args) => export::run(&args, &sources),
        Command::Import(args) => import::run(&args, &sources),
        Command::Scan(args) => scan::run(&args, &sources),
        Command::Doctor(args) => doctor::run(&args, &sources),
        Command::Compact => compact::run(&sources),
        Command::Backup(args) => backup::backup(&args, &sources),
        Command::Restore(args) => backup::restore(&args, &sources),
        Command::Eval(args) => eval::run(&args, &sources),
        Command::Hook(args) => hook::run(&args, &sources),
        Command::Review(arguments) => review::run(arguments, &sources),
        Command::Token(command) => token::run(command, &sources),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            print_error(&failure.error);
            ExitCode::from(failure.code)
        }
    }
}

/// An error with its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::new(INTERNAL, error)
    }
}

/// Returns a failure with the named exit code and a formatted message.
macro_rules! fail {
    ($code:ident, $($message:tt)+) => {
        return Err($crate::cli::Failure::new($crate::cli::$code, anyhow::anyhow!($($message)+)))
    };
}
use fail;

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        let code = if error.is_transient() {
            UNAVAILABLE
        } else {
            CONFIGURATION
        };
        Self::new(code, error)
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
        Self::new(code, error)
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Problem(_) => Self::new(DATA, error),
            TransferError::Input { .. } => Self::new(USAGE, error),
            TransferError::File { ref source, .. } => Self::new(file_error_code(source), error),
        }
    }
}

/// Returns the exit code for a file that a command cannot read or write.
fn file_error_code(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidFilename => USAGE,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => UNAVAILABLE,
        _ if is_transient(error) => UNAVAILABLE,
        _ => INTERNAL,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. } | StoreError::InUse { .. } => UNAVAILABLE,
            StoreError::Setup { .. } => CONFIGURATION,
            _ => INTERNAL,
        };
        Self::new(code, error)
    }
}

/// Loads the settings of a command that ends by itself. Warnings are printed to standard error.
fn load_settings(sources: &Sources) -> Result<Settings, Failure> {
    let settings = config::load(sources, Purpose::Command)?;
    print_warnings(&settings.warnings);
    Ok(settings)
}

/// The service in log lines. Events of the embedding model follow the same level.
const SERVICE: Service = Service {
    name: "cognitive-memory-mcp",
    targets: &["cognitive_memory_mcp", "sentence_bert"],
};

/// Loads the settings and starts logging, for commands that run until they are stopped.
fn start_logging(
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

fn start_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::internal)
}
