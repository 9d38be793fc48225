//! `review`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, action, answer, define, describe_review, parse};
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, ReviewOutput, ReviewParams};

pub(crate) struct Review;

#[async_trait]
impl MemoryTool for Review {
    fn definition(&self) -> Tool {
        define::<ReviewParams, ReviewOutput>(
            "review",
            "Find duplicates and contradictions, judge them; see changes that wait for the owner.",
            ToolAnnotations::new().read_only(false).destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<ReviewParams>()
    }

    fn writes(&self, arguments: &JsonObject) -> bool {
        !matches!(action(arguments), Some("list" | "candidates"))
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.review(call, parse(arguments)?).await?;
        let mut lines: Vec<String> = output.reviews.iter().map(describe_review).collect();
        for pair in &output.candidates {
            let (a, b) = (&pair.memory, &pair.other);
            lines.push(format!(
                "similar {:.2}: {} {:?}, older {} {:?}",
                a.similarity,
                short_id(&a.id),
                a.content,
                short_id(&b.id),
                b.content
            ));
        }
        if lines.is_empty() {
            lines.push("Nothing.".to_owned());
        }
        Ok(answer(&output, lines.join("\n")))
    }
}
