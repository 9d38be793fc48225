//! Entities, relations and mentions. What writes works inside of a transaction of [`super::Open::write`] or of a group.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::error::from_sqlx;
use super::read::{bind_filter, limit};
use super::row;
use super::write::{json, micros, own_project};
use super::{SqliteStore, bound, graph_sql as sql, json_numbers};
use crate::domain::graph::{self, Entity, Linked, Links, Plan, Relation};
use crate::domain::walk::Step;
use crate::domain::{Filter, Scope};
use crate::store::graph::{EntityQuery, GraphStore, MOST_MENTIONS, MOST_NAMED, Mentioning, Named, StepQuery};
use crate::store::{Result, StoreError};

/// Comes after every name in the order of bytes.
const AFTER_ALL: char = char::MAX;

#[async_trait]
impl GraphStore for SqliteStore {
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked> {
        let open = self.opened()?;
        self.bounded(open.write(async |connection, _| {
            let project = own_project(&open, connection, scope).await?;
            let (entities, relations) = touched(connection, project, &[links]).await?;
            let plan = links.plan(scope.project(), entities, relations, now).map_err(StoreError::from)?;
            bound::require_graph(&open, connection, scope, project, &plan).await?;
            write(connection, project, &plan, now).await?;
            Ok(plan.linked)
        }))
        .await
    }

    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let projects = json_numbers(&projects);
            let failed = |error| from_sqlx(error, "reading entities");
            let rows = match query {
                EntityQuery::Keys(keys) => sqlx::query(sql::BY_KEY).bind(projects).bind(json(keys)),
                EntityQuery::Numbers(numbers) => sqlx::query(sql::BY_NUMBER).bind(projects).bind(json_numbers(numbers)),
                EntityQuery::List { kind, prefix, after, limit: most } => {
                    let statement = if kind.is_some() { sql::LIST_TYPE } else { sql::LIST };
                    sqlx::query(statement)
                        .bind(projects)
                        .bind(prefix.clone())
                        .bind(format!("{prefix}{AFTER_ALL}"))
                        .bind(after.clone())
                        .bind(limit(*most))
                        .bind(kind.clone())
                }
            }
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
            rows.iter().map(entity).collect::<sqlx::Result<_>>().map_err(failed)
        })
        .await
    }

    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let failed = |error| from_sqlx(error, "reading relations");
            let rows = sqlx::query(sql::RELATIONS)
                .bind(json_numbers(&projects))
                .bind(json_numbers(numbers))
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            rows.iter().map(relation).collect::<sqlx::Result<_>>().map_err(failed)
        })
        .await
    }

    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let failed = |error| from_sqlx(error, "walking the graph");
            let rows = sqlx::query(sql::STEPS)
                .bind(json_numbers(&projects))
                .bind(json_numbers(query.frontier))
                .bind(query.at.timestamp_micros())
                .bind(query.kind)
                .bind(limit(query.most))
                .fetch_all(&mut *connection)
                .await
                .map_err(failed)?;
            let mut steps = Vec::new();
            for row in &rows {
                let at: i64 = row.try_get(0).map_err(failed)?;
                for direction in [1, 2] {
                    let Some(list) = row.try_get::<Option<&str>, _>(direction).map_err(failed)? else { continue };
                    steps.extend(list.split(',').filter_map(|entry| {
                        let mut fields = entry.split(':');
                        let mut number = || fields.next()?.parse::<i64>().ok();
                        let (relation, other) = (number()?, number()?);
                        Some(Step { at, relation, other, weight: fields.next()?.parse().ok()? })
                    }));
                }
            }
            Ok(steps)
        })
        .await
    }

    async fn mentions(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<(i64, Uuid)>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            sqlx::query_as(sql::MENTIONS)
                .bind(json_numbers(&projects))
                .bind(json_numbers(entities))
                .bind(now.timestamp_micros())
                .bind(limit(most))
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| from_sqlx(error, "reading mentions"))
        })
        .await
    }

    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Vec<(i64, u64)>> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let rows: Vec<(i64, i64)> = sqlx::query_as(sql::TOGETHER)
                .bind(json_numbers(&projects))
                .bind(json_numbers(entities))
                .bind(MOST_MENTIONS)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| from_sqlx(error, "reading mentions"))?;
            Ok(rows.into_iter().map(|(entity, count)| (entity, count.unsigned_abs())).collect())
        })
        .await
    }

    async fn named(&self, scope: &Scope, names: &[String], filter: &Filter, most: usize) -> Result<Named> {
        let open = self.opened()?;
        self.bounded(async {
            let (mut connection, projects) = open.reader(scope).await?;
            let failed = |error| from_sqlx(error, "looking for named entities");
            let mut statement = sqlx::query(sql::named(filter, &projects))
                .bind(json_numbers(&projects))
                .bind(json(&names))
                .bind(MOST_NAMED)
                .bind(MOST_MENTIONS)
                .bind(limit(most));
            for _ in 6..10 {
                statement = statement.bind(None::<i64>);
            }
            let rows = bind_filter!(statement, filter).fetch_all(&mut *connection).await.map_err(failed)?;
            let mut named = Named::default();
            for row in &rows {
                named.named = usize::try_from(row.try_get::<i64, _>(3).map_err(failed)?).unwrap_or_default();
                named.memories.push(Mentioning {
                    id: row.try_get(0).map_err(failed)?,
                    seq: row.try_get(1).map_err(failed)?,
                    names: row::json(row, 2).map_err(failed)?,
                });
            }
            Ok(named)
        })
        .await
    }
}

fn entity(row: &SqliteRow) -> sqlx::Result<Entity> {
    Ok(Entity {
        seq: row.try_get(0)?,
        project: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        properties: row::json(row, 4)?,
        use_count: row.try_get(5)?,
        last_used_at: row::time(row, 6)?,
        created_at: row::required_time(row, 7)?,
        updated_at: row::required_time(row, 8)?,
    })
}

fn relation(row: &SqliteRow) -> sqlx::Result<Relation> {
    Ok(Relation {
        seq: row.try_get(0)?,
        from: row.try_get(1)?,
        to: row.try_get(2)?,
        kind: row.try_get(3)?,
        weight: row.try_get(4)?,
        properties: row::json(row, 5)?,
        valid_from: row::time(row, 6)?,
        valid_to: row::time(row, 7)?,
        use_count: row.try_get(8)?,
        created_at: row::required_time(row, 9)?,
        updated_at: row::required_time(row, 10)?,
    })
}

/// What is there of the entities and relations that the batches name.
pub(super) async fn touched(
    connection: &mut SqliteConnection,
    project: i64,
    batches: &[&Links],
) -> Result<(Vec<Entity>, Vec<Relation>)> {
    let failed = |error| from_sqlx(error, "reading the graph");
    let rows = sqlx::query(sql::BY_KEY)
        .bind(json_numbers(&[project]))
        .bind(json(&graph::keys(batches)))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let entities: Vec<Entity> = rows.iter().map(entity).collect::<sqlx::Result<_>>().map_err(failed)?;
    let pairs = graph::pairs(batches, &entities);
    if pairs.is_empty() {
        return Ok((entities, Vec::new()));
    }
    let rows =
        sqlx::query(sql::BETWEEN).bind(project).bind(json(&pairs)).fetch_all(connection).await.map_err(failed)?;
    let relations = rows.iter().map(relation).collect::<sqlx::Result<_>>().map_err(failed)?;
    Ok((entities, relations))
}

/// Carries a plan out. Returns the numbers of the entities that it names, by their compared names.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    project: i64,
    plan: &Plan,
    now: DateTime<Utc>,
) -> Result<HashMap<String, i64>> {
    let failed = |error| from_sqlx(error, "writing the graph");
    for (statement, numbers) in
        [(sql::DELETE_RELATION, &plan.erased_relations), (sql::DELETE_ENTITY, &plan.erased_entities)]
    {
        for number in numbers {
            sqlx::query(statement).bind(number).execute(&mut *connection).await.map_err(failed)?;
        }
    }
    let mut numbers = HashMap::with_capacity(plan.entities.len());
    for planned in &plan.entities {
        let item = &planned.entity;
        let number = if item.seq == 0 {
            sqlx::query_scalar(sql::INSERT_ENTITY)
                .bind(project)
                .bind(&item.name)
                .bind(&planned.key)
                .bind(graph::name_words(&item.name))
                .bind(&item.kind)
                .bind(json(&item.properties))
                .bind(item.use_count)
                .bind(micros(item.last_used_at))
                .bind(item.created_at.timestamp_micros())
                .bind(item.updated_at.timestamp_micros())
                .fetch_one(&mut *connection)
                .await
                .map_err(failed)?
        } else {
            sqlx::query(sql::UPDATE_ENTITY)
                .bind(item.seq)
                .bind(&item.kind)
                .bind(json(&item.properties))
                .bind(item.use_count)
                .bind(micros(item.last_used_at))
                .bind(item.updated_at.timestamp_micros())
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            item.seq
        };
        numbers.insert(planned.key.clone(), number);
    }
    for planned in &plan.relations {
        let item = &planned.relation;
        let statement = if item.seq == 0 {
            sqlx::query(sql::INSERT_RELATION)
                .bind(project)
                .bind(numbers.get(&planned.from))
                .bind(numbers.get(&planned.to))
                .bind(&item.kind)
                .bind(item.weight)
                .bind(json(&item.properties))
                .bind(item.use_count)
                .bind(now.timestamp_micros())
                .bind(micros(item.valid_from))
                .bind(micros(item.valid_to))
                .bind(item.created_at.timestamp_micros())
                .bind(item.updated_at.timestamp_micros())
        } else {
            sqlx::query(sql::UPDATE_RELATION)
                .bind(item.seq)
                .bind(item.weight)
                .bind(json(&item.properties))
                .bind(item.use_count)
                .bind(now.timestamp_micros())
                .bind(micros(item.valid_from))
                .bind(micros(item.valid_to))
                .bind(item.updated_at.timestamp_micros())
        };
        statement.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(numbers)
}

/// Keeps which entities a memory mentions.
pub(super) async fn mention(
    connection: &mut SqliteConnection,
    memory: Uuid,
    links: &Links,
    numbers: &HashMap<String, i64>,
) -> Result<()> {
    for key in links.keys() {
        sqlx::query(sql::INSERT_MENTION)
            .bind(memory)
            .bind(numbers.get(&key))
            .execute(&mut *connection)
            .await
            .map_err(|error| from_sqlx(error, "keeping a mention"))?;
    }
    Ok(())
}
