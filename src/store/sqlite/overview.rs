//! [`OverviewStore`] on SQLite.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row;

use super::completion::most_used_spelling;
use super::memory_sql::memory;
use super::read::limit;
use super::row::MemoryRow;
use super::{SqliteStore, json_numbers};
use crate::domain::validate::tag_key;
use crate::domain::{Memory, Scope};
use crate::store::Result;
use crate::store::overview::{Facet, FacetValues, OVERVIEW_WINDOW, OverviewStore};
use crate::store::statement::{bind, statements};

/// The newest live memories ($2 of each project of $1).
macro_rules! newest {
    ($columns:literal) => {
        concat!(
            "FROM json_each($1) p CROSS JOIN memory m ON m.seq IN (SELECT n.seq FROM memory n \
             WHERE n.project_id = p.value AND n.deleted_at IS NULL ORDER BY n.seq DESC LIMIT $2) ",
            $columns
        )
    };
}

statements! {
    /// Tags with counts, each spelling separately.
    TAGS = concat!("SELECT t.value, count(*) ", newest!("CROSS JOIN json_each(m.tags) t GROUP BY t.value"));
    /// Conversations with counts, and the number of conversations; at most $3.
    SESSIONS = concat!("SELECT m.session, count(*) AS n, count(*) OVER () ",
        newest!("WHERE m.session IS NOT NULL GROUP BY m.session ORDER BY n DESC, m.session LIMIT $3"));
    /// Speakers.
    SPEAKERS = concat!("SELECT m.speaker, count(*) AS n, count(*) OVER () ",
        newest!("WHERE m.speaker IS NOT NULL GROUP BY m.speaker ORDER BY n DESC, m.speaker LIMIT $3"));
    /// Types of entities.
    ENTITY_TYPES = "SELECT e.type, count(*) AS n, count(*) OVER () FROM entity e \
        WHERE e.project_id IN (SELECT value FROM json_each($1)) AND $2 > 0 GROUP BY e.type ORDER BY n DESC, e.type LIMIT $3";
    /// Protected and important memories of one project that are valid at $2, optionally with the tag $3.
    OUTSTANDING = concat!(memory!(), "WHERE m.project_id = $1 AND m.deleted_at IS NULL AND m.superseded_by IS NULL \
        AND (m.protected = 1 OR m.importance >= 0.7) AND (m.valid_until IS NULL OR m.valid_until > $2) \
        AND ($3 IS NULL OR EXISTS (SELECT 1 FROM memory_tag t WHERE t.memory_seq = m.seq AND t.tag = $3)) \
        ORDER BY m.protected DESC, m.importance DESC, m.seq DESC LIMIT $4");
}

#[async_trait]
impl OverviewStore for SqliteStore {
    async fn facet(&self, scope: &Scope, facet: Facet, most: usize) -> Result<FacetValues> {
        let statement = match facet {
            Facet::Tag => return self.tags_with_counts(scope, most).await,
            Facet::Session => SESSIONS,
            Facet::Speaker => SPEAKERS,
            Facet::EntityType => ENTITY_TYPES,
        };
        self.read("counting values", scope, async |connection, projects| {
            let query = bind!(sqlx::query(statement) =>
                json_numbers(&projects), OVERVIEW_WINDOW, limit(most));
            let rows = query.fetch_all(&mut *connection).await?;
            let mut found = FacetValues::default();
            for row in rows {
                let count = |column: usize| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
                found.total = count(2)?;
                found.values.push((row.try_get(0)?, count(1)?));
            }
            Ok(found)
        })
        .await
    }

    async fn outstanding(
        &self,
        scope: &Scope,
        tag: Option<&str>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Memory>> {
        self.read(
            "reading important memories",
            scope,
            async |connection, projects| {
                let mut found: Vec<Memory> = Vec::new();
                for project in projects {
                    let query = bind!(sqlx::query(OUTSTANDING) =>
                        project, now.timestamp_micros(), tag.map(tag_key));
                    let rows = query.bind(limit(most)).fetch_all(&mut *connection).await?;
                    for row in &rows {
                        found.push(MemoryRow::read(row)?.memory);
                    }
                }
                found.sort_by(|a, b| {
                    let importance = b.importance.total_cmp(&a.importance);
                    b.protected
                        .cmp(&a.protected)
                        .then(importance)
                        .then_with(|| b.seq.cmp(&a.seq))
                });
                found.truncate(most);
                Ok(found)
            },
        )
        .await
    }
}

impl SqliteStore {
    /// Tags are compared case-insensitively. Each is shown in its most frequent spelling.
    async fn tags_with_counts(&self, scope: &Scope, most: usize) -> Result<FacetValues> {
        self.read("counting tags", scope, async |connection, projects| {
            let query = bind!(sqlx::query_as(TAGS) => json_numbers(&projects), OVERVIEW_WINDOW);
            let rows: Vec<(String, i64)> = query.fetch_all(&mut *connection).await?;
            let mut spellings: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
            for (tag, uses) in rows {
                *spellings
                    .entry(tag_key(&tag))
                    .or_default()
                    .entry(tag)
                    .or_default() += uses;
            }
            let mut tags: Vec<(String, i64)> = spellings
                .into_values()
                .filter_map(most_used_spelling)
                .collect();
            let total = tags.len() as u64;
            // The sort is stable, so that equally used tags remain sorted by name.
            tags.sort_by_key(|(_, uses)| Reverse(*uses));
            let values = tags
                .into_iter()
                .take(most)
                .map(|(tag, uses)| (tag, uses.unsigned_abs()))
                .collect();
            Ok(FacetValues { values, total })
        })
        .await
    }
}
