//! `link`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, check_params, define, parse, with_notes};
use crate::domain::Invalid;
use crate::engine::{Call, Engine, LinkOutput, LinkParams};

pub(crate) struct Link;

#[async_trait]
impl MemoryTool for Link {
    fn definition(&self) -> Tool {
        define::<LinkParams, LinkOutput>(
            "link",
            "Add or update entities (by name, not memory ID) and relations between them. null removes a property; unlink \
             ends a relation (at valid_to, or now) or erases it.",
            ToolAnnotations::new().read_only(false).destructive(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<LinkParams>()
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: LinkParams| engine.check_link(params))
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.link(call, parse(arguments)?).await?;
        let counts = format!(
            "{} created, {} changed, {} erased.",
            output.created, output.changed, output.erased
        );
        Ok(answer(&output, with_notes(&output.notes, &counts)))
    }
}
