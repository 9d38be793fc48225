//! The working memory. One connection writes, so sessions take turns by themselves.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::error::from_sqlx;
use super::read::limit;
use super::row;
use super::write::own_project;
use super::{SqliteStore, bound, focus_sql as sql};
use crate::domain::Scope;
use crate::domain::focus::{ArchivedItem, FocusItem, make_room};
use crate::domain::memory::content_hash;
use crate::store::focus::{FocusStore, Focused, NewFocus, Place, require_memory, same_text};
use crate::store::{Result, StoreError};

/// A session of a project, within a transaction.
struct Session<'a> {
    connection: &'a mut SqliteConnection,
    project: i64,
    session: &'a str,
}

#[async_trait]
impl FocusStore for SqliteStore {
    async fn focus_add(
        &self,
        scope: &Scope,
        session: &str,
        new: NewFocus,
        capacity: usize,
    ) -> Result<Focused> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let project = own_project(&open, connection, scope).await?;
            let focused = Session {
                connection,
                project,
                session,
            }
            .add(new.clone(), capacity)
            .await?;
            bound::trim_focus(&open, connection, project, new.now).await?;
            Ok(focused)
        }))
        .await
    }

    async fn focus_list(&self, scope: &Scope, session: &str) -> Result<Vec<FocusItem>> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let Some(project) = open.project(scope.project(), &mut connection).await? else {
                return Ok(Vec::new());
            };
            Session {
                connection: &mut connection,
                project,
                session,
            }
            .items()
            .await
        })
        .await
    }

    async fn focus_archived(
        &self,
        scope: &Scope,
        session: &str,
        before: Option<i64>,
        most: usize,
    ) -> Result<Vec<ArchivedItem>> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let Some(project) = open.project(scope.project(), &mut connection).await? else {
                return Ok(Vec::new());
            };
            let failed = |error| from_sqlx(error, "reading the archive");
            let rows = sqlx::query(sql::ARCHIVED)
                .bind(project)
                .bind(session)
                .bind(before)
                .bind(limit(most))
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            rows.iter()
                .map(archived)
                .collect::<sqlx::Result<_>>()
                .map_err(failed)
        })
        .await
    }

    async fn focus_get(&self, scope: &Scope, session: &str, id: Uuid) -> Result<Place> {
        let open = self.opened()?;
        self.bounded(async {
            let mut connection = open.connection().await?;
            let project = open
                .project(scope.project(), &mut connection)
                .await?
                .ok_or_else(|| unknown(id))?;
            Session {
                connection: &mut connection,
                project,
                session,
            }
            .find(id)
            .await
        })
        .await
    }

    async fn focus_touch(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<FocusItem> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let project = own_project(&open, connection, scope).await?;
            let mut session = Session {
                connection,
                project,
                session,
            };
            match session.find(id).await? {
                Place::Focus(item) => session.touch(item, 0.0, now).await,
                Place::Archive(_) => Err(unknown(id)),
            }
        }))
        .await
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
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let project = own_project(&open, connection, scope).await?;
            let mut session = Session {
                connection,
                project,
                session,
            };
            let item = match session.find(id).await? {
                Place::Focus(item) => {
                    session.delete(sql::DELETE, item.seq).await?;
                    item
                }
                Place::Archive(known) if memory.is_none() => return Ok(known),
                Place::Archive(known) => {
                    session.delete(sql::DELETE_ARCHIVED, known.item.seq).await?;
                    known.item
                }
            };
            let item = FocusItem {
                memory: memory.or(item.memory),
                ..item
            };
            let archived = require_memory(memory, session.archive(item, reason, now).await?)?;
            bound::trim_focus(&open, connection, project, now).await?;
            Ok(archived)
        }))
        .await
    }

    async fn focus_restore(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        capacity: usize,
        now: DateTime<Utc>,
    ) -> Result<Focused> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let project = own_project(&open, connection, scope).await?;
            let mut session = Session {
                connection,
                project,
                session,
            };
            let focused = match session.find(id).await? {
                Place::Focus(item) => {
                    let item = session.touch(item, 0.0, now).await?;
                    Focused {
                        item,
                        added: false,
                        evicted: Vec::new(),
                    }
                }
                Place::Archive(known) => {
                    session.delete(sql::DELETE_ARCHIVED, known.item.seq).await?;
                    session
                        .insert(
                            FocusItem {
                                touched_at: now,
                                ..known.item
                            },
                            capacity,
                            now,
                        )
                        .await?
                }
            };
            bound::trim_focus(&open, connection, project, now).await?;
            Ok(focused)
        }))
        .await
    }
}

impl Session<'_> {
    async fn items(&mut self) -> Result<Vec<FocusItem>> {
        let failed = |error| from_sqlx(error, "reading the working memory");
        let rows = sqlx::query(sql::ITEMS)
            .bind(self.project)
            .bind(self.session)
            .fetch_all(&mut *self.connection)
            .await
            .map_err(failed)?;
        rows.iter()
            .map(item)
            .collect::<sqlx::Result<_>>()
            .map_err(failed)
    }

    async fn find(&mut self, id: Uuid) -> Result<Place> {
        if let Some(item) = self.items().await?.into_iter().find(|item| item.id == id) {
            return Ok(Place::Focus(item));
        }
        let failed = |error| from_sqlx(error, "reading the archive");
        let row = sqlx::query(sql::ARCHIVED_ITEM)
            .bind(self.project)
            .bind(self.session)
            .bind(id)
            .fetch_optional(&mut *self.connection)
            .await
            .map_err(failed)?;
        let row = row.ok_or_else(|| unknown(id))?;
        archived(&row).map(Place::Archive).map_err(failed)
    }

    async fn add(&mut self, new: NewFocus, capacity: usize) -> Result<Focused> {
        if let Some(item) = same_text(&self.items().await?, &new.content).cloned() {
            let item = self.touch(item, new.importance, new.now).await?;
            return Ok(Focused {
                item,
                added: false,
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
    ) -> Result<Focused> {
        let mut items = self.items().await?;
        let evicted = make_room(&mut items, capacity);
        for (gone, eviction) in &evicted {
            self.delete(sql::DELETE, gone.seq).await?;
            self.archive(gone.clone(), eviction.as_str(), now).await?;
        }
        (item.seq, item.memory) = sqlx::query_as(sql::INSERT)
            .bind(self.project)
            .bind(self.session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at.timestamp_micros())
            .bind(item.touched_at.timestamp_micros())
            .bind(item.memory)
            .bind(content_hash(&item.content).as_slice())
            .fetch_one(&mut *self.connection)
            .await
            .map_err(|error| from_sqlx(error, "adding to the working memory"))?;
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
    ) -> Result<FocusItem> {
        item.touched_at = item.touched_at.max(now);
        item.importance = item.importance.max(importance);
        sqlx::query(sql::TOUCH)
            .bind(self.project)
            .bind(item.seq)
            .bind(now.timestamp_micros())
            .bind(importance)
            .execute(&mut *self.connection)
            .await
            .map_err(|error| from_sqlx(error, "touching an item"))?;
        Ok(item)
    }

    async fn delete(&mut self, statement: &'static str, seq: i64) -> Result<()> {
        let result = sqlx::query(statement)
            .bind(self.project)
            .bind(seq)
            .execute(&mut *self.connection)
            .await;
        result
            .map(drop)
            .map_err(|error| from_sqlx(error, "moving an item"))
    }

    async fn archive(
        &mut self,
        mut item: FocusItem,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<ArchivedItem> {
        (item.seq, item.memory) = sqlx::query_as(sql::ARCHIVE)
            .bind(self.project)
            .bind(self.session)
            .bind(item.id)
            .bind(&item.content)
            .bind(item.importance)
            .bind(item.created_at.timestamp_micros())
            .bind(item.touched_at.timestamp_micros())
            .bind(item.memory)
            .bind(now.timestamp_micros())
            .bind(reason)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(|error| from_sqlx(error, "archiving an item"))?;
        Ok(ArchivedItem {
            item,
            archived_at: now,
            reason: reason.to_owned(),
        })
    }
}

fn unknown(id: Uuid) -> StoreError {
    StoreError::NotFound {
        field: "id",
        ids: vec![id],
    }
}

fn item(row: &SqliteRow) -> sqlx::Result<FocusItem> {
    Ok(FocusItem {
        seq: row.try_get(0)?,
        id: row.try_get(1)?,
        content: row.try_get(2)?,
        importance: row.try_get(3)?,
        created_at: row::required_time(row, 4)?,
        touched_at: row::required_time(row, 5)?,
        memory: row.try_get(6)?,
    })
}

fn archived(row: &SqliteRow) -> sqlx::Result<ArchivedItem> {
    Ok(ArchivedItem {
        item: item(row)?,
        archived_at: row::required_time(row, 7)?,
        reason: row.try_get(8)?,
    })
}
