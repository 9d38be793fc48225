//! [`OverviewStore`] on PostgreSQL.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row;

use super::attempt::{Effect, attempt, read};
use super::memory_sql::memory_columns;
use super::row::MemoryRow;
use super::{PostgresStore, bounded};
use crate::domain::{Memory, Scope};
use crate::store::Result;
use crate::store::overview::{Facet, FacetValues, OVERVIEW_WINDOW, OverviewStore};
use crate::store::statement::{bind, statements};

/// Values of the newest live memories ($2 of each project of $1) with counts, and the number of distinct
/// values; at most $3.
macro_rules! counted {
    ($column:literal, $value:literal, $further:literal) => {
        concat!(
            "SELECT ",
            $value,
            " AS value, count(*) AS n, count(*) OVER () AS total FROM project p CROSS JOIN LATERAL (SELECT ",
            $column,
            " FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT $2) m ",
            $further,
            " GROUP BY 1 ORDER BY n DESC, 1 LIMIT $3"
        )
    };
}

statements! {
    /// Tags are compared case-insensitively. Each is shown in its most frequent spelling.
    TAGS = "SELECT mode() WITHIN GROUP (ORDER BY t.tag COLLATE \"C\") AS value, count(*) AS n, \
            count(*) OVER () AS total \
        FROM project p CROSS JOIN LATERAL (SELECT m.tags, m.tag_keys FROM memory m \
            WHERE m.project_id = p.id AND m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT $2) m \
        CROSS JOIN LATERAL unnest(m.tags, m.tag_keys) AS t (tag, key) \
        WHERE p.name = ANY ($1) GROUP BY t.key ORDER BY n DESC, t.key COLLATE \"C\" LIMIT $3";
    SESSIONS = counted!(
        "m.session",
        "m.session",
        "WHERE p.name = ANY ($1) AND m.session IS NOT NULL"
    );
    SPEAKERS = counted!(
        "m.speaker",
        "m.speaker",
        "WHERE p.name = ANY ($1) AND m.speaker IS NOT NULL"
    );
    ENTITY_TYPES = "SELECT e.type AS value, count(*) AS n, count(*) OVER () AS total FROM entity e \
        JOIN project p ON p.id = e.project_id WHERE p.name = ANY ($1) AND $2::bigint > 0 \
        GROUP BY 1 ORDER BY n DESC, 1 LIMIT $3";
    /// Protected and important memories that are valid at $2, optionally with the tag $3.
    OUTSTANDING = concat!(
        "SELECT ",
        memory_columns!(),
        " FROM (\
            SELECT m.* FROM project p CROSS JOIN LATERAL (\
                SELECT m.* FROM memory m WHERE m.project_id = p.id AND m.deleted_at IS NULL AND m.superseded_by IS NULL \
                    AND (m.protected OR m.importance >= 0.7) AND (m.valid_until IS NULL OR m.valid_until > $2) \
                    AND ($3::text IS NULL OR m.tag_keys @> (SELECT fold_tags(ARRAY[$3]))) \
                ORDER BY m.protected DESC, m.importance DESC, m.seq DESC LIMIT $4) m \
            WHERE p.name = ANY ($1) ORDER BY m.protected DESC, m.importance DESC, m.seq DESC LIMIT $4) m \
         JOIN project p ON p.id = m.project_id ORDER BY m.protected DESC, m.importance DESC, m.seq DESC"
    );
}

#[async_trait]
impl OverviewStore for PostgresStore {
    async fn facet(&self, scope: &Scope, facet: Facet, most: usize) -> Result<FacetValues> {
        let readable: Vec<&str> = scope.readable().collect();
        let statement = match facet {
            Facet::Tag => TAGS,
            Facet::Session => SESSIONS,
            Facet::Speaker => SPEAKERS,
            Facet::EntityType => ENTITY_TYPES,
        };
        attempt!(self.attempts(scope, "count values", Effect::Read)?, connection => async {
            let query = bind!(sqlx::query(statement) => &readable, OVERVIEW_WINDOW, bounded(most));
            let mut found = FacetValues::default();
            for row in query.fetch_all(connection).await? {
                found.total = row.try_get::<i64, _>("total")?.unsigned_abs();
                found.values.push((row.try_get("value")?, row.try_get::<i64, _>("n")?.unsigned_abs()));
            }
            Ok(found)
        })
    }

    async fn outstanding(
        &self,
        scope: &Scope,
        tag: Option<&str>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Memory>> {
        let rows: Vec<MemoryRow> = read!(self, scope, "read important memories", connection, readable => async {
            let query = bind!(sqlx::query_as(OUTSTANDING) => &readable, now, tag, bounded(most));
            Ok(query.fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }
}
