//! `recall`.

use async_trait::async_trait;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, describe, parse};
use crate::engine::{Call, Engine, RecallOutput, RecallParams};

pub(crate) struct Recall;

#[async_trait]
impl MemoryTool for Recall {
    fn definition(&self) -> Tool {
        define::<RecallParams, RecallOutput>(
            "recall",
            "Find memories by a question or by words, with filters. Call it before you answer anything that an earlier \
             conversation may have settled.",
            ToolAnnotations::new().read_only(true),
        )
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.recall(call, parse(arguments)?).await?;
        let mut text = match output.hits.len() {
            0 => "No memory found.".to_owned(),
            1 => "1 memory:".to_owned(),
            n => format!("{n} memories, best first:"),
        };
        for hit in &output.hits {
            text.push('\n');
            text.push_str(&describe(&hit.memory));
            if hit.cut {
                text.push_str("… (cut; get has all of it)");
            }
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
