//! The integration tests, one binary.

mod contract;
mod postgres_server;
mod store_postgres;
mod store_sqlite;
