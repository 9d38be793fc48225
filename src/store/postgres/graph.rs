//! Entities, relations and mentions. Those who write to the graph of a project take turns, so that merging reads and
//! writes in peace.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::attempt::{Effect, attempt, begin, commit};
use super::fault::Fault;
use super::remember::json;
use super::{PostgresStore, bound, bounded, graph_sql as sql};
use crate::domain::Scope;
use crate::domain::graph::{self, Entity, Linked, Links, Plan, Relation};
use crate::domain::walk::Step;
use crate::store::graph::{
    EntityQuery, EntitySize, GraphStore, MOST_COUNTED, MOST_MENTIONS, MOST_TOGETHER, Mention,
    StepQuery, Together,
};
use crate::store::{Limits, Remembered, Result, StoreError};

/// Comes after every name in the order of bytes.
const AFTER_ALL: char = char::MAX;

#[async_trait]
impl GraphStore for PostgresStore {
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked> {
        let mut attempts = self.attempts(scope, "link", Effect::Once)?;
        attempt!(attempts, connection => async {
            let mut transaction = begin(connection).await?;
            super::own_project(&mut transaction, scope).await?;
            let (entities, relations) = touched(&mut transaction, scope, &[links]).await?;
            let plan = links.plan(scope.project(), entities, relations, now).map_err(StoreError::from)?;
            write(&mut transaction, scope, &plan, now).await?;
            bound::require_graph(&mut transaction, scope, &plan, self.limits).await?;
            commit(transaction).await?;
            Ok(plan.linked)
        })
    }

    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "read entities", Effect::Read)?;
        let rows: Vec<EntityRow> = attempt!(attempts, connection => async {
            let statement = match query {
                EntityQuery::Keys(keys) => sqlx::query_as(sql::BY_KEY).bind(&readable).bind(keys),
                EntityQuery::Words(words) => sqlx::query_as(sql::BY_WORDS).bind(&readable).bind(words),
                EntityQuery::Newest(limit) => sqlx::query_as(sql::NEWEST).bind(&readable).bind(bounded(*limit)),
                EntityQuery::Numbers(numbers) => sqlx::query_as(sql::BY_NUMBER).bind(&readable).bind(numbers),
                EntityQuery::List { kind, prefix, after, limit } => {
                    let statement = sqlx::query_as(if kind.is_some() { sql::LIST_TYPE } else { sql::LIST })
                        .bind(&readable)
                        .bind(prefix)
                        .bind(format!("{prefix}{AFTER_ALL}"))
                        .bind(after)
                        .bind(bounded(*limit));
                    if kind.is_some() { statement.bind(kind) } else { statement }
                }
            };
            Ok(statement.fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "read relations", Effect::Read)?;
        let rows: Vec<RelationRow> = attempt!(attempts, connection => async {
            Ok(sqlx::query_as(sql::RELATIONS).bind(&readable).bind(numbers).fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "walk the graph", Effect::Read)?;
        attempt!(attempts, connection => async {
            let rows = sqlx::query(sql::STEPS)
                .bind(&readable)
                .bind(query.frontier)
                .bind(query.at)
                .bind(query.kind)
                .bind(bounded(query.most))
                .fetch_all(connection)
                .await?;
            let mut steps = Vec::new();
            for row in rows {
                let at: i64 = row.try_get("at")?;
                let (relations, others): (Vec<i64>, Vec<i64>) = (row.try_get("relations")?, row.try_get("others")?);
                let weights: Vec<f64> = row.try_get("weights")?;
                let ends = relations.into_iter().zip(others).zip(weights);
                steps.extend(ends.map(|((relation, other), weight)| Step { at, relation, other, weight }));
            }
            Ok(steps)
        })
    }

    async fn between(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<i64>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "walk the graph", Effect::Read)?;
        attempt!(attempts, connection => async {
            let among = sqlx::query_scalar(sql::AMONG)
                .bind(&readable)
                .bind(query.frontier)
                .bind(query.at)
                .bind(query.kind)
                .bind(bounded(query.most));
            Ok(among.fetch_one(connection).await?)
        })
    }

    async fn mentions(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Mention>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "read mentions", Effect::Read)?;
        let rows: Vec<(i64, Uuid, i64)> = attempt!(attempts, connection => async {
            let query = sqlx::query_as(sql::MENTIONS).bind(&readable).bind(entities).bind(now).bind(bounded(limit));
            Ok(query.bind(before.unwrap_or(i64::MAX)).fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn entity_sizes(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<EntitySize>> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts =
            self.attempts(scope, "count what there is about entities", Effect::Read)?;
        let rows: Vec<(i64, i64, i64, i64)> = attempt!(attempts, connection => async {
            let query = sqlx::query_as(sql::ENTITY_SIZES).bind(&readable).bind(entities).bind(now).bind(MOST_COUNTED);
            Ok(query.fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Together> {
        let readable: Vec<&str> = scope.readable().collect();
        let mut attempts = self.attempts(scope, "read mentions", Effect::Read)?;
        let rows: Vec<(Option<i64>, i64)> = attempt!(attempts, connection => async {
            let query = sqlx::query_as(sql::TOGETHER).bind(&readable).bind(entities).bind(MOST_MENTIONS);
            Ok(query.bind(MOST_TOGETHER).fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().collect())
    }
}

/// What is there of the entities and relations that the batches name, locked against other writers of the graph.
pub(super) async fn touched(
    connection: &mut PgConnection,
    scope: &Scope,
    batches: &[&Links],
) -> Result<(Vec<Entity>, Vec<Relation>), Fault> {
    sqlx::query(sql::LOCK)
        .bind(scope.project())
        .execute(&mut *connection)
        .await?;
    let own = [scope.project()];
    let rows: Vec<EntityRow> = sqlx::query_as(sql::BY_KEY)
        .bind(own.as_slice())
        .bind(graph::keys(batches))
        .fetch_all(&mut *connection)
        .await?;
    let entities: Vec<Entity> = rows.into_iter().map(|row| row.0).collect();
    let (from, to): (Vec<i64>, Vec<i64>) = graph::pairs(batches, &entities).into_iter().unzip();
    if from.is_empty() {
        return Ok((entities, Vec::new()));
    }
    let rows: Vec<RelationRow> = sqlx::query_as(sql::BETWEEN)
        .bind(scope.project())
        .bind(&from)
        .bind(&to)
        .fetch_all(connection)
        .await?;
    Ok((entities, rows.into_iter().map(|row| row.0).collect()))
}

/// Carries a plan out. Returns the numbers of the entities that it names, by their compared names.
pub(super) async fn write(
    connection: &mut PgConnection,
    scope: &Scope,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<HashMap<String, i64>, Fault> {
    for (statement, numbers) in [
        (sql::DELETE_RELATIONS, &plan.erased_relations),
        (sql::DELETE_ENTITIES, &plan.erased_entities),
    ] {
        if !numbers.is_empty() {
            sqlx::query(statement)
                .bind(scope.project())
                .bind(numbers)
                .execute(&mut *connection)
                .await?;
        }
    }
    let numbers = write_entities(connection, scope, plan, now).await?;
    write_relations(connection, scope, plan, &numbers, now).await?;
    Ok(numbers)
}

async fn write_entities(
    connection: &mut PgConnection,
    scope: &Scope,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<HashMap<String, i64>, Fault> {
    let mut numbers = HashMap::with_capacity(plan.entities.len());
    let (mut names, mut keys, mut words, mut kinds, mut properties) =
        (vec![], vec![], vec![], vec![], vec![]);
    let (mut known, mut known_kinds, mut known_properties, mut updated) =
        (vec![], vec![], vec![], vec![]);
    for planned in &plan.entities {
        let item = &planned.entity;
        if item.seq == 0 {
            names.push(item.name.as_str());
            keys.push(planned.key.as_str());
            words.push(graph::name_words(&item.name));
            kinds.push(item.kind.as_str());
            properties.push(json(&item.properties));
        } else {
            numbers.insert(planned.key.clone(), item.seq);
            known.push(item.seq);
            known_kinds.push(item.kind.as_str());
            known_properties.push(json(&item.properties));
            updated.push(item.updated_at);
        }
    }
    if !names.is_empty() {
        let rows: Vec<(String, i64)> = sqlx::query_as(sql::INSERT_ENTITIES)
            .bind(scope.project())
            .bind(&names)
            .bind(&keys)
            .bind(&words)
            .bind(&kinds)
            .bind(&properties)
            .bind(now)
            .fetch_all(&mut *connection)
            .await?;
        numbers.extend(rows);
    }
    if !known.is_empty() {
        sqlx::query(sql::UPDATE_ENTITIES)
            .bind(scope.project())
            .bind(&known)
            .bind(&known_kinds)
            .bind(&known_properties)
            .bind(&updated)
            .bind(now)
            .execute(connection)
            .await?;
    }
    Ok(numbers)
}

async fn write_relations(
    connection: &mut PgConnection,
    scope: &Scope,
    plan: &Plan,
    numbers: &HashMap<String, i64>,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let (known, new): (Vec<_>, Vec<_>) = plan
        .relations
        .iter()
        .partition(|planned| planned.relation.seq > 0);
    if !new.is_empty() {
        let end = |key: &String| numbers.get(key).copied();
        sqlx::query(sql::INSERT_RELATIONS)
            .bind(scope.project())
            .bind(
                new.iter()
                    .map(|planned| end(&planned.from))
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| end(&planned.to))
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| planned.relation.kind.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| planned.relation.weight)
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| json(&planned.relation.properties))
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| planned.relation.valid_from)
                    .collect::<Vec<_>>(),
            )
            .bind(
                new.iter()
                    .map(|planned| planned.relation.valid_to)
                    .collect::<Vec<_>>(),
            )
            .bind(now)
            .execute(&mut *connection)
            .await?;
    }
    if !known.is_empty() {
        sqlx::query(sql::UPDATE_RELATIONS)
            .bind(scope.project())
            .bind(
                known
                    .iter()
                    .map(|planned| planned.relation.seq)
                    .collect::<Vec<_>>(),
            )
            .bind(
                known
                    .iter()
                    .map(|planned| planned.relation.weight)
                    .collect::<Vec<_>>(),
            )
            .bind(
                known
                    .iter()
                    .map(|planned| json(&planned.relation.properties))
                    .collect::<Vec<_>>(),
            )
            .bind(
                known
                    .iter()
                    .map(|planned| planned.relation.valid_from)
                    .collect::<Vec<_>>(),
            )
            .bind(
                known
                    .iter()
                    .map(|planned| planned.relation.valid_to)
                    .collect::<Vec<_>>(),
            )
            .bind(
                known
                    .iter()
                    .map(|planned| planned.relation.updated_at)
                    .collect::<Vec<_>>(),
            )
            .bind(now)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Merges what the items of a `remember` link, and keeps which entities each memory mentions. A protected one that was
/// there before stays as it is.
pub(super) async fn remember(
    connection: &mut PgConnection,
    scope: &Scope,
    items: &[(&Remembered, &Links)],
    limits: Limits,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let links: Vec<&Links> = items.iter().map(|(_, links)| *links).collect();
    if links.iter().all(|links| links.is_empty()) {
        return Ok(());
    }
    let (entities, relations) = touched(connection, scope, &links).await?;
    let plan =
        graph::plan(&links, scope.project(), entities, relations, now).map_err(StoreError::from)?;
    let numbers = write(connection, scope, &plan, now).await?;
    bound::require_graph(connection, scope, &plan, limits).await?;
    let (mut ids, mut new, mut mentioned) = (Vec::new(), Vec::new(), Vec::new());
    for (memory, links) in items {
        for key in links.keys() {
            ids.push(memory.id);
            new.push(memory.created);
            mentioned.push(numbers.get(&key).copied());
        }
    }
    sqlx::query(sql::INSERT_MENTIONS)
        .bind(scope.project())
        .bind(&ids)
        .bind(&new)
        .bind(&mentioned)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps which entities the new text of a memory mentions, as far as they exist.
pub(super) async fn mention_existing(
    connection: &mut PgConnection,
    scope: &Scope,
    memory: Uuid,
    names: &[String],
) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let (entities, _) = touched(connection, scope, &[&Links::of_names(names)]).await?;
    sqlx::query(sql::INSERT_MENTIONS)
        .bind(scope.project())
        .bind(vec![memory; entities.len()])
        // A protected memory changes with its owner's consent.
        .bind(vec![true; entities.len()])
        .bind(
            entities
                .iter()
                .map(|entity| Some(entity.seq))
                .collect::<Vec<_>>(),
        )
        .execute(connection)
        .await?;
    Ok(())
}

struct EntityRow(Entity);

impl FromRow<'_, PgRow> for EntityRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Entity {
            seq: row.try_get("seq")?,
            project: row.try_get("project")?,
            name: row.try_get("name")?,
            kind: row.try_get("type")?,
            properties: object(row.try_get("properties")?),
            use_count: row.try_get("use_count")?,
            last_used_at: row.try_get("last_used_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        }))
    }
}

struct RelationRow(Relation);

impl FromRow<'_, PgRow> for RelationRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Relation {
            seq: row.try_get("seq")?,
            from: row.try_get("from_seq")?,
            to: row.try_get("to_seq")?,
            kind: row.try_get("type")?,
            weight: row.try_get("weight")?,
            properties: object(row.try_get("properties")?),
            valid_from: row.try_get("valid_from")?,
            valid_to: row.try_get("valid_to")?,
            use_count: row.try_get("use_count")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        }))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
