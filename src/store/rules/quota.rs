//! Quotas of a project. A transaction that may exceed one checks it before or after its writes; an error undoes them.

use super::tx::{Item, QuotaTx, Tx};
use crate::domain::graph_merge::Plan;
use crate::store::{Limits, Result};

/// Lets the writers of a project with a limit of bytes take turns. Comes first in every transaction that adds bytes.
pub(super) async fn lock_bytes<T: Tx>(tx: &mut T) -> Result<(), T::Error> {
    if tx.limits().bytes > 0 {
        tx.lock_usage().await?;
    }
    Ok(())
}

/// Refuses what this transaction wrote if the project exceeds its limit of bytes. A shorter text can exceed it, too,
/// because the history grows by the longer one.
pub(super) async fn check_bytes<T: Tx>(tx: &mut T) -> Result<(), T::Error> {
    let limits = Limits {
        memories: 0,
        ..tx.limits()
    };
    check_usage(tx, limits, (0, 0)).await
}

/// Refuses what makes the project exceed the limits: what it holds, and this many memories and bytes more.
pub(crate) async fn check_usage<T: QuotaTx>(
    tx: &mut T,
    limits: Limits,
    (memories, bytes): (u64, u64),
) -> Result<(), T::Error> {
    if !limits.any() {
        return Ok(());
    }
    let (held, size) = tx.usage().await?;
    Ok(limits.check(tx.scope().project(), held + memories, size + bytes)?)
}

/// Refuses this many new items if the project would have more of them than it may.
pub(super) async fn check_items<T: QuotaTx>(
    tx: &mut T,
    item: Item,
    new: usize,
) -> Result<(), T::Error> {
    let limits = tx.limits();
    if limits.entries == 0 || new == 0 {
        return Ok(());
    }
    let figure = tx.count_items(item).await? + new as u64;
    Ok(limits.check_entries(tx.scope().project(), item.plural(), figure)?)
}

/// Refuses a plan that would make the graph larger than it may be.
pub(super) async fn check_graph<T: QuotaTx>(tx: &mut T, plan: &Plan) -> Result<(), T::Error> {
    let entities = plan.entities.iter();
    let entities = entities.filter(|planned| planned.entity.seq == 0).count();
    let relations = plan.relations.iter();
    let relations = relations
        .filter(|planned| planned.relation.seq == 0)
        .count();
    let grown = |new: usize, erased: usize| new.saturating_sub(erased);
    check_items(
        tx,
        Item::Entity,
        grown(entities, plan.erased_entities.len()),
    )
    .await?;
    check_items(
        tx,
        Item::Relation,
        grown(relations, plan.erased_relations.len()),
    )
    .await
}
