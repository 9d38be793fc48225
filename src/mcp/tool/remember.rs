//! `remember`.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::schema_for_type;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};

use super::{
    Answer, MemoryTool, ToolError, answer, check_params, define, inline, parse, quote, with_notes,
};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, RememberOutput, RememberParams, StoredView};

/// Larger batches are answered with counts and the memories that deserve attention.
const MOST_LISTED: usize = 50;

pub(crate) struct Remember;

#[async_trait]
impl MemoryTool for Remember {
    fn definition(&self) -> Tool {
        define::<RememberParams, RememberOutput>(
            "remember",
            "Store one or more memories for later conversations. All items are stored, or none. Duplicates are not stored \
             again: their new tags and other values are added to the existing memory, whose ID is returned.",
            ToolAnnotations::new().destructive(false).idempotent(true),
        )
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<RememberParams>()
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        check_params(arguments, |params: RememberParams| {
            engine.check_remember(params)
        })
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        let mut output = engine.remember(call, parse(arguments)?).await?;
        let summary = format!(
            "{} of {} stored as new{}",
            output.created,
            output.memories.len(),
            ending(&output)
        );
        if output.memories.len() > MOST_LISTED {
            shorten(&mut output);
        }
        let mut lines = vec![with_notes(&output.notes, &summary)];
        lines.extend(output.memories.iter().map(describe_stored));
        Ok(answer(&output, lines.join("\n")))
    }
}

/// With what the first line ends: the list of memories follows it, unless it is left out.
fn ending(output: &RememberOutput) -> &'static str {
    let listed =
        output.memories.len() <= MOST_LISTED || output.memories.iter().any(deserves_attention);
    if listed { ":" } else { "." }
}

/// Leaves out the new memories of a large batch that there is nothing to say about.
fn shorten(output: &mut RememberOutput) {
    let all = output.memories.len();
    output.memories.retain(deserves_attention);
    let left_out = all - output.memories.len();
    if left_out > 0 {
        output.notes.push(format!(
            "The IDs of {left_out} new memories are left out; calls with up to {MOST_LISTED} items return all IDs."
        ));
    }
}

fn deserves_attention(memory: &StoredView) -> bool {
    !memory.created || !memory.similar.is_empty()
}

fn describe_stored(memory: &StoredView) -> String {
    let mut text = format!(
        "{} {}",
        if memory.created {
            "new"
        } else {
            "already there"
        },
        short_id(&memory.id)
    );
    for (label, values) in [("added", &memory.merged), ("not changed", &memory.ignored)] {
        if !values.is_empty() {
            text.push_str(&format!("; {label}: {}", inline(&values.join(", "))));
        }
    }
    for other in &memory.similar {
        text.push_str(&format!(
            "\n  similar ({:.2}) {}\n{}",
            other.similarity,
            short_id(&other.id),
            quote(&other.content)
        ));
    }
    text
}
