//! The integration tests, one binary.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod contract;
mod postgres_server;
mod store_postgres;
mod store_sqlite;
