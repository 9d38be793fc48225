//! Reading of settings files: their syntax, the users who could have written them, and descriptions of problems.
//!
//! Has no dependencies in this workspace. Invariants: a file is used only if no other user can write to it, and no
//! problem contains a secret.

mod env_file;
mod problem;
mod trust;

pub use env_file::{Assignment, Fault, parse_env_file};
pub use problem::{ConfigError, HIDDEN, Problem, did_you_mean, quote_value, without_secrets};
pub use trust::{TrustError, User, is_transient};
