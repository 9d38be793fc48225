//! Changes to memories that are there: update, delete, restore, purge. Rows are locked in storage order first, so
//! that changes never wait for each other in a circle.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::attempt::{begin, commit};
use super::fault::Fault;
use super::remember::{check_usage, json, lock_usage, missing, number, require_sources};
use super::row::{MemoryColumns, MemoryRow};
use super::{graph, sql};
use crate::domain::memory::{Change, Kind, Memory, Patch, content_hash, indexed_text};
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Invalid, Scope};
use crate::store::{ForgetMode, Limits, Result, StoreError, Update};

/// What the history says about a change.
pub(super) struct Note<'a> {
    pub(super) change: Change,
    pub(super) reason: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
}

/// One attempt at a patch.
pub(super) async fn update(
    connection: &mut PgConnection,
    scope: &Scope,
    command: &Update,
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<Memory, Fault> {
    let mut transaction = begin(connection).await?;
    if limits.bytes > 0 {
        lock_usage(&mut transaction, scope).await?;
    }
    let before = lock(&mut transaction, scope, &[command.id])
        .await?
        .into_iter()
        .find(|memory| memory.deleted_at.is_none())
        .ok_or_else(|| StoreError::NotFound {
            field: "id",
            ids: vec![command.id],
        })?;
    if let Some(expected) = command.expected_version
        && expected != before.version
    {
        return Err(StoreError::VersionConflict {
            id: before.id,
            expected,
            current: before.version,
        }
        .into());
    }
    refuse_foreign_fields(&command.patch, &before)?;
    command
        .patch
        .check_sources(&before)
        .map_err(StoreError::from)?;
    if let Some(sources) = &command.patch.sources {
        require_sources(&mut transaction, scope, sources).await?;
    }
    let mut after = before.clone();
    if command.patch.apply(&mut after, command.now) {
        if before.protected {
            return Err(StoreError::Protected {
                ids: vec![before.id],
            }
            .into());
        }
        let note = Note {
            change: Change::Updated,
            reason: command.reason.as_deref(),
            now: command.now,
        };
        rewrite(
            &mut transaction,
            scope,
            before,
            after.clone(),
            analyzer,
            &note,
        )
        .await?;
        graph::mention_existing(&mut transaction, scope, after.id, &command.patch.mentions).await?;
        // Also for a shorter text: the history grows by the longer one.
        if limits.bytes > 0 {
            check_usage(
                &mut transaction,
                scope,
                Limits {
                    memories: 0,
                    ..limits
                },
            )
            .await?;
        }
    } else if command.patch.helpful.is_some() {
        sqlx::query(sql::VOTE)
            .bind(scope.project())
            .bind(after.seq)
            .bind(after.helpful)
            .bind(after.not_helpful)
            .execute(&mut *transaction)
            .await?;
    }
    commit(transaction).await?;
    Ok(after)
}

/// Turns a memory into what it is to be, with index, jobs, vectors and history.
pub(super) async fn rewrite(
    connection: &mut PgConnection,
    scope: &Scope,
    before: Memory,
    after: Memory,
    analyzer: &Analyzer,
    note: &Note<'_>,
) -> Result<(), Fault> {
    let (old, new) = (terms(analyzer, &before), terms(analyzer, &after));
    let (was_live, is_live) = (before.deleted_at.is_none(), after.deleted_at.is_none());
    let leaves = was_live && (!is_live || old != new);
    let enters = is_live && (!was_live || old != new);
    let reworded = before.embedded_text() != after.embedded_text();
    if reworded {
        sqlx::query(sql::FORGET_VECTORS)
            .bind(scope.project())
            .bind(after.seq)
            .execute(&mut *connection)
            .await?;
    }
    if leaves {
        unindex(connection, scope, &[(&before, &old)]).await?;
    }
    if !is_live {
        sqlx::query(sql::UNQUEUE)
            .bind(scope.project())
            .bind([after.seq])
            .execute(&mut *connection)
            .await?;
    }
    let queued = is_live && (!was_live || reworded);
    if enters || queued {
        let nothing = Terms::default();
        let terms = if enters { &new } else { &nothing };
        index(connection, scope, &[(&after, terms)], queued).await?;
    }
    if leaves || enters {
        let part = |yes: bool, terms: &Terms| {
            if yes {
                (1, i64::from(terms.length))
            } else {
                (0, 0)
            }
        };
        let (gone, come) = (part(leaves, &old), part(enters, &new));
        count(connection, scope, come.0 - gone.0, come.1 - gone.1).await?;
    }
    if before.sources != after.sources {
        replace_sources(connection, scope, &after).await?;
    }
    write(
        connection,
        scope,
        &[(before, after)],
        Some(&[new.length]),
        note,
    )
    .await
}

/// Writes the sources of a memory in place of the stored ones; those that were purged stay away.
async fn replace_sources(
    connection: &mut PgConnection,
    scope: &Scope,
    memory: &Memory,
) -> Result<(), Fault> {
    sqlx::query(sql::REMOVE_SOURCES)
        .bind(scope.project())
        .bind(memory.seq)
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::RESTORE_SOURCES)
        .bind(scope.project())
        .bind(memory.seq)
        .bind(&memory.sources)
        .execute(connection)
        .await?;
    Ok(())
}

fn refuse_foreign_fields(patch: &Patch, memory: &Memory) -> Result<(), Fault> {
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
            return Err(StoreError::from(Invalid::only_for(
                Kind::Episode,
                memory.kind,
                field,
                value,
            ))
            .into());
        }
    }
    Ok(())
}

/// What is to be forgotten, and how.
pub(super) struct Forget<'a> {
    pub(super) ids: &'a [Uuid],
    pub(super) mode: ForgetMode,
    pub(super) reason: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
}

/// One attempt at deleting, restoring or purging.
pub(super) async fn forget(
    connection: &mut PgConnection,
    scope: &Scope,
    command: &Forget<'_>,
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<u64, Fault> {
    let mut transaction = begin(connection).await?;
    // A deletion is never refused: it is how room is made. Restoring in turn with it must not grow without a bound.
    let limited = limits.bytes > 0 && command.mode == ForgetMode::Restore;
    if limited {
        lock_usage(&mut transaction, scope).await?;
    }
    let memories = lock(&mut transaction, scope, command.ids).await?;
    let found: Vec<Uuid> = memories.iter().map(|memory| memory.id).collect();
    missing("ids", command.ids, &found)?;
    let concerned: Vec<Memory> = memories
        .into_iter()
        .filter(|memory| match command.mode {
            ForgetMode::Delete => memory.deleted_at.is_none(),
            ForgetMode::Restore => memory.deleted_at.is_some(),
            ForgetMode::Purge => true,
        })
        .collect();
    let protected: Vec<Uuid> = concerned
        .iter()
        .filter(|memory| memory.protected)
        .map(|memory| memory.id)
        .collect();
    if !protected.is_empty() {
        return Err(StoreError::Protected { ids: protected }.into());
    }
    if concerned.is_empty() {
        commit(transaction).await?;
        return Ok(0);
    }
    carry_out(&mut transaction, scope, &concerned, command, analyzer).await?;
    if limited {
        check_usage(
            &mut transaction,
            scope,
            Limits {
                memories: 0,
                ..limits
            },
        )
        .await?;
    }
    commit(transaction).await?;
    Ok(concerned.len() as u64)
}

/// Deletes, restores or purges memories that are not in that state yet.
pub(super) async fn carry_out(
    transaction: &mut PgConnection,
    scope: &Scope,
    concerned: &[Memory],
    command: &Forget<'_>,
    analyzer: &Analyzer,
) -> Result<(), Fault> {
    let analysed: Vec<Terms> = concerned
        .iter()
        .map(|memory| terms(analyzer, memory))
        .collect();
    let lengths: Vec<i32> = analysed
        .iter()
        .map(|terms| number(terms.length as usize))
        .collect();
    let live: Vec<(&Memory, &Terms)> = concerned
        .iter()
        .zip(&analysed)
        .filter(|(memory, _)| memory.deleted_at.is_none())
        .collect();
    if !live.is_empty() {
        unindex(transaction, scope, &live).await?;
        let seqs: Vec<i64> = live.iter().map(|(memory, _)| memory.seq).collect();
        sqlx::query(sql::UNQUEUE)
            .bind(scope.project())
            .bind(&seqs)
            .execute(&mut *transaction)
            .await?;
        count(
            transaction,
            scope,
            -size(live.len()),
            -live
                .iter()
                .map(|(_, terms)| i64::from(terms.length))
                .sum::<i64>(),
        )
        .await?;
    }
    if command.mode == ForgetMode::Purge {
        let seqs: Vec<i64> = concerned.iter().map(|memory| memory.seq).collect();
        sqlx::query(sql::PURGE)
            .bind(scope.project())
            .bind(&seqs)
            .execute(&mut *transaction)
            .await?;
    } else {
        let (change, deleted_at) = match command.mode {
            ForgetMode::Delete => (Change::Deleted, Some(command.now)),
            _ => (Change::Restored, None),
        };
        if command.mode == ForgetMode::Restore {
            require_free_turns(transaction, scope, concerned).await?;
            let back: Vec<(&Memory, &Terms)> = concerned.iter().zip(&analysed).collect();
            index(transaction, scope, &back, true).await?;
            let length = analysed.iter().map(|terms| i64::from(terms.length)).sum();
            count(transaction, scope, size(back.len()), length).await?;
        }
        let changes: Vec<(Memory, Memory)> = concerned
            .iter()
            .map(|before| {
                let mut after = before.clone();
                after.deleted_at = deleted_at;
                after.version += 1;
                (before.clone(), after)
            })
            .collect();
        let note = Note {
            change,
            reason: command.reason,
            now: command.now,
        };
        write(
            transaction,
            scope,
            &changes,
            Some(&lengths.iter().map(|n| n.unsigned_abs()).collect::<Vec<_>>()),
            &note,
        )
        .await?;
    }
    Ok(())
}

/// A turn that was deleted and stored anew cannot come back beside the new one, nor two that took turns at one.
pub(super) async fn require_free_turns(
    connection: &mut PgConnection,
    scope: &Scope,
    memories: &[Memory],
) -> Result<(), Fault> {
    let mut turns: Vec<(&str, i64, Uuid)> = memories
        .iter()
        .filter(|memory| memory.superseded_by.is_none() && memory.kind == Kind::Dialogue)
        .filter_map(|memory| Some((memory.session.as_deref()?, memory.turn?, memory.id)))
        .collect();
    if turns.is_empty() {
        return Ok(());
    }
    turns.sort_by_key(|(_, _, id)| *id);
    let taken: Vec<(String, i64, Uuid)> = sqlx::query_as(sql::TAKEN_TURNS)
        .bind(scope.project())
        .bind(turns.iter().map(|turn| turn.0).collect::<Vec<_>>())
        .bind(turns.iter().map(|turn| turn.1).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    let mut holders: HashMap<(&str, i64), Uuid> = taken
        .iter()
        .map(|(session, turn, id)| ((session.as_str(), *turn), *id))
        .collect();
    for (session, turn, id) in turns {
        if let Some(existing) = holders.insert((session, turn), id) {
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

pub(super) async fn lock(
    connection: &mut PgConnection,
    scope: &Scope,
    ids: &[Uuid],
) -> Result<Vec<Memory>, Fault> {
    let rows: Vec<MemoryRow> = sqlx::query_as(sql::LOCK)
        .bind(scope.project())
        .bind(ids)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

pub(super) fn terms(analyzer: &Analyzer, memory: &Memory) -> Terms {
    analyzer.terms(&indexed_text(
        &memory.content,
        memory.speaker.as_deref(),
        &memory.tags,
        memory.episode.as_ref(),
    ))
}

/// Writes changed memories, given as before and after, with their history.
pub(super) async fn write(
    connection: &mut PgConnection,
    scope: &Scope,
    changes: &[(Memory, Memory)],
    lengths: Option<&[u32]>,
    note: &Note<'_>,
) -> Result<(), Fault> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut columns = MemoryColumns::default();
    for (at, (before, after)) in changes.iter().enumerate() {
        columns.seq.push(after.seq);
        columns.content.push(after.content.clone());
        columns
            .content_hash
            .push(content_hash(&after.content).to_vec());
        columns
            .length
            .push(lengths.map(|lengths| number(lengths[at] as usize)));
        columns.tags.push(json(&after.tags));
        columns.importance.push(after.importance);
        columns.metadata.push(json(&after.metadata));
        columns.occurred_at.push(after.occurred_at);
        columns.valid_until.push(after.valid_until);
        columns.superseded_by.push(after.superseded_by);
        columns.deleted_at.push(after.deleted_at);
        columns.version.push(after.version);
        columns.situation.push(
            after
                .episode
                .as_ref()
                .map(|episode| episode.situation.clone()),
        );
        columns
            .outcome
            .push(after.episode.as_ref().map(|episode| episode.outcome));
        columns
            .lesson
            .push(after.episode.as_ref().map(|episode| episode.lesson.clone()));
        columns.helpful.push(after.helpful);
        columns.not_helpful.push(after.not_helpful);
        columns.protected.push(after.protected);
        columns.old.push(before.snapshot().to_string());
    }
    sqlx::query(sql::WRITE)
        .bind(scope.project())
        .bind(note.now)
        .bind(&columns.seq)
        .bind(&columns.content)
        .bind(&columns.content_hash)
        .bind(&columns.length)
        .bind(&columns.tags)
        .bind(&columns.importance)
        .bind(&columns.metadata)
        .bind(&columns.occurred_at)
        .bind(&columns.valid_until)
        .bind(&columns.superseded_by)
        .bind(&columns.deleted_at)
        .bind(&columns.version)
        .bind(&columns.situation)
        .bind(&columns.outcome)
        .bind(&columns.lesson)
        .bind(&columns.helpful)
        .bind(&columns.not_helpful)
        .bind(&columns.old)
        .bind(note.change.as_str())
        .bind(scope.actor())
        .bind(note.reason)
        .bind(&columns.protected)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn index(
    connection: &mut PgConnection,
    scope: &Scope,
    memories: &[(&Memory, &Terms)],
    queue: bool,
) -> Result<(), Fault> {
    let (mut seqs, mut names, mut frequencies, mut lengths) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (memory, terms) in memories {
        for (term, frequency) in &terms.counts {
            seqs.push(memory.seq);
            names.push(term.as_str());
            frequencies.push(number(*frequency as usize));
            lengths.push(number(terms.length as usize));
        }
    }
    let queued: Vec<i64> = if queue {
        memories.iter().map(|(memory, _)| memory.seq).collect()
    } else {
        Vec::new()
    };
    sqlx::query(sql::INDEX)
        .bind(scope.project())
        .bind(&seqs)
        .bind(&names)
        .bind(&frequencies)
        .bind(&lengths)
        .bind(&queued)
        .execute(connection)
        .await?;
    Ok(())
}

async fn unindex(
    connection: &mut PgConnection,
    scope: &Scope,
    memories: &[(&Memory, &Terms)],
) -> Result<(), Fault> {
    let (mut seqs, mut names) = (Vec::new(), Vec::new());
    for (memory, terms) in memories {
        for term in terms.counts.keys() {
            seqs.push(memory.seq);
            names.push(term.as_str());
        }
    }
    sqlx::query(sql::UNINDEX)
        .bind(scope.project())
        .bind(&seqs)
        .bind(&names)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn count(
    connection: &mut PgConnection,
    scope: &Scope,
    documents: i64,
    length: i64,
) -> Result<(), Fault> {
    sqlx::query(sql::COUNT_CORPUS)
        .bind(scope.project())
        .bind(documents)
        .bind(length)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) fn size(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
