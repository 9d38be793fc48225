//! Limits on what a project holds beside memories. Counted when something is added, and only where there is a limit.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Open;
use super::error::from_sqlx;
use crate::domain::Scope;
use crate::domain::focus::PROJECT_FULL;
use crate::domain::graph::Plan;
use crate::store::Result;

const ENTITIES: &str = "SELECT count(*) FROM entity WHERE project_id = $1";
const RELATIONS: &str = "SELECT count(*) FROM relation WHERE project_id = $1";
const REVIEWS: &str = "SELECT count(*) FROM review WHERE project_id = $1";
/// What was touched longest ago goes to the archive ($3, $4: when and why) until $2 items are left.
const ARCHIVE_REST: &str = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
        archived_at, reason) \
    SELECT project_id, session, id, content, importance, created_at, touched_at, $3, $4 FROM focus WHERE project_id = $1 \
    ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2)";
/// The same items leave.
const DELETE_REST: &str = "DELETE FROM focus WHERE seq IN (SELECT seq FROM focus WHERE project_id = $1 \
    ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2))";
/// What was archived first goes until $2 items are left.
const DELETE_OLDEST: &str = "DELETE FROM focus_archive WHERE seq IN (SELECT seq FROM focus_archive WHERE project_id = $1 \
    ORDER BY seq LIMIT max(0, (SELECT count(*) FROM focus_archive WHERE project_id = $1) - $2))";

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

/// The working memory of all sessions and its archive keep what is newest.
pub(super) async fn trim_focus(
    open: &Open,
    connection: &mut SqliteConnection,
    project: i64,
    now: DateTime<Utc>,
) -> Result<()> {
    if open.limits.entries == 0 {
        return Ok(());
    }
    let failed = |error| from_sqlx(error, "keeping the working memory within its limit");
    let most = i64::try_from(open.limits.entries).unwrap_or(i64::MAX);
    let archive = sqlx::query(ARCHIVE_REST)
        .bind(project)
        .bind(most)
        .bind(now.timestamp_micros())
        .bind(PROJECT_FULL);
    archive.execute(&mut *connection).await.map_err(failed)?;
    for statement in [DELETE_REST, DELETE_OLDEST] {
        sqlx::query(statement)
            .bind(project)
            .bind(most)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}
