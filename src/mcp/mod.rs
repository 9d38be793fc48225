//! The Model Context Protocol: one server, and one file per tool, prompt and resource.
//!
//! Depends on `engine` and `domain`. Owns the texts that a model reads: names, descriptions, schemas, answers and
//! errors. To add a tool, add a file under `tool/` and its line in [`tool::ALL`]; prompts and resources work in the
//! same way.

mod argument;
#[cfg(debug_assertions)]
mod conformance;
mod error;
mod meter;
mod prompt;
mod resource;
mod server;
mod tool;
mod transport;

pub(crate) use argument::{MAX_CONTAINERS, MAX_VALUES};
#[cfg(debug_assertions)]
pub use conformance::ConformanceServer;
pub use meter::CallMeter;
pub use server::MemoryServer;
pub use transport::{Admission, CallNotes, Identity, RequestId, SideArguments};
