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
use super::tag::tag_keys;
use super::word_index::{add_terms, remove_terms, terms_of};
use super::write::{
    enqueue, history_bytes, missing, note, require_sources, require_space, run, save, unique,
};
use super::{Open, graph, hex_ids, sql};
use crate::domain::validate::Invalid;
use crate::domain::{Analyzer, Change, Kind, Memory, Scope};
use crate::store::{ForgetMode, Result, StoreError, Update};

pub(super) async fn update(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    command: &Update,
    analyzer: &Analyzer,
    delta: &mut Delta,
) -> Result<Memory> {
    let unknown = || StoreError::NotFound {
        field: "id",
        ids: vec![command.id],
    };
    let Some(project) = open.project(scope.project(), connection).await? else {
        return Err(unknown());
    };
    let mut rows = memories(connection, &[project], &[command.id]).await?;
    let row = rows
        .pop()
        .filter(|row| row.memory.deleted_at.is_none())
        .ok_or_else(unknown)?;
    let MemoryRow {
        mut memory, length, ..
    } = row;
    if let Some(expected) = command
        .expected_version
        .filter(|expected| *expected != memory.version)
    {
        return Err(StoreError::VersionConflict {
            id: memory.id,
            expected,
            current: memory.version,
        });
    }
    let patch = &command.patch;
    let outcome = patch.outcome.map(|outcome| outcome.to_string());
    let of_episodes = [
        ("situation", &patch.situation),
        ("outcome", &outcome),
        ("lesson", &patch.lesson),
    ];
    if memory.episode.is_none()
        && let Some((field, Some(value))) =
            of_episodes.into_iter().find(|(_, value)| value.is_some())
    {
        return Err(Invalid::only_for(Kind::Episode, memory.kind, field, value).into());
    }
    patch.check_sources(&memory)?;
    require_sources(open, connection, scope, patch.sources.iter().flatten()).await?;
    let before = memory.clone();
    let changed = patch.apply(&mut memory, command.now);
    if !changed && patch.helpful.is_none() {
        return Ok(memory);
    }
    if !changed {
        save(connection, &memory, length).await?;
        return Ok(memory);
    }
    if before.protected {
        return Err(StoreError::Protected {
            ids: vec![memory.id],
        });
    }
    if open.limits.bytes > 0 {
        let growth = growth(&before, &memory, command.reason.as_deref());
        require_space(open, connection, scope, project, 0, growth).await?;
    }
    let told = Told {
        change: Change::Updated,
        reason: command.reason.as_deref(),
        now: command.now,
    };
    rewrite(
        connection,
        scope,
        project,
        (&before, &memory),
        &told,
        (analyzer, delta),
    )
    .await?;
    graph::mention_existing(connection, project, memory.id, &patch.mentions).await?;
    Ok(memory)
}

/// How many bytes a change adds to the project: a new text and, in the history, the earlier state.
pub(super) fn growth(before: &Memory, after: &Memory, reason: Option<&str>) -> u64 {
    (after.bytes() + history_bytes(before, reason)).saturating_sub(before.bytes())
}

/// What the history says about a change.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) change: Change,
    pub(super) reason: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
}

/// Turns a row into what it is to be, with index, jobs, vectors and history.
pub(super) async fn rewrite(
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    (before, after): (&Memory, &Memory),
    told: &Told<'_>,
    (analyzer, delta): (&Analyzer, &mut Delta),
) -> Result<()> {
    let seq = after.seq;
    let (old, new) = (terms_of(before, analyzer), terms_of(after, analyzer));
    let (was_live, is_live) = (before.deleted_at.is_none(), after.deleted_at.is_none());
    if was_live && (!is_live || old != new) {
        remove_terms(connection, project, seq, &old, delta).await?;
    }
    if is_live && (!was_live || old != new) {
        add_terms(connection, project, seq, &new, delta).await?;
    }
    let reworded = before.embedded_text() != after.embedded_text();
    if reworded {
        run(connection, sql::DELETE_EMBEDDING, seq, "removing vectors").await?;
    }
    if is_live && (!was_live || reworded) {
        enqueue(connection, seq, project).await?;
    } else if !is_live {
        run(connection, sql::DELETE_JOB, seq, "removing an index job").await?;
    }
    save(connection, after, i64::from(new.length)).await?;
    if before.tags != after.tags {
        sqlx::query(sql::REPLACE_TAGS)
            .bind(seq)
            .bind(tag_keys(&after.tags))
            .execute(&mut *connection)
            .await
            .map_err(|error| from_sqlx(error, "changing tags"))?;
    }
    if before.sources != after.sources {
        replace_sources(connection, after).await?;
    }
    note(
        connection,
        scope,
        after,
        told.change,
        &before.snapshot(),
        told.reason,
        told.now,
    )
    .await
}

/// Writes the sources of a memory in place of the stored ones; those that were purged stay away.
async fn replace_sources(connection: &mut SqliteConnection, memory: &Memory) -> Result<()> {
    run(
        connection,
        sql::DELETE_SOURCES,
        memory.seq,
        "removing sources",
    )
    .await?;
    sqlx::query(sql::INSERT_SOURCES)
        .bind(memory.id)
        .bind(hex_ids(&memory.sources))
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| from_sqlx(error, "storing sources"))
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
    let concerned = |row: &MemoryRow| match command.mode {
        ForgetMode::Delete => row.memory.deleted_at.is_none(),
        ForgetMode::Restore => row.memory.deleted_at.is_some(),
        ForgetMode::Purge => true,
    };
    rows.retain(concerned);
    let protected: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.memory.protected)
        .map(|row| row.memory.id)
        .collect();
    if !protected.is_empty() {
        return Err(StoreError::Protected { ids: protected });
    }
    for row in &rows {
        carry_out(open, connection, scope, row, command, (analyzer, delta)).await?;
    }
    Ok(rows.len() as u64)
}

/// Deletes, restores or purges one memory that is not in that state yet.
pub(super) async fn carry_out(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    MemoryRow {
        memory: before,
        project,
        ..
    }: &MemoryRow,
    command: &Forget<'_>,
    (analyzer, delta): (&Analyzer, &mut Delta),
) -> Result<Memory> {
    let mut after = before.clone();
    let change = match command.mode {
        ForgetMode::Delete => {
            after.deleted_at = Some(command.now);
            Change::Deleted
        }
        ForgetMode::Restore => {
            require_free_turn(connection, *project, before).await?;
            if open.limits.bytes > 0 {
                let growth = history_bytes(before, command.reason);
                require_space(open, connection, scope, *project, 0, growth).await?;
            }
            after.deleted_at = None;
            Change::Restored
        }
        ForgetMode::Purge => {
            if before.deleted_at.is_none() {
                remove_terms(
                    connection,
                    *project,
                    before.seq,
                    &terms_of(before, analyzer),
                    delta,
                )
                .await?;
            }
            run(
                connection,
                sql::DELETE_MEMORY,
                before.seq,
                "purging a memory",
            )
            .await?;
            open.purged.store(true, Ordering::Relaxed);
            open.vectors.forget();
            return Ok(after);
        }
    };
    after.version += 1;
    after.updated_at = command.now;
    let told = Told {
        change,
        reason: command.reason,
        now: command.now,
    };
    rewrite(
        connection,
        scope,
        *project,
        (before, &after),
        &told,
        (analyzer, delta),
    )
    .await?;
    Ok(after)
}

/// A turn that was deleted and stored anew cannot come back beside the new one.
pub(super) async fn require_free_turn(
    connection: &mut SqliteConnection,
    project: i64,
    memory: &Memory,
) -> Result<()> {
    let (Some(session), Some(turn), None) = (&memory.session, memory.turn, memory.superseded_by)
    else {
        return Ok(());
    };
    let existing: Option<Uuid> = sqlx::query_scalar(sql::TURN)
        .bind(project)
        .bind(session)
        .bind(turn)
        .fetch_optional(connection)
        .await
        .map_err(|error| from_sqlx(error, "looking for a turn"))?;
    existing.map_or(Ok(()), |existing| {
        Err(StoreError::TurnExists {
            session: session.clone(),
            turn,
            existing,
        })
    })
}
