//! The rules of writes that are not hot, written once for both databases: working memory, reviews, changes of memories,
//! import and quotas.
//!
//! A [`Rule`] is a value with the arguments of one call. It works on a [`Tx`]: one transaction in one project, which a
//! backend offers as row-level primitives of a few lines each. [`Backend::run_rule`] opens the transaction, applies the
//! rule, and commits. `remember`, which is hot, does not pass through here: each backend stores batches in its own way.
//!
//! Depends on the boundary of `store` and on `domain`. To add a rule, implement [`Rule`]; to add a primitive, add a method
//! to the trait of its table and an implementation in each backend.

mod change;
mod focus;
mod import;
mod link;
mod quota;
mod review;
mod token;

use std::fmt::Debug;

use uuid::Uuid;

use crate::domain::{Analyzer, Scope};
use crate::store::{Limits, Result, StoreError};

pub(crate) use change::{
    ChangeRecord, ChangeTx, Forget, MemoryChange, TurnOwner, memory_terms, refuse_protected,
    require_all, require_sources, rewrite_memory,
};
pub(crate) use focus::{FocusTx, Shelf};
pub(crate) use import::{Import, ImportTx, MemoryLocation};
pub(crate) use link::{Link, LinkTx, plan_links};
pub(crate) use quota::{Item, QuotaTx, check_usage};
pub(crate) use review::ReviewTx;
pub(crate) use token::TokenTable;

/// What a repetition of a transaction would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It only reads.
    Read,
    /// It changes nothing more, since the new rows have their IDs already.
    Repeatable,
    /// It would be done twice if the first commit arrived.
    Once,
}

/// A transaction in the project of a scope.
pub(crate) trait Transaction: Send {
    /// Why a primitive failed. A backend that repeats transactions tells the causes apart.
    type Error: From<StoreError> + Debug + Send;

    /// The project and who works in it.
    fn scope(&self) -> &Scope;

    /// The analysis of texts.
    fn analyzer(&self) -> &Analyzer;

    /// How much a project may hold.
    fn limits(&self) -> Limits;

    /// Creates the project if it does not exist.
    fn ensure_project(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// All primitives of a transaction.
pub(crate) trait Tx: ImportTx {}

impl<T: ImportTx> Tx for T {}

/// A unit of work that is one transaction.
pub(crate) trait Rule: Sync {
    /// What it returns.
    type Output: Send;
    /// What it does, in the words of an error: "add to the working memory".
    const PURPOSE: &'static str;
    /// Whether it may be repeated.
    const EFFECT: Effect;

    /// Does the work in a transaction. An error undoes it.
    fn apply<T: Tx>(
        &self,
        tx: &mut T,
    ) -> impl Future<Output = Result<Self::Output, T::Error>> + Send;
}

/// A database that runs rules.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Applies a rule in a transaction of its own, and commits it.
    fn run_rule<R: Rule>(
        &self,
        scope: &Scope,
        rule: &R,
    ) -> impl Future<Output = Result<R::Output>> + Send;
}

fn not_found(field: &'static str, id: Uuid) -> StoreError {
    StoreError::NotFound {
        field,
        ids: vec![id],
    }
}
