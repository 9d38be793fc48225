//! Reads the events and transcripts of coding agents, and keeps the state that hooks need between two events.
//!
//! Depends on no other part of the program. Invariants: every input has a maximum size, no input causes a panic, files
//! are private to the user and replaced atomically, and a transcript is opened only if it is a regular file. A client
//! with another event format needs a line in `event.rs`; another transcript format needs a parser in `line.rs`.

mod budget;
mod event;
mod fingerprint;
mod folder;
mod line;
mod private_file;
mod session;
mod text;
mod transcript;

pub use budget::{cut_at_line, estimate_tokens, format_context};
pub use event::{Event, EventError, EventKind, MAX_EVENT_BYTES};
pub use folder::{DeliveryLock, Failure, Job, Operation, StateError, StateFolder, Summary};
pub use line::{MAX_TURN_BYTES, Turn, split_turn};
pub use session::SessionState;
pub use text::clean_text;
pub use transcript::{Batch, Position, Transcript, TranscriptError};
