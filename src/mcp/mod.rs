//! The Model Context Protocol: one server, one file a tool.
//!
//! Depends on `engine` and `domain`. Owns what a model reads: names, descriptions, schemas, texts and errors. To add a
//! tool, add a file under `tool/` and its line in [`tool::ALL`].

mod error;
mod server;
mod tool;

pub use server::{Identity, MemoryServer, RequestId};
