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
use crate::store::statement::bind;
use crate::store::{NewReview, Result, ReviewQuery, fields};

impl ReviewTx for SqliteTx<'_> {
    async fn equal_review(&mut self, review: &NewReview) -> Result<Option<Review>, Fault> {
        let query = bind!(sqlx::query(sql::SAME_REVIEW) =>
            review.memory, self.project, review.proposal.first_state().as_str(),
            json(&review.proposal), review.now.timestamp_micros());
        self.fetch_optional(query, fields::review).await
    }

    async fn count_open_reviews(&mut self, now: DateTime<Utc>) -> Result<u64, Fault> {
        let query = bind!(sqlx::query(sql::COUNT_OPEN) => self.project, now.timestamp_micros());
        let count: i64 = self.fetch_one(query, |row| row.try_get(0)).await?;
        Ok(count.unsigned_abs())
    }

    async fn insert_review(&mut self, review: &NewReview) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT_REVIEW) =>
            self.project, review.id, review.memory, review.proposal.other(),
            review.proposal.first_state().as_str(), json(&review.proposal), self.scope.actor(),
            &review.reason, review.now.timestamp_micros(), review.expires_at.timestamp_micros());
        self.execute(query).await.map(drop)
    }

    async fn lock_review(&mut self, id: Uuid) -> Result<Option<Review>, Fault> {
        let query = bind!(sqlx::query(sql::REVIEW) => self.project, id);
        self.fetch_optional(query, fields::review).await
    }

    async fn list_reviews(
        &mut self,
        query: &ReviewQuery,
        most: usize,
    ) -> Result<Vec<Review>, Fault> {
        let statement = match query {
            ReviewQuery::One(id) => bind!(sqlx::query(sql::REVIEW) => self.project, *id),
            ReviewQuery::Open(now) => bind!(sqlx::query(sql::OPEN_REVIEWS) =>
                self.project, now.timestamp_micros(), limit(most)),
            ReviewQuery::About(ids) => bind!(sqlx::query(sql::REVIEWS_ABOUT) =>
                self.project, hex_ids(ids), limit(most)),
            ReviewQuery::Pairs(ids) => bind!(sqlx::query(sql::REVIEWS_OF_PAIRS) =>
                self.project, hex_ids(ids), limit(most)),
            ReviewQuery::All => bind!(sqlx::query(sql::ALL_REVIEWS) => self.project, limit(most)),
        };
        self.fetch_all(statement, fields::review).await
    }

    async fn save_decision(&mut self, review: &Review) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::DECIDE) =>
            review.id, review.state.as_str(), &review.decided_by, micros(review.decided_at),
            &review.decision_reason, review.applied_version);
        self.execute(query).await.map(drop)
    }
}
