//! The reference server `@modelcontextprotocol/server-memory`: a JSON line an entity or a relation. Each observation
//! becomes a note which mentions its entity, so that recall finds it by its words.

use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;
use serde_json::Map;

use super::{in_folder, open, problem};
use crate::port::PortError;
use crate::port::convert::{Foreign, Sink};
use crate::store::port::EntityName;

/// What the server calls itself.
pub const SYSTEM: &str = "mcp-memory-server";

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Entity {
        name: String,
        #[serde(rename = "entityType")]
        kind: String,
        #[serde(default)]
        observations: Vec<String>,
    },
    Relation {
        from: String,
        to: String,
        #[serde(rename = "relationType")]
        kind: String,
    },
}

/// Reads `memory.jsonl`, twice: entities may come behind their relations.
///
/// # Errors
/// When the file cannot be read or the sink be written.
pub fn convert(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let path = in_folder(path, "memory.jsonl");
    for relations in [false, true] {
        for (index, text) in open(&path)?.lines().enumerate() {
            let text = text.map_err(|error| problem(&path, error))?;
            let place = format!("line {}", index + 1);
            if text.trim().is_empty() {
                continue;
            }
            match (serde_json::from_str::<Line>(&text), relations) {
                (Ok(Line::Entity { name, kind, observations }), false) => {
                    let entity = entity(&name, &kind);
                    sink.entity(&place, &entity, Map::new(), None)?;
                    for observation in observations {
                        let foreign = Foreign {
                            key: format!("{name}\n{observation}"),
                            content: format!("{name}: {observation}"),
                            ..Foreign::default()
                        };
                        if let Some(id) = sink.memory(&place, foreign)? {
                            sink.mention(id, &entity)?;
                        }
                    }
                }
                (Ok(Line::Relation { from, to, kind }), true) => {
                    sink.relation(&place, (&entity(&from, ""), &kind, &entity(&to, "")), 1.0)?;
                }
                (Err(error), false) => sink.problems.add(place, format!("neither an entity nor a relation ({error})")),
                _ => {}
            }
        }
    }
    Ok(())
}

fn entity(name: &str, kind: &str) -> EntityName {
    EntityName { name: name.trim().to_owned(), kind: kind.trim().to_owned() }
}
