//! `get`.

use async_trait::async_trait;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, describe, describe_detail, parse};
use crate::engine::{Call, Engine, GetOutput, GetParams};

pub(crate) struct Get;

#[async_trait]
impl MemoryTool for Get {
    fn definition(&self) -> Tool {
        define::<GetParams, GetOutput>(
            "get",
            "Read memories by id in full, on request with every change, or entities by name.",
            ToolAnnotations::new().read_only(true),
        )
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.get(call, parse(arguments)?).await?;
        let mut parts: Vec<String> = output.memories.iter().map(describe).collect();
        parts.extend(output.entities.iter().map(describe_detail));
        if !output.missing.is_empty() {
            parts.push(format!("Not found: {}", output.missing.join(", ")));
        }
        for entry in &output.history {
            let mut line =
                format!("{} {} version {} {:?} by {}", entry.at, entry.id, entry.version, entry.change, entry.by);
            if let Some(reason) = &entry.reason {
                line.push_str(&format!(" because {reason}"));
            }
            if let (Some(old), Some(new)) = (&entry.old, &entry.new) {
                line.push_str(&format!(": {old} became {new}"));
            }
            parts.push(line);
        }
        Ok(answer(&output, parts.join("\n")))
    }
}
