//! The export of ChatGPT: `conversations.json`, or `conversations-000.json` and its siblings. A conversation is a tree
//! of messages, because answers can be regenerated and questions edited. The branch that was used last becomes the
//! turns of a dialogue; messages on other branches are stored without a turn number and marked.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::input::Inputs;
use super::{CONVERSATIONS, FileSource, Item, Progress, describe_kind, each_item, parse_key};
use crate::domain::Kind;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};

/// The program and its data.
pub const SOURCE: FileSource = FileSource {
    name: "chatgpt",
    data: "Export of ChatGPT: the zip archive, the unpacked folder or conversations.json",
    read: read_files,
};

/// Reads the file, all parts of an unpacked export, or the zip archive.
///
/// # Errors
/// Fails if there is no such file or the sink cannot be written.
fn read_files(
    path: &Path,
    sink: &mut Sink<'_>,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut inputs = Inputs::find_files(path, CONVERSATIONS)?;
    each_item(
        &mut inputs,
        (&["conversations"], "conversation"),
        progress,
        sink,
        &mut read_conversation,
    )
}

/// Data that the messages of a conversation share.
struct Conversation<'a> {
    session: Option<String>,
    title: Option<String>,
    created_at: &'a Value,
    nodes: &'a Map<String, Value>,
}

fn read_conversation(item: Item, sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let Item { place, value, .. } = item;
    let nodes = match &value["mapping"] {
        Value::Object(nodes) => nodes,
        Value::Null if value.is_object() && value.get("mapping").is_some() => {
            sink.count_omitted("conversations without messages");
            return Ok(());
        }
        _ if !value.is_object() => {
            sink.problems.add(
                place,
                format!("{} instead of a conversation", describe_kind(&value)),
            );
            return Ok(());
        }
        other => {
            let found = if value.get("mapping").is_some() {
                describe_kind(other)
            } else {
                "missing"
            };
            sink.problems.add(
                place,
                format!("mapping: expected an object with the messages, got {found}"),
            );
            return Ok(());
        }
    };
    let session = parse_key(&value["id"])
        .or_else(|| parse_key(&value["conversation_id"]))
        .unwrap_or_else(|| {
            sink.warnings
                .add(&place, "it has no id: its first node names the session");
            nodes.keys().min().cloned().unwrap_or_default()
        });
    let conversation = Conversation {
        session: sink.fit_name(&place, "session", Some(session)),
        title: value["title"]
            .as_str()
            .and_then(|title| sink.fit_title(&place, title)),
        created_at: &value["create_time"],
        nodes,
    };
    let branch = current_branch(nodes, value["current_node"].as_str());
    let on_branch: HashSet<&str> = branch.iter().copied().collect();
    let mut turn = 0;
    for id in branch {
        turn += i64::from(add_message(
            &conversation,
            id,
            Some(turn + 1),
            sink,
            &place,
        )?);
    }
    let mut others: Vec<&String> = nodes
        .keys()
        .filter(|id| !on_branch.contains(id.as_str()))
        .collect();
    others.sort();
    for id in others {
        add_message(&conversation, id, None, sink, &place)?;
    }
    Ok(())
}

/// Returns the nodes from the root to the one that was used last.
fn current_branch<'a>(nodes: &'a Map<String, Value>, current: Option<&'a str>) -> Vec<&'a str> {
    let parent_of = |id: &str| {
        nodes[id]["parent"]
            .as_str()
            .filter(|parent| nodes.contains_key(*parent))
    };
    let mut path = Vec::new();
    // No branch of a tree is longer than all nodes; a longer one is a cycle in a damaged file.
    let mut seen = HashSet::new();
    if let Some(current) = current.filter(|id| nodes.contains_key(*id)) {
        let mut next = Some(current);
        while let Some(id) = next.filter(|id| seen.insert(*id)) {
            path.push(id);
            next = parent_of(id);
        }
        path.reverse();
        return path;
    }
    let root = nodes
        .keys()
        .map(String::as_str)
        .find(|id| parent_of(id).is_none());
    let mut next = root;
    while let Some(id) = next.filter(|id| seen.insert(*id)) {
        path.push(id);
        let children = nodes[id]["children"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        next = children
            .iter()
            .rev()
            .filter_map(Value::as_str)
            .find(|child| nodes.contains_key(*child));
    }
    path
}

/// Adds a message. Returns whether it had content.
fn add_message(
    conversation: &Conversation<'_>,
    id: &str,
    turn: Option<i64>,
    sink: &mut Sink<'_>,
    place: &str,
) -> Result<bool, TransferError> {
    let place = format!("{place}, message {id}");
    let message = match &conversation.nodes[id]["message"] {
        Value::Null => return Ok(false),
        message @ Value::Object(_) => message,
        other => {
            sink.warnings.add(
                place,
                format!("{} instead of a message: skipped", describe_kind(other)),
            );
            return Ok(false);
        }
    };
    let role = message["author"]["role"].as_str();
    if message["metadata"]["is_visually_hidden_from_conversation"] == true {
        sink.count_omitted("hidden messages");
        return Ok(false);
    }
    if role.is_some_and(|role| role != "user" && role != "assistant") {
        sink.count_omitted("messages of the system and of tools");
        return Ok(false);
    }
    let content = message_text(&message["content"]);
    if content.trim().is_empty() {
        sink.count_omitted("messages without text");
        return Ok(false);
    }
    if role.is_none() {
        sink.warnings
            .add(&place, "its author has no role: imported without a speaker");
    }
    let mut metadata = Map::new();
    if let Some(title) = &conversation.title {
        metadata.insert("title".to_owned(), title.as_str().into());
    }
    if turn.is_none() {
        metadata.insert("branch".to_owned(), "not the one in use".into());
    }
    let created_at = sink.read_time(&place, "create_time", &message["create_time"]);
    let foreign = ForeignMemory {
        key: parse_key(&message["id"]).unwrap_or_else(|| id.to_owned()),
        kind: Kind::Dialogue,
        content,
        metadata,
        created_at: created_at
            .or_else(|| sink.read_time(&place, "create_time", conversation.created_at)),
        session: conversation.session.clone(),
        turn,
        speaker: role.map(str::to_owned),
        ..ForeignMemory::default()
    };
    Ok(sink.add_memory(&place, foreign)?.is_some())
}

/// Returns the written parts of a message; pictures and other parts have no text.
fn message_text(content: &Value) -> String {
    if let Value::String(text) = content {
        return text.clone();
    }
    let parts: Vec<&str> = match &content["parts"] {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.as_str().or_else(|| part["text"].as_str()))
            .filter(|part| !part.trim().is_empty())
            .collect(),
        _ => Vec::new(),
    };
    match content["content_type"].as_str() {
        Some("text" | "multimodal_text") | None => parts.join("\n\n"),
        // Thoughts, code for tools, and pages that were read.
        _ => String::new(),
    }
}
