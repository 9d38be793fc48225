//! basic-memory: a folder of Markdown files with front matter. Each note becomes a memory with its text unchanged, and
//! an entity; `- relation [[Target]]` becomes a relation, and the tags of front matter and observations become tags.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::front_matter::{self, Document};
use super::input::{Inputs, Wanted};
use super::{FileSource, Progress, input_problem, read_text, report_skipped, scalar_text};
use crate::store::port::EntityName;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};
use crate::transfer::foreign_time::parse_time;

/// The program and its data.
pub const SOURCE: FileSource = FileSource {
    name: "basic-memory",
    data: "Folder or zip archive of Markdown notes of basic-memory",
    read: read_files,
};
/// Maximum size of a note.
const LARGEST_NOTE: usize = 32 * 1024 * 1024;
/// Fields of the front matter that have a corresponding field in a memory.
const PLACED_FIELDS: [&str; 6] = ["title", "type", "permalink", "tags", "created", "date"];

const WANTED: Wanted = Wanted {
    description: "Markdown file (.md)",
    accepts: |name| name.ends_with(".md"),
};

struct Note {
    place: String,
    permalink: String,
    entity: EntityName,
    relations: Vec<(String, String)>,
}

/// Reads a folder, a zip archive, or a single file.
///
/// # Errors
/// Fails if there are no notes or the sink cannot be written.
fn read_files(
    path: &Path,
    sink: &mut Sink<'_>,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut inputs = Inputs::find_files(path, WANTED)?;
    report_skipped(&mut inputs, sink);
    let mut notes = Vec::with_capacity(inputs.files.len());
    for index in 0..inputs.files.len() {
        let (place, modified) = (
            inputs.files[index].name.clone(),
            inputs.files[index].modified,
        );
        let text = inputs.read(index, progress, |reader| {
            Ok((read_text(reader, LARGEST_NOTE), reader.undecodable()))
        })?;
        match text {
            Ok((Ok(Some(text)), undecodable)) => {
                if let Some(undecodable) = undecodable {
                    sink.warnings.add(&place, undecodable);
                }
                notes.extend(read_note(&place, modified, &text, sink)?);
            }
            Ok((Ok(None), _)) => {
                sink.problems.add(
                    place,
                    format!("the file is larger than {} MiB", LARGEST_NOTE / 1024 / 1024),
                );
            }
            Ok((Err(error), _)) | Err(error) => {
                sink.problems
                    .add(place, format!("the file cannot be read: {error}"));
            }
        }
    }
    if notes.is_empty() && sink.problems.count == 0 {
        return Err(input_problem(path, "none of the Markdown files has a text"));
    }
    store_relations(&notes, sink)
}

/// Stores the relations. A link names a note by its title or permalink; the target of a link without a note becomes an
/// entity, too.
fn store_relations(notes: &[Note], sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let mut by_name: BTreeMap<String, EntityName> = BTreeMap::new();
    for note in notes {
        by_name
            .entry(note.permalink.to_lowercase())
            .or_insert_with(|| note.entity.clone());
    }
    for note in notes {
        by_name
            .entry(note.entity.name.to_lowercase())
            .or_insert_with(|| note.entity.clone());
    }
    for note in notes {
        for (kind, target) in &note.relations {
            let known = by_name.get(&target.to_lowercase()).cloned();
            let Some(entity) = known.or_else(|| sink.entity_name(&note.place, target, "note"))
            else {
                continue;
            };
            sink.add_entity(&note.place, &entity, Map::new(), None)?;
            by_name
                .entry(target.to_lowercase())
                .or_insert_with(|| entity.clone());
            sink.add_relation(&note.place, (&note.entity, kind, &entity), 1.0)?;
        }
    }
    Ok(())
}

fn read_note(
    place: &str,
    modified: Option<chrono::DateTime<chrono::Utc>>,
    text: &str,
    sink: &mut Sink<'_>,
) -> Result<Option<Note>, TransferError> {
    let Document {
        fields,
        body,
        warning,
    } = front_matter::split(text);
    if let Some(warning) = warning {
        sink.warnings.add(place, warning);
    }
    let scalar =
        |name: &str| first_text(fields.get(name)?).filter(|value| !value.trim().is_empty());
    let stem = place.rsplit('/').next().unwrap_or(place);
    let stem = if stem.to_lowercase().ends_with(".md") {
        &stem[..stem.len() - 3]
    } else {
        stem
    };
    let title = scalar("title").unwrap_or_else(|| stem.to_owned());
    let kind = scalar("type").unwrap_or_else(|| "note".to_owned());
    let without_extension = place.strip_suffix(".md").unwrap_or(place);
    let permalink = scalar("permalink").unwrap_or_else(|| without_extension.to_owned());
    let date = |name: &str| scalar(name).and_then(|text| parse_time(&text.into()));
    let created_at = date("created").or_else(|| date("date"));
    let mut tags = fields
        .get("tags")
        .map(front_matter_tags)
        .unwrap_or_default();
    let (relations, observed) = read_lines(body);
    tags.extend(observed);
    let Some(entity) = sink
        .entity_name(place, &title, &kind)
        .or_else(|| sink.entity_name(place, stem, &kind))
    else {
        sink.problems.add(
            place,
            "neither its title nor its name has a visible character",
        );
        return Ok(None);
    };
    sink.add_entity(place, &entity, Map::new(), created_at.or(modified))?;
    let foreign = ForeignMemory {
        key: permalink.clone(),
        content: with_heading(&title, body),
        tags,
        metadata: collect_metadata(&fields, &title, &permalink),
        created_at,
        occurred_at: modified,
        ..ForeignMemory::default()
    };
    if let Some(id) = sink.add_memory(place, foreign)? {
        sink.add_mention(id, &entity)?;
    }
    Ok(Some(Note {
        place: place.to_owned(),
        permalink,
        entity,
        relations,
    }))
}

fn with_heading(title: &str, body: &str) -> String {
    let heading = format!("# {title}");
    let body = body.trim();
    if body.starts_with(&heading) {
        body.to_owned()
    } else {
        format!("{heading}\n\n{body}")
    }
}

/// Collects the title, the permalink, and every field of the front matter without a corresponding field.
fn collect_metadata(
    fields: &Map<String, Value>,
    title: &str,
    permalink: &str,
) -> Map<String, Value> {
    let further = fields
        .iter()
        .filter(|(name, value)| !PLACED_FIELDS.contains(&name.as_str()) && !value.is_null());
    let mut metadata: Map<String, Value> = further
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    metadata.insert("title".to_owned(), title.into());
    metadata.insert("permalink".to_owned(), permalink.into());
    metadata
}

/// Returns the scalar of a field, or the first one of a list.
fn first_text(value: &Value) -> Option<String> {
    match value {
        Value::Array(list) => list.iter().find_map(scalar_text),
        other => scalar_text(other),
    }
}

/// Reads tags from a list or from one scalar with commas. A leading `#` is not part of a tag.
fn front_matter_tags(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(front_matter_tags).collect(),
        Value::String(text) => text
            .split(',')
            .map(|tag| tag.trim().trim_start_matches('#').to_owned())
            .filter(|tag| !tag.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}

/// Reads relations, as kind and target, and the tags of observations.
fn read_lines(body: &str) -> (Vec<(String, String)>, Vec<String>) {
    let mut relations = Vec::new();
    let mut tags = Vec::new();
    for line in body.lines() {
        if let Some(relation) = parse_relation(line) {
            relations.push(relation);
        } else if line.trim_start().starts_with("- [") {
            let words = line
                .split_whitespace()
                .filter_map(|word| word.strip_prefix('#'));
            tags.extend(words.map(|tag| tag.trim_end_matches(['.', ',', ';', ')']).to_owned()));
        }
    }
    (relations, tags)
}

/// Parses `- kind [[Target]]`, or a bare link in a list.
fn parse_relation(line: &str) -> Option<(String, String)> {
    let rest = line
        .trim_start()
        .strip_prefix("- ")
        .or_else(|| line.trim_start().strip_prefix("* "))?;
    let open = rest.find("[[")?;
    let close = rest[open..].find("]]")? + open;
    let kind = rest[..open].trim().trim_matches('"');
    if kind.starts_with('[') {
        // The line is an observation that contains a link.
        return None;
    }
    let target = rest[open + 2..close]
        .split('|')
        .next()
        .unwrap_or_default()
        .trim();
    if target.is_empty() {
        return None;
    }
    Some((
        if kind.is_empty() {
            "links_to".to_owned()
        } else {
            kind.to_owned()
        },
        target.to_owned(),
    ))
}
