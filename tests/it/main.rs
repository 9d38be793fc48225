//! The integration tests, one binary.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests stand outside of the service, and one that meets what it does not expect has failed"
)]

mod architecture;
mod cli;
mod contract;
mod embed;
mod embed_fetch;
mod embed_http;
mod lifecycle;
mod log;
mod postgres_server;
mod process;
mod semantic;
mod serve;
mod store_postgres;
mod store_sqlite;
