//! `status`.

use async_trait::async_trait;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, parse};
use crate::engine::{Call, Engine, StatusOutput, StatusParams};

pub(crate) struct Status;

#[async_trait]
impl MemoryTool for Status {
    fn definition(&self) -> Tool {
        define::<StatusParams, StatusOutput>(
            "status",
            "Counts, what waits to be indexed, and which database and version serve it.",
            ToolAnnotations::new().read_only(true),
        )
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.status(call, parse(arguments)?).await?;
        let kinds: Vec<String> = output.by_kind.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let text = format!(
            "Project {}: {} memories ({}), {} deleted, {} superseded, {} waiting for the index by meaning, \
             {} reviews open. Version {} on {} {}, schema {}.",
            output.project,
            output.memories,
            kinds.join(", "),
            output.deleted,
            output.superseded,
            output.index_backlog,
            output.open_reviews,
            output.version,
            output.database,
            output.database_version,
            output.schema_version,
        );
        Ok(answer(&output, text))
    }
}
