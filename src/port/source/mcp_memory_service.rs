//! mcp-memory-service: its JSON export, or the table `memories` of its SQLite file. Its kinds of memories become tags,
//! except for the dialogue and insights which this program has itself.

use std::path::Path;

use serde_json::{Map, Value};

use super::{labels, object, problem, time};
use crate::domain::Kind;
use crate::port::PortError;
use crate::port::convert::{Foreign, Sink};

/// What the actor of the import is called.
pub const SYSTEM: &str = "mcp-memory-service";
/// The table of its SQLite file.
pub const TABLE: &str = "memories";

/// Reads a JSON export.
///
/// # Errors
/// When the file cannot be read or the sink be written.
pub fn convert(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let text = std::fs::read(path).map_err(|source| PortError::File { path: path.to_owned(), source })?;
    let file: Value = serde_json::from_slice(&text).map_err(|error| problem(path, error))?;
    let memories = file.get("memories").unwrap_or(&file).as_array();
    let Some(memories) = memories else {
        return Err(problem(path, "an object with `memories` is expected, as `memory export` writes it"));
    };
    for (index, memory) in memories.iter().enumerate() {
        let place = format!("memory {}", index + 1);
        match memory.as_object() {
            Some(memory) => row(&place, memory, sink)?,
            None => sink.problems.add(place, "it is no object"),
        }
    }
    Ok(())
}

/// Takes one memory of the export, or one row of the table.
///
/// # Errors
/// When the sink cannot be written.
pub fn row(place: &str, row: &Map<String, Value>, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let get = |name: &str| row.get(name).unwrap_or(&Value::Null);
    if !get("deleted_at").is_null() {
        // Forgotten there, and not to be remembered here.
        return Ok(());
    }
    let Some(content) = get("content").as_str() else {
        sink.problems.add(place, "it has no content");
        return Ok(());
    };
    let mut tags = labels(get("tags"));
    let mut kind = Kind::Note;
    if let Some(name) = get("memory_type").as_str().filter(|name| !name.is_empty()) {
        match name {
            "insight" | "learning" => kind = Kind::Insight,
            "note" => {}
            other => tags.push(other.to_owned()),
        }
    }
    let metadata = object(get("metadata"));
    let importance =
        ["importance", "importance_score", "quality_score"].iter().find_map(|name| metadata.get(*name)?.as_f64());
    let foreign = Foreign {
        key: get("content_hash").as_str().unwrap_or(content).to_owned(),
        kind,
        content: content.to_owned(),
        tags,
        importance,
        metadata,
        created_at: time(get("created_at")),
        updated_at: time(get("updated_at")),
        ..Foreign::default()
    };
    sink.memory(place, foreign).map(drop)
}
