//! Persistent memory for AI agents, served over the Model Context Protocol.
//!
//! `docs/architecture.md` shows how the modules fit together; each module says what it may depend on.

pub mod domain;
pub mod engine;
pub mod lifecycle;
pub mod store;
