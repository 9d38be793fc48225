//! Rules, and the databases that run them.

use uuid::Uuid;

use super::tx::Tx;
use crate::domain::Scope;
use crate::store::{Result, StoreError};

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

pub(super) fn not_found(field: &'static str, id: Uuid) -> StoreError {
    StoreError::NotFound {
        field,
        ids: vec![id],
    }
}
