//! Configuration: where settings come from, what they may be, and every problem at once.
//!
//! May depend on nothing of ours. Owns four invariants: a setting exists in one table only ([`SETTINGS`]), from which
//! reading, `config show`, the command line and `docs/configuration.md` are derived; the process environment is read,
//! never written; no secret leaves through `Debug`, a problem or a rendering; and settings come only from files that
//! another user cannot write, never from the working directory unless the user names it.
//!
//! To add a setting: add a `static` and its entry in `SETTINGS` (`setting.rs`), read it in `assemble.rs` into a typed field,
//! then run `cargo run -- config markdown > docs/configuration.md`.

mod assemble;
mod credential;
mod database;
mod document;
mod env_file;
mod flag;
mod problem;
mod setting;
mod settings;
mod source;
mod trust;

pub use assemble::{ConfigFile, Entry, FileState, Purpose, Reading, load, read};
pub use credential::{Credential, MIN_TOKEN_LENGTH, is_credential_name, sha256};
pub use database::{Database, Postgres, SslMode};
pub use document::to_markdown;
pub use flag::{Flags, settings_help};
pub use problem::{ConfigError, Problem, without_secrets};
pub use setting::{DefaultValue, Kind, LANGUAGES, SETTINGS, Section, Setting, setting};
pub use settings::{
    Auth, Client, Embedding, Environment, Http, Log, LogFormat, LogLevel, LogPrefix, OAuth,
    Prefixes, ProjectLimits, Retention, RowSecurity, Settings, Summary, reachable,
};
pub use source::{Origin, Sources};
pub use trust::{TrustError, User, is_transient};

#[cfg(test)]
mod tests;
