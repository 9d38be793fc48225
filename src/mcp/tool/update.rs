//! `update`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, describe, parse, protected};
use crate::engine::{Call, Engine, UpdateOutput, UpdateParams};

pub(crate) struct Update;

#[async_trait]
impl MemoryTool for Update {
    fn definition(&self) -> Tool {
        define::<UpdateParams, UpdateOutput>(
            "update",
            "Correct a memory, or say whether it helped. History keeps what was. When a fact changed in the world, \
             remember the new one with supersedes instead.",
            ToolAnnotations::new().destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<UpdateParams>()
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.update(call, parse(arguments)?).await?;
        if let Some(review) = &output.review {
            let text = format!("{}\n{}", protected(std::slice::from_ref(review)), describe(&output.memory));
            return Ok(answer(&output, text));
        }
        let text = format!("Now at version {}:\n{}", output.memory.version, describe(&output.memory));
        Ok(answer(&output, text))
    }
}
