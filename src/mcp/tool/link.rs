//! `link`.

use rmcp::model::ToolAnnotations;

use super::{Answer, ModelTool, ToolError, build_answer, with_notes};
use crate::domain::Invalid;
use crate::engine::{Call, Engine, LinkOutput, LinkParams};

pub(crate) struct Link;

impl ModelTool for Link {
    type Params = LinkParams;
    type Output = LinkOutput;

    const NAME: &'static str = "link";
    const TITLE: &'static str = "Change the graph";
    const DESCRIPTION: &'static str = "Add or update entities (by name, not memory ID) and relations between them. null removes a property; unlink \
             ends a relation (at valid_to, or now) or erases it.";

    fn hints() -> ToolAnnotations {
        ToolAnnotations::new().read_only(false).destructive(true)
    }

    fn check(engine: &Engine, params: LinkParams) -> Result<(), Invalid> {
        engine.check_link(params)
    }

    async fn run(engine: &Engine, call: &Call, params: LinkParams) -> Result<Answer, ToolError> {
        let output = engine.link(call, params).await?;
        let counts = format!(
            "{} created, {} changed, {} erased.",
            output.created, output.changed, output.erased
        );
        Ok(build_answer(&output, with_notes(&output.notes, &counts)))
    }
}
