//! Persistent memory for AI agents, served over the Model Context Protocol.
//!
//! `docs/architecture.md` shows how the modules fit together; each module states its permitted
//! dependencies.

pub mod cli;
pub mod config;
pub mod domain;
pub mod embed;
pub mod engine;
pub mod eval;
pub mod http;
pub mod jobs;
pub mod mcp;
mod outbound;
pub mod store;
pub mod transfer;

pub use service_kit::{lifecycle, telemetry};
