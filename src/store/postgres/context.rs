//! Reads the context of candidates: neighboring turns and memories that mention named entities.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use super::bounded;
use super::fault::Fault;
use super::filter::{FilterColumns, filter};
use super::row::HitRow;
use super::sql::hit_columns;
use crate::domain::ranking::EntityMention;
use crate::domain::{Hit, Scope};
use crate::store::graph::{MOST_MENTIONS, MOST_NAMED};
use crate::store::{ContextQuery, ConversationContext};

/// Turns by their positions ($25 to $27), and the newest memories that mention entities by one of the names ($21), as far as
/// they pass the filter.
const CONTEXT: &str = concat!(
    "WITH named AS MATERIALIZED (\
        SELECT e.project_id, e.seq, e.name, e.words FROM project p \
        JOIN entity e ON e.project_id = p.id AND e.words = ANY ($21) WHERE p.name = ANY ($1) ORDER BY e.seq LIMIT $22\
    ) \
    SELECT m.*, coalesce(r.recall_count, 0) AS recall_count, r.last_recalled_at, NULL::text[] AS names, \
        0::bigint AS named \
    FROM unnest($25::text[], $26::text[], $27::bigint[]) AS w(project, session, turn) \
    JOIN project p ON p.name = w.project AND p.name = ANY ($1) CROSS JOIN LATERAL (\
        SELECT m.project_id, m.id, m.seq, ",
    hit_columns!(),
    " FROM memory m WHERE m.project_id = p.id AND m.session = w.session AND m.turn = w.turn AND m.turn_claim AND ",
    filter!(),
    " OFFSET 0\
    ) m LEFT JOIN LATERAL (SELECT r.recall_count, r.last_recalled_at FROM recall_stat r \
        WHERE r.project_id = m.project_id AND r.memory_seq = m.seq OFFSET 0) r ON true \
    UNION ALL \
    (SELECT m.project_id, m.id, m.seq, ",
    hit_columns!(),
    ", 0, NULL, array_agg(n.name), (SELECT count(DISTINCT words) FROM named) \
    FROM named n CROSS JOIN LATERAL (\
        SELECT x.memory_seq FROM mention x WHERE x.project_id = n.project_id AND x.entity_seq = n.seq \
        ORDER BY x.memory_seq DESC LIMIT $23\
    ) x JOIN memory m ON m.project_id = n.project_id AND m.seq = x.memory_seq WHERE ",
    filter!(),
    " GROUP BY m.project_id, m.seq ORDER BY m.seq DESC LIMIT $24)"
);

/// The statement with its name, for the test that prepares each one.
pub(super) const ALL: &[(&str, &str)] = &[("CONTEXT", CONTEXT)];

pub(super) async fn read_context(
    connection: &mut PgConnection,
    scope: &Scope,
    query: &ContextQuery,
) -> Result<ConversationContext, Fault> {
    let projects: Vec<&str> = query
        .turns
        .iter()
        .map(|turn| turn.project.as_str())
        .collect();
    let sessions: Vec<&str> = query
        .turns
        .iter()
        .map(|turn| turn.session.as_str())
        .collect();
    let numbers: Vec<i64> = query.turns.iter().map(|turn| turn.number).collect();
    let columns = FilterColumns::new(scope, &query.filter);
    let rows: Vec<ContextRow> = columns
        .bind(sqlx::query_as(CONTEXT))
        .bind(&query.names)
        .bind(MOST_NAMED)
        .bind(MOST_MENTIONS)
        .bind(bounded(query.mentioning))
        .bind(&projects)
        .bind(&sessions)
        .bind(&numbers)
        .fetch_all(connection)
        .await?;
    let mut context = ConversationContext::default();
    for row in rows {
        match row {
            ContextRow::Turn(turn) => context.turns.push(*turn),
            ContextRow::Mention(mention, names) => {
                context.entities.names = names;
                context.entities.memories.push(mention);
            }
        }
    }
    Ok(context)
}

enum ContextRow {
    Turn(Box<Hit>),
    /// The mention, and the number of names that entities have.
    Mention(EntityMention, usize),
}

impl FromRow<'_, PgRow> for ContextRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Some(entities) = row.try_get("names")? else {
            return HitRow::from_row(row).map(|HitRow(hit)| Self::Turn(Box::new(hit)));
        };
        let (id, seq) = (row.try_get("id")?, row.try_get("seq")?);
        let names: i64 = row.try_get("named")?;
        let mention = EntityMention { id, seq, entities };
        Ok(Self::Mention(
            mention,
            usize::try_from(names).unwrap_or_default(),
        ))
    }
}
