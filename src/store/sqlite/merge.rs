//! What a text that is stored again adds to the memory that has it. Works inside of the transaction of `remember`.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::read::memories;
use crate::domain::{Memory, NewMemory, Repeat, Restated};
use crate::store::{Remembered, Result};

/// Why the history has a new version of a memory whose text was stored again.
pub(super) const STORED_AGAIN: &str = "stored again";

/// What is added to memories that were there already, as before and after. The answer reports it.
pub(super) async fn merges(
    connection: &mut SqliteConnection,
    project: i64,
    items: &[NewMemory],
    repeats: &[Repeat],
    answer: &mut [Remembered],
    now: DateTime<Utc>,
) -> Result<Vec<(Memory, Memory)>> {
    let new: HashSet<Uuid> = answer
        .iter()
        .filter(|place| place.created)
        .map(|place| place.id)
        .collect();
    let mut merges: HashMap<Uuid, (Memory, Memory)> = HashMap::new();
    for ((item, repeat), place) in items.iter().zip(repeats).zip(answer) {
        if place.created {
            continue;
        }
        place.repeat = repeat.clone();
        let restated = Restated::from(item);
        // An item that repeats another one of the batch has given that one its values.
        if new.contains(&place.id) || merges.contains_key(&place.id) || restated.is_empty() {
            continue;
        }
        let stored = memories(connection, &[project], &[place.id]).await?.pop();
        let Some(before) = stored.map(|row| row.memory) else {
            continue;
        };
        let (patch, repeat) = restated.merge_into(&before);
        place.repeat.extend(repeat);
        let mut after = before.clone();
        patch.apply(&mut after, now);
        merges.insert(place.id, (before, after));
    }
    let mut changed: Vec<(Memory, Memory)> = merges
        .into_values()
        .filter(|(before, after)| before != after)
        .collect();
    changed.sort_by_key(|(before, _)| before.seq);
    Ok(changed)
}
