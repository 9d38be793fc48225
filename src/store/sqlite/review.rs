//! Reviews: proposing, listing, deciding. What is approved happens in the transaction of the decision.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::cache::Delta;
use super::change::{self, Forget, Told, rewrite};
use super::error::from_sqlx;
use super::read::memories;
use super::row::{self, MemoryRow};
use super::write::{json, require_space};
use super::{Open, SqliteStore, graph, hex_ids, review_sql as sql};
use crate::domain::review::MOST_OPEN;
use crate::domain::{
    Analyzer, Change, Decision, History, Memory, Proposal, Review, ReviewState, Scope,
};
use crate::store::{Decide, ForgetMode, NewReview, Result, ReviewQuery, ReviewStore, StoreError};

#[async_trait]
impl ReviewStore for SqliteStore {
    async fn propose(&self, scope: &Scope, reviews: &[NewReview]) -> Result<Vec<Review>> {
        let open = self.opened()?;
        self.bounded(
            open.write(async |connection, _| propose(&open, connection, scope, reviews).await),
        )
        .await
    }

    async fn settle(&self, scope: &Scope, review: &NewReview) -> Result<Review> {
        let open = self.opened()?;
        let analyzer = &self.analyzer;
        self.bounded(open.write(async |connection, delta| {
            let mut proposed =
                propose(&open, connection, scope, std::slice::from_ref(review)).await?;
            let proposed = proposed.pop().ok_or(StoreError::NotFound {
                field: "id",
                ids: vec![review.memory],
            })?;
            if proposed.state != ReviewState::Open
                || is_protected(&open, connection, scope, review.memory).await?
            {
                return Ok(proposed);
            }
            let command = Decide::approve(&proposed, review.now);
            decide(
                &open,
                connection,
                scope,
                &command,
                (analyzer.as_ref(), delta),
            )
            .await
        }))
        .await
    }

    async fn reviews(
        &self,
        scope: &Scope,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let Some(project) = open.project(scope.project(), &mut connection).await? else {
                return Ok(Vec::new());
            };
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let statement = match query {
                ReviewQuery::One(id) => sqlx::query(sql::REVIEW).bind(project).bind(*id),
                ReviewQuery::Open(now) => sqlx::query(sql::OPEN_REVIEWS)
                    .bind(project)
                    .bind(now.timestamp_micros())
                    .bind(limit),
                ReviewQuery::About(ids) => sqlx::query(sql::REVIEWS_ABOUT)
                    .bind(project)
                    .bind(hex_ids(ids))
                    .bind(limit),
                ReviewQuery::All => sqlx::query(sql::ALL_REVIEWS).bind(project).bind(limit),
            };
            let failed = |error| from_sqlx(error, "listing reviews");
            let rows = statement
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            rows.iter()
                .map(read)
                .collect::<Result<_, _>>()
                .map_err(failed)
        })
        .await
    }

    async fn open_reviews(&self, scope: &Scope, now: DateTime<Utc>) -> Result<u64> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let Some(project) = open.project(scope.project(), &mut connection).await? else {
                return Ok(0);
            };
            let count = sqlx::query_scalar(sql::COUNT_OPEN)
                .bind(project)
                .bind(now.timestamp_micros());
            let count: i64 = count
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| from_sqlx(error, "counting reviews"))?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn decide(&self, scope: &Scope, command: &Decide) -> Result<Review> {
        let open = self.opened()?;
        let analyzer = &self.analyzer;
        self.bounded(open.write(async |connection, delta| {
            decide(
                &open,
                connection,
                scope,
                command,
                (analyzer.as_ref(), delta),
            )
            .await
        }))
        .await
    }
}

pub(super) fn read(row: &SqliteRow) -> Result<Review, sqlx::Error> {
    Ok(Review {
        id: row.try_get(0)?,
        memory: row.try_get(1)?,
        state: row::word(row, 2)?,
        proposal: row::json(row, 3)?,
        actor: row.try_get(4)?,
        reason: row.try_get(5)?,
        created_at: row::required_time(row, 6)?,
        expires_at: row::required_time(row, 7)?,
        decided_by: row.try_get(8)?,
        decided_at: row::time(row, 9)?,
        decision_reason: row.try_get(10)?,
        applied_version: row.try_get(11)?,
    })
}

async fn propose(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    reviews: &[NewReview],
) -> Result<Vec<Review>> {
    let failed = |error| from_sqlx(error, "storing a review");
    let project: Vec<i64> = open
        .project(scope.project(), connection)
        .await?
        .into_iter()
        .collect();
    let mut answer = Vec::with_capacity(reviews.len());
    let mut waiting: Option<i64> = None;
    for review in reviews {
        let concerned = [Some(review.memory), review.proposal.other()]
            .into_iter()
            .flatten();
        let found = memories(connection, &project, &concerned.clone().collect::<Vec<_>>()).await?;
        let seq_of = |id: Uuid| {
            found
                .iter()
                .find(|row| row.memory.id == id)
                .map(|row| row.memory.seq)
        };
        let unknown: Vec<Uuid> = concerned.filter(|id| seq_of(*id).is_none()).collect();
        let (Some(seq), [], [project]) = (
            seq_of(review.memory),
            unknown.as_slice(),
            project.as_slice(),
        ) else {
            return Err(StoreError::NotFound {
                field: "id",
                ids: unknown,
            });
        };
        let (proposal, now) = (json(&review.proposal), review.now.timestamp_micros());
        let state = review.proposal.first_state();
        let same = sqlx::query(sql::SAME_REVIEW)
            .bind(seq)
            .bind(project)
            .bind(state.as_str())
            .bind(&proposal)
            .bind(now)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        if let Some(row) = same {
            answer.push(read(&row).map_err(failed)?);
            continue;
        }
        if state == ReviewState::Open {
            let count = match waiting {
                Some(count) => count,
                None => {
                    let query = sqlx::query_scalar(sql::COUNT_OPEN).bind(project).bind(now);
                    query.fetch_one(&mut *connection).await.map_err(failed)?
                }
            };
            if count >= MOST_OPEN as i64 {
                return Err(StoreError::TooManyReviews { most: MOST_OPEN });
            }
            waiting = Some(count + 1);
        }
        super::bound::require_reviews(open, connection, scope, *project).await?;
        sqlx::query(sql::INSERT_REVIEW)
            .bind(review.id)
            .bind(project)
            .bind(seq)
            .bind(review.proposal.other())
            .bind(state.as_str())
            .bind(&proposal)
            .bind(scope.actor())
            .bind(&review.reason)
            .bind(now)
            .bind(review.expires_at.timestamp_micros())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        answer.push(one(connection, *project, review.id).await?);
    }
    Ok(answer)
}

async fn is_protected(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    memory: Uuid,
) -> Result<bool> {
    let project: Vec<i64> = open
        .project(scope.project(), connection)
        .await?
        .into_iter()
        .collect();
    Ok(memories(connection, &project, &[memory])
        .await?
        .iter()
        .any(|row| row.memory.protected))
}

async fn one(connection: &mut SqliteConnection, project: i64, id: Uuid) -> Result<Review> {
    let failed = |error| from_sqlx(error, "reading a review");
    let row = sqlx::query(sql::REVIEW)
        .bind(project)
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    let row = row.ok_or(StoreError::NotFound {
        field: "id",
        ids: vec![id],
    })?;
    read(&row).map_err(failed)
}

async fn decide(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    command: &Decide,
    (analyzer, delta): (&Analyzer, &mut Delta),
) -> Result<Review> {
    let unknown = || StoreError::NotFound {
        field: "id",
        ids: vec![command.id],
    };
    let project = open
        .project(scope.project(), connection)
        .await?
        .ok_or_else(unknown)?;
    let mut review = one(connection, project, command.id).await?.at(command.now);
    if !command.decision.applies_to(review.state) {
        return Err(StoreError::Decided {
            id: review.id,
            state: review.state.as_str(),
        });
    }
    let reason = command.history_reason(&review);
    let gone = || StoreError::NotFound {
        field: "memory",
        ids: vec![review.memory],
    };
    let row = memories(connection, &[project], &[review.memory])
        .await?
        .pop()
        .ok_or_else(gone)?;
    let applied = match command.decision {
        Decision::Reject => None,
        Decision::Approve => {
            let before = row.memory.version;
            let after = apply(
                open,
                connection,
                scope,
                row,
                &review,
                command,
                &reason,
                (analyzer, delta),
            )
            .await?;
            Some(after.version).filter(|version| *version != before)
        }
        Decision::Undo => {
            take_back(
                connection,
                scope,
                row,
                &review,
                command,
                &reason,
                (analyzer, delta),
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
        .bind(review.id)
        .bind(review.state.as_str())
        .bind(&review.decided_by)
        .bind(command.now.timestamp_micros())
        .bind(&review.decision_reason)
        .bind(applied)
        .execute(connection)
        .await
        .map_err(|error| from_sqlx(error, "keeping a decision"))?;
    Ok(review)
}

/// Does to the memory what was proposed; gives it as it is then.
#[expect(clippy::too_many_arguments, reason = "one transaction's worth")]
async fn apply(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    row: MemoryRow,
    review: &Review,
    command: &Decide,
    reason: &str,
    (analyzer, delta): (&Analyzer, &mut Delta),
) -> Result<Memory> {
    let mode = match &review.proposal {
        Proposal::Delete => Some(ForgetMode::Delete),
        Proposal::Restore => Some(ForgetMode::Restore),
        Proposal::Purge => Some(ForgetMode::Purge),
        _ => None,
    };
    let live = row.memory.deleted_at.is_none();
    if let Some(mode) = mode {
        let done = match mode {
            ForgetMode::Delete => !live,
            ForgetMode::Restore => live,
            ForgetMode::Purge => false,
        };
        if done {
            return Ok(row.memory);
        }
        let forget = Forget {
            ids: &[],
            mode,
            reason: Some(reason),
            now: command.now,
        };
        return change::carry_out(open, connection, scope, &row, &forget, (analyzer, delta)).await;
    }
    let before = row.memory;
    if !live {
        return Err(StoreError::NotFound {
            field: "memory",
            ids: vec![before.id],
        });
    }
    let mut after = before.clone();
    let change = match &review.proposal {
        Proposal::Update { patch } => {
            if !patch.apply(&mut after, command.now) {
                return Ok(before);
            }
            if open.limits.bytes > 0 {
                let growth = change::growth(&before, &after, Some(reason));
                require_space(open, connection, scope, row.project, 0, growth).await?;
            }
            Change::Updated
        }
        Proposal::Supersede { by, .. } => {
            let successor = memories(connection, &[row.project], &[*by])
                .await?
                .pop()
                .map(|row| row.memory);
            let successor = successor.filter(|memory| memory.deleted_at.is_none());
            let successor = successor.ok_or(StoreError::NotFound {
                field: "other",
                ids: vec![*by],
            })?;
            if !review
                .proposal
                .supersede(&mut after, &successor, command.now)?
            {
                return Ok(before);
            }
            Change::Superseded
        }
        _ => return Ok(before),
    };
    let told = Told {
        change,
        reason: Some(reason),
        now: command.now,
    };
    rewrite(
        connection,
        scope,
        row.project,
        (&before, &after),
        &told,
        (analyzer, delta),
    )
    .await?;
    graph::mention_existing(
        connection,
        row.project,
        after.id,
        review.proposal.mentions(),
    )
    .await?;
    Ok(after)
}

/// Makes the memory again what it was before the approval.
async fn take_back(
    connection: &mut SqliteConnection,
    scope: &Scope,
    row: MemoryRow,
    review: &Review,
    command: &Decide,
    reason: &str,
    (analyzer, delta): (&Analyzer, &mut Delta),
) -> Result<()> {
    let Some(version) = review.applied_version else {
        return Ok(());
    };
    let before = row.memory;
    let failed = |error| from_sqlx(error, "reading the history");
    let rows = sqlx::query(sql::HISTORY_FROM)
        .bind(before.seq)
        .bind(version)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let history: Vec<History> = rows
        .iter()
        .map(row::history)
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let (after, change) = review.taken_back(&before, &history, command.now)?;
    if after.deleted_at.is_none()
        && (before.deleted_at.is_some() || before.superseded_by != after.superseded_by)
    {
        change::require_free_turn(connection, row.project, &after).await?;
    }
    let told = Told {
        change,
        reason: Some(reason),
        now: command.now,
    };
    rewrite(
        connection,
        scope,
        row.project,
        (&before, &after),
        &told,
        (analyzer, delta),
    )
    .await
}
