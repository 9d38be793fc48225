//! Quotas of a project. A transaction that may exceed one checks it before or after its writes; an error rolls them
//! back.

use super::tx::{Item, QuotaTx, Tx};
use crate::domain::graph_merge::Plan;
use crate::store::{Limits, Result};

/// Serializes the writers of a project with a quota of bytes. Must come first in every transaction that adds bytes.
pub(super) async fn lock_bytes<T: Tx>(tx: &mut T) -> Result<(), T::Error> {
    if tx.limits().bytes > 0 {
        tx.lock_usage().await?;
    }
    Ok(())
}

/// Fails if this transaction's writes exceed the project's quota of bytes. A shorter text can exceed it, too, because
/// the history grows by the longer one.
pub(super) async fn check_bytes<T: Tx>(tx: &mut T) -> Result<(), T::Error> {
    let limits = Limits {
        memories: 0,
        ..tx.limits()
    };
    check_usage(tx, limits, (0, 0)).await
}

/// Fails if the stored data plus this many memories and bytes would exceed the quotas.
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

/// Fails if this many new items would exceed the quota.
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

/// Fails if a plan would make the graph exceed its quota.
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
