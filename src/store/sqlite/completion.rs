//! [`CompletionStore`] on SQLite.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::SqliteStore;
use super::sql::{COMPLETE_IDS, COMPLETE_TAGS};
use crate::domain::Scope;
use crate::domain::validate::tag_key;
use crate::store::Result;
use crate::store::completion::{COMPLETION_WINDOW, CompletionStore};
use crate::store::statement::bind;

/// Returns the most frequent spelling of a tag, with the uses of all spellings.
pub(super) fn most_used_spelling(spellings: BTreeMap<String, i64>) -> Option<(String, i64)> {
    let uses = spellings.values().sum();
    let (tag, _) = spellings
        .into_iter()
        .max_by_key(|(tag, uses)| (*uses, Reverse(tag.clone())))?;
    Some((tag, uses))
}

#[async_trait]
impl CompletionStore for SqliteStore {
    async fn tags_with_prefix(
        &self,
        scope: &Scope,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        self.read("completing a tag", scope, async |connection, projects| {
            let mut spellings: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
            let begin = tag_key(prefix);
            for project in projects {
                let rows = bind!(sqlx::query(COMPLETE_TAGS) => project, COMPLETION_WINDOW)
                    .fetch_all(&mut *connection)
                    .await?;
                for row in rows {
                    let tag: String = row.try_get(0)?;
                    let key = tag_key(&tag);
                    if key.starts_with(&begin) {
                        let uses: i64 = row.try_get(1)?;
                        *spellings.entry(key).or_default().entry(tag).or_default() += uses;
                    }
                }
            }
            let mut tags: Vec<(String, i64)> = spellings
                .into_values()
                .filter_map(most_used_spelling)
                .collect();
            // The sort is stable, so that equally used tags remain sorted by name.
            tags.sort_by_key(|(_, uses)| Reverse(*uses));
            Ok(tags.into_iter().take(limit).map(|(tag, _)| tag).collect())
        })
        .await
    }

    async fn ids_with_prefix(
        &self,
        scope: &Scope,
        digits: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>> {
        self.read("completing an id", scope, async |connection, projects| {
            let mut ids: Vec<(i64, Uuid)> = Vec::new();
            for project in projects {
                let rows = bind!(sqlx::query(COMPLETE_IDS) =>
                    project, COMPLETION_WINDOW, digits, i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await?;
                for row in rows {
                    ids.push((row.try_get(0)?, row.try_get(1)?));
                }
            }
            ids.sort_by_key(|(seq, _)| Reverse(*seq));
            Ok(ids.into_iter().take(limit).map(|(_, id)| id).collect())
        })
        .await
    }
}
