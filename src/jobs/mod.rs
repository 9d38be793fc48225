//! Background work: monitors and checks the database, writes usage statistics, loads the embedder, computes embeddings,
//! removes expired data.
//!
//! Depends on `domain`, `embed`, `engine`, `store` and `lifecycle`. Every loop has a heartbeat or is restarted by the
//! supervisor, and each of its steps is bounded in time.

mod database_checker;
mod database_keeper;
mod embedder_provider;
mod expiry_remover;
mod recall_note_writer;
mod vector_indexer;

pub use database_checker::{CheckSchedule, check_database};
pub use database_keeper::keep_database;
pub use embedder_provider::{Provision, provide_embedder};
pub use expiry_remover::{Retention, remove_expired};
pub use recall_note_writer::write_recall_notes;
pub use vector_indexer::index_vectors;
