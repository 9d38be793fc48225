//! `focus`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, action, answer, define, describe_focus, parse};
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, FocusOutput, FocusParams};

pub(crate) struct Focus;

#[async_trait]
impl MemoryTool for Focus {
    fn definition(&self) -> Tool {
        define::<FocusParams, FocusOutput>(
            "focus",
            "A session's working memory: what to keep in mind now. promote brings back what was archived.",
            ToolAnnotations::new().read_only(false).destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<FocusParams>()
    }

    fn writes(&self, arguments: &JsonObject) -> bool {
        !matches!(action(arguments), Some("list") | None)
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.focus(call, parse(arguments)?).await?;
        let mut text = match output.items.len() {
            0 => "Nothing.".to_owned(),
            1 => "1 item:".to_owned(),
            n => format!("{n} items:"),
        };
        for item in &output.items {
            text.push('\n');
            text.push_str(&describe_focus(item));
        }
        for item in &output.evicted {
            text.push_str("\nArchived to make room: ");
            text.push_str(&describe_focus(item));
        }
        if let Some(memory) = &output.memory {
            text.push_str("\nStored as memory ");
            text.push_str(short_id(memory));
        }
        for note in &output.notes {
            text.push_str("\nNote: ");
            text.push_str(note);
        }
        if let Some(cursor) = &output.next_cursor {
            text.push_str("\nMore with cursor ");
            text.push_str(cursor);
        }
        Ok(answer(&output, text))
    }
}
