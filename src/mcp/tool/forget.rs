//! `forget`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{
    Answer, EXCERPT_CHARS, MemoryTool, ToolError, answer, awaiting_owner, check_params, define,
    excerpt, parse, with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, ForgetOutput, ForgetParams, Mode};

pub(crate) struct Forget;

#[async_trait]
impl MemoryTool for Forget {
    fn definition(&self) -> Tool {
        define::<ForgetParams, ForgetOutput>(
            "forget",
            "Delete memories, restore deleted ones, or purge them for good. Purge only if the user asks for it.",
            ToolAnnotations::new().destructive(true).idempotent(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<ForgetParams>()
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: ForgetParams| {
            engine.check_forget(&params)
        })
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let output = engine.forget(call, parse(arguments)?).await?;
        let mut lines = Vec::new();
        if output.changed > 0 || output.reviews.is_empty() {
            lines.push(summary(&output));
        }
        for memory in &output.memories {
            let text = memory
                .content
                .as_ref()
                .map(|text| format!(" {}", excerpt(text, EXCERPT_CHARS)));
            lines.push(format!(
                "[{}]{}",
                short_id(&memory.id),
                text.unwrap_or_default()
            ));
        }
        if !output.reviews.is_empty() {
            lines.push(awaiting_owner(output.mode.done(), &output.reviews));
        }
        Ok(answer(
            &output,
            with_notes(&output.notes, &lines.join("\n")),
        ))
    }
}

fn summary(output: &ForgetOutput) -> String {
    let count = match output.changed {
        0 => return format!("Nothing was {}.", output.mode.done()),
        1 => "1 memory".to_owned(),
        n => format!("{n} memories"),
    };
    match output.mode {
        Mode::Delete => format!("{count} deleted; forget with mode restore undoes this."),
        Mode::Restore => format!("{count} restored."),
        Mode::Purge => format!("{count} purged; this cannot be undone."),
    }
}
