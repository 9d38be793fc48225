//! The integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod architecture;
mod contract;
mod lifecycle;
mod postgres_server;
mod process;
mod store_postgres;
mod store_sqlite;
