//! Stores entities, relations and mentions. Writing functions run inside a transaction of [`super::Open::write`] or of
//! a group.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::param::{json, micros};
use super::read::limit;
use super::row;
use super::tx::SqliteTx;
use super::{SqliteStore, graph_sql as sql, json_numbers, port_sql};
use crate::domain::graph::{self, Entity, Linked, Links, Relation};
use crate::domain::graph_merge::{Plan, PlannedEntity, PlannedRelation};
use crate::domain::graph_traversal::Step;
use crate::domain::{ObjectText, Scope};
use crate::store::graph::{
    EntityQuery, EntitySize, GraphStore, MOST_COUNTED, MOST_MENTIONS, MOST_TOGETHER, Mention,
    StepQuery, Together,
};
use crate::store::rules::{Backend as _, Link, LinkTx};
use crate::store::statement::bind;
use crate::store::{Remembered, Result, fields};

/// Factor by which weights become whole numbers, see [`sql::STEPS`].
const WEIGHT_UNITS: f64 = 9_007_199_254_740_992.0;
/// Sorts after every name in byte order.
const AFTER_ALL: char = char::MAX;

#[async_trait]
impl GraphStore for SqliteStore {
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked> {
        self.run_rule(scope, &Link { links, now }).await
    }

    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>> {
        self.read("reading entities", scope, async |connection, projects| {
            let projects = json_numbers(&projects);
            let rows = match query {
                EntityQuery::Numbers(numbers) => {
                    let query = bind!(sqlx::query(sql::BY_NUMBER) =>
                        projects, json_numbers(numbers));
                    let row = query.fetch_one(&mut *connection).await?;
                    let fields: Vec<EntityFields> = row::json(&row, 0)?;
                    let entities: sqlx::Result<_> = fields.into_iter().map(entity_of).collect();
                    return Ok(entities?);
                }
                EntityQuery::Keys(keys) => bind!(sqlx::query(sql::BY_KEY) => projects, json(keys)),
                EntityQuery::Words(words) => {
                    bind!(sqlx::query(sql::BY_WORDS) => projects, json(words))
                }
                EntityQuery::Newest(most) => {
                    bind!(sqlx::query(sql::NEWEST) => projects, limit(*most))
                }
                EntityQuery::List {
                    kind,
                    prefix,
                    after,
                    limit: most,
                } => {
                    let statement = if kind.is_some() {
                        sql::LIST_TYPE
                    } else {
                        sql::LIST
                    };
                    bind!(sqlx::query(statement) =>
                        projects, prefix.clone(), format!("{prefix}{AFTER_ALL}"), after.clone(),
                        limit(*most), kind.clone())
                }
            }
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows
                .iter()
                .map(fields::entity)
                .collect::<sqlx::Result<_>>()?)
        })
        .await
    }

    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>> {
        self.read("reading relations", scope, async |connection, projects| {
            let row = bind!(sqlx::query(sql::RELATIONS) =>
                json_numbers(&projects), json_numbers(numbers))
            .fetch_one(&mut *connection)
            .await?;
            let fields: Vec<RelationFields> = row::json(&row, 0)?;
            let relations: sqlx::Result<_> = fields.into_iter().map(relation_of).collect();
            Ok(relations?)
        })
        .await
    }

    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>> {
        self.read("walking the graph", scope, async |connection, projects| {
            let rows = bind!(sqlx::query(sql::STEPS) =>
                json_numbers(&projects), json_numbers(query.frontier), query.at.timestamp_micros(),
                query.kind, limit(query.most))
            .fetch_all(&mut *connection)
            .await?;
            let mut steps = Vec::new();
            for row in &rows {
                let at: i64 = row.try_get(0)?;
                for direction in [1, 2] {
                    let Some(list) = row.try_get::<Option<&str>, _>(direction)? else {
                        continue;
                    };
                    steps.extend(list.split(',').filter_map(|entry| {
                        let mut fields = entry.split(':');
                        let mut number = || fields.next()?.parse::<i64>().ok();
                        let (relation, other) = (number()?, number()?);
                        Some(Step {
                            at,
                            relation,
                            other,
                            weight: fields.next()?.parse::<f64>().ok()? / WEIGHT_UNITS,
                        })
                    }));
                }
            }
            Ok(steps)
        })
        .await
    }

    async fn between(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<i64>> {
        self.read("walking the graph", scope, async |connection, projects| {
            let found: Option<String> = bind!(sqlx::query_scalar(sql::AMONG) =>
                json_numbers(&projects), json_numbers(query.frontier), query.at.timestamp_micros(),
                query.kind, limit(query.most))
            .fetch_one(&mut *connection)
            .await?;
            Ok(found
                .iter()
                .flat_map(|list| list.split(','))
                .filter_map(|number| number.parse().ok())
                .collect())
        })
        .await
    }

    async fn mentions(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
        before: Option<i64>,
        most: usize,
    ) -> Result<Vec<Mention>> {
        self.read("reading mentions", scope, async |connection, projects| {
            let rows: Vec<(i64, Uuid, i64)> = bind!(sqlx::query_as(sql::MENTIONS) =>
                json_numbers(&projects), json_numbers(entities), now.timestamp_micros(),
                limit(most), before.unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.into_iter().map(Into::into).collect())
        })
        .await
    }

    async fn entity_sizes(
        &self,
        scope: &Scope,
        entities: &[i64],
        now: DateTime<Utc>,
    ) -> Result<Vec<EntitySize>> {
        self.read(
            "counting what there is about entities",
            scope,
            async |connection, projects| {
                let rows: Vec<(i64, i64, i64, i64)> = bind!(sqlx::query_as(sql::ENTITY_SIZES) =>
                    json_numbers(&projects), json_numbers(entities), now.timestamp_micros(),
                    MOST_COUNTED)
                .fetch_all(&mut *connection)
                .await?;
                Ok(rows.into_iter().map(Into::into).collect())
            },
        )
        .await
    }

    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Together> {
        self.read("reading mentions", scope, async |connection, projects| {
            let rows: Vec<(Option<i64>, i64)> = bind!(sqlx::query_as(sql::TOGETHER) =>
                json_numbers(&projects), json_numbers(entities), MOST_MENTIONS, MOST_TOGETHER)
            .fetch_all(&mut *connection)
            .await?;
            Ok(rows.into_iter().collect())
        })
        .await
    }
}

/// An entity or a relation as an element of a JSON text.
type EntityFields = (
    i64,
    String,
    String,
    String,
    ObjectText,
    i64,
    Option<i64>,
    i64,
    i64,
);
type RelationFields = (
    i64,
    i64,
    i64,
    String,
    f64,
    ObjectText,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    i64,
);

fn entity_of(fields: EntityFields) -> sqlx::Result<Entity> {
    let (seq, project, name, kind, properties, use_count, last_used_at, created_at, updated_at) =
        fields;
    Ok(Entity {
        seq,
        project,
        name,
        kind,
        properties,
        use_count,
        last_used_at: last_used_at.map(row::moment).transpose()?,
        created_at: row::moment(created_at)?,
        updated_at: row::moment(updated_at)?,
    })
}

fn relation_of(fields: RelationFields) -> sqlx::Result<Relation> {
    let (
        seq,
        from,
        to,
        kind,
        weight,
        properties,
        valid_from,
        valid_to,
        use_count,
        created_at,
        updated_at,
    ) = fields;
    Ok(Relation {
        seq,
        from,
        to,
        kind,
        weight,
        properties,
        valid_from: valid_from.map(row::moment).transpose()?,
        valid_to: valid_to.map(row::moment).transpose()?,
        use_count,
        created_at: row::moment(created_at)?,
        updated_at: row::moment(updated_at)?,
    })
}

impl LinkTx for SqliteTx<'_> {
    /// Does nothing, because there is only one writing connection.
    async fn lock_graph(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    async fn named_graph(
        &mut self,
        batches: &[&Links],
    ) -> Result<(Vec<Entity>, Vec<Relation>), Fault> {
        let query = bind!(sqlx::query(sql::BY_KEY) =>
            json_numbers(&[self.project]), json(&graph::list_keys(batches)));
        let entities = self.fetch_all(query, fields::entity).await?;
        let pairs = graph::list_known_pairs(batches, &entities);
        if pairs.is_empty() {
            return Ok((entities, Vec::new()));
        }
        let query = bind!(sqlx::query(sql::BETWEEN) => self.project, json(&pairs));
        let relations = self.fetch_all(query, fields::relation).await?;
        Ok((entities, relations))
    }

    async fn insert_mention(&mut self, memory: i64, entity: i64) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_MENTION) => memory, entity);
        Ok(self.execute(query).await? > 0)
    }

    async fn write_plan(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, i64>, Fault> {
        for (statement, numbers) in [
            (sql::DELETE_RELATION, &plan.erased_relations),
            (sql::DELETE_ENTITY, &plan.erased_entities),
        ] {
            for number in numbers {
                let query = bind!(sqlx::query(statement) => self.project, *number);
                self.execute(query).await?;
            }
        }
        let mut numbers = HashMap::with_capacity(plan.entities.len());
        for planned in &plan.entities {
            let number = self.write_entity(planned).await?;
            numbers.insert(planned.key.clone(), number);
        }
        for planned in &plan.relations {
            self.write_relation(planned, &numbers, now).await?;
        }
        Ok(numbers)
    }
}

impl SqliteTx<'_> {
    /// Returns the number of the entity.
    async fn write_entity(&mut self, planned: &PlannedEntity) -> Result<i64, Fault> {
        let item = &planned.entity;
        if item.seq == 0 {
            let query = bind!(sqlx::query(sql::INSERT_ENTITY) =>
                self.project, &item.name, &planned.key, graph::name_words(&item.name), &item.kind,
                json(&item.properties), item.use_count, micros(item.last_used_at),
                item.created_at.timestamp_micros(), item.updated_at.timestamp_micros());
            return self.fetch_one(query, |row| row.try_get(0)).await;
        }
        let query = bind!(sqlx::query(sql::UPDATE_ENTITY) =>
            self.project, item.seq, &item.kind, json(&item.properties), item.use_count,
            micros(item.last_used_at), item.updated_at.timestamp_micros());
        self.execute(query).await?;
        Ok(item.seq)
    }

    async fn write_relation(
        &mut self,
        planned: &PlannedRelation,
        numbers: &HashMap<String, i64>,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let item = &planned.relation;
        let query = if item.seq == 0 {
            bind!(sqlx::query(sql::INSERT_RELATION) =>
                self.project, numbers.get(&planned.from).copied(),
                numbers.get(&planned.to).copied(), &item.kind, item.weight, json(&item.properties),
                item.use_count, now.timestamp_micros(), micros(item.valid_from),
                micros(item.valid_to), item.created_at.timestamp_micros(),
                item.updated_at.timestamp_micros())
        } else {
            bind!(sqlx::query(sql::UPDATE_RELATION) =>
                self.project, item.seq, item.weight, json(&item.properties), item.use_count,
                now.timestamp_micros(), micros(item.valid_from), micros(item.valid_to),
                item.updated_at.timestamp_micros())
        };
        self.execute(query).await.map(drop)
    }

    /// Stores which entities a memory mentions. A protected memory that already existed is left unchanged.
    pub(super) async fn insert_mentions(
        &mut self,
        memory: &Remembered,
        links: &Links,
        numbers: &HashMap<String, i64>,
    ) -> Result<(), Fault> {
        for key in links.list_keys() {
            let query = bind!(sqlx::query(sql::INSERT_MENTION) =>
                self.project, memory.id, numbers.get(&key).copied(), memory.created);
            self.execute(query).await?;
        }
        Ok(())
    }
}
