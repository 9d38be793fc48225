//! Group commit: small writes that wait for the writer anyway share its next transaction, and so the one flush to
//! the disk that makes them durable.
//!
//! There is no task of its own. The first caller opens a group, those who come while the writer is busy join it, and
//! one of them drives it: the group is a future behind a mutex, and whoever holds the mutex polls it. A driver who
//! goes away (a client that hung up, a time limit) lets go of the mutex, and the next caller polls the same future
//! from where it stood, so nothing is done twice or lost. When all are gone the future goes, too, and with it the
//! transaction.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::error::{from_sqlx, too_slow};
use super::write::{self, Prepared};
use super::{Open, sql};
use crate::domain::Scope;
use crate::store::{Remembered, Result, StoreError};

/// More than this many commands do not share a transaction: each waits for all.
const MOST_COMMANDS: usize = 256;

/// What a caller wants to be written.
#[derive(Debug)]
pub(super) enum Work {
    /// Memories, durably.
    Remember(Prepared),
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
            let mut gathered = group.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(commands) = gathered.as_mut().filter(|commands| commands.len() < MOST_COMMANDS) {
                commands.push(pending);
                drop(gathered);
                return group;
            }
        }
        let gathered: Gathered = Arc::new(Mutex::new(Some(vec![pending])));
        let work = Box::pin(carry_out(Arc::clone(open), Arc::clone(&gathered)));
        let group = Arc::new(Group { gathered, drive: tokio::sync::Mutex::new(Some(work)) });
        *current = Arc::downgrade(&group);
        group
    }

    /// Carries out `work` together with that of others, and answers when it is committed.
    pub(super) async fn submit(&self, open: &Arc<Open>, scope: &Scope, work: Work) -> Result<Vec<Remembered>> {
        let (reply, mut answer) = oneshot::channel();
        let group = self.join(open, Pending { scope: scope.clone(), work, reply });
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
    let commands = gathered.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let commands: Vec<Pending> = commands.into_iter().filter(|command| !command.reply.is_closed()).collect();
    if commands.is_empty() {
        return;
    }
    let mut results = Vec::with_capacity(commands.len());
    let outcome = async {
        writer.connect().await?;
        // Out of its slot: if this future is dropped, so is the connection, and SQLite undoes the transaction.
        let mut connection = writer.connection.take().expect("was just connected");
        let durable = commands.iter().any(|command| matches!(command.work, Work::Remember(_)));
        let begin = if durable { sql::BEGIN } else { sql::BEGIN_RELAXED };
        let failed = |error| from_sqlx(error, "writing");
        sqlx::query(begin).execute(&mut connection).await.map_err(failed)?;
        for command in &commands {
            results.push(one(&open, &mut connection, command, commands.len() > 1).await?);
        }
        let end = if results.iter().all(Result::is_err) { sql::ROLLBACK } else { sql::COMMIT };
        sqlx::query(end).execute(&mut connection).await.map_err(failed)?;
        Ok::<_, StoreError>(connection)
    }
    .await;
    match outcome {
        Ok(connection) => {
            writer.connection = Some(connection);
            drop(writer);
            for (command, result) in commands.into_iter().zip(results) {
                let answer = result.map(|(project, answer)| {
                    if let Some(project) = project {
                        open.keep_project(command.scope.project(), project);
                    }
                    answer
                });
                // A caller who has gone away does not need it.
                let _ = command.reply.send(answer);
            }
        }
        Err(error) => {
            for command in commands {
                let _ = command.reply.send(Err(repeated(&error)));
            }
        }
    }
}

/// One command inside of the group's transaction. The outer error is that of the transaction, which is lost then;
/// the inner one is the command's own, which has left no trace.
async fn one(
    open: &Open,
    connection: &mut SqliteConnection,
    command: &Pending,
    in_company: bool,
) -> Result<Result<(Option<i64>, Vec<Remembered>)>> {
    let failed = |error| from_sqlx(error, "writing");
    if in_company {
        sqlx::query(sql::SAVEPOINT).execute(&mut *connection).await.map_err(failed)?;
    }
    let result = match &command.work {
        Work::Remember(prepared) => write::remember(open, connection, &command.scope, prepared)
            .await
            .map(|(project, answer)| (Some(project), answer)),
        Work::Note { ids, now } => {
            write::note_recalled(open, connection, &command.scope, ids, *now).await.map(|()| (None, Vec::new()))
        }
    };
    if in_company {
        let end = if result.is_ok() { sql::RELEASE } else { sql::ROLLBACK_TO };
        sqlx::query(end).execute(connection).await.map_err(failed)?;
    }
    Ok(result)
}

/// The same error for one more caller.
fn repeated(error: &StoreError) -> StoreError {
    match error {
        StoreError::Setup { reason, .. } => StoreError::Setup { reason: reason.clone(), source: None },
        StoreError::Internal { during, source } => {
            StoreError::Internal { during, source: sqlx::Error::Protocol(source.to_string()) }
        }
        other => StoreError::Unavailable {
            reason: match other {
                StoreError::Unavailable { reason, .. } => reason.clone(),
                other => other.to_string(),
            },
            source: None,
        },
    }
}
