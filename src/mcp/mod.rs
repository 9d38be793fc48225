//! The Model Context Protocol: one server, one file a tool, a prompt, a resource.
//!
//! Depends on `engine` and `domain`. Owns what a model reads: names, descriptions, schemas, texts and errors. To add a
//! tool, add a file under `tool/` and its line in [`tool::ALL`]; prompts and resources likewise.

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
