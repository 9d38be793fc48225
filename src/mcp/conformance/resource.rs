//! The suite's resources.

use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

use super::tool::{self, PNG};

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";

pub(super) fn list() -> Vec<Resource> {
    [
        (TEXT, "text/plain"),
        (BINARY, "image/png"),
        (WATCHED, "text/plain"),
    ]
    .map(|(uri, mime_type)| {
        let name = uri.trim_start_matches("test://");
        Resource::new(uri, name)
            .with_description("A fixture of the conformance suite.")
            .with_mime_type(mime_type)
    })
    .to_vec()
}

pub(super) fn template() -> ResourceTemplate {
    ResourceTemplate::new("test://template/{id}/data", "template")
        .with_description("A fixture of the conformance suite.")
        .with_mime_type("application/json")
}

pub(super) fn read(uri: &str) -> Option<ReadResourceResult> {
    let contents = match uri {
        TEXT | WATCHED => tool::resource(
            uri,
            "text/plain",
            "This is the content of the static text resource.",
        ),
        BINARY => ResourceContents::BlobResourceContents {
            uri: uri.to_owned(),
            mime_type: Some("image/png".to_owned()),
            blob: PNG.to_owned(),
            meta: None,
        },
        _ => {
            let id = uri
                .strip_prefix("test://template/")?
                .strip_suffix("/data")?;
            let data =
                json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            tool::resource(uri, "application/json", &data.to_string())
        }
    };
    Some(ReadResourceResult::new(vec![contents]))
}
