//! The file format: one JSON object per line. A header names format and version. Records follow, each after the records
//! to which it refers. An end line contains their number and the SHA-256 of their lines, so that a truncated file is
//! recognized wherever it was cut. An absent field has its neutral value. Unknown fields are rejected, because ignoring
//! them would lose data silently.
//!
//! The fields of a line are those of the record types, in the order of their declaration.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::check_record;
use crate::store::port::{MemoryRecord, Record, ReviewRecord};

/// Name of the format in the header.
pub const FORMAT: &str = "cognitive-memory";
/// Version of the format that this program writes and reads.
pub const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "end", deny_unknown_fields)]
pub struct End {
    /// Number of records.
    pub records: u64,
    /// Hash of their lines, line ends included.
    pub sha256: String,
}

/// A line after the header.
#[derive(Debug)]
pub enum Line {
    /// A record to be stored.
    Record(Record),
    /// The end line.
    End(End),
}

/// Formats a record or another value as one line without its line end.
///
/// # Panics
/// Never for the types of this module, which are plain data.
pub fn write_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

/// Returns the first line.
#[must_use]
pub fn write_header() -> String {
    write_line(&Header {
        format: FORMAT.to_owned(),
        version: VERSION,
    })
}

/// Reads the first line.
///
/// # Errors
/// A sentence that describes how the line differs from a header.
pub fn read_header(line: &str) -> Result<(), String> {
    let Ok(header) = serde_json::from_str::<Header>(line) else {
        return Err(format!(
            "this is not an export of cognitive-memory-mcp, whose first line is {}; data of other programs needs \
             `import --from PROGRAM`",
            write_header()
        ));
    };
    if header.format != FORMAT {
        return Err(format!(
            "format: expected {FORMAT:?}, got {:?}",
            header.format
        ));
    }
    if header.version != VERSION {
        return Err(format!(
            "version: expected {VERSION}, got {}; import the file with the release that wrote it, or a newer one",
            header.version
        ));
    }
    Ok(())
}

/// Reads and checks a line after the header.
///
/// # Errors
/// A sentence that names the wrong field.
pub fn read_line(line: &str) -> Result<Line, String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("this is not JSON ({error})"))?;
    let Value::Object(mut fields) = value else {
        return Err("expected a JSON object".to_owned());
    };
    let Some(Value::String(kind)) = fields.remove("type") else {
        return Err("the field `type` is missing".to_owned());
    };
    let mut record = match kind.as_str() {
        "memory" => Record::Memory(Box::new(read_memory(fields)?)),
        "entity" => Record::Entity(read_fields(fields)?),
        "relation" => Record::Relation(read_fields(fields)?),
        "mention" => Record::Mention(read_fields(fields)?),
        "focus" => Record::Focus(read_fields(fields)?),
        "review" => Record::Review(Box::new(read_review(fields)?)),
        "end" => return Ok(Line::End(read_fields(fields)?)),
        other => {
            return Err(format!(
                "type: expected memory, entity, relation, mention, focus, review or end, got {other:?}"
            ));
        }
    };
    check_record(&mut record).map_err(|invalid| invalid.to_string())?;
    Ok(Line::Record(record))
}

/// Reads the memory and its history, which share one line.
fn read_memory(mut fields: Map<String, Value>) -> Result<MemoryRecord, String> {
    let history = take_field(&mut fields, "history")?;
    let mut record = MemoryRecord {
        memory: read_fields(fields)?,
        history,
    };
    for entry in &mut record.history {
        entry.memory_id = record.memory.id;
    }
    Ok(record)
}

fn read_review(mut fields: Map<String, Value>) -> Result<ReviewRecord, String> {
    Ok(ReviewRecord {
        project: take_field(&mut fields, "project")?,
        review: read_fields(fields)?,
    })
}

fn take_field<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<T, String> {
    let value = fields
        .remove(name)
        .ok_or_else(|| format!("missing field `{name}`"))?;
    read_value(value).map_err(|error| format!("{name}: {error}"))
}

fn read_fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    read_value(Value::Object(fields))
}

fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        if path == "." {
            error.inner().to_string()
        } else {
            format!("{path}: {}", error.inner())
        }
    })
}
