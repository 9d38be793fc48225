//! The integration tests, one binary.

mod contract;
mod store_sqlite;
