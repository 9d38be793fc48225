//! `focus`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::{Answer, ModelTool, ToolError, build_answer, describe_focus, given_action, with_notes};
use crate::domain::Invalid;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, FocusOutput, FocusParams};

pub(crate) struct Focus;

impl ModelTool for Focus {
    type Params = FocusParams;
    type Output = FocusOutput;

    const NAME: &'static str = "focus";
    const TITLE: &'static str = "Working memory";
    const DESCRIPTION: &'static str = "A session's short working memory (10 items by default; the least recently used is archived).";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(false).destructive(false)
    }

    fn writes(arguments: &JsonObject) -> bool {
        let given = |name: &str| arguments.get(name).is_some_and(|value| !value.is_null());
        match given_action(arguments) {
            Some("list") => false,
            Some(_) => true,
            // Without an action, content is added; `text` is an alias of it.
            None => given("content") || given("text"),
        }
    }

    fn check(engine: &Engine, params: FocusParams) -> Result<(), Invalid> {
        engine.check_focus(&params)
    }

    async fn run(engine: &Engine, call: &Call, params: FocusParams) -> Result<Answer, ToolError> {
        let output = engine.focus(call, params).await?;
        let count = match output.items.len() {
            0 => "No items.".to_owned(),
            1 => "1 item:".to_owned(),
            n => format!("{n} items:"),
        };
        let mut lines = vec![with_notes(&output.notes, &count)];
        lines.extend(output.items.iter().map(describe_focus));
        lines.extend(
            output
                .evicted
                .iter()
                .map(|item| format!("Archived to make room: {}", describe_focus(item))),
        );
        if let Some(memory) = &output.memory {
            lines.push(format!("Stored as memory {}", short_id(memory)));
        }
        if let Some(cursor) = &output.next_cursor {
            lines.push(format!("More with cursor {cursor}"));
        }
        Ok(build_answer(&output, lines.join("\n")))
    }
}
