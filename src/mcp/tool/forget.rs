//! `forget`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, parse, protected};
use crate::engine::{Call, Engine, ForgetOutput, ForgetParams, Mode};

pub(crate) struct Forget;

#[async_trait]
impl MemoryTool for Forget {
    fn definition(&self) -> Tool {
        define::<ForgetParams, ForgetOutput>(
            "forget",
            "Delete memories, restore deleted ones, or purge them for ever. Purge only when the user asks for it.",
            ToolAnnotations::new().destructive(true).idempotent(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<ForgetParams>()
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.forget(call, parse(arguments)?).await?;
        let done = match output.mode {
            Mode::Delete => "deleted; forget with mode restore brings them back",
            Mode::Restore => "restored",
            Mode::Purge => "purged without a trace",
        };
        let mut text = format!("{} {done}.", output.changed);
        if !output.reviews.is_empty() {
            text.push('\n');
            text.push_str(&protected(&output.reviews));
        }
        Ok(answer(&output, text))
    }
}
