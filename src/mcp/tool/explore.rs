//! `explore`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::quote::inline_text;
use super::{Answer, ModelTool, ToolError, given_count, limited_answer, with_notes};
use crate::domain::Invalid;
use crate::domain::count::count_of;
use crate::engine::{Call, Engine, EntityView, ExploreOutput, ExploreParams, RelationView};

pub(crate) struct Explore;

impl ModelTool for Explore {
    type Params = ExploreParams;
    type Output = ExploreOutput;

    const NAME: &'static str = "explore";
    const TITLE: &'static str = "Query the graph";
    const DESCRIPTION: &'static str = "Query the graph of entities. neighbours and suggest (likely missing relations) need name; path needs name and \
             to; list takes a name prefix or a type.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(true)
    }

    fn check(engine: &Engine, params: ExploreParams) -> Result<(), Invalid> {
        engine.check_explore(&params)
    }

    fn reads_much(arguments: &JsonObject) -> bool {
        given_count(arguments, "limit") > 100
    }

    async fn run(engine: &Engine, call: &Call, params: ExploreParams) -> Result<Answer, ToolError> {
        let budget = params.budget();
        let output = engine.explore(call, params).await?;
        let partial = if output.partial { " (partial)" } else { "" };
        let counts = format!(
            "{}, {}{partial}:",
            count_of(output.entities.len() as u64, "entity"),
            count_of(output.relations.len() as u64, "relation")
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
        Ok(limited_answer(&output, text, String::new(), budget))
    }
}

/// Describes an entity in a line.
pub(super) fn describe_entity(entity: &EntityView) -> String {
    let mut line = format!(
        "{} [{}]",
        inline_text(&entity.name),
        inline_text(&entity.kind)
    );
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
        (!entity.properties.is_empty()).then(|| entity.properties.as_str().to_owned()),
    ];
    for detail in details.into_iter().flatten() {
        line.push_str(" · ");
        line.push_str(&inline_text(&detail));
    }
    line
}

/// Describes a relation in a line.
pub(super) fn describe_relation(relation: &RelationView) -> String {
    let mut line = format!(
        "{} -{}-> {}",
        inline_text(&relation.from),
        inline_text(&relation.kind),
        inline_text(&relation.to)
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
