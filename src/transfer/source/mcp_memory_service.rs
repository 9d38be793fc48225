//! mcp-memory-service: its JSON export, or the table `memories` of its SQLite file. Its types of memories become tags,
//! except for insights, which this program also has.

use std::path::Path;

use serde_json::{Map, Value};

use super::input::{Inputs, Wanted};
use super::{Item, Progress, describe_kind, each_item, parse_labels, parse_object};
use crate::domain::Kind;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};
use crate::transfer::foreign_time::parse_time;

/// The name of the program.
pub const NAME: &str = "mcp-memory-service";
/// The table of its SQLite file.
pub const TABLE: &str = "memories";

/// The user chooses the names of exports.
pub const WANTED: Wanted = Wanted {
    description: "JSON export of mcp-memory-service",
    accepts: |name| name.ends_with(".json"),
};

/// Reads a JSON export, a folder or a zip archive with such files.
///
/// # Errors
/// Fails if there is no such file or the sink cannot be written.
pub fn read_export(
    path: &Path,
    sink: &mut Sink<'_>,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut inputs = Inputs::find_files(path, WANTED)?;
    each_item(
        &mut inputs,
        (&["memories"], "memory"),
        progress,
        sink,
        &mut |item: Item, sink| match &item.value {
            Value::Object(memory) => add_row(&item.place, memory, sink),
            other => {
                sink.problems.add(
                    item.place,
                    format!("{} instead of a memory", describe_kind(other)),
                );
                Ok(())
            }
        },
    )
}

/// Adds one memory of the export, or one row of the table.
///
/// # Errors
/// Fails if the sink cannot be written.
pub fn add_row(
    place: &str,
    row: &Map<String, Value>,
    sink: &mut Sink<'_>,
) -> Result<(), TransferError> {
    let get = |name: &str| row.get(name).unwrap_or(&Value::Null);
    if !get("deleted_at").is_null() {
        sink.count_omitted("memories that were deleted there");
        return Ok(());
    }
    let Some(content) = get("content")
        .as_str()
        .filter(|content| !content.trim().is_empty())
    else {
        sink.problems.add(
            place,
            format!(
                "content: expected text, got {}",
                describe_kind(get("content"))
            ),
        );
        return Ok(());
    };
    let mut tags = parse_labels(get("tags"));
    let mut kind = Kind::Note;
    if let Some(name) = get("memory_type").as_str().filter(|name| !name.is_empty()) {
        match name {
            "insight" | "learning" => kind = Kind::Insight,
            "note" => {}
            other => tags.push(other.to_owned()),
        }
    }
    let metadata = parse_object(get("metadata"));
    let importance = ["importance", "importance_score", "quality_score"]
        .iter()
        .find_map(|name| metadata.get(*name)?.as_f64());
    let created_at = sink.read_time(place, "created_at", get("created_at"));
    let updated_at = sink.read_time(place, "updated_at", get("updated_at"));
    let foreign = ForeignMemory {
        key: get("content_hash").as_str().unwrap_or(content).to_owned(),
        kind,
        content: content.to_owned(),
        tags,
        importance,
        metadata,
        created_at: created_at.or_else(|| parse_time(get("created_at_iso"))),
        updated_at: updated_at.or_else(|| parse_time(get("updated_at_iso"))),
        ..ForeignMemory::default()
    };
    sink.add_memory(place, foreign).map(drop)
}
