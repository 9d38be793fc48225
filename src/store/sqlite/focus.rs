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
use crate::store::{Result, fields};

impl FocusTx for SqliteTx<'_> {
    async fn lock_session(&mut self, _session: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn focus_items(&mut self, session: &str) -> Result<Vec<FocusItem>, Fault> {
        let query = sqlx::query(sql::ITEMS).bind(self.project).bind(session);
        self.fetch_all(query, fields::focus_item).await
    }

    async fn archived_items(
        &mut self,
        session: &str,
        before: Option<i64>,
        most: usize,
    ) -> Result<Vec<ArchivedItem>, Fault> {
        let query = sqlx::query(sql::ARCHIVED)
            .bind(self.project)
            .bind(session)
            .bind(before)
            .bind(limit(most));
        self.fetch_all(query, fields::archived_item).await
    }

    async fn archived_item(
        &mut self,
        session: &str,
        id: Uuid,
    ) -> Result<Option<ArchivedItem>, Fault> {
        let query = sqlx::query(sql::ARCHIVED_ITEM)
            .bind(self.project)
            .bind(session)
            .bind(id);
        self.fetch_optional(query, fields::archived_item).await
    }

    async fn insert_item(&mut self, session: &str, item: &mut FocusItem) -> Result<(), Fault> {
        let query = sqlx::query(sql::INSERT)
            .bind(self.project)
            .bind(session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at.timestamp_micros())
            .bind(item.touched_at.timestamp_micros())
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
            .bind(self.project)
            .bind(session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at.timestamp_micros())
            .bind(item.touched_at.timestamp_micros())
            .bind(item.memory)
            .bind(archived.archived_at.timestamp_micros())
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
            .bind(self.project)
            .bind(seq)
            .bind(now.timestamp_micros())
            .bind(importance);
        self.execute(query).await.map(drop)
    }

    async fn delete_item(&mut self, shelf: Shelf, seq: i64) -> Result<bool, Fault> {
        let statement = match shelf {
            Shelf::Focus => sql::DELETE,
            Shelf::Archive => sql::DELETE_ARCHIVED,
        };
        let query = sqlx::query(statement).bind(self.project).bind(seq);
        Ok(self.execute(query).await? > 0)
    }

    async fn trim_focus(&mut self, most: i64, now: DateTime<Utc>) -> Result<(), Fault> {
        let archive = sqlx::query(sql::ARCHIVE_REST)
            .bind(self.project)
            .bind(most)
            .bind(now.timestamp_micros())
            .bind(PROJECT_FULL);
        self.execute(archive).await?;
        for statement in [sql::DELETE_REST, sql::DELETE_OLDEST] {
            let delete = sqlx::query(statement).bind(self.project).bind(most);
            self.execute(delete).await?;
        }
        Ok(())
    }
}
