//! The integration tests, one binary.

mod architecture;
mod lifecycle;
mod process;
mod store_sqlite;
