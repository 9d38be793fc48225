//! The integration tests, one binary.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests stand outside of the service, and one that meets what it does not expect has failed"
)]

mod answer_size;
mod answers;
mod architecture;
mod backup;
mod cli;
mod connect;
mod contract;
mod database_files;
mod days;
mod doctor;
mod embed;
mod embed_fetch;
mod embed_http;
mod embed_models;
mod eval;
mod expiry;
mod fusion;
mod get;
mod hooks;
mod import_cycle;
mod importer;
mod importer_faults;
mod invisible_names;
mod lifecycle;
mod log;
mod memory_commands;
mod pooler;
mod postgres_server;
mod process;
mod project;
mod ranking;
mod reindex;
mod requirement;
mod schema_names;
mod secrets;
mod semantic;
mod serve;
mod storage;
mod store_postgres;
mod store_sqlite;
mod time_expressions;
mod tools_document;
mod transfer;
mod trust;
mod upgrade;
mod word_index;
