//! `forget`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::{
    Answer, EXCERPT_CHARS, ModelTool, ToolError, awaiting_owner, build_answer, first_chars,
    given_count, with_notes,
};
use crate::domain::Invalid;
use crate::domain::count::count_of;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, ForgetOutput, ForgetParams, Mode};

pub(crate) struct Forget;

impl ModelTool for Forget {
    type Params = ForgetParams;
    type Output = ForgetOutput;

    const NAME: &'static str = "forget";
    const TITLE: &'static str = "Delete or restore memories";
    const DESCRIPTION: &'static str = "Delete memories, restore deleted ones, or purge them for good. Purge only if the user asks for it.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().destructive(true).idempotent(true)
    }

    fn check(engine: &Engine, params: ForgetParams) -> Result<(), Invalid> {
        engine.check_forget(&params)
    }

    fn reads_much(arguments: &JsonObject) -> bool {
        given_count(arguments, "ids") > 20
    }

    async fn run(engine: &Engine, call: &Call, params: ForgetParams) -> Result<Answer, ToolError> {
        let output = engine.forget(call, params).await?;
        let mut lines = Vec::new();
        if output.changed > 0 || output.reviews.is_empty() {
            lines.push(summary(&output));
        }
        for memory in &output.memories {
            let text = memory
                .content
                .as_ref()
                .map(|text| format!(" {}", first_chars(text, EXCERPT_CHARS)));
            lines.push(format!(
                "[{}]{}",
                short_id(&memory.id),
                text.unwrap_or_default()
            ));
        }
        if !output.reviews.is_empty() {
            lines.push(awaiting_owner(output.mode.done(), &output.reviews));
        }
        Ok(build_answer(
            &output,
            with_notes(&output.notes, &lines.join("\n")),
        ))
    }
}

fn summary(output: &ForgetOutput) -> String {
    let count = match output.changed {
        0 => return format!("Nothing was {}.", output.mode.done()),
        n => count_of(n, "memory"),
    };
    match output.mode {
        Mode::Delete => format!("{count} deleted; forget with mode restore undoes this."),
        Mode::Restore => format!("{count} restored."),
        Mode::Purge => format!("{count} purged; this cannot be undone."),
    }
}
