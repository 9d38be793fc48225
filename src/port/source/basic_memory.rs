//! basic-memory: a folder of Markdown files with front matter. Each note becomes a memory, with its text as it is, and
//! an entity; `- relation [[Target]]` becomes a relation, and the tags of front matter and observations its tags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Map;

use super::{problem, time};
use crate::port::PortError;
use crate::port::convert::{Foreign, Sink};
use crate::store::port::EntityName;

/// What the actor of the import is called.
pub const SYSTEM: &str = "basic-memory";
/// A folder deeper than this is a circle of links.
const DEEPEST: usize = 32;

struct Note {
    place: String,
    permalink: String,
    entity: EntityName,
    relations: Vec<(String, String)>,
}

/// Reads a folder, or a single file.
///
/// # Errors
/// When it cannot be read or the sink be written.
pub fn convert(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let mut files = Vec::new();
    collect(path, &mut files, 0)?;
    files.sort();
    if files.is_empty() {
        return Err(problem(path, "there are no Markdown files in it"));
    }
    let mut notes = Vec::with_capacity(files.len());
    for file in &files {
        let place = file.strip_prefix(path).unwrap_or(file).display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => notes.push(note(&place, file, &text, sink)?),
            Err(error) => sink.problems.add(place, error.to_string()),
        }
    }
    // A link names a note by its title or permalink; one without a note is an entity all the same.
    let mut by_name: BTreeMap<String, EntityName> = BTreeMap::new();
    for note in &notes {
        by_name.insert(note.permalink.to_lowercase(), note.entity.clone());
        by_name.insert(note.entity.name.to_lowercase(), note.entity.clone());
    }
    for note in &notes {
        for (kind, target) in &note.relations {
            let target = match by_name.get(&target.to_lowercase()) {
                Some(entity) => entity.clone(),
                None => {
                    let entity = EntityName { name: target.clone(), kind: "note".to_owned() };
                    sink.entity(&note.place, &entity, Map::new(), None)?;
                    by_name.insert(target.to_lowercase(), entity.clone());
                    entity
                }
            };
            sink.relation(&note.place, (&note.entity, kind, &target), 1.0)?;
        }
    }
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), PortError> {
    let failed = |source| PortError::File { path: path.to_owned(), source };
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || depth >= DEEPEST {
            continue;
        }
        if entry.is_dir() {
            collect(&entry, files, depth + 1)?;
        } else if entry.extension().is_some_and(|extension| extension == "md") {
            files.push(entry);
        }
    }
    Ok(())
}

fn note(place: &str, file: &Path, text: &str, sink: &mut Sink<'_>) -> Result<Note, PortError> {
    let (front, body) = front_matter(text);
    let scalar = |name: &str| front.get(name).and_then(|values| values.first()).filter(|value| !value.is_empty());
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let title = scalar("title").cloned().unwrap_or_else(|| stem.clone());
    let kind = scalar("type").cloned().unwrap_or_else(|| "note".to_owned());
    let permalink = scalar("permalink").cloned().unwrap_or_else(|| place.trim_end_matches(".md").to_owned());
    let modified = std::fs::metadata(file).and_then(|data| data.modified()).ok().map(chrono::DateTime::from);
    let date = |name: &str| scalar(name).and_then(|text| time(&text.as_str().into()));
    let created_at = date("created").or_else(|| date("date"));
    let mut tags: Vec<String> = front.get("tags").cloned().unwrap_or_default();
    let mut relations = Vec::new();
    for line in body.lines() {
        if let Some((kind, target)) = relation(line) {
            relations.push((kind, target));
        } else if line.trim_start().starts_with("- [") {
            tags.extend(line.split_whitespace().filter_map(|word| word.strip_prefix('#')).map(str::to_owned));
        }
    }
    let entity = EntityName { name: title.clone(), kind };
    sink.entity(place, &entity, Map::new(), created_at.or(modified))?;
    let mut metadata = Map::new();
    metadata.insert("title".to_owned(), title.clone().into());
    metadata.insert("permalink".to_owned(), permalink.clone().into());
    let heading = format!("# {title}");
    let body = body.trim();
    let content = if body.starts_with(&heading) { body.to_owned() } else { format!("{heading}\n\n{body}") };
    let foreign = Foreign {
        key: permalink.clone(),
        content,
        tags,
        metadata,
        created_at,
        occurred_at: modified,
        ..Foreign::default()
    };
    if let Some(id) = sink.memory(place, foreign)? {
        sink.mention(id, &entity)?;
    }
    Ok(Note { place: place.to_owned(), permalink, entity, relations })
}

/// `- kind [[Target]]`, or a bare link in a list.
fn relation(line: &str) -> Option<(String, String)> {
    let rest = line.trim_start().strip_prefix("- ").or_else(|| line.trim_start().strip_prefix("* "))?;
    let open = rest.find("[[")?;
    let close = rest[open..].find("]]")? + open;
    let kind = rest[..open].trim().trim_matches('"');
    if kind.starts_with('[') {
        // An observation that links to something.
        return None;
    }
    let target = rest[open + 2..close].split('|').next().unwrap_or_default().trim();
    if target.is_empty() {
        return None;
    }
    Some((if kind.is_empty() { "links_to".to_owned() } else { kind.to_owned() }, target.to_owned()))
}

/// The scalars and lists of the YAML at the top, as far as such files have them, and the text behind it.
fn front_matter(text: &str) -> (BTreeMap<String, Vec<String>>, &str) {
    let text = text.trim_start_matches('\u{feff}');
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else {
        return (BTreeMap::new(), text);
    };
    let Some(end) = rest.find("\n---") else { return (BTreeMap::new(), text) };
    let body = rest[end + 4..].split_once('\n').map_or("", |(_, body)| body);
    let mut front: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    let plain = |value: &str| value.trim().trim_matches(['"', '\'']).to_owned();
    for line in rest[..end].lines() {
        if let Some(item) = line.trim_start().strip_prefix("- ") {
            front.entry(last.clone()).or_default().push(plain(item));
        } else if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with(' ')) {
            last = name.trim().to_owned();
            let value = value.trim();
            let values = match value.strip_prefix('[').and_then(|value| value.strip_suffix(']')) {
                Some(list) => list.split(',').map(plain).filter(|item| !item.is_empty()).collect(),
                None if value.is_empty() => Vec::new(),
                None => vec![plain(value)],
            };
            front.insert(last.clone(), values);
        }
    }
    // `tags: a, b` is a list, too.
    if let Some(tags) = front.get_mut("tags") {
        *tags = tags.iter().flat_map(|tag| tag.split(',')).map(plain).filter(|tag| !tag.is_empty()).collect();
    }
    (front, body)
}
