//! What stands around the memories that were found.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use super::attempt::{Effect, attempt};
use super::row::{setting, standing};
use super::sql::{filter, hit_columns};
use super::{FilterColumns, PostgresStore, bounded};
use crate::domain::Scope;
use crate::store::graph::{MOST_MENTIONS, MOST_NAMED, Mentioning};
use crate::store::{Around, AroundQuery, AroundStore, Neighbour, Result};

/// Turns by their places ($16 to $18), and the newest memories that mention entities by one of the names ($11), as far as
/// they pass the filter.
const AROUND: &str = concat!(
    "WITH named AS MATERIALIZED (\
        SELECT e.project_id, e.seq, e.name, e.words FROM project p \
        JOIN entity e ON e.project_id = p.id AND e.words = ANY ($11) WHERE p.name = ANY ($1) ORDER BY e.seq LIMIT $12\
    ) \
    SELECT m.*, coalesce(r.recall_count, 0) AS recall_count, r.last_recalled_at, NULL::text[] AS names, \
        0::bigint AS named \
    FROM unnest($16::bigint[], $17::text[], $18::bigint[]) AS w(project_id, session, turn) \
    JOIN project p ON p.id = w.project_id AND p.name = ANY ($1) CROSS JOIN LATERAL (\
        SELECT m.project_id, m.id, m.seq, ",
    hit_columns!(),
    " FROM memory m WHERE m.project_id = p.id AND m.session = w.session AND m.turn = w.turn AND m.turn_claim AND ",
    filter!("$15"),
    " OFFSET 0\
    ) m LEFT JOIN LATERAL (SELECT r.recall_count, r.last_recalled_at FROM recall_stat r \
        WHERE r.project_id = m.project_id AND r.memory_seq = m.seq OFFSET 0) r ON true \
    UNION ALL \
    (SELECT m.project_id, m.id, m.seq, ",
    hit_columns!(),
    ", 0, NULL, array_agg(n.name), (SELECT count(DISTINCT words) FROM named) \
    FROM named n CROSS JOIN LATERAL (\
        SELECT x.memory_seq FROM mention x WHERE x.project_id = n.project_id AND x.entity_seq = n.seq \
        ORDER BY x.memory_seq DESC LIMIT $13\
    ) x JOIN memory m ON m.project_id = n.project_id AND m.seq = x.memory_seq WHERE ",
    filter!("$15"),
    " GROUP BY m.project_id, m.seq ORDER BY m.seq DESC LIMIT $14)"
);

/// With its name, for the test that prepares each.
pub(super) const ALL: &[(&str, &str)] = &[("AROUND", AROUND)];

#[async_trait]
impl AroundStore for PostgresStore {
    async fn around(&self, scope: &Scope, query: &AroundQuery) -> Result<Around> {
        let columns = FilterColumns::new(scope, &query.filter);
        let projects: Vec<i64> = query.turns.iter().map(|turn| turn.project).collect();
        let sessions: Vec<&str> = query
            .turns
            .iter()
            .map(|turn| turn.session.as_str())
            .collect();
        let numbers: Vec<i64> = query.turns.iter().map(|turn| turn.number).collect();
        let mut attempts = self.attempts(scope, "look around", Effect::Read)?;
        let rows: Vec<AroundRow> = attempt!(attempts, connection => async {
            Ok(columns
                .bind(sqlx::query_as(AROUND))
                .bind(&query.names)
                .bind(MOST_NAMED)
                .bind(MOST_MENTIONS)
                .bind(bounded(query.mentioning))
                .bind(query.filter.as_of.code())
                .bind(&projects)
                .bind(&sessions)
                .bind(&numbers)
                .fetch_all(connection)
                .await?)
        })?;
        let mut around = Around::default();
        for row in rows {
            match row {
                AroundRow::Turn(neighbour) => around.turns.push(neighbour),
                AroundRow::Mentioning(mentioning, named) => {
                    around.named.named = named;
                    around.named.memories.push(mentioning);
                }
            }
        }
        Ok(around)
    }
}

enum AroundRow {
    Turn(Neighbour),
    /// With the number of names that were found.
    Mentioning(Mentioning, usize),
}

impl FromRow<'_, PgRow> for AroundRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
        Ok(match row.try_get("names")? {
            Some(names) => {
                let named: i64 = row.try_get("named")?;
                Self::Mentioning(
                    Mentioning { id, seq, names },
                    usize::try_from(named).unwrap_or_default(),
                )
            }
            None => Self::Turn(Neighbour {
                id,
                seq,
                standing: standing(row)?,
                setting: setting(row)?,
            }),
        })
    }
}
