//! Configuration: the settings, their sources, and all problems at once.
//!
//! Depends on the crate `service-kit` only. Invariants: each setting is declared once in a table ([`SETTINGS`]), from
//! which `config show`, the command line and `docs/configuration.md` are derived; the process environment is read,
//! never written; no secret is revealed by `Debug`, a problem or a rendering; and settings come only from files that
//! other users cannot write, never from the working directory unless the user names it.
//!
//! To add a setting, add a `static` with its parser and its entry in `SETTINGS` (`setting.rs`), a field in
//! `settings.rs`, and the line in `loader.rs` that fills the field. Then run
//! `cargo run -- config markdown > docs/configuration.md`.

mod config_file;
mod credential;
mod database;
mod document;
mod flag;
mod loader;
mod parser;
mod setting;
mod settings;
mod source;

pub use config_file::{ConfigFile, FileState};
pub use credential::{Credential, MIN_TOKEN_LENGTH, is_credential_name, sha256};
pub use database::{Database, Postgres, SslMode};
pub use document::to_markdown;
pub use flag::{Flags, settings_help};
pub use loader::{Entry, Purpose, Reading, load, read};
pub use service_kit::config::{
    ConfigError, Problem, TrustError, User, is_transient, without_secrets,
};
pub use service_kit::telemetry::{LogFormat, LogLevel, LogOptions};
pub use setting::{LANGUAGES, SETTINGS, SettingInfo, find_setting};
pub use settings::{
    Auth, Calibration, Client, Embedding, Environment, Hooks, Http, OAuth, Prefixes, ProjectLimits,
    Retention, RowSecurity, SecretHandling, Settings, Summary, reachable,
};
pub use source::{Origin, Sources};

/// Prefix of the names of all settings, which other programs use as well.
const PREFIX: &str = "MEMORY_";
/// Name of the directory below the standard ones.
const APPLICATION: &str = "cognitive-memory-mcp";

#[cfg(test)]
mod tests;
