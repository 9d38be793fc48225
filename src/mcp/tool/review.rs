//! `review`.

use async_trait::async_trait;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{Answer, MemoryTool, ToolError, answer, define, describe_review, parse};
use crate::engine::{Call, Engine, ReviewOutput, ReviewParams};

pub(crate) struct Review;

#[async_trait]
impl MemoryTool for Review {
    fn definition(&self) -> Tool {
        define::<ReviewParams, ReviewOutput>(
            "review",
            "Pairs that look like duplicates or contradictions, for you to judge; changes that wait. Only the owner approves.",
            ToolAnnotations::new().read_only(false).destructive(false),
        )
    }

    async fn run(&self, engine: &Engine, call: &Call, arguments: JsonObject) -> Result<Answer, ToolError> {
        let output = engine.review(call, parse(arguments)?).await?;
        let mut lines: Vec<String> = output.reviews.iter().map(describe_review).collect();
        for pair in &output.candidates {
            let (a, b) = (&pair.memory, &pair.other);
            lines.push(format!("similar {:.2}: {} {:?}, older {} {:?}", a.similarity, a.id, a.content, b.id, b.content));
        }
        if lines.is_empty() {
            lines.push("Nothing.".to_owned());
        }
        Ok(answer(&output, lines.join("\n")))
    }
}
