//! Life cycle, logging and configuration files of a service under systemd.
//!
//! Depends on nothing in the product. Each module states its invariants.

pub mod config;
pub mod lifecycle;
pub mod telemetry;

/// Formats an error and its causes on one line.
pub fn join_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
