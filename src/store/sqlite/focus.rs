//! Implements the primitives of the working memory. The single writing connection serializes
//! changes of a session.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::focus_sql as sql;
use super::read::limit;
use super::tx::SqliteTx;
use crate::domain::focus::{ArchivedItem, FocusItem, PROJECT_FULL};
use crate::domain::memory::content_hash;
use crate::store::rules::{FocusTx, Shelf};
use crate::store::statement::bind;
use crate::store::{Result, fields};

impl FocusTx for SqliteTx<'_> {
    async fn lock_session(&mut self, _session: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn focus_items(&mut self, session: &str) -> Result<Vec<FocusItem>, Fault> {
        let query = bind!(sqlx::query(sql::ITEMS) => self.project, session);
        self.fetch_all(query, fields::focus_item).await
    }

    async fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        most: usize,
    ) -> Result<Vec<ArchivedItem>, Fault> {
        let query = bind!(sqlx::query(sql::ARCHIVED) => self.project, session, before, limit(most));
        self.fetch_all(query, fields::archived_item).await
    }

    async fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> Result<Option<ArchivedItem>, Fault> {
        let query = bind!(sqlx::query(sql::ARCHIVED_ITEM) => self.project, session, id);
        self.fetch_optional(query, fields::archived_item).await
    }

    async fn insert_item(&mut self, session: &str, item: &mut FocusItem) -> Result<(), Fault> {
        let query = bind!(sqlx::query(sql::INSERT) =>
            self.project, session, item.id, &item.content, item.importance,
            item.created_at.timestamp_micros(), item.touched_at.timestamp_micros(), item.memory,
            content_hash(&item.content).to_vec());
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
            self.project, session, item.id, &item.content, item.importance,
            item.created_at.timestamp_micros(), item.touched_at.timestamp_micros(), item.memory,
            archived.archived_at.timestamp_micros(), &archived.reason);
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
        let query = bind!(sqlx::query(sql::TOUCH) =>
            self.project, seq, now.timestamp_micros(), importance);
        self.execute(query).await.map(drop)
    }

    async fn delete_item(&mut self, shelf: Shelf, seq: i64) -> Result<bool, Fault> {
        let statement = match shelf {
            Shelf::Focus => sql::DELETE,
            Shelf::Archive => sql::DELETE_ARCHIVED,
        };
        let query = bind!(sqlx::query(statement) => self.project, seq);
        Ok(self.execute(query).await? > 0)
    }

    async fn trim_focus(&mut self, most: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        let archive = bind!(sqlx::query(sql::ARCHIVE_REST) =>
            self.project, most, now.timestamp_micros(), PROJECT_FULL);
        self.execute(archive).await?;
        for statement in [sql::DELETE_REST, sql::DELETE_OLDEST] {
            let delete = bind!(sqlx::query(statement) => self.project, most);
            self.execute(delete).await?;
        }
        Ok(())
    }
}
