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
use crate::store::{NewReview, Result, ReviewQuery, fields};

impl ReviewTx for PgTx<'_> {
    async fn equal_review(&mut self, review: &NewReview) -> Result<Option<Review>, Fault> {
        let query = sqlx::query(sql::SAME_REVIEW)
            .bind(self.scope.project())
            .bind(review.memory)
            .bind(review.proposal.first_state().as_str())
            .bind(json(&review.proposal))
            .bind(review.now);
        self.fetch_optional(query, fields::review).await
    }

    async fn count_open_reviews(&mut self, now: DateTime<Utc>) -> Result<u64, Fault> {
        let query = sqlx::query(sql::COUNT_OPEN)
            .bind(self.scope.project())
            .bind(now);
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }

    async fn insert_review(&mut self, review: &NewReview) -> Result<(), Fault> {
        let query = sqlx::query(sql::INSERT_REVIEW)
            .bind(self.scope.project())
            .bind(review.id)
            .bind(review.memory)
            .bind(review.proposal.other())
            .bind(review.proposal.first_state().as_str())
            .bind(json(&review.proposal))
            .bind(self.scope.actor())
            .bind(&review.reason)
            .bind(review.now)
            .bind(review.expires_at);
        self.execute(query).await.map(drop)
    }

    async fn lock_review(&mut self, id: Uuid) -> Result<Option<Review>, Fault> {
        let query = sqlx::query(sql::LOCK_REVIEW)
            .bind(self.scope.project())
            .bind(id);
        self.fetch_optional(query, fields::review).await
    }

    async fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        limit: usize,
    ) -> Result<Vec<Review>, Fault> {
        let (project, limit) = (self.scope.project(), bounded(limit));
        let statement = match query {
            ReviewQuery::One(id) => sqlx::query(sql::REVIEW).bind(project).bind(*id),
            ReviewQuery::Open(now) => sqlx::query(sql::OPEN_REVIEWS)
                .bind(project)
                .bind(*now)
                .bind(limit),
            ReviewQuery::About(ids) => sqlx::query(sql::REVIEWS_ABOUT)
                .bind(project)
                .bind(ids)
                .bind(limit),
            ReviewQuery::Pairs(ids) => sqlx::query(sql::REVIEWS_OF_PAIRS)
                .bind(project)
                .bind(ids)
                .bind(limit),
            ReviewQuery::All => sqlx::query(sql::ALL_REVIEWS).bind(project).bind(limit),
        };
        self.fetch_all(statement, fields::review).await
    }

    async fn save_decision(&mut self, review: &Review) -> Result<(), Fault> {
        let query = sqlx::query(sql::DECIDE)
            .bind(self.scope.project())
            .bind(review.id)
            .bind(review.state.as_str())
            .bind(&review.decided_by)
            .bind(review.decided_at)
            .bind(&review.decision_reason)
            .bind(review.applied_version);
        self.execute(query).await.map(drop)
    }
}
