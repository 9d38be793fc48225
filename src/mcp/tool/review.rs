//! `review`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::{
    Answer, EXCERPT_CHARS, ModelTool, ToolError, describe_review, first_chars, given_action,
    limited_answer, quote_lines, with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{
    Call, CandidateView, Engine, PairView, ReviewOutput, ReviewParams, ReviewView,
};

pub(crate) struct Review;

impl ModelTool for Review {
    type Params = ReviewParams;
    type Output = ReviewOutput;

    const NAME: &'static str = "review";
    const TITLE: &'static str = "Review duplicates and contradictions";
    const DESCRIPTION: &'static str = "Find duplicates and contradictions and decide which memory stays valid. Changes of protected memories await \
             the owner.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(false).destructive(false)
    }

    fn writes(arguments: &JsonObject) -> bool {
        !matches!(given_action(arguments), Some("list" | "candidates"))
    }

    fn check(engine: &Engine, params: ReviewParams) -> Result<(), Invalid> {
        engine.check_review(&params)
    }

    fn reads_much(arguments: &JsonObject) -> bool {
        given_action(arguments) != Some("judge")
    }

    async fn run(engine: &Engine, call: &Call, params: ReviewParams) -> Result<Answer, ToolError> {
        let budget = params.budget();
        let output = engine.review(call, params).await?;
        let mut lines: Vec<String> = output.reviews.iter().map(describe_outcome).collect();
        lines.extend(output.candidates.iter().map(describe_pair));
        if lines.is_empty() && output.notes.is_empty() {
            lines.push("No reviews or candidates.".to_owned());
        }
        let text = with_notes(&output.notes, &lines.join("\n"));
        Ok(limited_answer(&output, text, String::new(), budget))
    }
}

/// Describes a review, with the command that undoes it if it took effect.
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
        let text = quote_lines(&first_chars(&memory.content, EXCERPT_CHARS));
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
