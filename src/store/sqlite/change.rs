//! Updating, deleting, restoring and purging. Works inside of a transaction of [`Open::write`], like [`write`].

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::cache::Delta;
use super::error::from_sqlx;
use super::read::memories;
use super::row::MemoryRow;
use super::write::{add_terms, enqueue, json, missing, note, remove_terms, require_space, run, save, terms_of, unique};
use super::{Open, sql};
use crate::domain::validate::Invalid;
use crate::domain::{Analyzer, Change, Memory, Scope};
use crate::store::{ForgetMode, Result, StoreError, Update};

pub(super) async fn update(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    command: &Update,
    analyzer: &Analyzer,
    delta: &mut Delta,
) -> Result<Memory> {
    let unknown = || StoreError::NotFound { field: "id", ids: vec![command.id] };
    let Some(project) = open.project(scope.project(), connection).await? else { return Err(unknown()) };
    let mut rows = memories(connection, &[project], &[command.id]).await?;
    let row = rows.pop().filter(|row| row.memory.deleted_at.is_none()).ok_or_else(unknown)?;
    let MemoryRow { mut memory, mut length, .. } = row;
    if let Some(expected) = command.expected_version.filter(|expected| *expected != memory.version) {
        return Err(StoreError::VersionConflict { id: memory.id, expected, current: memory.version });
    }
    let patch = &command.patch;
    let outcome = patch.outcome.map(|outcome| outcome.to_string());
    let of_episodes = [("situation", &patch.situation), ("outcome", &outcome), ("lesson", &patch.lesson)];
    if memory.episode.is_none()
        && let Some((field, Some(value))) = of_episodes.into_iter().find(|(_, value)| value.is_some())
    {
        let expected = format!("it only for memories of kind episode; this one is of kind {}", memory.kind);
        return Err(Invalid::new(field, value, expected).into());
    }
    let before = memory.clone();
    let changed = patch.apply(&mut memory, command.now);
    if !changed && patch.helpful.is_none() {
        return Ok(memory);
    }
    if open.limits.bytes > 0 && memory.bytes() > before.bytes() {
        require_space(open, connection, scope, project, 0, memory.bytes() - before.bytes()).await?;
    }
    let (old_terms, new_terms) = (terms_of(&before, analyzer), terms_of(&memory, analyzer));
    if old_terms != new_terms {
        remove_terms(connection, project, memory.seq, &old_terms, delta).await?;
        add_terms(connection, project, memory.seq, &new_terms, delta).await?;
        length = i64::from(new_terms.length);
    }
    save(connection, &memory, length).await?;
    if before.tags != memory.tags {
        sqlx::query(sql::REPLACE_TAGS)
            .bind(memory.seq)
            .bind(json(&memory.tags))
            .execute(&mut *connection)
            .await
            .map_err(|error| from_sqlx(error, "changing tags"))?;
    }
    if before.content != memory.content {
        run(connection, sql::DELETE_EMBEDDING, memory.seq, "removing vectors").await?;
        enqueue(connection, memory.seq, project).await?;
    }
    if changed {
        let (old, reason) = (before.snapshot(), command.reason.as_deref());
        note(connection, scope, &memory, Change::Updated, &old, reason, command.now).await?;
    }
    Ok(memory)
}

/// What `forget` is to do.
#[derive(Debug)]
pub(super) struct Forget<'a> {
    pub(super) ids: &'a [Uuid],
    pub(super) mode: ForgetMode,
    pub(super) reason: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
}

pub(super) async fn forget(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    command: &Forget<'_>,
    analyzer: &Analyzer,
    delta: &mut Delta,
) -> Result<u64> {
    let wanted = unique(command.ids.iter());
    let project = open.project(scope.project(), connection).await?;
    let projects: Vec<i64> = project.into_iter().collect();
    let mut rows = memories(connection, &projects, &wanted).await?;
    let found: HashSet<Uuid> = rows.iter().map(|row| row.memory.id).collect();
    missing("ids", wanted, |id| found.contains(id))?;
    rows.sort_by_key(|row| row.memory.seq);
    let mut changed = 0;
    for MemoryRow { mut memory, length, project } in rows {
        let (seq, live) = (memory.seq, memory.deleted_at.is_none());
        let terms = terms_of(&memory, analyzer);
        let old = memory.snapshot();
        let change = match command.mode {
            ForgetMode::Delete if live => {
                remove_terms(connection, project, seq, &terms, delta).await?;
                run(connection, sql::DELETE_JOB, seq, "removing an index job").await?;
                memory.deleted_at = Some(command.now);
                Change::Deleted
            }
            ForgetMode::Restore if !live => {
                require_free_turn(connection, project, &memory).await?;
                add_terms(connection, project, seq, &terms, delta).await?;
                enqueue(connection, seq, project).await?;
                memory.deleted_at = None;
                Change::Restored
            }
            ForgetMode::Purge => {
                if live {
                    remove_terms(connection, project, seq, &terms, delta).await?;
                }
                run(connection, sql::DELETE_MEMORY, seq, "purging a memory").await?;
                open.purged.store(true, Ordering::Relaxed);
                changed += 1;
                continue;
            }
            ForgetMode::Delete | ForgetMode::Restore => continue,
        };
        memory.version += 1;
        memory.updated_at = command.now;
        save(connection, &memory, length).await?;
        note(connection, scope, &memory, change, &old, command.reason, command.now).await?;
        changed += 1;
    }
    Ok(changed)
}

/// A turn that was deleted and stored anew cannot come back beside the new one.
async fn require_free_turn(connection: &mut SqliteConnection, project: i64, memory: &Memory) -> Result<()> {
    let (Some(session), Some(turn), None) = (&memory.session, memory.turn, memory.superseded_by) else { return Ok(()) };
    let existing: Option<Uuid> = sqlx::query_scalar(sql::TURN)
        .bind(project)
        .bind(session)
        .bind(turn)
        .fetch_optional(connection)
        .await
        .map_err(|error| from_sqlx(error, "looking for a turn"))?;
    existing.map_or(Ok(()), |existing| Err(StoreError::TurnExists { session: session.clone(), turn, existing }))
}
