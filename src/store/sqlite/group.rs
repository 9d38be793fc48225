//! Group commit: small writes that wait for the writer share its next transaction, and thereby the single flush to
//! disk that makes them durable.
//!
//! There is no background task. The first caller opens a group, callers that arrive while the writer is busy join
//! it, and one of them drives it: the group is a future behind a mutex, and the caller that holds the mutex polls
//! it. If that caller is cancelled (by a disconnected client or a time limit), it releases the mutex, and the next
//! caller continues the same future, so that nothing is lost or done twice. When all callers are gone, the future
//! and its transaction are dropped.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::cache::Delta;
use super::error::{Fault, is_damage, name_disk, too_slow};
use super::write;
use super::{Open, Writer, sql};
use crate::domain::{Analyzer, Scope};
use crate::store::batch::AnalyzedBatch;
use crate::store::{Remembered, Result, StoreError};

/// Maximum number of commands in a shared transaction, because each command waits for all.
const MOST_COMMANDS: usize = 256;

/// The write that a caller requests.
#[derive(Debug)]
pub(super) enum Work {
    /// Stores memories, durably.
    Remember {
        batch: AnalyzedBatch,
        analyzer: Arc<Analyzer>,
    },
    /// Records that recall returned these memories; may be lost.
    Note { ids: Vec<Uuid>, now: DateTime<Utc> },
}

impl Work {
    /// Names the work in errors.
    fn purpose(&self) -> &'static str {
        match self {
            Self::Remember { .. } => "remember",
            Self::Note { .. } => "noting a recall",
        }
    }
}

#[derive(Debug)]
struct Pending {
    scope: Scope,
    work: Work,
    reply: oneshot::Sender<Result<Vec<Remembered>>>,
}

/// The commands of a group while it can be joined; `None` once its transaction has begun.
type Gathered = Arc<Mutex<Option<Vec<Pending>>>>;

struct Group {
    gathered: Gathered,
    drive: tokio::sync::Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

/// The group that can be joined, while a caller waits for it.
#[derive(Default)]
pub(super) struct Gathering(Mutex<Weak<Group>>);

impl std::fmt::Debug for Gathering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gathering")
    }
}

impl Gathering {
    /// Adds a command to the open group, or opens one.
    fn join(&self, open: &Arc<Open>, pending: Pending) -> Arc<Group> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = current.upgrade() {
            let mut gathered = group
                .gathered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(commands) = gathered
                .as_mut()
                .filter(|commands| commands.len() < MOST_COMMANDS)
            {
                commands.push(pending);
                drop(gathered);
                return group;
            }
        }
        let gathered: Gathered = Arc::new(Mutex::new(Some(vec![pending])));
        let work = Box::pin(carry_out(Arc::clone(open), Arc::clone(&gathered)));
        let group = Arc::new(Group {
            gathered,
            drive: tokio::sync::Mutex::new(Some(work)),
        });
        *current = Arc::downgrade(&group);
        group
    }

    /// Executes `work` together with that of other callers, and returns after the commit.
    pub(super) async fn submit(
        &self,
        open: &Arc<Open>,
        scope: &Scope,
        work: Work,
    ) -> Result<Vec<Remembered>> {
        let (reply, mut answer) = oneshot::channel();
        let group = self.join(
            open,
            Pending {
                scope: scope.clone(),
                work,
                reply,
            },
        );
        tokio::select! {
            biased;
            answer = &mut answer => return answer.unwrap_or_else(|_| Err(too_slow())),
            mut drive = group.drive.lock() => if let Some(work) = drive.as_mut() {
                work.await;
                *drive = None;
            },
        }
        answer.await.unwrap_or_else(|_| Err(too_slow()))
    }
}

/// Runs the transaction of one group.
async fn carry_out(open: Arc<Open>, gathered: Gathered) {
    let mut writer = open.writer.lock().await;
    // The group is closed now. Callers that were cancelled are skipped.
    let commands = gathered
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .unwrap_or_default();
    let commands: Vec<Pending> = commands
        .into_iter()
        .filter(|command| !command.reply.is_closed())
        .collect();
    if commands.is_empty() {
        return;
    }
    match attempt(&open, &mut writer, &commands).await {
        Err(_) if commands.len() > 1 => {
            // The database refused one of the commands. Executed separately, only that one fails.
            for command in commands {
                let result = attempt(&open, &mut writer, std::slice::from_ref(&command)).await;
                reply([command], result);
            }
        }
        result => {
            drop(writer);
            reply(commands, result);
        }
    }
}

/// Sends the results to the callers. A caller that was cancelled does not need its result.
fn reply(commands: impl IntoIterator<Item = Pending>, results: Result<Answers>) {
    let mut results = results.map(Vec::into_iter).map_err(Some);
    for command in commands {
        let answer = match &mut results {
            Ok(answers) => answers.next().unwrap_or_else(|| Err(too_slow())),
            Err(error) => Err(error.take().unwrap_or_else(too_slow)),
        };
        let _ = command.reply.send(answer);
    }
}

type Answers = Vec<Result<Vec<Remembered>>>;

/// Runs one transaction for all commands. A command that breaks a rule gets its own error, because it is refused
/// before it writes. The outer error is a failure of the database; nothing is stored then.
async fn attempt(open: &Open, writer: &mut Writer, commands: &[Pending]) -> Result<Answers> {
    let result = attempt_unobserved(open, writer, commands).await;
    let result = result.map_err(|fault| name_disk(fault.explain("writing"), open.files.database()));
    open.writes.observe(&result, is_damage);
    result
}

async fn attempt_unobserved(
    open: &Open,
    writer: &mut Writer,
    commands: &[Pending],
) -> Result<Answers, Fault> {
    open.files.check()?;
    writer.connect().await?;
    // The connection is taken out of its slot: if this future is dropped, the connection is dropped, too, and SQLite
    // rolls back.
    let mut connection = writer.connection.take().expect("was just connected");
    let durable = commands
        .iter()
        .any(|command| matches!(command.work, Work::Remember { .. }));
    let begin = if durable {
        sql::BEGIN
    } else {
        sql::BEGIN_RELAXED
    };
    sqlx::query(begin).execute(&mut connection).await?;
    let (mut answers, mut delta, mut projects) = (
        Vec::with_capacity(commands.len()),
        Delta::default(),
        Vec::new(),
    );
    for Pending { scope, work, .. } in commands {
        let answer = match work {
            Work::Remember { batch, analyzer } => {
                let batch_of = (batch, analyzer.as_ref());
                let stored =
                    write::remember(open, &mut connection, scope, batch_of, &mut delta).await;
                stored.map(|(project, answer)| {
                    batch.extend(&mut delta, project, &answer);
                    projects.push((scope.project(), project));
                    answer
                })
            }
            Work::Note { ids, now } => {
                write::note_recalled(open, &mut connection, scope, ids, *now)
                    .await
                    .map(|()| Vec::new())
            }
        };
        match answer.map_err(|fault| fault.explain(work.purpose())) {
            Err(error) if !is_refusal(&error) => {
                sqlx::query(sql::ROLLBACK).execute(&mut connection).await?;
                writer.connection = Some(connection);
                return Err(error.into());
            }
            answer => answers.push(answer),
        }
    }
    let committing = open.cache.commit(&delta);
    sqlx::query(sql::COMMIT).execute(&mut connection).await?;
    committing.done();
    writer.connection = Some(connection);
    // Checked again before the callers get their results, because the log may have been truncated during the
    // transaction.
    open.files.check()?;
    if open.purged.load(Ordering::Relaxed) {
        // The work is committed; a failure to empty the log does not concern the callers.
        let _ = open.empty_log(writer).await;
    }
    for (name, number) in projects {
        open.keep_project(name, number);
    }
    Ok(answers)
}

/// Returns whether a command broke a rule, in contrast to a failure of the database.
fn is_refusal(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::Unavailable { .. }
            | StoreError::Setup { .. }
            | StoreError::FileReplaced { .. }
            | StoreError::Internal { .. }
    )
}
