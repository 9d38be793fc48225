//! Merges additions of a repeated text into the memory that has it. Runs inside the transaction of `remember`.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::error::Fault;
use super::tx::SqliteTx;
use crate::domain::{Memory, Restated};
use crate::store::batch::AnalyzedBatch;
use crate::store::rules::ChangeTx;
use crate::store::{Remembered, Result};

/// Returns the additions to existing memories, as before and after. The answer reports them.
pub(super) async fn merges(
    tx: &mut SqliteTx<'_>,
    batch: &AnalyzedBatch,
    answer: &mut [Remembered],
) -> Result<Vec<(Memory, Memory)>, Fault> {
    let new: HashSet<Uuid> = answer
        .iter()
        .filter(|place| place.created)
        .map(|place| place.id)
        .collect();
    let mut merges: HashMap<Uuid, (Memory, Memory)> = HashMap::new();
    let items = batch.command.items.iter().zip(&batch.repeats);
    for ((item, repeat), place) in items.zip(answer) {
        if place.created {
            continue;
        }
        place.repeat = repeat.clone();
        let restated = Restated::from(item);
        // An item that repeats another one of the batch has already given it its values.
        if new.contains(&place.id) || merges.contains_key(&place.id) || restated.is_empty() {
            continue;
        }
        let Some(before) = tx.lock_memories(&[place.id]).await?.pop() else {
            continue;
        };
        let (patch, repeat) = restated.merge_into(&before);
        place.repeat.extend(repeat);
        let mut after = before.clone();
        patch.apply(&mut after, batch.command.now);
        merges.insert(place.id, (before, after));
    }
    let mut changed: Vec<(Memory, Memory)> = merges
        .into_values()
        .filter(|(before, after)| before != after)
        .collect();
    changed.sort_by_key(|(before, _)| before.seq);
    Ok(changed)
}
