//! The export of ChatGPT: `conversations.json`, in which a conversation is a tree of messages, since answers can be
//! made anew and questions rewritten. The branch that was last in use becomes the turns of a dialogue; what lies on
//! other branches is kept without a number and marked.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{elements, in_folder, time};
use crate::domain::Kind;
use crate::port::PortError;
use crate::port::convert::{Foreign, Sink};

/// What the actor of the import is called.
pub const SYSTEM: &str = "chatgpt";

#[derive(Deserialize)]
struct Conversation {
    #[serde(alias = "conversation_id")]
    id: Option<String>,
    title: Option<String>,
    #[serde(default)]
    create_time: Value,
    current_node: Option<String>,
    mapping: HashMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    parent: Option<String>,
    #[serde(default)]
    children: Vec<String>,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    author: Author,
    #[serde(default)]
    create_time: Value,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Author {
    role: String,
}

/// Reads the file, or the folder with it.
///
/// # Errors
/// When the file cannot be read or the sink be written.
pub fn convert(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let path = in_folder(path, "conversations.json");
    elements(&path, "conversations.json of a ChatGPT export", &mut |index, conversation: Value| {
        // Both keys may be there at once, which the derived reader would refuse.
        let mut conversation = conversation;
        if let Some(object) = conversation.as_object_mut()
            && object.contains_key("id")
        {
            object.remove("conversation_id");
        }
        match serde_json::from_value::<Conversation>(conversation) {
            Ok(conversation) => one(index, &conversation, sink),
            Err(error) => {
                sink.problems.add(format!("conversation {}", index + 1), error.to_string());
                Ok(())
            }
        }
    })
}

fn one(index: usize, conversation: &Conversation, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let place = format!("conversation {}", index + 1);
    let Some(session) = conversation.id.clone() else {
        sink.problems.add(place, "it has no id");
        return Ok(());
    };
    let current = branch(conversation);
    let on_branch: HashSet<&str> = current.iter().copied().collect();
    let mut turn = 0;
    for id in &current {
        if put(conversation, (&session, id), Some(turn + 1), sink, &place)? {
            turn += 1;
        }
    }
    let mut others: Vec<&String> = conversation.mapping.keys().filter(|id| !on_branch.contains(id.as_str())).collect();
    others.sort();
    for id in others {
        put(conversation, (&session, id), None, sink, &place)?;
    }
    Ok(())
}

/// The nodes from the root to the one that was last in use.
fn branch(conversation: &Conversation) -> Vec<&str> {
    let mapping = &conversation.mapping;
    let known = conversation.current_node.as_deref().filter(|id| mapping.contains_key(*id));
    let mut path = Vec::new();
    if let Some(mut id) = known {
        // A circle would be a damaged file; no branch is longer than all nodes.
        while path.len() <= mapping.len() {
            path.push(id);
            match mapping.get(id).and_then(|node| node.parent.as_deref()) {
                Some(parent) if mapping.contains_key(parent) => id = parent,
                _ => break,
            }
        }
        path.reverse();
        return path;
    }
    let root = mapping.iter().find(|(_, node)| node.parent.as_ref().is_none_or(|parent| !mapping.contains_key(parent)));
    let mut next = root.map(|(id, _)| id.as_str());
    while let Some(id) = next.filter(|_| path.len() <= mapping.len()) {
        path.push(id);
        next = mapping.get(id).and_then(|node| node.children.last()).map(String::as_str);
    }
    path
}

/// Whether there was something to keep.
fn put(
    conversation: &Conversation,
    (session, id): (&str, &str),
    turn: Option<i64>,
    sink: &mut Sink<'_>,
    place: &str,
) -> Result<bool, PortError> {
    let Some(message) = conversation.mapping.get(id).and_then(|node| node.message.as_ref()) else { return Ok(false) };
    let hidden = message.metadata["is_visually_hidden_from_conversation"] == true;
    if hidden || !["user", "assistant"].contains(&message.author.role.as_str()) {
        return Ok(false);
    }
    let content = text(&message.content);
    if content.trim().is_empty() {
        return Ok(false);
    }
    let mut metadata = Map::new();
    if let Some(title) = conversation.title.as_ref().filter(|title| !title.is_empty()) {
        metadata.insert("title".to_owned(), title.clone().into());
    }
    if turn.is_none() {
        metadata.insert("branch".to_owned(), "not the one in use".into());
    }
    let foreign = Foreign {
        key: message.id.clone(),
        kind: Kind::Dialogue,
        content,
        metadata,
        created_at: time(&message.create_time).or_else(|| time(&conversation.create_time)),
        session: Some(session.to_owned()),
        turn,
        speaker: Some(message.author.role.clone()),
        ..Foreign::default()
    };
    Ok(sink.memory(&format!("{place}, message {id}"), foreign)?.is_some())
}

/// The written parts of a message; pictures and the like have no text.
fn text(content: &Value) -> String {
    let parts: Vec<&str> = content["parts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part.as_str().or_else(|| part["text"].as_str()))
        .filter(|part| !part.trim().is_empty())
        .collect();
    match content["content_type"].as_str() {
        Some("text" | "multimodal_text") | None => parts.join("\n\n"),
        // Thoughts, code for tools, pages that were read.
        _ => String::new(),
    }
}
