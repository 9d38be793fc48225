//! What stands around the memories that were found.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row};

use super::error::from_sqlx;
use super::read::{bind_filter, limit};
use super::sql::{conditions, hit_columns};
use super::{SqliteStore, json_numbers, row};
use crate::domain::{Filter, Scope};
use crate::store::graph::{MOST_MENTIONS, MOST_NAMED, Mentioning};
use crate::store::{Around, AroundQuery, AroundStore, Neighbour, Result};

/// Entities by one of the names ($2).
const NAMES: &str = "WITH named AS MATERIALIZED (SELECT e.seq, e.name, e.words FROM entity e \
    WHERE e.project_id IN (SELECT value FROM json_each($1)) AND e.words IN (SELECT value FROM json_each($2)) \
    ORDER BY e.seq LIMIT $3) ";
/// The newest memories that mention them and pass the filter, which begins at $10.
const MENTIONING: &str = concat!(
    "SELECT * FROM (SELECT m.id, m.seq, json_group_array(n.name), ",
    hit_columns!(),
    ", (SELECT count(DISTINCT words) FROM named) FROM named n, \
     json_each((SELECT json_group_array(x.memory_seq) FROM (SELECT x.memory_seq FROM mention x WHERE x.entity_seq = n.seq \
        ORDER BY x.memory_seq DESC LIMIT $4) x)) x \
     JOIN memory m ON m.seq = x.value WHERE "
);
const MENTIONING_TAIL: &str = " GROUP BY m.seq ORDER BY m.seq DESC LIMIT $5)";
/// Turns by their places ($6: JSON of triples).
const TURNS: &str = concat!(
    "SELECT m.id, m.seq, NULL, ",
    hit_columns!(),
    ", 0 FROM json_each($6) w CROSS JOIN memory m INDEXED BY memory_turn ON m.project_id = w.value ->> 0 \
     AND m.session = w.value ->> 1 AND m.turn = w.value ->> 2 AND m.deleted_at IS NULL AND m.superseded_by IS NULL WHERE "
);

/// Only what is asked for, made of the constants above and nothing else.
fn statement(query: &AroundQuery, filter: &Filter, projects: &[i64]) -> AssertSqlSafe<String> {
    let conditions = conditions(filter, projects);
    let mentioning = [MENTIONING, &conditions, MENTIONING_TAIL].concat();
    let turns = [TURNS, &conditions].concat();
    AssertSqlSafe(match (query.turns.is_empty(), query.names.is_empty()) {
        (true, _) => [NAMES, &mentioning].concat(),
        (false, true) => turns,
        (false, false) => [NAMES, &turns, " UNION ALL ", &mentioning].concat(),
    })
}

#[async_trait]
impl AroundStore for SqliteStore {
    async fn around(&self, scope: &Scope, query: &AroundQuery) -> Result<Around> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let failed = |error| from_sqlx(error, "looking around");
            let json = |value: serde_json::Value| value.to_string();
            let turns = query
                .turns
                .iter()
                .map(|turn| serde_json::json!([turn.project, turn.session, turn.number]));
            let mut statement = sqlx::query(statement(query, &query.filter, &projects))
                .bind(json_numbers(&projects))
                .bind(json(query.names.as_slice().into()))
                .bind(MOST_NAMED)
                .bind(MOST_MENTIONS)
                .bind(limit(query.mentioning))
                .bind(json(turns.collect()));
            for _ in 7..10 {
                statement = statement.bind(None::<i64>);
            }
            let rows = bind_filter!(statement, query.filter)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            let mut around = Around::default();
            for row in &rows {
                let (id, seq) = (
                    row.try_get(0).map_err(failed)?,
                    row.try_get(1).map_err(failed)?,
                );
                if row.try_get::<Option<&str>, _>(2).map_err(failed)?.is_some() {
                    let named: i64 = row.try_get(16).map_err(failed)?;
                    around.named.named = usize::try_from(named).unwrap_or_default();
                    around.named.memories.push(Mentioning {
                        id,
                        seq,
                        names: row::json(row, 2).map_err(failed)?,
                    });
                } else {
                    let (standing, setting) = (
                        row::standing(row).map_err(failed)?,
                        row::setting(row).map_err(failed)?,
                    );
                    around.turns.push(Neighbour {
                        id,
                        seq,
                        standing,
                        setting,
                    });
                }
            }
            Ok(around)
        })
        .await
    }
}
