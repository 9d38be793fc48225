//! The rules of reviews: propose, decide, undo. An approved change is made in the transaction of the decision.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::change::{forget_memories, is_done, require_all, require_free_turns, rewrite_memory};
use super::link::mention_existing;
use super::memory_change::ChangeRecord;
use super::quota;
use super::rule::{Backend, Effect, Rule, not_found};
use super::tx::{Item, Tx};
use crate::domain::review::MOST_OPEN;
use crate::domain::{Change, Decision, Memory, Proposal, Review, ReviewState, Scope};
use crate::store::{Decide, ForgetMode, NewReview, Result, ReviewQuery, ReviewStore, StoreError};

#[async_trait]
impl<B: Backend> ReviewStore for B {
    async fn propose(&self, scope: &Scope, reviews: &[NewReview]) -> Result<Vec<Review>> {
        self.run_rule(scope, &Propose { reviews }).await
    }

    async fn settle(&self, scope: &Scope, review: &NewReview) -> Result<Review> {
        self.run_rule(scope, &Settle { review }).await
    }

    async fn reviews(
        &self,
        scope: &Scope,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>> {
        self.run_rule(scope, &ListReviews { query, limit }).await
    }

    async fn open_reviews(&self, scope: &Scope, now: DateTime<Utc>) -> Result<u64> {
        self.run_rule(scope, &CountOpenReviews { now }).await
    }

    async fn decide(&self, scope: &Scope, command: &Decide) -> Result<Review> {
        self.run_rule(scope, command).await
    }
}

struct ListReviews<'a> {
    query: &'a ReviewQuery,
    limit: usize,
}

impl Rule for ListReviews<'_> {
    type Output = Vec<Review>;
    const PURPOSE: &'static str = "list reviews";
    const EFFECT: Effect = Effect::Read;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Vec<Review>, T::Error> {
        tx.list_reviews(self.query, self.limit).await
    }
}

struct CountOpenReviews {
    now: DateTime<Utc>,
}

impl Rule for CountOpenReviews {
    type Output = u64;
    const PURPOSE: &'static str = "count reviews";
    const EFFECT: Effect = Effect::Read;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<u64, T::Error> {
        tx.count_open_reviews(self.now).await
    }
}

struct Propose<'a> {
    reviews: &'a [NewReview],
}

impl Rule for Propose<'_> {
    type Output = Vec<Review>;
    const PURPOSE: &'static str = "store a review";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Vec<Review>, T::Error> {
        let mut stored = Vec::with_capacity(self.reviews.len());
        for review in self.reviews {
            stored.push(propose(tx, review).await?);
        }
        Ok(stored)
    }
}

/// Stores a review. An existing equal review is returned instead.
async fn propose<T: Tx>(tx: &mut T, review: &NewReview) -> Result<Review, T::Error> {
    let concerned = concerned_memories(review.memory, &review.proposal);
    let found = tx.lock_memories(&concerned).await?;
    let found: Vec<Uuid> = found.iter().map(|memory| memory.id).collect();
    require_all("id", &concerned, &found)?;
    if let Some(equal) = tx.equal_review(review).await? {
        return Ok(equal);
    }
    if review.proposal.first_state() == ReviewState::Open
        && tx.count_open_reviews(review.now).await? >= MOST_OPEN as u64
    {
        return Err(StoreError::TooManyReviews { most: MOST_OPEN }.into());
    }
    quota::check_items(tx, Item::Review, 1).await?;
    tx.insert_review(review).await?;
    let stored = tx.lock_review(review.id).await?;
    Ok(stored.ok_or_else(|| not_found("id", review.id))?)
}

fn concerned_memories(memory: Uuid, proposal: &Proposal) -> Vec<Uuid> {
    [Some(memory), proposal.other()]
        .into_iter()
        .flatten()
        .collect()
}

/// Proposes a change and, unless its memory is protected, executes it.
struct Settle<'a> {
    review: &'a NewReview,
}

impl Rule for Settle<'_> {
    type Output = Review;
    const PURPOSE: &'static str = "judge two memories";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Review, T::Error> {
        quota::lock_bytes(tx).await?;
        let proposed = propose(tx, self.review).await?;
        let memory = tx.lock_memories(&[self.review.memory]).await?.pop();
        let memory = memory.ok_or_else(|| not_found("id", self.review.memory))?;
        if proposed.state != ReviewState::Open || memory.protected {
            return Ok(proposed);
        }
        decide(tx, &Decide::approve(&proposed, self.review.now)).await
    }
}

impl Rule for Decide {
    type Output = Review;
    const PURPOSE: &'static str = "decide a review";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Review, T::Error> {
        decide(tx, self).await
    }
}

async fn decide<T: Tx>(tx: &mut T, command: &Decide) -> Result<Review, T::Error> {
    if command.decision == Decision::Approve {
        quota::lock_bytes(tx).await?;
    }
    let review = tx.lock_review(command.id).await?;
    let mut review = review
        .ok_or_else(|| not_found("id", command.id))?
        .at(command.now);
    if !command.decision.applies_to(review.state) {
        return Err(StoreError::Decided {
            id: review.id,
            state: review.state.as_str(),
        }
        .into());
    }
    let concerned = concerned_memories(review.memory, &review.proposal);
    let mut memories = tx.lock_memories(&concerned).await?;
    let at = memories
        .iter()
        .position(|memory| memory.id == review.memory)
        .ok_or_else(|| not_found("memory", review.memory))?;
    let memory = memories.swap_remove(at);
    let reason = command.history_reason(&review);
    match command.decision {
        Decision::Reject => review.applied_version = None,
        Decision::Approve => {
            let before = memory.version;
            let version = carry_out(
                tx,
                memory,
                memories.first(),
                &review,
                (&reason, command.now),
            );
            review.applied_version = Some(version.await?).filter(|version| *version != before);
        }
        Decision::Undo => take_back(tx, memory, &review, (&reason, command.now)).await?,
    }
    review.state = command.decision.result();
    review.decided_by = Some(tx.scope().actor().to_owned());
    review.decided_at = Some(command.now);
    review.decision_reason.clone_from(&command.reason);
    tx.save_decision(&review).await?;
    Ok(review)
}

/// Executes the proposed change of the memory. Returns the resulting version.
async fn carry_out<T: Tx>(
    tx: &mut T,
    memory: Memory,
    other: Option<&Memory>,
    review: &Review,
    (reason, now): (&str, DateTime<Utc>),
) -> Result<i64, T::Error> {
    let mode = match &review.proposal {
        Proposal::Delete => ForgetMode::Delete,
        Proposal::Restore => ForgetMode::Restore,
        Proposal::Purge => ForgetMode::Purge,
        _ => return replace_fields(tx, memory, other, review, (reason, now)).await,
    };
    let version = memory.version;
    if is_done(&memory, mode) {
        return Ok(version);
    }
    forget_memories(tx, vec![memory], mode, Some(reason), now).await?;
    Ok(match mode {
        ForgetMode::Purge => version,
        _ => version + 1,
    })
}

/// Executes a proposal to update a memory or to replace it by another one.
async fn replace_fields<T: Tx>(
    tx: &mut T,
    before: Memory,
    other: Option<&Memory>,
    review: &Review,
    (reason, now): (&str, DateTime<Utc>),
) -> Result<i64, T::Error> {
    if before.deleted_at.is_some() {
        return Err(not_found("memory", before.id).into());
    }
    let mut after = before.clone();
    let (change, changed) = match &review.proposal {
        Proposal::Update { patch } => (Change::Updated, patch.apply(&mut after, now)),
        Proposal::Supersede { by, .. } => {
            // A memory that should replace itself was locked once; the proposal refuses it.
            let successor = if *by == before.id {
                Some(&before)
            } else {
                other
            };
            let successor = successor.filter(|memory| memory.deleted_at.is_none());
            let successor = successor.ok_or_else(|| not_found("other", *by))?;
            let superseded = review.proposal.supersede(&mut after, successor, now);
            (Change::Superseded, superseded.map_err(StoreError::from)?)
        }
        _ => return Ok(before.version),
    };
    if !changed {
        return Ok(before.version);
    }
    let (seq, version) = (after.seq, after.version);
    let record = ChangeRecord {
        change,
        reason: Some(reason),
        now,
    };
    rewrite_memory(tx, before, after, &record).await?;
    mention_existing(tx, seq, review.proposal.mentions()).await?;
    quota::check_bytes(tx).await?;
    Ok(version)
}

/// Restores the state of the memory before the approval.
async fn take_back<T: Tx>(
    tx: &mut T,
    before: Memory,
    review: &Review,
    (reason, now): (&str, DateTime<Utc>),
) -> Result<(), T::Error> {
    let Some(version) = review.applied_version else {
        return Ok(());
    };
    let history = tx.history_from(&before, version).await?;
    let (after, change) = review
        .taken_back(&before, &history, now)
        .map_err(StoreError::from)?;
    let comes_back = before.deleted_at.is_some() || before.superseded_by != after.superseded_by;
    if after.deleted_at.is_none() && comes_back {
        require_free_turns(tx, std::slice::from_ref(&after)).await?;
    }
    let record = ChangeRecord {
        change,
        reason: Some(reason),
        now,
    };
    rewrite_memory(tx, before, after, &record).await
}
