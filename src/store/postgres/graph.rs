//! Stores entities, relations and mentions. Writers of the graph of a project are serialized, so that a merge sees
//! no concurrent changes.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use super::attempt::read;
use super::fault::Fault;
use super::memory_sql::time_text;
use super::tx::{PgTx, Query};
use super::{PostgresStore, bounded, graph_sql as sql, port_sql};
use crate::domain::Scope;
use crate::domain::graph::{self, Entity, Linked, Links, Relation};
use crate::domain::graph_merge::{Plan, PlannedEntity, PlannedRelation};
use crate::domain::graph_traversal::Step;
use crate::store::graph::{
    EntityQuery, EntitySize, GraphStore, MOST_COUNTED, MOST_MENTIONS, MOST_TOGETHER, Mention,
    StepQuery, Together,
};
use crate::store::rules::{Backend as _, Link, LinkTx};
use crate::store::statement::bind;
use crate::store::{Remembered, Result, fields};

/// Sorts after every name in byte order.
const AFTER_ALL: char = char::MAX;

#[async_trait]
impl GraphStore for PostgresStore {
    async fn link(&self, scope: &Scope, links: &Links, now: DateTime<Utc>) -> Result<Linked> {
        self.run_rule(scope, &Link { links, now }).await
    }

    async fn entities(&self, scope: &Scope, query: &EntityQuery) -> Result<Vec<Entity>> {
        read!(self, scope, "read entities", connection, readable => async {
            let statement = match query {
                EntityQuery::Keys(keys) => bind!(sqlx::query(sql::BY_KEY) => &readable, keys),
                EntityQuery::Words(words) => bind!(sqlx::query(sql::BY_WORDS) => &readable, words),
                EntityQuery::Newest(limit) => bind!(sqlx::query(sql::NEWEST) =>
                    &readable, bounded(*limit)),
                EntityQuery::Numbers(numbers) => bind!(sqlx::query(sql::BY_NUMBER) =>
                    &readable, numbers),
                EntityQuery::List { kind, prefix, after, limit } => {
                    let statement = bind!(sqlx::query(if kind.is_some() { sql::LIST_TYPE } else { sql::LIST }) =>
                        &readable, prefix, format!("{prefix}{AFTER_ALL}"), after, bounded(*limit));
                    if kind.is_some() { statement.bind(kind) } else { statement }
                }
            };
            self.transaction(connection, scope).fetch_all(statement, fields::entity).await
        })
    }

    async fn relations(&self, scope: &Scope, numbers: &[i64]) -> Result<Vec<Relation>> {
        read!(self, scope, "read relations", connection, readable => async {
            let query = bind!(sqlx::query(sql::RELATIONS) => &readable, numbers);
            self.transaction(connection, scope).fetch_all(query, fields::relation).await
        })
    }

    async fn steps(&self, scope: &Scope, query: &StepQuery<'_>) -> Result<Vec<Step>> {
        read!(self, scope, "walk the graph", connection, readable => async {
            let rows = bind!(sqlx::query(sql::STEPS) =>
                &readable, query.frontier, query.at, query.kind, bounded(query.most))
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
        read!(self, scope, "walk the graph", connection, readable => async {
            let among = bind!(sqlx::query_scalar(sql::AMONG) =>
                &readable, query.frontier, query.at, query.kind, bounded(query.most));
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
        let rows: Vec<(i64, Uuid, i64)> = read!(self, scope, "read mentions", connection, readable => async {
            let query = bind!(sqlx::query_as(sql::MENTIONS) =>
                &readable, entities, now, bounded(limit));
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
        let during = "count what there is about entities";
        let rows: Vec<(i64, i64, i64, i64)> = read!(self, scope, during, connection, readable => async {
            let query = bind!(sqlx::query_as(sql::ENTITY_SIZES) =>
                &readable, entities, now, MOST_COUNTED);
            Ok(query.fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn mentioned_together(&self, scope: &Scope, entities: &[i64]) -> Result<Together> {
        let rows: Vec<(Option<i64>, i64)> = read!(self, scope, "read mentions", connection, readable => async {
            let query = bind!(sqlx::query_as(sql::TOGETHER) => &readable, entities, MOST_MENTIONS);
            Ok(query.bind(MOST_TOGETHER).fetch_all(connection).await?)
        })?;
        Ok(rows.into_iter().collect())
    }
}

impl LinkTx for PgTx<'_> {
    async fn lock_graph(&mut self) -> Result<(), Fault> {
        let query = sqlx::query(sql::LOCK).bind(self.scope.project());
        self.execute(query).await.map(drop)
    }

    async fn named_graph(
        &mut self,
        batches: &[&Links],
    ) -> Result<(Vec<Entity>, Vec<Relation>), Fault> {
        self.lock_graph().await?;
        let query = bind!(sqlx::query(sql::BY_KEY) =>
            vec![self.scope.project()], graph::list_keys(batches));
        let entities = self.fetch_all(query, fields::entity).await?;
        let (from, to): (Vec<i64>, Vec<i64>) = graph::list_known_pairs(batches, &entities)
            .into_iter()
            .unzip();
        if from.is_empty() {
            return Ok((entities, Vec::new()));
        }
        let query = bind!(sqlx::query(sql::BETWEEN) => self.scope.project(), from, to);
        let relations = self.fetch_all(query, fields::relation).await?;
        Ok((entities, relations))
    }

    async fn insert_mention(&mut self, memory: i64, entity: i64) -> Result<bool, Fault> {
        let query = bind!(sqlx::query(port_sql::INSERT_MENTION) =>
            self.scope.project(), memory, entity);
        Ok(self.execute(query).await? > 0)
    }

    async fn write_plan(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, i64>, Fault> {
        for (statement, numbers) in [
            (sql::DELETE_RELATIONS, &plan.erased_relations),
            (sql::DELETE_ENTITIES, &plan.erased_entities),
        ] {
            if !numbers.is_empty() {
                let query = bind!(sqlx::query(statement) => self.scope.project(), numbers);
                self.execute(query).await?;
            }
        }
        let numbers = self.write_entities(plan, now).await?;
        self.write_relations(plan, &numbers, now).await?;
        Ok(numbers)
    }
}

impl PgTx<'_> {
    /// Returns the numbers of the entities by their normalized names.
    async fn write_entities(
        &mut self,
        plan: &Plan,
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, i64>, Fault> {
        let (known, new): (Vec<_>, Vec<_>) = plan
            .entities
            .iter()
            .partition(|planned| planned.entity.seq > 0);
        let mut numbers: HashMap<String, i64> = known
            .iter()
            .map(|planned| (planned.key.clone(), planned.entity.seq))
            .collect();
        let row = |planned: &&PlannedEntity| {
            let item = &planned.entity;
            json!({
                "seq": item.seq, "name": item.name, "name_key": planned.key, "words": graph::name_words(&item.name),
                "type": item.kind, "properties": item.properties, "updated_at": item.updated_at,
            })
        };
        if let Some(query) = self.rows_query(sql::INSERT_ENTITIES, &new, row, now) {
            let stored: Vec<(String, i64)> = self
                .fetch_all(query, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .await?;
            numbers.extend(stored);
        }
        if let Some(query) = self.rows_query(sql::UPDATE_ENTITIES, &known, row, now) {
            self.execute(query).await?;
        }
        Ok(numbers)
    }

    async fn write_relations(
        &mut self,
        plan: &Plan,
        numbers: &HashMap<String, i64>,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let (known, new): (Vec<_>, Vec<_>) = plan
            .relations
            .iter()
            .partition(|planned| planned.relation.seq > 0);
        let row = |planned: &&PlannedRelation| {
            let item = &planned.relation;
            json!({
                "seq": item.seq, "from_seq": numbers.get(&planned.from), "to_seq": numbers.get(&planned.to),
                "type": item.kind, "weight": item.weight, "properties": item.properties,
                "valid_from": item.valid_from.map(time_text), "valid_to": item.valid_to.map(time_text),
                "updated_at": item.updated_at,
            })
        };
        for (statement, planned) in [
            (sql::INSERT_RELATIONS, &new),
            (sql::UPDATE_RELATIONS, &known),
        ] {
            if let Some(query) = self.rows_query(statement, planned, row, now) {
                self.execute(query).await?;
            }
        }
        Ok(())
    }

    /// Returns the statement for rows that are passed as one JSON list, or `None` if there are no rows.
    fn rows_query<'q, T>(
        &self,
        statement: &'static str,
        items: &[T],
        row: impl Fn(&T) -> Value,
        now: DateTime<Utc>,
    ) -> Option<Query<'q>> {
        if items.is_empty() {
            return None;
        }
        let rows: Vec<Value> = items.iter().map(row).collect();
        Some(bind!(sqlx::query(statement) =>
                self.scope.project().to_owned(), Value::from(rows).to_string(), now))
    }

    /// Stores which entities memories mention. Protected memories that already existed are left unchanged.
    pub(super) async fn insert_mentions(
        &mut self,
        memories: &[Remembered],
        links: &[&Links],
        numbers: &HashMap<String, i64>,
    ) -> Result<(), Fault> {
        let (mut ids, mut new, mut mentioned) = (Vec::new(), Vec::new(), Vec::new());
        for (memory, links) in memories.iter().zip(links) {
            for key in links.list_keys() {
                ids.push(memory.id);
                new.push(memory.created);
                mentioned.push(numbers.get(&key).copied());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let query = bind!(sqlx::query(sql::INSERT_MENTIONS) =>
            self.scope.project(), ids, new, mentioned);
        self.execute(query).await.map(drop)
    }
}
