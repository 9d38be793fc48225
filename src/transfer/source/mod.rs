//! Readers of other programs' data, one file per program. Each turns files or rows into calls of a
//! [`Sink`](super::Sink). The command line lists them, and reads databases, because it knows the backends.

use std::io::BufRead;
use std::path::Path;

use async_trait::async_trait;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::convert::Sink;
use super::{Problem, TransferError};

pub mod basic_memory;
pub mod chatgpt;
pub mod claude;
mod front_matter;
pub mod input;
mod json;
pub mod mcp_memory_server;
pub mod mcp_memory_service;
pub mod table;
pub mod text;

use input::{InputReader, Inputs, Wanted};

/// Reports how many more bytes were read.
pub type Progress<'a> = &'a dyn Fn(u64);

/// The data of another program, as specified by the caller.
pub struct ImportInput<'a> {
    /// File, folder or archive.
    pub path: &'a Path,
    /// URL of a database, instead of a path.
    pub url: &'a str,
    /// Tables of a database; empty for all.
    pub tables: &'a [String],
    /// Columns of a database without a usual name, by field.
    pub columns: &'a table::Columns,
    /// Called for each part that was read.
    pub progress: Progress<'a>,
}

impl std::fmt::Debug for ImportInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportInput")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A program whose data can be imported.
#[async_trait(?Send)]
pub trait ImportSource: Send + Sync {
    /// Name of the program on the command line and in the actor of imported memories.
    fn name(&self) -> &'static str;

    /// Describes its data for the help.
    fn data(&self) -> &'static str;

    /// Returns whether the data is in a database, which has a URL instead of a path.
    fn is_database(&self) -> bool {
        false
    }

    /// Reads the data into `sink`.
    async fn read(&self, input: &ImportInput<'_>, sink: &mut Sink<'_>)
    -> Result<(), TransferError>;
}

/// A program whose data is in files.
#[derive(Debug)]
pub struct FileSource {
    name: &'static str,
    data: &'static str,
    read: fn(&Path, &mut Sink<'_>, Progress<'_>) -> Result<(), TransferError>,
}

#[async_trait(?Send)]
impl ImportSource for FileSource {
    fn name(&self) -> &'static str {
        self.name
    }

    fn data(&self) -> &'static str {
        self.data
    }

    async fn read(
        &self,
        input: &ImportInput<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), TransferError> {
        (self.read)(input.path, sink, input.progress)
    }
}

/// File names of the exports of chat programs: in one part or in several.
pub const CONVERSATIONS: Wanted = Wanted {
    description: "conversations.json or conversations-000.json",
    accepts: is_conversations,
};

fn is_conversations(name: &str) -> bool {
    let Some(part) = name
        .strip_prefix("conversations")
        .and_then(|rest| rest.strip_suffix(".json"))
    else {
        return false;
    };
    part.chars()
        .all(|c| c.is_ascii_digit() || " -_.()".contains(c))
}

/// An element of a JSON array in one of the files.
struct Item {
    /// Index of the wanted member to which it belongs.
    member: usize,
    /// Location for messages.
    place: String,
    value: Value,
}

/// Passes the elements of the arrays in all files to `each`. Reports elements that cannot be parsed, and all
/// other problems of a file.
fn each_item(
    inputs: &mut Inputs,
    (members, noun): (&[&str], &str),
    progress: Progress<'_>,
    sink: &mut Sink<'_>,
    each: &mut dyn FnMut(Item, &mut Sink<'_>) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    report_skipped(inputs, sink);
    each_file(inputs, progress, sink, &mut |name, reader, sink| {
        let scanned = json::read_elements::<Stopped>(reader, members, &mut |element| {
            let place = format!("{name}, {noun} {} ({})", element.number, element.location);
            for repair in &element.repairs {
                sink.warnings.add(&place, repair.to_string());
            }
            match element.value {
                Ok(value) => each(
                    Item {
                        member: element.member,
                        place,
                        value,
                    },
                    sink,
                )
                .map_err(Stopped::ByCaller),
                Err(reason) => {
                    sink.problems.add(place, reason);
                    Ok(())
                }
            }
        });
        match scanned {
            Ok(None) => Ok(()),
            Ok(Some(json::Flaw::Unexpected(reason))) => {
                let expected = if members.is_empty() {
                    String::new()
                } else {
                    format!(" or an object with {}", members.join(" or "))
                };
                sink.problems
                    .add(name, format!("{reason}; expected a JSON array{expected}"));
                Ok(())
            }
            Ok(Some(json::Flaw::Truncated(place))) => {
                sink.problems.add(
                    format!("{name}, {place}"),
                    "the file ends here: it was not written or copied completely",
                );
                Ok(())
            }
            Ok(Some(json::Flaw::TrailingText(place))) => {
                sink.problems.add(
                    format!("{name}, {place}"),
                    "there is text after the end of the JSON, which is ignored",
                );
                Ok(())
            }
            Err(Stopped::ByCaller(error)) => Err(error),
            Err(Stopped::ByReader(error)) => {
                sink.problems
                    .add(name, format!("the file cannot be read further: {error}"));
                Ok(())
            }
        }
    })
}

/// The reason why a file was not read to its end.
enum Stopped {
    ByReader(std::io::Error),
    ByCaller(TransferError),
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::ByReader(error)
    }
}

type EachFile<'a> =
    dyn FnMut(&str, &mut InputReader<'_>, &mut Sink<'_>) -> Result<(), TransferError> + 'a;

/// Opens one file after the other.
fn each_file(
    inputs: &mut Inputs,
    progress: Progress<'_>,
    sink: &mut Sink<'_>,
    each: &mut EachFile<'_>,
) -> Result<(), TransferError> {
    for index in 0..inputs.files.len() {
        let name = inputs.files[index].name.clone();
        let read = inputs.read(index, progress, |reader| {
            each(&name, reader, sink)?;
            Ok(reader.undecodable())
        })?;
        match read {
            Ok(None) => {}
            Ok(Some(undecodable)) => sink.warnings.add(name, undecodable),
            Err(error) => sink
                .problems
                .add(name, format!("the file cannot be read: {error}")),
        }
    }
    Ok(())
}

fn report_skipped(inputs: &mut Inputs, sink: &mut Sink<'_>) {
    sink.warnings.extend(std::mem::take(&mut inputs.skipped));
}

/// Reads a text of at most `limit` bytes; `None` if it is longer.
fn read_text(reader: &mut InputReader<'_>, limit: usize) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
        if bytes.len() + chunk.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(chunk);
        let used = chunk.len();
        reader.consume(used);
    }
}

fn input_problem(path: &std::path::Path, text: impl std::fmt::Display) -> TransferError {
    TransferError::Problem(Problem {
        place: path.display().to_string(),
        text: text.to_string(),
    })
}

/// Parses labels from a list, from a text with commas, or from JSON in a text.
fn parse_labels(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(scalar_text).collect(),
        Value::String(text) => match crate::domain::lenient_json::parse(text) {
            Ok(Value::Array(list)) => list.iter().filter_map(scalar_text).collect(),
            _ => {
                let text = text.trim_matches(['{', '}']);
                text.split(',')
                    .map(|tag| tag.trim().trim_matches('"').to_owned())
                    .filter(|tag| !tag.is_empty())
                    .collect()
            }
        },
        _ => Vec::new(),
    }
}

/// Parses an object, or one as JSON in a text. Any other value is kept under the name `metadata`.
fn parse_object(value: &Value) -> Map<String, Value> {
    let other = |value: Value| Map::from_iter([("metadata".to_owned(), value)]);
    match value {
        Value::Object(map) => map.clone(),
        Value::Null => Map::new(),
        Value::String(text) if text.trim().is_empty() => Map::new(),
        Value::String(text) => match crate::domain::lenient_json::parse(text) {
            Ok(Value::Object(map)) => map,
            Ok(Value::Null) => Map::new(),
            Ok(value) => other(value),
            Err(_) => other(Value::String(text.clone())),
        },
        value => other(value.clone()),
    }
}

/// Formats a string, number or boolean as text.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Describes the type of a value for messages.
fn describe_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Shortens a text that identifies many records, because it is copied to each of their keys.
fn short_key(text: &str) -> String {
    const LONGEST: usize = 4096;
    match text.len() > LONGEST {
        true => format!(
            "sha256:{}",
            crate::transfer::export::to_hex(&Sha256::digest(text))
        ),
        false => text.to_owned(),
    }
}

/// Formats an identifier as text.
fn parse_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
