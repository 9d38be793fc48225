//! Limits on what a project holds beside memories. Counted when something is added, and only where there is a limit.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::bounded;
use super::fault::Fault;
use crate::domain::Scope;
use crate::domain::focus::PROJECT_FULL;
use crate::domain::graph::Plan;
use crate::store::Limits;

const ENTITIES: &str =
    "SELECT count(*) FROM entity e JOIN project p ON p.id = e.project_id WHERE p.name = $1";
const RELATIONS: &str =
    "SELECT count(*) FROM relation r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
const REVIEWS: &str =
    "SELECT count(*) FROM review r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
/// What was touched longest ago goes to the archive ($3, $4: when and why) until $2 items are left.
const ARCHIVE_REST: &str = "WITH gone AS (\
        DELETE FROM focus f WHERE (f.project_id, f.seq) IN (\
            SELECT o.project_id, o.seq FROM project p JOIN focus o ON o.project_id = p.id WHERE p.name = $1 \
            ORDER BY o.touched_at, o.seq LIMIT (\
                SELECT greatest(count(*) - $2, 0) FROM project p JOIN focus a ON a.project_id = p.id WHERE p.name = $1)\
        ) RETURNING f.*\
    ) \
    INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
        memory_id, archived_at, reason) \
    SELECT g.project_id, g.session, g.id, g.content, g.importance, g.created_at, g.touched_at, \
        g.memory_id, $3, $4 FROM gone g";
/// What was archived first goes until $2 items are left.
const DELETE_OLDEST: &str = "DELETE FROM focus_archive f WHERE (f.project_id, f.seq) IN (\
        SELECT o.project_id, o.seq FROM project p JOIN focus_archive o ON o.project_id = p.id WHERE p.name = $1 \
        ORDER BY o.seq LIMIT (\
            SELECT greatest(count(*) - $2, 0) FROM project p JOIN focus_archive a ON a.project_id = p.id WHERE p.name = $1)\
    )";

/// All of the above, with a name each.
pub(super) const ALL: &[(&str, &str)] = &[
    ("ENTITIES", ENTITIES),
    ("RELATIONS", RELATIONS),
    ("REVIEWS", REVIEWS),
    ("ARCHIVE_REST", ARCHIVE_REST),
    ("DELETE_OLDEST", DELETE_OLDEST),
];

/// Refuses a plan, which was carried out in this transaction, when the graph is larger than it may be. Those who write
/// to the graph of a project take turns, so that the figure is exact.
pub(super) async fn require_graph(
    connection: &mut PgConnection,
    scope: &Scope,
    plan: &Plan,
    limits: Limits,
) -> Result<(), Fault> {
    for (grows, what, statement) in [
        (
            plan.entities.iter().any(|planned| planned.entity.seq == 0),
            "entities",
            ENTITIES,
        ),
        (
            plan.relations
                .iter()
                .any(|planned| planned.relation.seq == 0),
            "relations",
            RELATIONS,
        ),
    ] {
        if grows {
            require(connection, scope, limits, (what, statement)).await?;
        }
    }
    Ok(())
}

/// Refuses a review, which was stored in this transaction, when there are more than there may be.
pub(super) async fn require_reviews(
    connection: &mut PgConnection,
    scope: &Scope,
    limits: Limits,
) -> Result<(), Fault> {
    require(connection, scope, limits, ("reviews", REVIEWS)).await
}

async fn require(
    connection: &mut PgConnection,
    scope: &Scope,
    limits: Limits,
    (what, statement): (&'static str, &'static str),
) -> Result<(), Fault> {
    if limits.entries == 0 {
        return Ok(());
    }
    let count: i64 = sqlx::query_scalar(statement)
        .bind(scope.project())
        .fetch_one(connection)
        .await?;
    Ok(limits.check_entries(scope.project(), what, count.unsigned_abs())?)
}

/// The working memory of all sessions and its archive keep what is newest.
pub(super) async fn trim_focus(
    connection: &mut PgConnection,
    scope: &Scope,
    limits: Limits,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    if limits.entries == 0 {
        return Ok(());
    }
    let most = bounded(usize::try_from(limits.entries).unwrap_or(usize::MAX));
    let archive = sqlx::query(ARCHIVE_REST)
        .bind(scope.project())
        .bind(most)
        .bind(now)
        .bind(PROJECT_FULL);
    archive.execute(&mut *connection).await?;
    sqlx::query(DELETE_OLDEST)
        .bind(scope.project())
        .bind(most)
        .execute(connection)
        .await?;
    Ok(())
}
