//! Changes that wait for a person.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Result;
use crate::domain::{Decision, Proposal, Review, Scope};

/// A review to be stored.
#[derive(Debug, Clone)]
pub struct NewReview {
    /// Identity, drawn by the engine.
    pub id: Uuid,
    /// The memory to be changed, in the scope's own project.
    pub memory: Uuid,
    /// What is to be done; [`Proposal::Nothing`] is dismissed from the start.
    pub proposal: Proposal,
    /// Why.
    pub reason: Option<String>,
    /// The present.
    pub now: DateTime<Utc>,
    /// When it can be approved no more.
    pub expires_at: DateTime<Utc>,
}

/// Which reviews are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewQuery {
    /// This one.
    One(Uuid),
    /// Those that wait at this time.
    Open(DateTime<Utc>),
    /// Those about any of these memories, in whatever role.
    About(Vec<Uuid>),
    /// Those about two memories, of which one is among these.
    Pairs(Vec<Uuid>),
    /// All.
    All,
}

/// A person's decision.
#[derive(Debug, Clone)]
pub struct Decide {
    /// The review.
    pub id: Uuid,
    /// What becomes of it.
    pub decision: Decision,
    /// Why; kept in the history.
    pub reason: Option<String>,
    /// The present.
    pub now: DateTime<Utc>,
}

impl Decide {
    /// The approval of a review by its own proposer.
    #[must_use]
    pub fn approve(review: &Review, now: DateTime<Utc>) -> Self {
        Self {
            id: review.id,
            decision: Decision::Approve,
            reason: None,
            now,
        }
    }

    /// What the history says about the change.
    #[must_use]
    pub fn history_reason(&self, review: &Review) -> String {
        let what = match self.decision {
            Decision::Undo => "undone",
            _ => "approved",
        };
        let why = self.reason.as_ref().or(review
            .reason
            .as_ref()
            .filter(|_| self.decision == Decision::Approve));
        let why = why.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("review {} {what}{why}", review.id)
    }
}

/// Reviews, all in the scope's own project.
#[async_trait]
pub trait ReviewStore: Send + Sync + 'static {
    /// Stores reviews, all or none. One that is open already with the same proposal comes back instead of a second.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](super::StoreError::NotFound) for memories that are not there (deleted ones are),
    /// [`StoreError::TooManyReviews`](super::StoreError::TooManyReviews).
    async fn propose(&self, scope: &Scope, reviews: &[NewReview]) -> Result<Vec<Review>>;

    /// Stores a review and, unless its memory is protected, carries it out as approved by the caller, in the same
    /// transaction.
    ///
    /// # Errors
    /// Those of [`ReviewStore::propose`] and [`ReviewStore::decide`].
    async fn settle(&self, scope: &Scope, review: &NewReview) -> Result<Review>;

    /// Reviews, newest first. States are those of the table: an open one may have expired.
    async fn reviews(
        &self,
        scope: &Scope,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>>;

    /// How many wait at this time.
    async fn open_reviews(&self, scope: &Scope, now: DateTime<Utc>) -> Result<u64>;

    /// Decides a review. What is approved is carried out, with its history, in the same transaction; an undo brings
    /// back what the history says was before of the fields that the approval changed. An approved purge takes the review
    /// along; a purge of the other memory leaves it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](super::StoreError::NotFound), [`StoreError::Decided`](super::StoreError::Decided);
    /// [`StoreError::Overtaken`](super::StoreError::Overtaken) for an undo of what was changed again since, and
    /// whatever the change itself is refused with.
    async fn decide(&self, scope: &Scope, command: &Decide) -> Result<Review>;
}
