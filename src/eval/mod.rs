//! Measures recall: questions with known answers, the actual answers, and metrics that can be compared between runs.
//!
//! Depends on `domain` and on the parameters of `engine`; reads no files and calls no service. `cli` asks the
//! questions through the tools that every client uses, so that the measured results are those of clients.

pub mod economy;
pub mod golden;
pub mod metric;
pub mod report;
pub mod table;

pub use economy::Economy;
pub use golden::{CorpusItem, Mistakes, Question, read_corpus, read_questions};
pub use report::{Asked, Baseline, Came, Drift, Figures, Report};
