//! Passages: the parts of a long text that have an embedding each, and the part that an answer shows.
//!
//! [`split_passages`] divides a text, and [`shorten_to_passage`] shows the part that a query matched. Both are pure, so a
//! stored passage number always leads to the same part of the same text.

mod excerpt;
mod sentence;
mod split;

pub use excerpt::shorten_to_passage;
pub use sentence::split_statements;
pub use split::{
    MOST_PASSAGES, Passages, SHORT_BYTES, SHORT_TURN_BYTES, find_passage, split_passages,
};
