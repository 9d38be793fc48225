//! Reads entities and relations by number, within the limit of an answer for their properties.

use std::collections::HashMap;

use super::answer_size::PropertyBudget;
use super::{Call, Engine, EngineError, RelationView};
use crate::domain::graph::Entity;
use crate::store::graph::EntityQuery;

/// Number of entities or relations that are read from the database at once. Each may have 16 KiB of properties.
const PORTION: usize = 100;

/// Entities, and views of the relations between them.
#[derive(Default)]
pub(super) struct GraphParts {
    pub(super) entities: HashMap<i64, Entity>,
    /// By number, in the requested order.
    pub(super) relations: Vec<(i64, RelationView)>,
    /// Descriptions of omitted parts.
    pub(super) notes: Vec<String>,
}

impl Engine {
    /// Reads entities, and relations between them. Objects that were erased since are missing. Properties beyond the
    /// budget of one answer are left out, those of the last numbers first.
    pub(super) async fn read_parts(
        &self,
        call: &Call,
        entities: &[i64],
        relations: &[i64],
    ) -> Result<GraphParts, EngineError> {
        let mut parts = GraphParts::default();
        self.read_entities_by_number(call, entities, &mut parts)
            .await?;
        self.read_relations_by_number(call, relations, &mut parts)
            .await?;
        Ok(parts)
    }

    async fn read_entities_by_number(
        &self,
        call: &Call,
        numbers: &[i64],
        parts: &mut GraphParts,
    ) -> Result<(), EngineError> {
        let mut budget = PropertyBudget::new();
        for portion in numbers.chunks(PORTION) {
            let query = EntityQuery::Numbers(portion.to_vec());
            let found = call
                .database(self.store.entities(&call.scope, &query))
                .await?;
            call.count_rows(found.len());
            let mut found: HashMap<i64, Entity> = by_key(found, |entity| entity.seq);
            for number in portion {
                let Some(mut entity) = found.remove(number) else {
                    continue;
                };
                budget.fit(&mut entity.properties);
                parts.entities.insert(*number, entity);
            }
        }
        parts.notes.extend(budget.note("entities"));
        Ok(())
    }

    async fn read_relations_by_number(
        &self,
        call: &Call,
        numbers: &[i64],
        parts: &mut GraphParts,
    ) -> Result<(), EngineError> {
        let names: HashMap<i64, String> = parts
            .entities
            .iter()
            .map(|(number, entity)| (*number, entity.name.clone()))
            .collect();
        let mut budget = PropertyBudget::new();
        for portion in numbers.chunks(PORTION) {
            let found = call
                .database(self.store.relations(&call.scope, portion))
                .await?;
            call.count_rows(found.len());
            let mut found = by_key(found, |relation| relation.seq);
            for number in portion {
                let Some(mut relation) = found.remove(number) else {
                    continue;
                };
                budget.fit(&mut relation.properties);
                let view = RelationView::new(&relation, &names).map(|view| (*number, view));
                parts.relations.extend(view);
            }
        }
        parts.notes.extend(budget.note("relations"));
        Ok(())
    }
}

fn by_key<T>(found: Vec<T>, key: impl Fn(&T) -> i64) -> HashMap<i64, T> {
    found.into_iter().map(|each| (key(&each), each)).collect()
}
