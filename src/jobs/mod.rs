//! Work beside the requests: keeping the database at hand, writing use statistics.
//!
//! Depends on `engine`, `store` and `lifecycle`. Every loop has a heartbeat or is restarted by the supervisor, and every
//! step of it is bounded in time.

mod database_keeper;
mod recall_note_writer;

pub use database_keeper::keep_database;
pub use recall_note_writer::write_recall_notes;
