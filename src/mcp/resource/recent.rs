//! `memory://recent`.

use async_trait::async_trait;

use super::{Document, MemoryResource, ToolError};
use crate::engine::{Call, Engine, RecallParams};
use crate::mcp::tool::describe_memory;

pub(super) struct Recent;

#[async_trait]
impl MemoryResource for Recent {
    fn metadata(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        (
            "recent",
            "Recent memories",
            "The newest memories of the project.",
            "text/plain",
        )
    }

    async fn read_document(&self, engine: &Engine, call: &Call) -> Result<Document, ToolError> {
        let output = engine
            .recall(
                call,
                RecallParams {
                    limit: Some(20),
                    ..RecallParams::default()
                },
            )
            .await?;
        let mut lines: Vec<String> = output
            .hits
            .iter()
            .map(|hit| describe_memory(&hit.memory))
            .collect();
        lines.extend(output.notes);
        Ok(Document {
            mime_type: "text/plain",
            text: lines.join("\n"),
        })
    }
}
