//! `focus`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{
    Answer, MemoryTool, ToolError, action, answer, check_params, define, describe_focus, parse,
    with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, FocusOutput, FocusParams};

pub(crate) struct Focus;

#[async_trait]
impl MemoryTool for Focus {
    fn definition(&self) -> Tool {
        define::<FocusParams, FocusOutput>(
            "focus",
            "A session's short working memory (10 items by default; the least recently used is archived).",
            ToolAnnotations::new().read_only(false).destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<FocusParams>()
    }

    fn writes(&self, arguments: &JsonObject) -> bool {
        let given = |name: &str| arguments.get(name).is_some_and(|value| !value.is_null());
        match action(arguments) {
            Some("list") => false,
            Some(_) => true,
            // Without an action, a content is to be added; `text` is another name for it.
            None => given("content") || given("text"),
        }
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: FocusParams| engine.check_focus(&params))
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.focus(call, parse(arguments)?).await?;
        let count = match output.items.len() {
            0 => "No items.".to_owned(),
            1 => "1 item:".to_owned(),
            n => format!("{n} items:"),
        };
        let mut lines = vec![with_notes(&output.notes, &count)];
        lines.extend(output.items.iter().map(describe_focus));
        lines.extend(
            output
                .evicted
                .iter()
                .map(|item| format!("Archived to make room: {}", describe_focus(item))),
        );
        if let Some(memory) = &output.memory {
            lines.push(format!("Stored as memory {}", short_id(memory)));
        }
        if let Some(cursor) = &output.next_cursor {
            lines.push(format!("More with cursor {cursor}"));
        }
        Ok(answer(&output, lines.join("\n")))
    }
}
