//! Small stores at the same time share a statement, and so its round trip, its plan and the one flush to the disk.
//!
//! There is no task of its own. One caller at a time has the turn of a project, and takes along what waits for the same
//! scope. A caller who goes away with the work of others lets go of their replies, and each of them does its own: rows
//! have their ids already, so nothing is stored twice.

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

/// A statement may wait for somebody's lock: nobody waits longer than this for a turn.
const PATIENCE: Duration = Duration::from_millis(20);
/// Most callers that share a statement: each waits for all.
const MOST: usize = 32;
/// Items of a caller who shares.
const MOST_ITEMS: usize = 8;
/// The length of their texts in bytes.
const MOST_TEXT: usize = 16 * 1024;

/// By project, while somebody waits.
#[derive(Debug, Default)]
pub(super) struct Gathering(Mutex<HashMap<String, Weak<Queue>>>);

/// Who waits for the turn, or to be taken along.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

/// A caller, and where its answer goes.
#[derive(Debug)]
struct Waiting {
    scope: Scope,
    command: Arc<Remember>,
    reply: oneshot::Sender<Vec<Remembered>>,
}

/// What became of waiting.
#[derive(Debug)]
enum Turn<'q> {
    /// Somebody has stored it.
    Answered(Vec<Remembered>),
    /// Somebody took it along, and it is not known what became of it.
    Lost,
    /// It is one's own turn, for others, too.
    Own(Option<tokio::sync::MutexGuard<'q, ()>>, Vec<Waiting>),
}

/// Whether what is to be stored is small, and in need of nothing but the one statement. Of equal texts in one statement the
/// first is stored: if that one were past its end already, a later one would have to be stored, too.
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

/// All of it as one.
fn together_with(own: &Remember, others: &[Waiting]) -> Remember {
    let all = || std::iter::once(own).chain(others.iter().map(|other| &*other.command));
    Remember {
        items: all().flat_map(|command| &command.items).cloned().collect(),
        idempotency: None,
        now: all().map(|command| command.now).fold(own.now, Ord::max),
    }
}

/// Gives everybody their part of the answer, and returns one's own.
fn share(mut answer: Vec<Remembered>, own: &Remember, others: Vec<Waiting>) -> Vec<Remembered> {
    let mut rest = answer.split_off(own.items.len().min(answer.len()));
    for Waiting { command, reply, .. } in others {
        let behind = rest.split_off(command.items.len().min(rest.len()));
        // Who has gone away does not need it.
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
    /// Waits until `command` is stored by somebody else, or is to be stored by the caller.
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

    /// Those who wait for the same scope; nothing where somebody has taken `command` itself along.
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
    /// Stores, together with others where that is possible.
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
                // Each for itself, only the one with the fault fails.
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
