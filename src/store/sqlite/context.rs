//! Reads the context of candidates: neighboring turns and memories that mention named entities.

use sqlx::{AssertSqlSafe, Row};

use super::error::Fault;
use super::filter::bind_filter;
use super::filter::conditions;
use super::read::limit;
use super::sql::hit_columns;
use super::{Open, json_numbers, row};
use crate::domain::Scope;
use crate::domain::ranking::EntityMention;
use crate::store::graph::{MOST_MENTIONS, MOST_NAMED};
use crate::store::statement::bind;
use crate::store::{ContextQuery, ConversationContext, Result, fields};

/// Entities with one of the names ($2).
const NAMES: &str = "WITH named AS MATERIALIZED (SELECT e.seq, e.name, e.words FROM entity e \
    WHERE e.project_id IN (SELECT value FROM json_each($1)) AND e.words IN (SELECT value FROM json_each($2)) \
    ORDER BY e.seq LIMIT $3) ";
/// The newest memories that mention those entities and pass the filter, whose parameters begin at
/// $10.
const MENTIONING: &str = concat!(
    "SELECT * FROM (SELECT m.id, m.seq, json_group_array(n.name), ",
    hit_columns!(),
    ", (SELECT count(DISTINCT words) FROM named) FROM named n, \
     json_each((SELECT json_group_array(x.memory_seq) FROM (SELECT x.memory_seq FROM mention x WHERE x.entity_seq = n.seq \
        ORDER BY x.memory_seq DESC LIMIT $4) x)) x \
     JOIN memory m ON m.seq = x.value WHERE "
);
const MENTIONING_TAIL: &str = " GROUP BY m.seq ORDER BY m.seq DESC LIMIT $5)";
/// Turns by their positions ($6: JSON triples of project, session and number).
const TURNS: &str = concat!(
    "SELECT m.id, m.seq, NULL, ",
    hit_columns!(),
    ", 0 FROM json_each($6) w CROSS JOIN project p ON p.name = w.value ->> 0 \
     CROSS JOIN memory m INDEXED BY memory_turn ON m.project_id = p.id AND m.session = w.value ->> 1 AND m.turn = w.value ->> 2 AND m.deleted_at IS NULL AND m.superseded_by IS NULL WHERE "
);

/// Builds the statement for the requested parts. It consists of the constants above.
fn statement(query: &ContextQuery, projects: &[i64]) -> AssertSqlSafe<String> {
    let conditions = conditions(&query.filter, projects);
    let mentioning = [MENTIONING, &conditions, MENTIONING_TAIL].concat();
    let turns = [TURNS, &conditions].concat();
    AssertSqlSafe(match (query.turns.is_empty(), query.names.is_empty()) {
        (true, _) => [NAMES, &mentioning].concat(),
        (false, true) => turns,
        (false, false) => [NAMES, &turns, " UNION ALL ", &mentioning].concat(),
    })
}

pub(super) async fn read_context(
    open: &Open,
    scope: &Scope,
    query: &ContextQuery,
) -> Result<ConversationContext, Fault> {
    let (mut connection, projects) = open.reader(scope).await?;
    let turns = query
        .turns
        .iter()
        .map(|turn| serde_json::json!([turn.project, turn.session, turn.number]));
    let mut statement = bind!(sqlx::query(statement(query, &projects)) =>
        json_numbers(&projects), serde_json::Value::from(query.names.as_slice()).to_string(),
        MOST_NAMED, MOST_MENTIONS, limit(query.mentioning),
        serde_json::Value::from_iter(turns).to_string());
    for _ in 7..10 {
        statement = statement.bind(None::<i64>);
    }
    let rows = bind_filter!(statement, query.filter)
        .fetch_all(&mut *connection)
        .await?;
    let mut context = ConversationContext::default();
    for row in &rows {
        if row.try_get::<Option<&str>, _>(2)?.is_none() {
            context.turns.push(fields::hit(row)?);
            continue;
        }
        let names: i64 = row.try_get(16)?;
        context.entities.names = usize::try_from(names).unwrap_or_default();
        context.entities.memories.push(EntityMention {
            id: row.try_get(0)?,
            seq: row.try_get(1)?,
            entities: row::json(row, 2)?,
        });
    }
    Ok(context)
}
