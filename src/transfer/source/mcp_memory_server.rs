//! The reference server `@modelcontextprotocol/server-memory`: a JSON line for each entity and relation. Each
//! observation becomes a note that mentions its entity, so that recall finds it by its words.

use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::input::{InputReader, Inputs, Wanted};
use super::text::{TextLine, next_line};
use super::{
    FileSource, Item, Progress, describe_kind, each_file, each_item, report_skipped, scalar_text,
    short_key,
};
use crate::domain::lenient_json;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};

/// The program and its data.
pub const SOURCE: FileSource = FileSource {
    name: "mcp-memory-server",
    data: "memory.jsonl of @modelcontextprotocol/server-memory",
    read: read_files,
};
/// Maximum length of a line; longer ones are skipped and reported.
const LONGEST_LINE: usize = super::json::LARGEST_ELEMENT;

/// Maximum length of a name at the beginning of each observation's text; longer ones are cut.
const LONGEST_HEADING: usize = 4096;

const WANTED: Wanted = Wanted {
    description: "memory.jsonl or memory.json",
    accepts: |name| name.ends_with(".jsonl") || name == "memory.json",
};

/// A relation. It waits until all entities are known, because an entity may follow the relations that name
/// it.
struct Relation {
    place: String,
    source: String,
    kind: String,
    target: String,
}

/// Reads the file, the folder or the zip archive with it.
///
/// # Errors
/// Fails if there is no such file or the sink cannot be written.
fn read_files(
    path: &Path,
    sink: &mut Sink<'_>,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut inputs = Inputs::find_files(path, WANTED)?;
    let mut relations = Vec::new();
    if is_one_document(&mut inputs)? {
        let members = (&["entities", "relations"][..], "element");
        each_item(&mut inputs, members, progress, sink, &mut |item, sink| {
            take_record(item, &mut relations, sink)
        })?;
    } else {
        report_skipped(&mut inputs, sink);
        each_file(&mut inputs, progress, sink, &mut |name, reader, sink| {
            read_lines(name, reader, &mut relations, sink)
        })?;
    }
    for relation in relations {
        store_relation(&relation, sink)?;
    }
    Ok(())
}

/// Returns whether the file is an answer of the tool `read_graph` or an array, rather than one object per
/// line.
fn is_one_document(inputs: &mut Inputs) -> Result<bool, TransferError> {
    let begin = inputs.read(0, &|_| {}, |reader| {
        Ok(reader.fill_buf().map(<[u8]>::to_vec).unwrap_or_default())
    })?;
    inputs.restart_reading();
    let begin = begin.unwrap_or_default();
    let begin = String::from_utf8_lossy(&begin);
    let begin = begin.trim_start();
    let first_line = begin.lines().next().unwrap_or_default().trim_end();
    let first_key = begin.strip_prefix('{').unwrap_or_default().trim_start();
    let is_graph = ["\"entities\"", "\"relations\""]
        .iter()
        .any(|key| first_key.starts_with(key));
    Ok(begin.starts_with('[') || first_line == "{" || is_graph)
}

fn read_lines(
    name: &str,
    reader: &mut InputReader<'_>,
    relations: &mut Vec<Relation>,
    sink: &mut Sink<'_>,
) -> Result<(), TransferError> {
    let mut number = 0_u64;
    loop {
        number += 1;
        let place = format!("{name}, line {number}");
        let line = match next_line(reader, LONGEST_LINE) {
            Ok(Some(TextLine::Whole(line))) => line,
            Ok(Some(TextLine::TooLong)) => {
                sink.problems.add(
                    place,
                    format!("the line is longer than {} MiB", LONGEST_LINE / 1024 / 1024),
                );
                continue;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                sink.problems
                    .add(place, format!("the file cannot be read further: {error}"));
                return Ok(());
            }
        };
        if line.trim_start_matches('\u{feff}').trim().is_empty() {
            continue;
        }
        // Concatenated files have a byte order mark in the middle.
        let (text, repairs) = lenient_json::mend(line.trim_start_matches('\u{feff}'));
        for repair in repairs {
            sink.warnings.add(&place, repair.to_string());
        }
        // Two processes of that server may have written concurrently, without a line end between their
        // records.
        let records = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let mut count = 0;
        for value in records {
            match value {
                Ok(value) => {
                    count += 1;
                    take_record(
                        Item {
                            member: 0,
                            place: place.clone(),
                            value,
                        },
                        relations,
                        sink,
                    )?;
                }
                Err(error) => {
                    let (reason, column) = (error.to_string(), error.column());
                    let reason = reason.split(" at line ").next().unwrap_or(&reason);
                    sink.problems.add(
                        &place,
                        format!("this is not JSON ({reason}, column {column})"),
                    );
                    break;
                }
            }
        }
        if count > 1 {
            sink.warnings
                .add(place, format!("{count} records on one line"));
        }
    }
}

fn take_record(
    item: Item,
    relations: &mut Vec<Relation>,
    sink: &mut Sink<'_>,
) -> Result<(), TransferError> {
    let Item {
        member,
        place,
        value,
    } = item;
    let is_relation = match value["type"].as_str() {
        Some("entity") => false,
        Some("relation") => true,
        _ => member == 1 || (value.get("from").is_some() && value.get("to").is_some()),
    };
    if is_relation {
        take_relation(place, &value, relations, sink);
        return Ok(());
    }
    let is_entity = value["type"] == "entity"
        || value.get("entityType").is_some()
        || value.get("observations").is_some();
    if !is_entity {
        sink.problems
            .add(place, "this is neither an entity nor a relation");
        return Ok(());
    }
    store_entity(&place, &value, sink)
}

fn take_relation(place: String, value: &Value, relations: &mut Vec<Relation>, sink: &mut Sink<'_>) {
    let name = |field: &str| scalar_text(&value[field]).filter(|name| !name.trim().is_empty());
    let (Some(source), Some(target)) = (name("from"), name("to")) else {
        let field = if name("from").is_none() { "from" } else { "to" };
        let found = describe_kind(&value[field]);
        sink.problems.add(
            place,
            format!("{field} of the relation: expected the name of an entity, got {found}"),
        );
        return;
    };
    let kind = name("relationType").unwrap_or_else(|| {
        sink.warnings.add(
            &place,
            "the relation has no relationType: related_to is assumed",
        );
        "related_to".to_owned()
    });
    relations.push(Relation {
        place,
        source,
        kind,
        target,
    });
}

fn store_relation(relation: &Relation, sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let Relation {
        place,
        source,
        kind,
        target,
    } = relation;
    match (
        sink.entity_name(place, source, ""),
        sink.entity_name(place, target, ""),
    ) {
        (Some(source), Some(target)) => sink.add_relation(place, (&source, kind, &target), 1.0),
        _ => {
            sink.problems.add(
                place,
                "the relation names an entity without a visible character",
            );
            Ok(())
        }
    }
}

fn store_entity(place: &str, value: &Value, sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let name = scalar_text(&value["name"]).unwrap_or_default();
    let kind = scalar_text(&value["entityType"]).unwrap_or_else(|| {
        sink.warnings.add(
            place,
            format!(
                "its entityType is {}: entity is assumed",
                describe_kind(&value["entityType"])
            ),
        );
        "entity".to_owned()
    });
    let Some(entity) = sink.entity_name(place, &name, &kind) else {
        let found = describe_kind(&value["name"]);
        sink.problems.add(
            place,
            format!("name of the entity: expected text with a visible character, got {found}"),
        );
        return Ok(());
    };
    sink.add_entity(place, &entity, Map::new(), None)?;
    let single;
    let observations = match &value["observations"] {
        Value::Array(observations) => observations.as_slice(),
        Value::Null => &[],
        other => {
            single = [other.clone()];
            &single
        }
    };
    // A name may be as long as the file, and it is copied to each observation.
    let (short_name, shown_name) = (
        short_key(&name),
        if name.len() > LONGEST_HEADING {
            &entity.name
        } else {
            &name
        },
    );
    for (index, observation) in observations.iter().enumerate() {
        let place = format!("{place}, observation {}", index + 1);
        let Some(text) = observation_text(observation).filter(|text| !text.trim().is_empty())
        else {
            sink.warnings.add(
                place,
                format!("{} without text: skipped", describe_kind(observation)),
            );
            continue;
        };
        let foreign = ForeignMemory {
            key: format!("{short_name}\n{text}"),
            content: format!("{shown_name}: {text}"),
            ..ForeignMemory::default()
        };
        if let Some(id) = sink.add_memory(&place, foreign)? {
            sink.add_mention(id, &entity)?;
        }
    }
    Ok(())
}

/// Forks of the server write objects instead of strings.
fn observation_text(observation: &Value) -> Option<String> {
    let written = ["content", "text", "observation"]
        .iter()
        .find_map(|field| observation[*field].as_str());
    match observation {
        Value::Null => None,
        Value::Object(_) | Value::Array(_) => {
            Some(written.map_or_else(|| observation.to_string(), str::to_owned))
        }
        scalar => scalar_text(scalar),
    }
}
