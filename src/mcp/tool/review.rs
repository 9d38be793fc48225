//! `review`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{
    Answer, EXCERPT_CHARS, MemoryTool, ToolError, action, answer, check_params, define,
    describe_review, excerpt, parse, quote, with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{
    Call, CandidateView, Engine, PairView, ReviewOutput, ReviewParams, ReviewView,
};

pub(crate) struct Review;

#[async_trait]
impl MemoryTool for Review {
    fn definition(&self) -> Tool {
        define::<ReviewParams, ReviewOutput>(
            "review",
            "Find duplicates and contradictions and decide which memory stays valid. Changes of protected memories await \
             the owner.",
            ToolAnnotations::new().read_only(false).destructive(false),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<ReviewParams>()
    }

    fn writes(&self, arguments: &JsonObject) -> bool {
        !matches!(action(arguments), Some("list" | "candidates"))
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: ReviewParams| {
            engine.check_review(&params)
        })
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.review(call, parse(arguments)?).await?;
        let mut lines: Vec<String> = output.reviews.iter().map(describe_outcome).collect();
        lines.extend(output.candidates.iter().map(describe_pair));
        if lines.is_empty() && output.notes.is_empty() {
            lines.push("No reviews or candidates.".to_owned());
        }
        Ok(answer(
            &output,
            with_notes(&output.notes, &lines.join("\n")),
        ))
    }
}

/// A review; one that took effect says how to undo it.
fn describe_outcome(review: &ReviewView) -> String {
    let undo = match review.state.as_str() {
        "approved" => format!(
            "; undo with `cognitive-memory-mcp review undo {}`",
            short_id(&review.id)
        ),
        _ => String::new(),
    };
    format!("{}{undo}", describe_review(review))
}

fn describe_pair(pair: &PairView) -> String {
    let label = |name: &str, age: &str, memory: &CandidateView| {
        let text = quote(&excerpt(&memory.content, EXCERPT_CHARS));
        format!(
            "{name} {} ({age}, {})\n{text}",
            short_id(&memory.id),
            memory.occurred_at
        )
    };
    let (keep, replace) = (
        label("keep", "newer", &pair.keep),
        label("replace", "older", &pair.replace),
    );
    format!("Similarity {:.2}:\n{keep}\n{replace}", pair.similarity)
}
