//! Implements the primitives of reviews.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::fault::Fault;
use super::param::json;
use super::tx::PgTx;
use super::{bounded, review_sql as sql};
use crate::domain::Review;
use crate::store::rules::ReviewTx;
use crate::store::statement::bind;
use crate::store::{NewReview, Result, ReviewQuery, fields};

impl ReviewTx for PgTx<'_> {
    async fn equal_review(&mut self, review: &NewReview) -> Result<Option<Review>, Fault> {
        let query = bind!(sqlx::query(sql::SAME_REVIEW) =>
            self.scope.project(), review.memory, review.proposal.first_state().as_str(),
            json(&review.proposal), review.now);
        self.fetch_optional(query, fields::review).await
    }

    async fn count_open_reviews(&mut self, now: DateTime<Utc>) -> Result<u64, Fault> {
        let query = bind!(sqlx::query(sql::COUNT_OPEN) => self.scope.project(), now);
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }

    async fn insert_review(&mut self, review: &NewReview) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT_REVIEW) =>
            self.scope.project(), review.id, review.memory, review.proposal.other(),
            review.proposal.first_state().as_str(), json(&review.proposal), self.scope.actor(),
            &review.reason, review.now, review.expires_at);
        self.execute(query).await.map(drop)
    }

    async fn lock_review(&mut self, id: Uuid) -> Result<Option<Review>, Fault> {
        let query = bind!(sqlx::query(sql::LOCK_REVIEW) => self.scope.project(), id);
        self.fetch_optional(query, fields::review).await
    }

    async fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>, Fault> {
        let (project, limit) = (self.scope.project(), bounded(limit));
        let statement = match query {
            ReviewQuery::One(id) => bind!(sqlx::query(sql::REVIEW) => project, *id),
            ReviewQuery::Open(now) => bind!(sqlx::query(sql::OPEN_REVIEWS) => project, *now, limit),
            ReviewQuery::About(ids) => bind!(sqlx::query(sql::REVIEWS_ABOUT) =>
                project, ids, limit),
            ReviewQuery::Pairs(ids) => bind!(sqlx::query(sql::REVIEWS_OF_PAIRS) =>
                project, ids, limit),
            ReviewQuery::All => bind!(sqlx::query(sql::ALL_REVIEWS) => project, limit),
        };
        self.fetch_all(statement, fields::review).await
    }

    async fn save_decision(&mut self, review: &Review) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::DECIDE) =>
            self.scope.project(), review.id, review.state.as_str(), &review.decided_by,
            review.decided_at, &review.decision_reason, review.applied_version);
        self.execute(query).await.map(drop)
    }
}
