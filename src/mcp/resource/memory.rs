//! `memory://{id}`.

use super::{Document, ToolError};
use crate::engine::{Call, Engine, EngineError, GetParams};
use crate::mcp::tool::describe;

/// The memory of this id; none where there is no such id.
pub(super) async fn read(
    engine: &Engine,
    call: &Call,
    id: &str,
) -> Result<Option<Document>, ToolError> {
    let params = GetParams {
        ids: vec![id.to_owned()],
        ..GetParams::default()
    };
    let found = match engine.get(call, params).await {
        // Whatever is no id leads nowhere.
        Err(EngineError::Invalid(_)) => return Ok(None),
        other => other?,
    };
    Ok(found.memories.first().map(|memory| Document {
        mime_type: "text/plain",
        text: describe(memory),
    }))
}
