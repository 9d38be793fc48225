//! The rules for changes of existing memories: update, delete, restore, purge.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::link::mention_existing;
use super::memory_change::{ChangeRecord, MemoryChange};
use super::quota;
use super::rule::{Effect, Rule, not_found};
use super::tx::{ChangeTx, Tx};
use crate::domain::memory::Patch;
use crate::domain::{Change, Invalid, Kind, Memory};
use crate::store::{ForgetMode, Result, StoreError, Update};

impl Rule for Update {
    type Output = Memory;
    const PURPOSE: &'static str = "update a memory";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Memory, T::Error> {
        quota::lock_bytes(tx).await?;
        let before = tx.lock_memories(&[self.id]).await?.pop();
        let before = before
            .filter(|memory| memory.deleted_at.is_none())
            .ok_or_else(|| not_found("id", self.id))?;
        require_version(&before, self.expected_version)?;
        refuse_foreign_fields(&self.patch, &before)?;
        self.patch
            .check_sources(&before)
            .map_err(StoreError::from)?;
        require_sources(tx, self.patch.sources.as_deref().unwrap_or_default()).await?;
        let mut after = before.clone();
        if self.patch.apply(&mut after, self.now) {
            refuse_protected([&before])?;
            let record = ChangeRecord {
                change: Change::Updated,
                reason: self.reason.as_deref(),
                now: self.now,
            };
            rewrite_memory(tx, before, after.clone(), &record).await?;
            mention_existing(tx, after.seq, &self.patch.mentions).await?;
            quota::check_bytes(tx).await?;
        } else if self.patch.helpful.is_some() {
            tx.save_votes(&after).await?;
        }
        Ok(after)
    }
}

fn require_version(memory: &Memory, expected: Option<i64>) -> Result<()> {
    match expected {
        Some(expected) if expected != memory.version => Err(StoreError::VersionConflict {
            id: memory.id,
            expected,
            current: memory.version,
        }),
        _ => Ok(()),
    }
}

fn refuse_foreign_fields(patch: &Patch, memory: &Memory) -> Result<()> {
    if memory.episode.is_some() {
        return Ok(());
    }
    let outcome = patch.outcome.map(|outcome| outcome.to_string());
    let fields = [
        ("situation", &patch.situation),
        ("outcome", &outcome),
        ("lesson", &patch.lesson),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            return Err(Invalid::only_for(Kind::Episode, memory.kind, field, value).into());
        }
    }
    Ok(())
}

/// Refuses sources that are not live memories of a readable project.
pub(crate) async fn require_sources<T: ChangeTx>(
    tx: &mut T,
    sources: &[Uuid],
) -> Result<(), T::Error> {
    if sources.is_empty() {
        return Ok(());
    }
    let found = tx.find_sources(sources).await?;
    Ok(require_all("sources", sources, &found)?)
}

/// Fails if IDs of an argument were not found, and names each once.
pub(crate) fn require_all(field: &'static str, wanted: &[Uuid], found: &[Uuid]) -> Result<()> {
    let mut ids: Vec<Uuid> = Vec::new();
    for id in wanted {
        if !found.contains(id) && !ids.contains(id) {
            ids.push(*id);
        }
    }
    if ids.is_empty() {
        Ok(())
    } else {
        Err(StoreError::NotFound { field, ids })
    }
}

/// Refuses changes to protected memories, and names all of them.
pub(crate) fn refuse_protected<'a>(memories: impl IntoIterator<Item = &'a Memory>) -> Result<()> {
    let protected = memories.into_iter().filter(|memory| memory.protected);
    let ids: Vec<Uuid> = protected.map(|memory| memory.id).collect();
    if ids.is_empty() {
        Ok(())
    } else {
        Err(StoreError::Protected { ids })
    }
}

pub(crate) async fn rewrite_memory<T: ChangeTx>(
    tx: &mut T,
    before: Memory,
    after: Memory,
    record: &ChangeRecord<'_>,
) -> Result<(), T::Error> {
    let change = MemoryChange::new(before, after, tx.analyzer());
    tx.rewrite_memories(&[change], record).await
}

/// Deletes, restores or purges memories.
pub(crate) struct Forget<'a> {
    pub(crate) ids: &'a [Uuid],
    pub(crate) mode: ForgetMode,
    pub(crate) reason: Option<&'a str>,
    pub(crate) now: DateTime<Utc>,
}

impl Rule for Forget<'_> {
    type Output = u64;
    const PURPOSE: &'static str = "forget memories";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<u64, T::Error> {
        if self.mode == ForgetMode::Restore {
            quota::lock_bytes(tx).await?;
        }
        let mut memories = tx.lock_memories(self.ids).await?;
        let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
        require_all("ids", self.ids, &found)?;
        memories.retain(|memory| !is_done(memory, self.mode));
        refuse_protected(&memories)?;
        let count = memories.len() as u64;
        forget_memories(tx, memories, self.mode, self.reason, self.now).await?;
        Ok(count)
    }
}

/// Returns whether a memory is already in the state that the mode leads to.
pub(super) fn is_done(memory: &Memory, mode: ForgetMode) -> bool {
    match mode {
        ForgetMode::Delete => memory.deleted_at.is_some(),
        ForgetMode::Restore => memory.deleted_at.is_none(),
        ForgetMode::Purge => false,
    }
}

/// Deletes, restores or purges memories that are not already in that state. Only a restore can exceed a quota: a
/// deletion makes room, although its history needs some.
pub(super) async fn forget_memories<T: Tx>(
    tx: &mut T,
    memories: Vec<Memory>,
    mode: ForgetMode,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), T::Error> {
    if memories.is_empty() {
        return Ok(());
    }
    let (change, deleted_at) = match mode {
        ForgetMode::Purge => return tx.purge_memories(&memories).await,
        ForgetMode::Delete => (Change::Deleted, Some(now)),
        ForgetMode::Restore => {
            require_free_turns(tx, &memories).await?;
            (Change::Restored, None)
        }
    };
    let changes: Vec<MemoryChange> = memories
        .into_iter()
        .map(|before| {
            let after = Memory {
                deleted_at,
                version: before.version + 1,
                updated_at: now,
                ..before.clone()
            };
            MemoryChange::new(before, after, tx.analyzer())
        })
        .collect();
    let record = ChangeRecord {
        change,
        reason,
        now,
    };
    tx.rewrite_memories(&changes, &record).await?;
    if mode == ForgetMode::Restore {
        quota::check_bytes(tx).await?;
    }
    Ok(())
}

/// Fails if another memory now has the turn of one of these, or if two of them had the same turn one after the other.
pub(super) async fn require_free_turns<T: Tx>(
    tx: &mut T,
    memories: &[Memory],
) -> Result<(), T::Error> {
    let mut turns: Vec<(&str, i64, Uuid)> = memories
        .iter()
        .filter(|memory| memory.superseded_by.is_none() && memory.kind == Kind::Dialogue)
        .filter_map(|memory| Some((memory.session.as_deref()?, memory.turn?, memory.id)))
        .collect();
    if turns.is_empty() {
        return Ok(());
    }
    turns.sort_by_key(|(_, _, id)| *id);
    let wanted: Vec<(&str, i64)> = turns.iter().map(|turn| (turn.0, turn.1)).collect();
    let owners = tx.turn_owners(&wanted).await?;
    let mut owners: HashMap<(&str, i64), Uuid> = owners
        .iter()
        .map(|(session, turn, id)| ((session.as_str(), *turn), *id))
        .collect();
    for (session, turn, id) in turns {
        if let Some(existing) = owners.insert((session, turn), id) {
            return Err(StoreError::TurnExists {
                session: session.to_owned(),
                turn,
                existing,
            }
            .into());
        }
    }
    Ok(())
}
