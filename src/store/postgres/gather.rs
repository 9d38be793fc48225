//! Group commit: small stores at the same time share a statement, and thereby its round trip, its plan and its flush to
//! disk.
//!
//! There is no background task. One caller at a time has the turn of a project, and includes the waiting work for the
//! same scope. If that caller is cancelled, the callers whose work it included lose their replies and store their items
//! themselves. Rows already have their IDs, so nothing is stored twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::PostgresStore;
use super::attempt::{Attempts, Effect, attempt};
use super::remember::{self, Batch};
use crate::domain::{AnalyzedMemory, Scope};
use crate::store::{Remember, Remembered, Result};

/// Maximum wait for a turn, because the statement of another caller may itself wait for a lock.
const PATIENCE: Duration = Duration::from_millis(20);
/// Maximum number of callers that share a statement, because each waits for all items.
const MOST: usize = 32;
/// Maximum number of items of a caller in a shared statement.
const MOST_ITEMS: usize = 8;
/// Maximum total length of those items' texts in bytes.
const MOST_TEXT: usize = 16 * 1024;

/// The queue of each project with waiting callers.
#[derive(Debug, Default)]
pub(super) struct Gathering(Mutex<HashMap<String, Weak<Queue>>>);

/// Callers that wait for the turn, or for another caller to include their work.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

/// A waiting caller and the channel for its answer.
#[derive(Debug)]
struct Waiting {
    scope: Scope,
    command: Arc<Remember>,
    reply: oneshot::Sender<Vec<Remembered>>,
}

/// The outcome of waiting.
#[derive(Debug)]
enum Turn<'q> {
    /// Another caller has stored the items.
    Answered(Vec<Remembered>),
    /// Another caller has included the items, with an unknown outcome.
    Lost,
    /// The caller has the turn, and stores the items of these others, too.
    Own(Option<tokio::sync::MutexGuard<'q, ()>>, Vec<Waiting>),
}

/// Returns whether a request is small and needs only the single statement. Of equal texts in one statement the first is
/// stored; if its validity had already ended, a later one would have to be stored as well.
fn may_share(command: &Remember) -> bool {
    let plain = command
        .items
        .iter()
        .all(|AnalyzedMemory { memory: item, .. }| {
            item.sources.is_empty()
                && item.supersedes.is_empty()
                && item.links.is_empty()
                && item.valid_until.is_none()
        });
    let size: usize = command
        .items
        .iter()
        .map(|item| item.memory.content.len())
        .sum();
    plain
        && command.idempotency.is_none()
        && (1..=MOST_ITEMS).contains(&command.items.len())
        && size <= MOST_TEXT
}

/// Combines the requests into one.
fn together_with(own: &Remember, others: &[Waiting]) -> Remember {
    let all = || std::iter::once(own).chain(others.iter().map(|other| &*other.command));
    Remember {
        items: all().flat_map(|command| &command.items).cloned().collect(),
        idempotency: None,
        now: all().map(|command| command.now).fold(own.now, Ord::max),
    }
}

/// Sends each other caller its part of the answer, and returns the caller's own part.
fn share(mut answer: Vec<Remembered>, own: &Remember, others: Vec<Waiting>) -> Vec<Remembered> {
    let mut rest = answer.split_off(own.items.len().min(answer.len()));
    for Waiting { command, reply, .. } in others {
        let behind = rest.split_off(command.items.len().min(rest.len()));
        // A caller that was cancelled does not need its part.
        let _ = reply.send(std::mem::replace(&mut rest, behind));
    }
    answer
}

impl Gathering {
    fn queue(&self, project: &str) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(project).and_then(Weak::upgrade) {
            return queue;
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue::default());
        queues.insert(project.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

impl Queue {
    /// Waits until another caller has stored `command`, or until this caller has the turn.
    async fn turn(&self, scope: &Scope, command: &Arc<Remember>) -> Turn<'_> {
        let (reply, mut answer) = oneshot::channel();
        self.waiting().push(Waiting {
            scope: scope.clone(),
            command: Arc::clone(command),
            reply,
        });
        let turn = tokio::select! {
            biased;
            answer = &mut answer => return answer.map_or(Turn::Lost, Turn::Answered),
            turn = timeout(PATIENCE, self.turn.lock()) => turn.ok(),
        };
        match self.take(scope, command) {
            Some(others) => Turn::Own(turn, others),
            None => {
                drop(turn);
                answer.await.map_or(Turn::Lost, Turn::Answered)
            }
        }
    }

    /// Takes the waiting callers of the same scope from the queue. Returns `None` if another caller has included
    /// `command` itself.
    fn take(&self, scope: &Scope, command: &Arc<Remember>) -> Option<Vec<Waiting>> {
        let mut waiting = self.waiting();
        let own = waiting
            .iter()
            .position(|other| Arc::ptr_eq(&other.command, command))?;
        waiting.remove(own);
        waiting.retain(|other| !other.reply.is_closed());
        let mut taken = 0;
        let others = waiting.extract_if(.., |other| {
            let take = other.scope == *scope && taken < MOST - 1;
            taken += usize::from(take);
            take
        });
        Some(others.collect())
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PostgresStore {
    /// Stores the items, together with those of other callers if possible.
    pub(super) async fn remember_with_others(
        &self,
        scope: &Scope,
        command: Remember,
    ) -> Result<Vec<Remembered>> {
        let attempts = self.attempts(scope, "remember", Effect::Repeatable)?;
        if self.limits.any() || !may_share(&command) {
            return self.store_batch(scope, attempts, command).await;
        }
        let (command, queue) = (Arc::new(command), self.gathering.queue(scope.project()));
        let (_turn, others) = match queue.turn(scope, &command).await {
            Turn::Answered(answer) => return Ok(answer),
            Turn::Lost => {
                return self
                    .store_batch(scope, attempts.repeated(), Arc::unwrap_or_clone(command))
                    .await;
            }
            Turn::Own(turn, others) => (turn, others),
        };
        if others.is_empty() {
            return self
                .store_batch(scope, attempts, Arc::unwrap_or_clone(command))
                .await;
        }
        let together = self.attempts(scope, "remember", Effect::Repeatable)?;
        match self
            .store_batch(scope, together, together_with(&command, &others))
            .await
        {
            Ok(answer) => Ok(share(answer, &command, others)),
            Err(error) => {
                // Stored separately, only the faulty request fails.
                tracing::debug!(callers = others.len() + 1, %error, "not stored together");
                drop(others);
                self.store_batch(scope, attempts.repeated(), Arc::unwrap_or_clone(command))
                    .await
            }
        }
    }

    async fn store_batch(
        &self,
        scope: &Scope,
        mut attempts: Attempts<'_>,
        command: Remember,
    ) -> Result<Vec<Remembered>> {
        let batch = Batch::new(command, &self.analyzer)?;
        if batch.large() {
            attempts = attempts.with_limit(remember::LARGE_LIMIT);
        }
        attempt!(attempts, connection => {
            let state = (attempts.collided(), self.limits);
            remember::remember(connection, scope, &batch, &self.analyzer, state)
        })
    }
}
