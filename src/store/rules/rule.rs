//! Rules, and the databases that execute them.

use uuid::Uuid;

use super::tx::Tx;
use crate::domain::Scope;
use crate::store::{Result, StoreError};

/// The effect of repeating a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The transaction only reads.
    Read,
    /// A repetition changes nothing more, because the new rows already have their IDs.
    Repeatable,
    /// A repetition would duplicate the effect if the first commit arrived.
    Once,
}

/// A unit of work that runs in one transaction.
#[trait_variant::make(Send)]
pub(crate) trait Rule: Sync {
    /// The result of the rule.
    type Output: Send;
    /// The action for error messages, for example "add to the working memory".
    const PURPOSE: &'static str;
    /// The effect of repeating the rule.
    const EFFECT: Effect;

    /// Executes the rule in a transaction. An error rolls it back.
    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Self::Output, T::Error>;
}

/// A database that executes rules.
#[trait_variant::make(Send)]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Applies a rule in a new transaction and commits it.
    async fn run_rule<R: Rule>(&self, scope: &Scope, rule: &R) -> Result<R::Output>;
}

pub(super) fn not_found(field: &'static str, id: Uuid) -> StoreError {
    StoreError::NotFound {
        field,
        ids: vec![id],
    }
}
