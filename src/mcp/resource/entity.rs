//! `memory://entity/{name}`.

use percent_encoding::percent_decode_str;

use super::{Document, ToolError};
use crate::engine::{Call, Engine, EngineError, GetParams};
use crate::mcp::tool::describe_detail;

/// Reads the entity of this name, which is percent-encoded; none if it does not exist.
pub(super) async fn read_resource(
    engine: &Engine,
    call: &Call,
    name: &str,
) -> Result<Option<Document>, ToolError> {
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return Ok(None);
    };
    let params = GetParams {
        entities: vec![name.into_owned()],
        ..GetParams::default()
    };
    let found = match engine.get(call, params).await {
        // An invalid name has no entity.
        Err(EngineError::Invalid(_)) => return Ok(None),
        other => other?,
    };
    let parts: Vec<String> = found.entities.iter().map(describe_detail).collect();
    Ok((!parts.is_empty()).then(|| Document {
        mime_type: "text/plain",
        text: parts.join("\n"),
    }))
}
