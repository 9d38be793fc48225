//! `memory://focus`.

use async_trait::async_trait;

use super::{Document, MemoryResource, ToolError};
use crate::engine::{Call, Engine, FocusParams};
use crate::mcp::tool::describe_focus;

pub(super) struct Focus;

#[async_trait]
impl MemoryResource for Focus {
    fn metadata(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        (
            "focus",
            "Working memory",
            "The project's working memory, most recently used first.",
            "text/plain",
        )
    }

    async fn read_document(&self, engine: &Engine, call: &Call) -> Result<Document, ToolError> {
        let items = engine.focus(call, FocusParams::default()).await?.items;
        let lines: Vec<String> = items.iter().map(describe_focus).collect();
        let text = if lines.is_empty() {
            "The working memory is empty.".to_owned()
        } else {
            lines.join("\n")
        };
        Ok(Document {
            mime_type: "text/plain",
            text,
        })
    }
}
