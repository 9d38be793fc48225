//! The working memory. Those who change the same session take turns by an advisory lock that ends with the
//! transaction; other sessions are not concerned.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::attempt::{Effect, attempt, begin, commit};
use super::fault::Fault;
use super::{PostgresStore, bound, bounded, focus_sql as sql};
use crate::domain::Scope;
use crate::domain::focus::{ArchivedItem, FocusItem, make_room};
use crate::domain::memory::content_hash;
use crate::store::focus::{FocusStore, Focused, NewFocus, Place, require_memory, same_text};
use crate::store::{Result, StoreError};

/// A session of a project.
struct Session<'a> {
    connection: &'a mut PgConnection,
    project: &'a str,
    session: &'a str,
}

#[async_trait]
impl FocusStore for PostgresStore {
    async fn focus_add(
        &self,
        scope: &Scope,
        session: &str,
        new: NewFocus,
        capacity: usize,
    ) -> Result<Focused> {
        let mut attempts = self.attempts(scope, "add to the working memory", Effect::Repeatable)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let focused = Session::locked(&mut transaction, scope, session).await?.add(new.clone(), capacity).await?;
            bound::trim_focus(&mut transaction, scope, self.limits, new.now).await?;
            commit(transaction).await?;
            Ok(focused)
        })
    }

    async fn focus_list(&self, scope: &Scope, session: &str) -> Result<Vec<FocusItem>> {
        let mut attempts = self.attempts(scope, "read the working memory", Effect::Read)?;
        attempt!(attempts, connection => async {
            Session { connection, project: scope.project(), session }.items().await
        })
    }

    async fn focus_archived(
        &self,
        scope: &Scope,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>> {
        let mut attempts = self.attempts(scope, "read the archive", Effect::Read)?;
        let rows: Vec<ArchivedRow> = attempt!(attempts, connection => async {
            let query = sqlx::query_as(sql::ARCHIVED)
                .bind(scope.project())
                .bind(session)
                .bind(before.unwrap_or(i64::MAX))
                .bind(bounded(limit));
            Ok(query.fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn focus_get(&self, scope: &Scope, session: &str, id: Uuid) -> Result<Place> {
        let mut attempts = self.attempts(scope, "read the working memory", Effect::Read)?;
        attempt!(attempts, connection => async {
            Session { connection, project: scope.project(), session }.find(id).await
        })
    }

    async fn focus_touch(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<FocusItem> {
        let mut attempts = self.attempts(scope, "touch an item", Effect::Repeatable)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let mut session = Session::locked(&mut transaction, scope, session).await?;
            let item = match session.find(id).await? {
                Place::Focus(item) => session.touch(item, 0.0, now).await?,
                Place::Archive(_) => return Err(unknown(id)),
            };
            commit(transaction).await?;
            Ok(item)
        })
    }

    async fn focus_drop(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        reason: &str,
        memory: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<ArchivedItem> {
        let mut attempts = self.attempts(scope, "drop an item", Effect::Repeatable)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let mut session = Session::locked(&mut transaction, scope, session).await?;
            let (item, delete) = match session.find(id).await? {
                Place::Focus(item) => (item, sql::DELETE),
                Place::Archive(known) if memory.is_none() => {
                    commit(transaction).await?;
                    return Ok(known);
                }
                Place::Archive(known) => (known.item, sql::DELETE_ARCHIVED),
            };
            if !session.delete(delete, item.seq).await? {
                return Err(unknown(id));
            }
            let item = FocusItem { memory: memory.or(item.memory), ..item };
            let archived = require_memory(memory, session.archive(item, reason, now).await?)?;
            bound::trim_focus(&mut transaction, scope, self.limits, now).await?;
            commit(transaction).await?;
            Ok(archived)
        })
    }

    async fn focus_restore(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        capacity: usize,
        now: DateTime<Utc>,
    ) -> Result<Focused> {
        let mut attempts = self.attempts(scope, "bring an item back", Effect::Repeatable)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            let mut session = Session::locked(&mut transaction, scope, session).await?;
            let focused = match session.find(id).await? {
                Place::Focus(item) => {
                    Focused { item: session.touch(item, 0.0, now).await?, added: false, evicted: Vec::new() }
                }
                Place::Archive(known) => {
                    if !session.delete(sql::DELETE_ARCHIVED, known.item.seq).await? {
                        return Err(unknown(id));
                    }
                    session.insert(FocusItem { touched_at: now, ..known.item }, capacity, now).await?
                }
            };
            bound::trim_focus(&mut transaction, scope, self.limits, now).await?;
            commit(transaction).await?;
            Ok(focused)
        })
    }
}

impl<'a> Session<'a> {
    async fn locked(
        connection: &'a mut PgConnection,
        scope: &'a Scope,
        session: &'a str,
    ) -> Result<Self, Fault> {
        super::own_project(connection, scope).await?;
        sqlx::query(sql::LOCK)
            .bind(scope.project())
            .bind(session)
            .execute(&mut *connection)
            .await?;
        Ok(Self {
            connection,
            project: scope.project(),
            session,
        })
    }

    async fn items(&mut self) -> Result<Vec<FocusItem>, Fault> {
        let query = sqlx::query_as(sql::ITEMS)
            .bind(self.project)
            .bind(self.session);
        let rows: Vec<ItemRow> = query.fetch_all(&mut *self.connection).await?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn find(&mut self, id: Uuid) -> Result<Place, Fault> {
        if let Some(item) = self.items().await?.into_iter().find(|item| item.id == id) {
            return Ok(Place::Focus(item));
        }
        let query = sqlx::query_as(sql::ARCHIVED_ITEM)
            .bind(self.project)
            .bind(self.session)
            .bind(id);
        let row: Option<ArchivedRow> = query.fetch_optional(&mut *self.connection).await?;
        row.map(|row| Place::Archive(row.0))
            .ok_or_else(|| unknown(id))
    }

    async fn add(&mut self, new: NewFocus, capacity: usize) -> Result<Focused, Fault> {
        if let Some(item) = same_text(&self.items().await?, &new.content).cloned() {
            // The same id: an earlier attempt whose answer was lost.
            let added = item.id == new.id;
            let item = self.touch(item, new.importance, new.now).await?;
            return Ok(Focused {
                item,
                added,
                evicted: Vec::new(),
            });
        }
        let now = new.now;
        self.insert(new.into(), capacity, now).await
    }

    async fn insert(
        &mut self,
        mut item: FocusItem,
        capacity: usize,
        now: DateTime<Utc>,
    ) -> Result<Focused, Fault> {
        let mut items = self.items().await?;
        let evicted = make_room(&mut items, capacity);
        for (gone, eviction) in &evicted {
            if self.delete(sql::DELETE, gone.seq).await? {
                self.archive(gone.clone(), eviction.as_str(), now).await?;
            }
        }
        (item.seq, item.memory) = sqlx::query_as(sql::INSERT)
            .bind(self.project)
            .bind(self.session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at)
            .bind(item.touched_at)
            .bind(item.memory)
            .bind(content_hash(&item.content).as_slice())
            .fetch_one(&mut *self.connection)
            .await?;
        Ok(Focused {
            item,
            added: true,
            evicted,
        })
    }

    async fn touch(
        &mut self,
        mut item: FocusItem,
        importance: f64,
        now: DateTime<Utc>,
    ) -> Result<FocusItem, Fault> {
        item.touched_at = item.touched_at.max(now);
        item.importance = item.importance.max(importance);
        let query = sqlx::query(sql::TOUCH)
            .bind(self.project)
            .bind(item.seq)
            .bind(now)
            .bind(importance);
        query.execute(&mut *self.connection).await?;
        Ok(item)
    }

    /// Tells whether it was there still: a purge may have taken it along since it was read.
    async fn delete(&mut self, statement: &'static str, seq: i64) -> Result<bool, Fault> {
        let done = sqlx::query(statement)
            .bind(self.project)
            .bind(seq)
            .execute(&mut *self.connection)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn archive(
        &mut self,
        mut item: FocusItem,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<ArchivedItem, Fault> {
        (item.seq, item.memory) = sqlx::query_as(sql::ARCHIVE)
            .bind(self.project)
            .bind(self.session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at)
            .bind(item.touched_at)
            .bind(item.memory)
            .bind(now)
            .bind(reason)
            .fetch_one(&mut *self.connection)
            .await?;
        Ok(ArchivedItem {
            item,
            archived_at: now,
            reason: reason.to_owned(),
        })
    }
}

fn unknown(id: Uuid) -> Fault {
    StoreError::NotFound {
        field: "id",
        ids: vec![id],
    }
    .into()
}

struct ItemRow(FocusItem);

impl FromRow<'_, PgRow> for ItemRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(FocusItem {
            seq: row.try_get("seq")?,
            id: row.try_get("id")?,
            content: row.try_get("content")?,
            importance: row.try_get("importance")?,
            created_at: row.try_get("created_at")?,
            touched_at: row.try_get("touched_at")?,
            memory: row.try_get("memory_id")?,
        }))
    }
}

struct ArchivedRow(ArchivedItem);

impl FromRow<'_, PgRow> for ArchivedRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(ArchivedItem {
            item: ItemRow::from_row(row)?.0,
            archived_at: row.try_get("archived_at")?,
            reason: row.try_get("reason")?,
        }))
    }
}
