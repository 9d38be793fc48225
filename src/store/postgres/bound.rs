//! Limits on what a project holds beside memories. Counted when something is added, and only where there is a limit.

use sqlx::PgConnection;

use super::fault::Fault;
use crate::domain::Scope;
use crate::domain::graph::Plan;
use crate::store::Limits;

const ENTITIES: &str =
    "SELECT count(*) FROM entity e JOIN project p ON p.id = e.project_id WHERE p.name = $1";
const RELATIONS: &str =
    "SELECT count(*) FROM relation r JOIN project p ON p.id = r.project_id WHERE p.name = $1";
const REVIEWS: &str =
    "SELECT count(*) FROM review r JOIN project p ON p.id = r.project_id WHERE p.name = $1";

/// All of the above, with a name each.
pub(super) const ALL: &[(&str, &str)] = &[
    ("ENTITIES", ENTITIES),
    ("RELATIONS", RELATIONS),
    ("REVIEWS", REVIEWS),
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
