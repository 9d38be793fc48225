//! `update`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{
    Answer, MemoryTool, ToolError, answer, awaiting_owner, check_params, define, describe, parse,
    with_notes,
};
use crate::domain::Invalid;
use crate::engine::{Call, Engine, UpdateOutput, UpdateParams};

pub(crate) struct Update;

#[async_trait]
impl MemoryTool for Update {
    fn definition(&self) -> Tool {
        define::<UpdateParams, UpdateOutput>(
            "update",
            "Correct a memory, add sources, or give feedback on it. History keeps earlier values. If a fact has changed, \
             remember the new one with supersedes instead.",
            ToolAnnotations::new().destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<UpdateParams>()
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: UpdateParams| {
            engine.check_update(params)
        })
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.update(call, parse(arguments)?).await?;
        let mut lines = Vec::new();
        if let Some(review) = &output.review {
            lines.push(awaiting_owner("changed", std::slice::from_ref(review)));
        } else if !output.changed.is_empty() {
            lines.push(format!(
                "Changed {}; now at version {}.",
                output.changed.join(", "),
                output.memory.version
            ));
        }
        lines.push(describe(&output.memory));
        Ok(answer(
            &output,
            with_notes(&output.notes, &lines.join("\n")),
        ))
    }
}
