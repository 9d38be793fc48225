//! Group commit: small writes that wait for the writer anyway share its next transaction, and so the one flush to
//! the disk that makes them durable.
//!
//! There is no task of its own. The first caller opens a group, those who come while the writer is busy join it, and
//! one of them drives it: the group is a future behind a mutex, and whoever holds the mutex polls it. A driver who
//! goes away (a client that hung up, a time limit) lets go of the mutex, and the next caller polls the same future
//! from where it stood, so nothing is done twice or lost. When all are gone the future goes, too, and with it the
//! transaction.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::cache::Delta;
use super::error::{from_sqlx, is_damage, name_disk, too_slow};
use super::write;
use super::{Open, Writer, sql};
use crate::domain::{Analyzer, Scope};
use crate::store::batch::AnalyzedBatch;
use crate::store::{Remembered, Result, StoreError};

/// More than this many commands do not share a transaction: each waits for all.
const MOST_COMMANDS: usize = 256;

/// What a caller wants to be written.
#[derive(Debug)]
pub(super) enum Work {
    /// Memories, durably.
    Remember {
        batch: AnalyzedBatch,
        analyzer: Arc<Analyzer>,
    },
    /// That recall returned these; may be lost.
    Note { ids: Vec<Uuid>, now: DateTime<Utc> },
}

#[derive(Debug)]
struct Pending {
    scope: Scope,
    work: Work,
    reply: oneshot::Sender<Result<Vec<Remembered>>>,
}

/// The commands of a group while it can be joined; `None` once its transaction began.
type Gathered = Arc<Mutex<Option<Vec<Pending>>>>;

struct Group {
    gathered: Gathered,
    drive: tokio::sync::Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

/// The group which can be joined, as long as somebody waits for it.
#[derive(Default)]
pub(super) struct Gathering(Mutex<Weak<Group>>);

impl std::fmt::Debug for Gathering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gathering")
    }
}

impl Gathering {
    /// Adds a command to the group which gathers, or opens one.
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

    /// Carries out `work` together with that of others, and answers when it is committed.
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

/// The transaction of one group.
async fn carry_out(open: Arc<Open>, gathered: Gathered) {
    let mut writer = open.writer.lock().await;
    // From here on nobody joins. Who has gone away in the meantime is not served.
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
            // The database refused one of them. Each for itself, only that one fails.
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

/// Tells the callers. Who has gone away in the meantime does not need it.
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

/// One transaction for all commands. A command that breaks a rule gets its own error, since it is refused before it
/// writes; the outer error is that of the database, and nothing is stored then.
async fn attempt(open: &Open, writer: &mut Writer, commands: &[Pending]) -> Result<Answers> {
    let result = attempt_unobserved(open, writer, commands).await;
    let result = result.map_err(|error| name_disk(error, open.files.database()));
    open.writes.observe(&result, is_damage);
    result
}

async fn attempt_unobserved(
    open: &Open,
    writer: &mut Writer,
    commands: &[Pending],
) -> Result<Answers> {
    open.files.check()?;
    writer.connect().await?;
    // Out of its slot: if this future is dropped, so is the connection, and SQLite undoes the transaction.
    let mut connection = writer.connection.take().expect("was just connected");
    let durable = commands
        .iter()
        .any(|command| matches!(command.work, Work::Remember { .. }));
    let begin = if durable {
        sql::BEGIN
    } else {
        sql::BEGIN_RELAXED
    };
    let failed = |error| from_sqlx(error, "writing");
    sqlx::query(begin)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    let (mut answers, mut delta, mut projects) = (
        Vec::with_capacity(commands.len()),
        Delta::default(),
        Vec::new(),
    );
    for Pending { scope, work, .. } in commands {
        let answer = match work {
            Work::Remember { batch, analyzer } => {
                let batch_of = (batch, analyzer.as_ref());
                write::remember(open, &mut connection, scope, batch_of, &mut delta)
                    .await
                    .map(|(project, answer)| {
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
        match answer {
            Err(error) if !is_refusal(&error) => {
                sqlx::query(sql::ROLLBACK)
                    .execute(&mut connection)
                    .await
                    .map_err(failed)?;
                writer.connection = Some(connection);
                return Err(error);
            }
            answer => answers.push(answer),
        }
    }
    let committing = open.cache.commit(&delta);
    sqlx::query(sql::COMMIT)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    committing.done();
    writer.connection = Some(connection);
    // Once more before the callers hear of it: somebody may have truncated the log under the transaction.
    open.files.check()?;
    if open.purged.load(Ordering::Relaxed) {
        // What was asked for is done; that the log can still not be emptied is nobody's failure.
        let _ = open.empty_log(writer).await;
    }
    for (name, number) in projects {
        open.keep_project(name, number);
    }
    Ok(answers)
}

/// Whether a command broke a rule, in contrast to a failure of the database.
fn is_refusal(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::Unavailable { .. }
            | StoreError::Setup { .. }
            | StoreError::FileReplaced { .. }
            | StoreError::Internal { .. }
    )
}
