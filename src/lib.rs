//! Cognitive memory.
pub mod config;
pub mod telemetry;
