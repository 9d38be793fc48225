//! The rules of the working memory. Changes of the same session are serialized.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rule::{Backend, Effect, Rule, not_found};
use super::tx::{Shelf, Tx};
use crate::domain::Scope;
use crate::domain::focus::{ArchivedItem, FocusItem, make_room};
use crate::store::focus::{FocusLocation, FocusStore, Focused, NewFocus, same_text};
use crate::store::{Result, StoreError};

#[async_trait]
impl<B: Backend> FocusStore for B {
    async fn focus_add(
        &self,
        scope: &Scope,
        session: &str,
        new: NewFocus,
        capacity: usize,
    ) -> Result<Focused> {
        let rule = AddItem {
            session,
            new,
            capacity,
        };
        self.run_rule(scope, &rule).await
    }

    async fn focus_list(&self, scope: &Scope, session: &str) -> Result<Vec<FocusItem>> {
        self.run_rule(scope, &ListItems { session }).await
    }

    async fn focus_archived(
        &self,
        scope: &Scope,
        session: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ArchivedItem>> {
        let rule = ListArchive {
            session,
            before,
            limit,
        };
        self.run_rule(scope, &rule).await
    }

    async fn focus_get(&self, scope: &Scope, session: &str, id: Uuid) -> Result<FocusLocation> {
        self.run_rule(scope, &FindItem { session, id }).await
    }

    async fn focus_touch(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<FocusItem> {
        self.run_rule(scope, &TouchItem { session, id, now }).await
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
        let rule = DropItem {
            session,
            id,
            reason,
            memory,
            now,
        };
        self.run_rule(scope, &rule).await
    }

    async fn focus_restore(
        &self,
        scope: &Scope,
        session: &str,
        id: Uuid,
        capacity: usize,
        now: DateTime<Utc>,
    ) -> Result<Focused> {
        let rule = RestoreItem {
            session,
            id,
            capacity,
            now,
        };
        self.run_rule(scope, &rule).await
    }
}

struct AddItem<'a> {
    session: &'a str,
    new: NewFocus,
    capacity: usize,
}

impl Rule for AddItem<'_> {
    type Output = Focused;
    const PURPOSE: &'static str = "add to the working memory";
    const EFFECT: Effect = Effect::Repeatable;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Focused, T::Error> {
        tx.ensure_project().await?;
        tx.lock_session(self.session).await?;
        let items = tx.focus_items(self.session).await?;
        let focused = match same_text(&items, &self.new.content) {
            Some(item) => Focused {
                item: touch_item(tx, item.clone(), self.new.importance, self.new.now).await?,
                // If the ID is the same, an earlier attempt added the item and its answer was lost.
                added: item.id == self.new.id,
                evicted: Vec::new(),
            },
            None => {
                let item = FocusItem::from(self.new.clone());
                insert_with_room(tx, self.session, item, self.capacity, self.new.now).await?
            }
        };
        trim_project(tx, self.new.now).await?;
        Ok(focused)
    }
}

struct ListItems<'a> {
    session: &'a str,
}

impl Rule for ListItems<'_> {
    type Output = Vec<FocusItem>;
    const PURPOSE: &'static str = "read the working memory";
    const EFFECT: Effect = Effect::Read;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Vec<FocusItem>, T::Error> {
        tx.focus_items(self.session).await
    }
}

struct ListArchive<'a> {
    session: &'a str,
    before: Option<i64>,
    limit: usize,
}

impl Rule for ListArchive<'_> {
    type Output = Vec<ArchivedItem>;
    const PURPOSE: &'static str = "read the archive";
    const EFFECT: Effect = Effect::Read;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Vec<ArchivedItem>, T::Error> {
        tx.archived_items(self.session, self.before, self.limit)
            .await
    }
}

struct FindItem<'a> {
    session: &'a str,
    id: Uuid,
}

impl Rule for FindItem<'_> {
    type Output = FocusLocation;
    const PURPOSE: &'static str = "read the working memory";
    const EFFECT: Effect = Effect::Read;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<FocusLocation, T::Error> {
        find_item(tx, self.session, self.id).await
    }
}

struct TouchItem<'a> {
    session: &'a str,
    id: Uuid,
    now: DateTime<Utc>,
}

impl Rule for TouchItem<'_> {
    type Output = FocusItem;
    const PURPOSE: &'static str = "touch an item";
    const EFFECT: Effect = Effect::Repeatable;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<FocusItem, T::Error> {
        tx.ensure_project().await?;
        tx.lock_session(self.session).await?;
        match find_item(tx, self.session, self.id).await? {
            FocusLocation::Focus(item) => touch_item(tx, item, 0.0, self.now).await,
            FocusLocation::Archive(_) => Err(unknown_item(self.id).into()),
        }
    }
}

struct DropItem<'a> {
    session: &'a str,
    id: Uuid,
    reason: &'a str,
    memory: Option<Uuid>,
    now: DateTime<Utc>,
}

impl Rule for DropItem<'_> {
    type Output = ArchivedItem;
    const PURPOSE: &'static str = "drop an item";
    const EFFECT: Effect = Effect::Repeatable;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<ArchivedItem, T::Error> {
        tx.ensure_project().await?;
        tx.lock_session(self.session).await?;
        let (item, shelf) = match find_item(tx, self.session, self.id).await? {
            FocusLocation::Focus(item) => (item, Shelf::Focus),
            FocusLocation::Archive(known) if self.memory.is_none() => return Ok(known),
            FocusLocation::Archive(known) => (known.item, Shelf::Archive),
        };
        delete_present(tx, shelf, &item).await?;
        let item = FocusItem {
            memory: self.memory.or(item.memory),
            ..item
        };
        let archived = archive_item(tx, self.session, item, self.reason, self.now).await?;
        if let (Some(id), None) = (self.memory, archived.item.memory) {
            return Err(not_found("memory", id).into());
        }
        trim_project(tx, self.now).await?;
        Ok(archived)
    }
}

struct RestoreItem<'a> {
    session: &'a str,
    id: Uuid,
    capacity: usize,
    now: DateTime<Utc>,
}

impl Rule for RestoreItem<'_> {
    type Output = Focused;
    const PURPOSE: &'static str = "bring an item back";
    const EFFECT: Effect = Effect::Repeatable;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Focused, T::Error> {
        tx.ensure_project().await?;
        tx.lock_session(self.session).await?;
        let focused = match find_item(tx, self.session, self.id).await? {
            FocusLocation::Focus(item) => Focused {
                item: touch_item(tx, item, 0.0, self.now).await?,
                added: false,
                evicted: Vec::new(),
            },
            FocusLocation::Archive(known) => {
                delete_present(tx, Shelf::Archive, &known.item).await?;
                let item = FocusItem {
                    touched_at: self.now,
                    ..known.item
                };
                insert_with_room(tx, self.session, item, self.capacity, self.now).await?
            }
        };
        trim_project(tx, self.now).await?;
        Ok(focused)
    }
}

async fn find_item<T: Tx>(tx: &mut T, session: &str, id: Uuid) -> Result<FocusLocation, T::Error> {
    let items = tx.focus_items(session).await?;
    if let Some(item) = items.into_iter().find(|item| item.id == id) {
        return Ok(FocusLocation::Focus(item));
    }
    let archived = tx.archived_item(session, id).await?;
    Ok(FocusLocation::Archive(
        archived.ok_or_else(|| unknown_item(id))?,
    ))
}

async fn touch_item<T: Tx>(
    tx: &mut T,
    mut item: FocusItem,
    importance: f64,
    now: DateTime<Utc>,
) -> Result<FocusItem, T::Error> {
    tx.touch_item(item.seq, importance, now).await?;
    item.touched_at = item.touched_at.max(now);
    item.importance = item.importance.max(importance);
    Ok(item)
}

/// Removes an item that was just read.
async fn delete_present<T: Tx>(tx: &mut T, shelf: Shelf, item: &FocusItem) -> Result<(), T::Error> {
    if tx.delete_item(shelf, item.seq).await? {
        Ok(())
    } else {
        Err(unknown_item(item.id).into())
    }
}

/// Archives items to make room, then inserts an item.
async fn insert_with_room<T: Tx>(
    tx: &mut T,
    session: &str,
    mut item: FocusItem,
    capacity: usize,
    now: DateTime<Utc>,
) -> Result<Focused, T::Error> {
    let mut items = tx.focus_items(session).await?;
    let evicted = make_room(&mut items, capacity);
    for (gone, eviction) in &evicted {
        if tx.delete_item(Shelf::Focus, gone.seq).await? {
            archive_item(tx, session, gone.clone(), eviction.as_str(), now).await?;
        }
    }
    tx.insert_item(session, &mut item).await?;
    Ok(Focused {
        item,
        added: true,
        evicted,
    })
}

async fn archive_item<T: Tx>(
    tx: &mut T,
    session: &str,
    item: FocusItem,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<ArchivedItem, T::Error> {
    let mut archived = ArchivedItem {
        item,
        archived_at: now,
        reason: reason.to_owned(),
    };
    tx.insert_archived(session, &mut archived).await?;
    Ok(archived)
}

/// Enforces the project's quota for the working memory of all sessions and its archive.
async fn trim_project<T: Tx>(tx: &mut T, now: DateTime<Utc>) -> Result<(), T::Error> {
    match tx.limits().entries {
        0 => Ok(()),
        most => {
            tx.trim_focus(i64::try_from(most).unwrap_or(i64::MAX), now)
                .await
        }
    }
}

fn unknown_item(id: Uuid) -> StoreError {
    not_found("id", id)
}
