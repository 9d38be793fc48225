//! Pure types and rules of the memory: what a memory is, what is refused, how text becomes terms,
//! how hits are ranked. No async, no I/O, no clock of its own.
//!
//! Depends on nothing of ours. Both storage backends rank alike because the arithmetic is here.

pub mod clock;
pub mod conversation;
pub mod cursor;
pub mod evidence;
pub mod filter;
pub mod focus;
pub mod fold;
pub mod fusion;
pub mod graph;
pub mod lenient_json;
pub mod lexical;
mod link_plan;
pub mod memory;
pub mod moment;
pub mod name;
pub mod passage;
pub mod reference;
pub mod repeat;
pub mod review;
pub mod scope;
mod script;
pub mod spelling;
pub mod standing;
pub mod stop_words;
pub mod text;
pub mod time_expression;
pub mod token;
pub mod validate;
pub mod walk;

pub use clock::{Clock, SystemClock};
pub use conversation::Setting;
pub use filter::{AsOf, Filter};
pub use graph::Links;
pub use memory::{Change, Episode, History, Kind, Memory, NewMemory, Patch};
pub use reference::{IdPart, IdReference};
pub use repeat::{Repeat, Restated};
pub use review::{Decision, Judgement, Proposal, Review, ReviewState};
pub use scope::Scope;
pub use standing::{Factors, Standing};
pub use text::{Analyzer, Language};
pub use validate::{Invalid, Problems};
