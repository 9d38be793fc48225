//! Reviews: proposing, listing, deciding. What is approved happens in the transaction of the decision.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::attempt::{Effect, attempt, begin, commit};
use super::change::{self, Forget, Note, lock, rewrite};
use super::fault::Fault;
use super::remember::{check_usage, json, lock_usage, missing};
use super::row::{HistoryRow, parse};
use super::{PostgresStore, bound, bounded, graph, review_sql as sql};
use crate::domain::review::MOST_OPEN;
use crate::domain::{
    Analyzer, Change, Decision, History, Memory, Proposal, Review, ReviewState, Scope,
};
use crate::store::{
    Decide, ForgetMode, Limits, NewReview, Result, ReviewQuery, ReviewStore, StoreError,
};

#[async_trait]
impl ReviewStore for PostgresStore {
    async fn propose(&self, scope: &Scope, reviews: &[NewReview]) -> Result<Vec<Review>> {
        let mut attempts = self.attempts(scope, "store a review", Effect::Once)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let answer = propose(&mut transaction, scope, reviews, self.limits).await?;
            commit(transaction).await?;
            Ok(answer)
        })
    }

    async fn settle(&self, scope: &Scope, review: &NewReview) -> Result<Review> {
        let mut attempts = self.attempts(scope, "judge two memories", Effect::Once)?;
        attempt!(attempts, connection => settle(connection, scope, review, &self.analyzer, self.limits))
    }

    async fn reviews(
        &self,
        scope: &Scope,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>> {
        let mut attempts = self.attempts(scope, "list reviews", Effect::Read)?;
        let rows: Vec<ReviewRow> = attempt!(attempts, connection => async {
            let (project, limit) = (scope.project(), bounded(limit));
            let rows = match query {
                ReviewQuery::One(id) => {
                    sqlx::query_as(sql::REVIEW).bind(project).bind(id).fetch_all(connection).await
                }
                ReviewQuery::Open(now) => {
                    sqlx::query_as(sql::OPEN_REVIEWS).bind(project).bind(now).bind(limit).fetch_all(connection).await
                }
                ReviewQuery::About(ids) => {
                    sqlx::query_as(sql::REVIEWS_ABOUT).bind(project).bind(ids).bind(limit).fetch_all(connection).await
                }
                ReviewQuery::All => {
                    sqlx::query_as(sql::ALL_REVIEWS).bind(project).bind(limit).fetch_all(connection).await
                }
            };
            Ok(rows?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn open_reviews(&self, scope: &Scope, now: DateTime<Utc>) -> Result<u64> {
        let mut attempts = self.attempts(scope, "count reviews", Effect::Read)?;
        let count: i64 = attempt!(attempts, connection => async {
            Ok(sqlx::query_scalar(sql::COUNT_OPEN).bind(scope.project()).bind(now).fetch_one(connection).await?)
        })?;
        Ok(count.unsigned_abs())
    }

    async fn decide(&self, scope: &Scope, command: &Decide) -> Result<Review> {
        let mut attempts = self.attempts(scope, "decide a review", Effect::Once)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let review = decide(&mut transaction, scope, command, &self.analyzer, self.limits).await?;
            commit(transaction).await?;
            Ok(review)
        })
    }
}

pub(super) struct ReviewRow(pub(super) Review);

impl FromRow<'_, PgRow> for ReviewRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let state: &str = row.try_get("state")?;
        let sqlx::types::Json(proposal) = row.try_get("proposal")?;
        Ok(Self(Review {
            id: row.try_get("id")?,
            memory: row.try_get("memory")?,
            proposal,
            state: parse::<ReviewState>("state", state)?,
            actor: row.try_get("actor")?,
            reason: row.try_get("reason")?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            decided_by: row.try_get("decided_by")?,
            decided_at: row.try_get("decided_at")?,
            decision_reason: row.try_get("decision_reason")?,
            applied_version: row.try_get("applied_version")?,
        }))
    }
}

async fn propose(
    connection: &mut PgConnection,
    scope: &Scope,
    reviews: &[NewReview],
    limits: Limits,
) -> Result<Vec<Review>, Fault> {
    let mut answer = Vec::with_capacity(reviews.len());
    let mut open: Option<i64> = None;
    for review in reviews {
        let concerned: Vec<Uuid> = [Some(review.memory), review.proposal.other()]
            .into_iter()
            .flatten()
            .collect();
        let found: Vec<Uuid> = lock(&mut *connection, scope, &concerned)
            .await?
            .iter()
            .map(|memory| memory.id)
            .collect();
        missing("id", &concerned, &found)?;
        let (proposal, state) = (json(&review.proposal), review.proposal.first_state());
        let same: Option<ReviewRow> = sqlx::query_as(sql::SAME_REVIEW)
            .bind(scope.project())
            .bind(review.memory)
            .bind(state.as_str())
            .bind(&proposal)
            .bind(review.now)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(ReviewRow(same)) = same {
            answer.push(same);
            continue;
        }
        if state == ReviewState::Open {
            let count = match open {
                Some(count) => count,
                None => {
                    let query = sqlx::query_scalar(sql::COUNT_OPEN)
                        .bind(scope.project())
                        .bind(review.now);
                    query.fetch_one(&mut *connection).await?
                }
            };
            if count >= bounded(MOST_OPEN) {
                return Err(StoreError::TooManyReviews { most: MOST_OPEN }.into());
            }
            open = Some(count + 1);
        }
        sqlx::query(sql::INSERT_REVIEW)
            .bind(scope.project())
            .bind(review.id)
            .bind(review.memory)
            .bind(review.proposal.other())
            .bind(state.as_str())
            .bind(&proposal)
            .bind(scope.actor())
            .bind(&review.reason)
            .bind(review.now)
            .bind(review.expires_at)
            .execute(&mut *connection)
            .await?;
        bound::require_reviews(&mut *connection, scope, limits).await?;
        let ReviewRow(stored) = sqlx::query_as(sql::REVIEW)
            .bind(scope.project())
            .bind(review.id)
            .fetch_one(&mut *connection)
            .await?;
        answer.push(stored);
    }
    Ok(answer)
}

/// Proposes a change and, unless its memory is protected, carries it out, in one transaction.
async fn settle(
    connection: &mut PgConnection,
    scope: &Scope,
    review: &NewReview,
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<Review, Fault> {
    let mut transaction = begin(connection).await?;
    // First of all, as every writer of a project with a limit does.
    if limits.bytes > 0 {
        lock_usage(&mut transaction, scope).await?;
    }
    let unknown = || StoreError::NotFound {
        field: "id",
        ids: vec![review.memory],
    };
    let mut proposed = propose(
        &mut transaction,
        scope,
        std::slice::from_ref(review),
        limits,
    )
    .await?;
    let mut settled = proposed.pop().ok_or_else(unknown)?;
    let memory = lock(&mut transaction, scope, &[review.memory])
        .await?
        .pop()
        .ok_or_else(unknown)?;
    if settled.state == ReviewState::Open && !memory.protected {
        let command = Decide::approve(&settled, review.now);
        settled = decide(&mut transaction, scope, &command, analyzer, limits).await?;
    }
    commit(transaction).await?;
    Ok(settled)
}

async fn decide(
    connection: &mut PgConnection,
    scope: &Scope,
    command: &Decide,
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<Review, Fault> {
    // First of all, as every writer of a project with a limit does.
    if limits.bytes > 0 && command.decision == Decision::Approve {
        lock_usage(&mut *connection, scope).await?;
    }
    let review: Option<ReviewRow> = sqlx::query_as(sql::LOCK_REVIEW)
        .bind(scope.project())
        .bind(command.id)
        .fetch_optional(&mut *connection)
        .await?;
    let review = review
        .ok_or(StoreError::NotFound {
            field: "id",
            ids: vec![command.id],
        })?
        .0;
    let mut review = review.at(command.now);
    if !command.decision.applies_to(review.state) {
        return Err(StoreError::Decided {
            id: review.id,
            state: review.state.as_str(),
        }
        .into());
    }
    let reason = command.history_reason(&review);
    // Locked together and in the order of storage, as everywhere.
    let concerned: Vec<Uuid> = [Some(review.memory), review.proposal.other()]
        .into_iter()
        .flatten()
        .collect();
    let mut memories = lock(&mut *connection, scope, &concerned).await?;
    let at = memories
        .iter()
        .position(|memory| memory.id == review.memory);
    let at = at.ok_or(StoreError::NotFound {
        field: "memory",
        ids: vec![review.memory],
    })?;
    let memory = memories.swap_remove(at);
    let applied = match command.decision {
        Decision::Reject => None,
        Decision::Approve => {
            let before = memory.version;
            let what = (&review, memories.first());
            let version = apply(
                &mut *connection,
                scope,
                memory,
                what,
                (command, &reason),
                analyzer,
                limits,
            )
            .await?;
            Some(version).filter(|version| *version != before)
        }
        Decision::Undo => {
            take_back(
                &mut *connection,
                scope,
                memory,
                &review,
                (command, &reason),
                analyzer,
            )
            .await?;
            review.applied_version
        }
    };
    review.state = command.decision.result();
    review.decided_by = Some(scope.actor().to_owned());
    review.decided_at = Some(command.now);
    review.decision_reason.clone_from(&command.reason);
    review.applied_version = applied;
    sqlx::query(sql::DECIDE)
        .bind(scope.project())
        .bind(review.id)
        .bind(review.state.as_str())
        .bind(&review.decided_by)
        .bind(command.now)
        .bind(&review.decision_reason)
        .bind(applied)
        .execute(&mut *connection)
        .await?;
    Ok(review)
}

/// Does to the memory what was proposed; gives the version that it has then.
async fn apply(
    connection: &mut PgConnection,
    scope: &Scope,
    before: Memory,
    (review, other): (&Review, Option<&Memory>),
    (command, reason): (&Decide, &str),
    analyzer: &Analyzer,
    limits: Limits,
) -> Result<i64, Fault> {
    let mode = match &review.proposal {
        Proposal::Delete => Some(ForgetMode::Delete),
        Proposal::Restore => Some(ForgetMode::Restore),
        Proposal::Purge => Some(ForgetMode::Purge),
        _ => None,
    };
    let (live, version) = (before.deleted_at.is_none(), before.version);
    if let Some(mode) = mode {
        let done = match mode {
            ForgetMode::Delete => !live,
            ForgetMode::Restore => live,
            ForgetMode::Purge => false,
        };
        if done {
            return Ok(version);
        }
        let forget = Forget {
            ids: &[],
            mode,
            reason: Some(reason),
            now: command.now,
        };
        change::carry_out(connection, scope, &[before], &forget, analyzer).await?;
        return Ok(if mode == ForgetMode::Purge {
            version
        } else {
            version + 1
        });
    }
    if !live {
        return Err(StoreError::NotFound {
            field: "memory",
            ids: vec![before.id],
        }
        .into());
    }
    let mut after = before.clone();
    let change = match &review.proposal {
        Proposal::Update { patch } => {
            if !patch.apply(&mut after, command.now) {
                return Ok(version);
            }
            Change::Updated
        }
        Proposal::Supersede { by, .. } => {
            // It was locked once where both are the same, which is refused below.
            let other = if *by == before.id {
                Some(&before)
            } else {
                other
            };
            let successor = other.filter(|memory| memory.deleted_at.is_none());
            let successor = successor.ok_or(StoreError::NotFound {
                field: "other",
                ids: vec![*by],
            })?;
            let superseded = review
                .proposal
                .supersede(&mut after, successor, command.now);
            if !superseded.map_err(StoreError::from)? {
                return Ok(version);
            }
            Change::Superseded
        }
        _ => return Ok(version),
    };
    let (id, applied) = (after.id, after.version);
    let note = Note {
        change,
        reason: Some(reason),
        now: command.now,
    };
    rewrite(&mut *connection, scope, before, after, analyzer, &note).await?;
    graph::mention_existing(&mut *connection, scope, id, review.proposal.mentions()).await?;
    if limits.bytes > 0 {
        check_usage(
            connection,
            scope,
            Limits {
                memories: 0,
                ..limits
            },
        )
        .await?;
    }
    Ok(applied)
}

/// Makes the memory again what it was before the approval.
async fn take_back(
    connection: &mut PgConnection,
    scope: &Scope,
    before: Memory,
    review: &Review,
    (command, reason): (&Decide, &str),
    analyzer: &Analyzer,
) -> Result<(), Fault> {
    let Some(version) = review.applied_version else {
        return Ok(());
    };
    let rows: Vec<HistoryRow> = sqlx::query_as(sql::HISTORY_FROM)
        .bind(scope.project())
        .bind(before.id)
        .bind(version)
        .fetch_all(&mut *connection)
        .await?;
    let history: Vec<History> = rows.into_iter().map(|row| row.0).collect();
    let (after, change) = review
        .taken_back(&before, &history, command.now)
        .map_err(StoreError::from)?;
    if after.deleted_at.is_none()
        && (before.deleted_at.is_some() || before.superseded_by != after.superseded_by)
    {
        change::require_free_turns(connection, scope, std::slice::from_ref(&after)).await?;
    }
    let note = Note {
        change,
        reason: Some(reason),
        now: command.now,
    };
    rewrite(connection, scope, before, after, analyzer, &note).await
}
