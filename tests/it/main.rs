//! The integration tests, one binary.

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
