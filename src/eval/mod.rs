//! Measuring recall: questions with known answers, what came instead of them, and figures that can be compared.
//!
//! Depends on `domain` and on the parameters of `engine`; reads no file and asks nobody. `cli` puts the questions to a
//! memory through the tools that every client uses, so what is measured is what is served.

pub mod golden;
pub mod metric;
pub mod report;
pub mod table;

pub use golden::{CorpusItem, Mistakes, Question, read_corpus, read_questions};
pub use report::{Asked, Baseline, Came, Drift, Figures, Report};
