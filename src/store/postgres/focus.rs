//! Implements the primitives of the working memory. An advisory lock until the end of the transaction serializes
//! changes of the same session; other sessions are not affected.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::fault::Fault;
use super::tx::PgTx;
use super::{bounded, focus_sql as sql};
use crate::domain::focus::{ArchivedItem, FocusItem, PROJECT_FULL};
use crate::domain::memory::content_hash;
use crate::store::rules::{FocusTx, Shelf};
use crate::store::{Result, fields};

impl FocusTx for PgTx<'_> {
    async fn lock_session(&mut self, session: &str) -> Result<(), Fault> {
        let query = sqlx::query(sql::LOCK)
            .bind(self.scope.project())
            .bind(session);
        self.execute(query).await.map(drop)
    }

    async fn focus_items(&mut self, session: &str) -> Result<Vec<FocusItem>, Fault> {
        let query = sqlx::query(sql::ITEMS)
            .bind(self.scope.project())
            .bind(session);
        self.fetch_all(query, fields::focus_item).await
    }

    async fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>, Fault> {
        let query = sqlx::query(sql::ARCHIVED)
            .bind(self.scope.project())
            .bind(session)
            .bind(before.unwrap_or(i64::MAX))
            .bind(bounded(limit));
        self.fetch_all(query, fields::archived_item).await
    }

    async fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> Result<Option<ArchivedItem>, Fault> {
        let query = sqlx::query(sql::ARCHIVED_ITEM)
            .bind(self.scope.project())
            .bind(session)
            .bind(id);
        self.fetch_optional(query, fields::archived_item).await
    }

    async fn insert_item(&mut self, session: &str, item: &mut FocusItem) -> Result<(), Fault> {
        let query = sqlx::query(sql::INSERT)
            .bind(self.scope.project())
            .bind(session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at)
            .bind(item.touched_at)
            .bind(item.memory)
            .bind(content_hash(&item.content).to_vec());
        let stored = self.fetch_one(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)));
        (item.seq, item.memory) = stored.await?;
        Ok(())
    }

    async fn insert_archived(
        &mut self,
        session: &str,
        archived: &mut ArchivedItem,
    ) -> Result<(), Fault> {
        let item = &mut archived.item;
        let query = sqlx::query(sql::ARCHIVE)
            .bind(self.scope.project())
            .bind(session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at)
            .bind(item.touched_at)
            .bind(item.memory)
            .bind(archived.archived_at)
            .bind(&archived.reason);
        let stored = self.fetch_one(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)));
        (item.seq, item.memory) = stored.await?;
        Ok(())
    }

    async fn touch_item(
        &mut self,
        seq: i64,
        importance: f64,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let query = sqlx::query(sql::TOUCH)
            .bind(self.scope.project())
            .bind(seq)
            .bind(now)
            .bind(importance);
        self.execute(query).await.map(drop)
    }

    async fn delete_item(&mut self, shelf: Shelf, seq: i64) -> Result<bool, Fault> {
        let statement = match shelf {
            Shelf::Focus => sql::DELETE,
            Shelf::Archive => sql::DELETE_ARCHIVED,
        };
        let query = sqlx::query(statement).bind(self.scope.project()).bind(seq);
        Ok(self.execute(query).await? > 0)
    }

    async fn trim_focus(&mut self, most: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        let archive = sqlx::query(sql::ARCHIVE_REST)
            .bind(self.scope.project())
            .bind(most)
            .bind(now)
            .bind(PROJECT_FULL);
        self.execute(archive).await?;
        let delete = sqlx::query(sql::DELETE_OLDEST)
            .bind(self.scope.project())
            .bind(most);
        self.execute(delete).await.map(drop)
    }
}
