//! The resources: what a person can attach to a conversation. Each file has an address and the text behind it.

use async_trait::async_trait;
use rmcp::model::{Resource, ResourceTemplate};

use super::error::ToolError;
use crate::engine::{Call, Engine};

mod memory;
mod recent;
mod status;

/// Every resource with an address of its own.
pub(super) const ALL: [&dyn MemoryResource; 2] = [&recent::Recent, &status::Status];

/// The addresses with an id in them.
pub(super) const TEMPLATE: &str = "memory://{id}";

/// What every address begins with.
const SCHEME: &str = "memory://";

/// What is behind an address.
pub(super) struct Document {
    pub(super) mime_type: &'static str,
    pub(super) text: String,
}

/// A resource: how it is described, and what is behind it.
#[async_trait]
pub(super) trait MemoryResource: Send + Sync {
    /// Name, which follows the scheme in the address; title, description, media type.
    fn about(&self) -> (&'static str, &'static str, &'static str, &'static str);

    /// What is behind it now.
    async fn read(&self, engine: &Engine, call: &Call) -> Result<Document, ToolError>;
}

/// The definition in the words of the protocol.
pub(super) fn definition(resource: &dyn MemoryResource) -> Resource {
    let (name, title, description, mime_type) = resource.about();
    Resource::new(format!("{SCHEME}{name}"), name)
        .with_title(title)
        .with_description(description)
        .with_mime_type(mime_type)
}

/// The template's definition.
pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new(TEMPLATE, "memory")
        .with_title("A memory")
        .with_description("One memory in full, by its id.")
        .with_mime_type("text/plain")
}

/// Reads an address; none where nothing is behind it.
pub(super) async fn read(engine: &Engine, call: &Call, uri: &str) -> Result<Option<Document>, ToolError> {
    let Some(name) = uri.strip_prefix(SCHEME) else { return Ok(None) };
    match ALL.iter().find(|resource| resource.about().0 == name) {
        Some(resource) => resource.read(engine, call).await.map(Some),
        None => memory::read(engine, call, name).await,
    }
}
