//! The queue of questions. A thread that becomes free answers its share of the waiting questions in one pass through the
//! model, which reads the weights once. A lone question never waits for others, and free threads share it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::team::{Members, Team, lock_mutex};
use super::{Encoder, Error};

/// Maximum number of waiting questions.
const MAX_WAITING: usize = 256;
/// Maximum number of questions in a pass, so that none waits long for the others.
const MAX_BATCH: usize = 8;
/// Maximum length in bytes of questions that share a pass.
const MAX_BATCH_BYTES: usize = 2_000;

type Answer = io::Result<Vec<f32>>;

struct Question {
    text: String,
    reply: oneshot::Sender<Answer>,
    _permit: OwnedSemaphorePermit,
}

pub(crate) struct QuestionQueue {
    encoder: Arc<Encoder>,
    team: Arc<Team>,
    waiting: Mutex<VecDeque<Question>>,
    permits: Arc<Semaphore>,
}

impl QuestionQueue {
    pub(crate) fn new(encoder: Arc<Encoder>, team: Arc<Team>) -> Arc<Self> {
        Arc::new(Self {
            encoder,
            team,
            waiting: Mutex::default(),
            permits: Arc::new(Semaphore::new(MAX_WAITING)),
        })
    }

    /// Adds a question. The receiver gets its embedding.
    pub(crate) fn add_question(
        self: &Arc<Self>,
        text: String,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let busy = |_| Error::Unavailable("too many questions wait for the model".to_owned());
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(busy)?;
        let (reply, answer) = oneshot::channel();
        lock_mutex(&self.waiting).push_back(Question {
            text,
            reply,
            _permit: permit,
        });
        self.start_threads();
        Ok(answer)
    }

    /// Starts free threads until no question waits.
    fn start_threads(self: &Arc<Self>) {
        while !lock_mutex(&self.waiting).is_empty()
            && let Some(members) = self.team.try_take_members(1)
        {
            let turn = Turn {
                queue: Arc::clone(self),
                members: Some(members),
            };
            turn.spawn();
        }
    }

    /// Takes the oldest questions for one pass, without those that nobody waits for any more. Leaves the share of the other
    /// threads.
    fn take_batch(&self) -> Vec<Question> {
        let mut waiting = lock_mutex(&self.waiting);
        let share = waiting.len().div_ceil(self.team.size).min(MAX_BATCH);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < share
            && let Some(next) = waiting.front()
        {
            bytes += next.text.len();
            if bytes > MAX_BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(
                waiting
                    .pop_front()
                    .filter(|question| !question.reply.is_closed()),
            );
        }
        batch
    }

    fn answer_batch(&self, batch: Vec<Question>) {
        if let [_, _, ..] = batch.as_slice() {
            let texts: Vec<&str> = batch
                .iter()
                .map(|question| question.text.as_str())
                .collect();
            if let Ok(vectors) = self.encoder.embed_queries(&texts, &[]) {
                for (question, vector) in batch.into_iter().zip(vectors) {
                    let _ = question.reply.send(Ok(vector));
                }
                return;
            }
            // One text must not fail the others.
        }
        for question in batch {
            let helpers = self.team.try_take_members(usize::MAX);
            let helpers = helpers.as_ref().map_or(&[][..], Members::pools);
            let _ = question
                .reply
                .send(self.encoder.embed_query(&question.text, helpers));
        }
    }
}

/// A thread that answers questions.
struct Turn {
    queue: Arc<QuestionQueue>,
    members: Option<Members>,
}

impl Turn {
    fn spawn(self) {
        let pool = self
            .members
            .as_ref()
            .and_then(|members| members.pools().first().cloned());
        if let Some(pool) = pool {
            pool.spawn(move || self.queue.answer_batch(self.queue.take_batch()));
        }
    }
}

impl Drop for Turn {
    /// Releases the thread, even after a panic, then starts one for the questions that arrived meanwhile.
    fn drop(&mut self) {
        drop(self.members.take());
        self.queue.start_threads();
    }
}
