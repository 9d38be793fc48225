//! The rules of less frequent writes, written once for both databases: working memory, reviews, changes of memories,
//! import and quotas.
//!
//! A [`Rule`] is a value with the arguments of one call. It uses a [`tx::Tx`]: one transaction in one project, which a
//! backend implements as row-level primitives of a few lines each. [`Backend::run_rule`] opens the transaction, applies
//! the rule, and commits. `remember` is performance-critical and does not use rules: each backend stores batches in its
//! own way.
//!
//! Depends on the interface of `store` and on `domain`. To add a rule, implement [`Rule`]; to add a primitive, add a
//! method to the trait of its table and an implementation in each backend.

mod change;
mod focus;
mod import;
mod link;
mod memory_change;
mod quota;
mod review;
mod rule;
mod token;
mod tx;

pub(crate) use change::{Forget, refuse_protected, require_all, require_sources, rewrite_memory};
pub(crate) use import::Import;
pub(crate) use link::{Link, plan_links};
pub(crate) use memory_change::{ChangeRecord, MemoryChange, memory_terms};
pub(crate) use quota::check_usage;
pub(crate) use rule::{Backend, Effect, Rule};
pub(crate) use token::TokenTable;
pub(crate) use tx::{
    ChangeTx, FocusTx, ImportTx, Item, LinkTx, MemoryLocation, QuotaTx, ReviewTx, Shelf,
    Transaction, TurnOwner,
};
