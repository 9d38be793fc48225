//! `explore`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::quote::inline;
use super::{Answer, MemoryTool, ToolError, answer, check_params, define, parse, with_notes};
use crate::domain::Invalid;
use crate::engine::{Call, Engine, EntityView, ExploreOutput, ExploreParams, RelationView};

pub(crate) struct Explore;

#[async_trait]
impl MemoryTool for Explore {
    fn definition(&self) -> Tool {
        define::<ExploreParams, ExploreOutput>(
            "explore",
            "Query the graph of entities. neighbours and suggest (likely missing relations) need name; path needs name and \
             to; list takes a name prefix or a type.",
            ToolAnnotations::new().read_only(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<ExploreParams>()
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: ExploreParams| {
            engine.check_explore(&params)
        })
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.explore(call, parse(arguments)?).await?;
        let entities = if output.entities.len() == 1 {
            "entity"
        } else {
            "entities"
        };
        let relations = if output.relations.len() == 1 {
            "relation"
        } else {
            "relations"
        };
        let partial = if output.partial { " (partial)" } else { "" };
        let counts = format!(
            "{} {entities}, {} {relations}{partial}:",
            output.entities.len(),
            output.relations.len()
        );
        let mut text = with_notes(&output.notes, &counts);
        for entity in &output.entities {
            text.push('\n');
            text.push_str(&describe_entity(entity));
        }
        for relation in &output.relations {
            text.push('\n');
            text.push_str(&describe_relation(relation));
        }
        Ok(answer(&output, text))
    }
}

/// An entity in a line.
pub(super) fn describe_entity(entity: &EntityView) -> String {
    let mut line = format!("{} [{}]", inline(&entity.name), inline(&entity.kind));
    let details = [
        entity
            .project
            .as_ref()
            .map(|project| format!("project {project}")),
        entity
            .distance
            .filter(|distance| *distance > 0)
            .map(|distance| format!("distance {distance}")),
        entity.why.clone(),
        (!entity.properties.is_empty())
            .then(|| serde_json::Value::Object(entity.properties.clone()).to_string()),
    ];
    for detail in details.into_iter().flatten() {
        line.push_str(" · ");
        line.push_str(&inline(&detail));
    }
    line
}

/// A relation in a line.
pub(super) fn describe_relation(relation: &RelationView) -> String {
    let mut line = format!(
        "{} -{}-> {}",
        inline(&relation.from),
        inline(&relation.kind),
        inline(&relation.to)
    );
    for (word, time) in [
        ("from", &relation.valid_from),
        ("until", &relation.valid_to),
    ] {
        if let Some(time) = time {
            line.push_str(&format!(" {word} {time}"));
        }
    }
    line
}
