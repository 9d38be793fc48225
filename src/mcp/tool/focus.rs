//! `focus`.

use rmcp::model::{JsonObject, ToolAnnotations};

use super::{
    Answer, ModelTool, ToolError, describe_focus, given_action, limited_answer, with_notes,
};
use crate::domain::Invalid;
use crate::domain::count::count_of;
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
        let budget = params.budget();
        let output = engine.focus(call, params).await?;
        let count = match output.items.len() {
            0 => "No items.".to_owned(),
            n => format!("{}:", count_of(n as u64, "item")),
        };
        let mut lines = vec![with_notes(&output.notes, &count)];
        if let Some(memory) = &output.memory {
            lines.push(format!("Stored as memory {}", short_id(memory)));
        }
        lines.extend(output.items.iter().map(describe_focus));
        lines.extend(
            output
                .evicted
                .iter()
                .map(|item| format!("Archived to make room: {}", describe_focus(item))),
        );
        let cursor = output.next_cursor.as_ref();
        let ending = cursor.map(|cursor| format!("More with cursor {cursor}"));
        Ok(limited_answer(
            &output,
            lines.join("\n"),
            ending.unwrap_or_default(),
            budget,
        ))
    }
}
