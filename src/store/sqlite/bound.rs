//! Limits on what a project holds beside memories. Counted when something is added, and only where there is a limit.

use sqlx::SqliteConnection;

use super::Open;
use super::error::from_sqlx;
use crate::domain::Scope;
use crate::domain::graph::Plan;
use crate::store::Result;

const ENTITIES: &str = "SELECT count(*) FROM entity WHERE project_id = $1";
const RELATIONS: &str = "SELECT count(*) FROM relation WHERE project_id = $1";
const REVIEWS: &str = "SELECT count(*) FROM review WHERE project_id = $1";
/// Refuses a plan that would make the graph larger than it may be. Called before the first change, since others share
/// the transaction of a `remember`.
pub(super) async fn require_graph(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    plan: &Plan,
) -> Result<()> {
    let entities = plan
        .entities
        .iter()
        .filter(|planned| planned.entity.seq == 0)
        .count();
    let relations = plan
        .relations
        .iter()
        .filter(|planned| planned.relation.seq == 0)
        .count();
    for (new, gone, what, statement) in [
        (entities, plan.erased_entities.len(), "entities", ENTITIES),
        (
            relations,
            plan.erased_relations.len(),
            "relations",
            RELATIONS,
        ),
    ] {
        if new > gone {
            require(
                open,
                connection,
                scope,
                project,
                (new - gone, what, statement),
            )
            .await?;
        }
    }
    Ok(())
}

/// Refuses a review when there are as many as there may be.
pub(super) async fn require_reviews(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
) -> Result<()> {
    require(open, connection, scope, project, (1, "reviews", REVIEWS)).await
}

async fn require(
    open: &Open,
    connection: &mut SqliteConnection,
    scope: &Scope,
    project: i64,
    (more, what, statement): (usize, &'static str, &'static str),
) -> Result<()> {
    if open.limits.entries == 0 {
        return Ok(());
    }
    let failed = |error| from_sqlx(error, "measuring a project");
    let count: i64 = sqlx::query_scalar(statement)
        .bind(project)
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    open.limits
        .check_entries(scope.project(), what, count.unsigned_abs() + more as u64)
}
