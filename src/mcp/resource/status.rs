//! `memory://status`.

use async_trait::async_trait;

use super::{Document, MemoryResource, ToolError};
use crate::engine::{Call, Engine, StatusParams};

pub(super) struct Status;

#[async_trait]
impl MemoryResource for Status {
    fn metadata(&self) -> (&'static str, &'static str, &'static str, &'static str) {
        (
            "status",
            "Status",
            "Counts, index backlog, database and versions.",
            "application/json",
        )
    }

    async fn read_document(&self, engine: &Engine, call: &Call) -> Result<Document, ToolError> {
        let status = engine.status(call, StatusParams::default()).await?;
        let text = serde_json::to_string_pretty(&status)
            .expect("a status is plain data, which always serialises");
        Ok(Document {
            mime_type: "application/json",
            text,
        })
    }
}
