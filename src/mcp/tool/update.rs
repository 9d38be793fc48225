//! `update`.

use rmcp::model::ToolAnnotations;

use super::{
    Answer, ModelTool, ToolError, awaiting_owner, build_answer, describe_memory, with_notes,
};
use crate::domain::Invalid;
use crate::engine::{Call, Engine, UpdateOutput, UpdateParams};

pub(crate) struct Update;

impl ModelTool for Update {
    type Params = UpdateParams;
    type Output = UpdateOutput;

    const NAME: &'static str = "update";
    const TITLE: &'static str = "Correct a memory";
    const DESCRIPTION: &'static str = "Correct a memory, add sources, or give feedback on it. History keeps earlier values. If a fact has changed, \
             remember the new one with supersedes instead.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().destructive(false)
    }

    fn check(engine: &Engine, params: UpdateParams) -> Result<(), Invalid> {
        engine.check_update(params)
    }

    async fn run(engine: &Engine, call: &Call, params: UpdateParams) -> Result<Answer, ToolError> {
        let output = engine.update(call, params).await?;
        let mut lines = Vec::new();
        if let Some(review) = &output.review {
            lines.push(awaiting_owner("changed", std::slice::from_ref(review)));
        } else if !output.changed.is_empty() {
            lines.push(format!(
                "Changed {}; now at version {}.",
                output.changed.join(", "),
                output.memory.version
            ));
        }
        lines.push(describe_memory(&output.memory));
        Ok(build_answer(
            &output,
            with_notes(&output.notes, &lines.join("\n")),
        ))
    }
}
