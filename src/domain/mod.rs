//! Pure types and rules of the memory: its data, its limits, the analysis of text, and the ranking
//! of hits. No async, no I/O, no clock.
//!
//! Depends on no other module. Both storage backends rank alike because the arithmetic is here.

pub mod bm25;
pub mod clock;
pub mod conversation;
pub mod count;
pub mod cursor;
pub mod filter;
pub mod focus;
pub mod fold;
pub mod graph;
pub mod graph_merge;
pub mod graph_traversal;
mod invisible;
mod json;
mod kind;
mod language;
pub mod lenient_json;
pub mod memory;
pub mod moment;
pub mod name;
pub mod object_text;
pub mod passage;
pub mod prompt;
pub mod proper_name;
pub mod ranking;
pub mod reference;
pub mod repeat;
pub mod review;
pub mod scope;
mod script;
pub mod secrets;
pub mod spelling;
mod stop_words;
pub mod text;
pub mod time_expression;
pub mod token;
pub mod validate;

pub use clock::{Clock, SystemClock};
pub use conversation::HitContext;
pub use filter::{AsOf, Filter};
pub use graph::Links;
pub use kind::Kind;
pub use language::Language;
pub use memory::{AnalyzedMemory, Change, Episode, History, Memory, NewMemory, Patch};
pub use object_text::ObjectText;
pub use ranking::{Boosts, Hit, UsageStats};
pub use reference::{IdPart, IdReference};
pub use repeat::{Repeat, Restated};
pub use review::{Decision, Judgement, Proposal, Review, ReviewState};
pub use scope::Scope;
pub use text::Analyzer;
pub use validate::{Invalid, Problems};
