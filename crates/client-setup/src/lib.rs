//! Adds an MCP server to the settings of MCP clients, and removes it.
//!
//! Depends on no other part of the program. Invariants: an edit changes only the entry of the server and its hooks,
//! comments and the order of keys stay, a file that cannot be parsed is never changed, and no token is written to a
//! file. A new client is a line in `client.rs`, and a folder of examples in `tests/data/clients`.

mod change;
mod client;
mod difference;
mod entry;
mod environment;
mod file;
mod hooks;
mod instructions;
mod json;
mod plan;
mod toml;

pub use change::{Action, Outcome, PlanError, Planned, Request};
pub use client::{CLIENTS, Client, find_client};
pub use difference::{ChangedLine, changed_lines};
pub use entry::{Connection, DEFAULT_NAME, TOKEN_VARIABLE, Target};
pub use environment::{Environment, System};
pub use file::{ClientFile, FileProblem};
pub use hooks::plan_hooks;
pub use instructions::{describe_setup, token_advice};
pub use plan::{list_connections, plan_server};
