//! Implements the primitives of reviews.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::param::{json, micros};
use super::read::limit;
use super::tx::SqliteTx;
use super::{hex_ids, review_sql as sql};
use crate::domain::Review;
use crate::store::rules::ReviewTx;
use crate::store::{NewReview, Result, ReviewQuery, fields};

impl ReviewTx for SqliteTx<'_> {
    async fn equal_review(&mut self, review: &NewReview) -> Result<Option<Review>, Fault> {
        let query = sqlx::query(sql::SAME_REVIEW)
            .bind(review.memory)
            .bind(self.project)
            .bind(review.proposal.first_state().as_str())
            .bind(json(&review.proposal))
            .bind(review.now.timestamp_micros());
        self.fetch_optional(query, fields::review).await
    }

    async fn count_open_reviews(&mut self, now: DateTime<Utc>) -> Result<u64, Fault> {
        let query = sqlx::query(sql::COUNT_OPEN)
            .bind(self.project)
            .bind(now.timestamp_micros());
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }

    async fn insert_review(&mut self, review: &NewReview) -> Result<(), Fault> {
        let query = sqlx::query(sql::INSERT_REVIEW)
            .bind(self.project)
            .bind(review.id)
            .bind(review.memory)
            .bind(review.proposal.other())
            .bind(review.proposal.first_state().as_str())
            .bind(json(&review.proposal))
            .bind(self.scope.actor())
            .bind(&review.reason)
            .bind(review.now.timestamp_micros())
            .bind(review.expires_at.timestamp_micros());
        self.execute(query).await.map(drop)
    }

    async fn lock_review(&mut self, id: Uuid) -> Result<Option<Review>, Fault> {
        let query = sqlx::query(sql::REVIEW).bind(self.project).bind(id);
        self.fetch_optional(query, fields::review).await
    }

    async fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        most: usize,
    ) -> Result<Vec<Review>, Fault> {
        let statement = match query {
            ReviewQuery::One(id) => sqlx::query(sql::REVIEW).bind(self.project).bind(*id),
            ReviewQuery::Open(now) => sqlx::query(sql::OPEN_REVIEWS)
                .bind(self.project)
                .bind(now.timestamp_micros())
                .bind(limit(most)),
            ReviewQuery::About(ids) => sqlx::query(sql::REVIEWS_ABOUT)
                .bind(self.project)
                .bind(hex_ids(ids))
                .bind(limit(most)),
            ReviewQuery::Pairs(ids) => sqlx::query(sql::REVIEWS_OF_PAIRS)
                .bind(self.project)
                .bind(hex_ids(ids))
                .bind(limit(most)),
            ReviewQuery::All => sqlx::query(sql::ALL_REVIEWS)
                .bind(self.project)
                .bind(limit(most)),
        };
        self.fetch_all(statement, fields::review).await
    }

    async fn save_decision(&mut self, review: &Review) -> Result<(), Fault> {
        let query = sqlx::query(sql::DECIDE)
            .bind(review.id)
            .bind(review.state.as_str())
            .bind(&review.decided_by)
            .bind(micros(review.decided_at))
            .bind(&review.decision_reason)
            .bind(review.applied_version);
        self.execute(query).await.map(drop)
    }
}
