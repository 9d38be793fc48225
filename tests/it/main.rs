//! The integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod architecture;
mod cli;
mod contract;
mod lifecycle;
mod log;
mod postgres_server;
mod process;
mod serve;
mod store_postgres;
mod store_sqlite;
