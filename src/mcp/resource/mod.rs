//! The resources, which a person can attach to a conversation: one file per URI.

use async_trait::async_trait;
use rmcp::model::{Resource, ResourceTemplate};

use super::error::ToolError;
use crate::engine::{Call, Completable, Engine};

mod entity;
mod focus;
mod memory;
mod recent;
mod status;

/// Every resource with a fixed URI.
pub(super) const ALL: [&dyn MemoryResource; 3] = [&focus::Focus, &recent::Recent, &status::Status];

/// A URI template with one variable: the template, name, title, description, the variable, and its completion.
pub(super) struct Template {
    pub(super) address: &'static str,
    name: &'static str,
    title: &'static str,
    description: &'static str,
    pub(super) argument: &'static str,
    pub(super) completes: Completable,
}

/// Every URI template.
pub(super) const TEMPLATES: [Template; 2] = [
    Template {
        address: "memory://{id}",
        name: "memory",
        title: "Memory",
        description: "One full memory, by its ID.",
        argument: "id",
        completes: Completable::Id,
    },
    Template {
        address: "memory://entity/{name}",
        name: "entity",
        title: "Entity",
        description: "An entity by its name: its relations and the memories that mention it.",
        argument: "name",
        completes: Completable::Entity,
    },
];

/// The scheme of all URIs.
const SCHEME: &str = "memory://";

/// The content of a resource.
pub(super) struct Document {
    pub(super) mime_type: &'static str,
    pub(super) text: String,
}

/// A resource: its description and its content.
#[async_trait]
pub(super) trait MemoryResource: Send + Sync {
    /// Name, which follows the scheme in the URI; title, description, media type.
    fn metadata(&self) -> (&'static str, &'static str, &'static str, &'static str);

    /// Reads the current content.
    async fn read_document(&self, engine: &Engine, call: &Call) -> Result<Document, ToolError>;
}

/// Converts the resource to its definition in the protocol.
pub(super) fn define_resource(resource: &dyn MemoryResource) -> Resource {
    let (name, title, description, mime_type) = resource.metadata();
    Resource::new(format!("{SCHEME}{name}"), name)
        .with_title(title)
        .with_description(description)
        .with_mime_type(mime_type)
}

/// Converts the template to its definition in the protocol.
pub(super) fn define_template(template: &Template) -> ResourceTemplate {
    ResourceTemplate::new(template.address, template.name)
        .with_title(template.title)
        .with_description(template.description)
        .with_mime_type("text/plain")
}

/// Reads the resource of a URI; `None` if there is no such resource.
pub(super) async fn read_resource(
    engine: &Engine,
    call: &Call,
    uri: &str,
) -> Result<Option<Document>, ToolError> {
    let Some(name) = uri.strip_prefix(SCHEME) else {
        return Ok(None);
    };
    match ALL.iter().find(|resource| resource.metadata().0 == name) {
        Some(resource) => resource.read_document(engine, call).await.map(Some),
        None => match name.strip_prefix("entity/") {
            Some(entity) => entity::read_resource(engine, call, entity).await,
            None => memory::read_resource(engine, call, name).await,
        },
    }
}
