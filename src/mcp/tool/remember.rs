//! `remember`.

use rmcp::model::ToolAnnotations;

use super::{Answer, ModelTool, ToolError, build_answer, inline_text, quote_lines, with_notes};
use crate::domain::Invalid;
use crate::domain::count::count_of;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, RememberOutput, RememberParams, StoredView};

/// Maximum size of a batch whose memories are all listed; larger ones are answered with counts and
/// the memories that deserve attention.
const MOST_LISTED: usize = 50;

pub(crate) struct Remember;

impl ModelTool for Remember {
    type Params = RememberParams;
    type Output = RememberOutput;

    const NAME: &'static str = "remember";
    const TITLE: &'static str = "Store memories";
    const DESCRIPTION: &'static str = "Store one or more memories for later conversations. All items are stored, or none. Duplicates are not stored \
             again: their new tags and other values are added to the existing memory, whose ID is returned.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().destructive(false).idempotent(true)
    }

    fn check(engine: &Engine, params: RememberParams) -> Result<(), Invalid> {
        engine.check_remember(params)
    }

    async fn run(
        engine: &Engine,
        call: &Call,
        params: RememberParams,
    ) -> Result<Answer, ToolError> {
        let mut output = engine.remember(call, params).await?;
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
        Ok(build_answer(&output, lines.join("\n")))
    }
}

/// Returns the end of the first line: the list of memories follows it, unless it is omitted.
fn ending(output: &RememberOutput) -> &'static str {
    let listed =
        output.memories.len() <= MOST_LISTED || output.memories.iter().any(deserves_attention);
    if listed { ":" } else { "." }
}

/// Omits the new memories of a large batch that need no attention.
fn shorten(output: &mut RememberOutput) {
    let all = output.memories.len();
    output.memories.retain(deserves_attention);
    let left_out = all - output.memories.len();
    if left_out > 0 {
        output.notes.push(format!(
            "The IDs of {} are left out; calls with up to {MOST_LISTED} items return all IDs.",
            count_of(left_out as u64, "new memory")
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
            text.push_str(&format!("; {label}: {}", inline_text(&values.join(", "))));
        }
    }
    for other in &memory.similar {
        text.push_str(&format!(
            "\n  similar ({:.2}) {}\n{}",
            other.similarity,
            short_id(&other.id),
            quote_lines(&other.content)
        ));
    }
    text
}
