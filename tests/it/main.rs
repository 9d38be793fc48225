//! The integration tests, one binary.

mod architecture;
mod contract;
mod lifecycle;
mod postgres_server;
mod process;
mod store_postgres;
mod store_sqlite;
