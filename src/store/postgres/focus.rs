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
use crate::store::statement::bind;
use crate::store::{Result, fields};

impl FocusTx for PgTx<'_> {
    async fn lock_session(&mut self, session: &str) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::LOCK) => self.scope.project(), session);
        self.execute(query).await.map(drop)
    }

    async fn focus_items(&mut self, session: &str) -> Result<Vec<FocusItem>, Fault> {
        let query = bind!(sqlx::query(sql::ITEMS) => self.scope.project(), session);
        self.fetch_all(query, fields::focus_item).await
    }

    async fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>, Fault> {
        let query = bind!(sqlx::query(sql::ARCHIVED) =>
            self.scope.project(), session, before.unwrap_or(i64::MAX), bounded(limit));
        self.fetch_all(query, fields::archived_item).await
    }

    async fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> Result<Option<ArchivedItem>, Fault> {
        let query = bind!(sqlx::query(sql::ARCHIVED_ITEM) => self.scope.project(), session, id);
        self.fetch_optional(query, fields::archived_item).await
    }

    async fn insert_item(&mut self, session: &str, item: &mut FocusItem) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT) =>
            self.scope.project(), session, item.id, &item.content, item.importance, item.created_at,
            item.touched_at, item.memory, content_hash(&item.content).to_vec());
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
        let query = bind!(sqlx::query(sql::ARCHIVE) =>
            self.scope.project(), session, item.id, &item.content, item.importance, item.created_at,
            item.touched_at, item.memory, archived.archived_at, &archived.reason);
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
        let query = bind!(sqlx::query(sql::TOUCH) => self.scope.project(), seq, now, importance);
        self.execute(query).await.map(drop)
    }

    async fn delete_item(&mut self, shelf: Shelf, seq: i64) -> Result<bool, Fault> {
        let statement = match shelf {
            Shelf::Focus => sql::DELETE,
            Shelf::Archive => sql::DELETE_ARCHIVED,
        };
        let query = bind!(sqlx::query(statement) => self.scope.project(), seq);
        Ok(self.execute(query).await? > 0)
    }

    async fn trim_focus(&mut self, most: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        let archive = bind!(sqlx::query(sql::ARCHIVE_REST) =>
            self.scope.project(), most, now, PROJECT_FULL);
        self.execute(archive).await?;
        let delete = bind!(sqlx::query(sql::DELETE_OLDEST) => self.scope.project(), most);
        self.execute(delete).await.map(drop)
    }
}
