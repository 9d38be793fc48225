//! `memory://{id}`.

use super::{Document, ToolError};
use crate::engine::{Call, Engine, EngineError, GetParams};
use crate::mcp::tool::describe_memory;

/// Reads the memory of this ID; none if it does not exist.
pub(super) async fn read_resource(
    engine: &Engine,
    call: &Call,
    id: &str,
) -> Result<Option<Document>, ToolError> {
    let params = GetParams {
        ids: vec![id.to_owned()],
        ..GetParams::default()
    };
    let found = match engine.get(call, params).await {
        // An invalid ID has no memory.
        Err(EngineError::Invalid(_)) => return Ok(None),
        other => other?,
    };
    Ok(found.memories.first().map(|memory| Document {
        mime_type: "text/plain",
        text: describe_memory(memory),
    }))
}
