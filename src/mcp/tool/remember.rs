//! `remember`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, parse};
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, RememberOutput, RememberParams};

pub(crate) struct Remember;

#[async_trait]
impl MemoryTool for Remember {
    fn definition(&self) -> Tool {
        define::<RememberParams, RememberOutput>(
            "remember",
            "Store memories, one or many, all or none: whatever is worth knowing in a later conversation. What is already \
             stored comes back with its id.",
            ToolAnnotations::new().destructive(false).idempotent(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<RememberParams>()
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.remember(call, parse(arguments)?).await?;
        let mut text = format!("{} of {} stored as new:", output.created, output.memories.len());
        for memory in &output.memories {
            text.push_str(if memory.created { "\nnew " } else { "\nalready there " });
            text.push_str(short_id(&memory.id));
            for other in &memory.similar {
                text.push_str(&format!(
                    "\n  similar ({:.2}) {}: {}",
                    other.similarity,
                    short_id(&other.id),
                    other.content
                ));
            }
        }
        for note in &output.notes {
            text.push_str("\nNote: ");
            text.push_str(note);
        }
        Ok(answer(&output, text))
    }
}
