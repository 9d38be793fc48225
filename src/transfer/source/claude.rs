//! The export of claude.ai: `conversations.json`. Each message becomes a turn of dialogue.

use std::path::Path;

use serde_json::{Map, Value};

use super::input::Inputs;
use super::{
    CONVERSATIONS, FileSource, Item, Progress, describe_kind, each_item, parse_key, short_key,
};
use crate::domain::Kind;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};

/// The program and its data.
pub const SOURCE: FileSource = FileSource {
    name: "claude",
    data: "Export of claude.ai: the zip archive, the unpacked folder or conversations.json",
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
struct Conversation {
    /// Identifies the conversation in the keys of messages without one.
    key: String,
    session: Option<String>,
    title: Option<String>,
    created_at: Value,
}

fn read_conversation(item: Item, sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let Item { place, value, .. } = item;
    let Value::Object(fields) = &value else {
        sink.problems.add(
            place,
            format!("{} instead of a conversation", describe_kind(&value)),
        );
        return Ok(());
    };
    let messages = match fields.get("chat_messages") {
        Some(Value::Array(messages)) => messages,
        Some(Value::Null) | None => {
            sink.count_omitted("conversations without messages");
            return Ok(());
        }
        Some(other) => {
            sink.problems.add(
                place,
                format!(
                    "chat_messages: expected a list, got {}",
                    describe_kind(other)
                ),
            );
            return Ok(());
        }
    };
    let first_id = || {
        messages
            .iter()
            .find_map(|message| parse_key(&message["uuid"]))
    };
    let session = parse_key(&value["uuid"]).or_else(|| {
        sink.warnings.add(
            &place,
            "it has no uuid: the one of its first message names the session",
        );
        first_id()
    });
    let title = value["name"].as_str().map(str::to_owned);
    if title.is_none() {
        sink.warnings.add(
            &place,
            format!(
                "its name is {}: imported without a title",
                describe_kind(&value["name"])
            ),
        );
    }
    let session = session.unwrap_or_else(|| place.clone());
    let conversation = Conversation {
        key: short_key(&session),
        session: sink.fit_name(&place, "session", Some(session)),
        title: title.and_then(|title| sink.fit_title(&place, &title)),
        created_at: value["created_at"].clone(),
    };
    let mut turn = 0;
    for (index, message) in messages.iter().enumerate() {
        let place = format!("{place}, message {}", index + 1);
        turn += i64::from(add_message(
            &conversation,
            (index, message),
            turn + 1,
            sink,
            &place,
        )?);
    }
    Ok(())
}

/// Adds a message. Returns whether it had content.
fn add_message(
    conversation: &Conversation,
    (index, message): (usize, &Value),
    turn: i64,
    sink: &mut Sink<'_>,
    place: &str,
) -> Result<bool, TransferError> {
    if !message.is_object() {
        sink.warnings.add(
            place,
            format!("{} instead of a message: skipped", describe_kind(message)),
        );
        return Ok(false);
    }
    let content = message_text(message);
    if content.trim().is_empty() {
        sink.count_omitted("messages without text");
        return Ok(false);
    }
    let id = parse_key(&message["uuid"]).unwrap_or_else(|| {
        sink.warnings.add(
            place,
            "it has no uuid: its place in the conversation identifies it",
        );
        format!("{}\n{index}", conversation.key)
    });
    let speaker = message["sender"].as_str().map(str::to_owned);
    if speaker.is_none() {
        sink.warnings.add(
            place,
            format!(
                "its sender is {}: imported without a speaker",
                describe_kind(&message["sender"])
            ),
        );
    }
    let mut metadata = Map::new();
    if let Some(title) = &conversation.title {
        metadata.insert("title".to_owned(), title.as_str().into());
    }
    let created_at = sink.read_time(place, "created_at", &message["created_at"]);
    let foreign = ForeignMemory {
        key: id,
        kind: Kind::Dialogue,
        content,
        metadata,
        created_at: created_at
            .or_else(|| sink.read_time(place, "created_at", &conversation.created_at)),
        session: conversation.session.clone(),
        turn: Some(turn),
        speaker,
        ..ForeignMemory::default()
    };
    Ok(sink.add_memory(place, foreign)?.is_some())
}

/// Returns the written parts; tool calls and thoughts are left out. Older exports have only `text`.
fn message_text(message: &Value) -> String {
    let parts: Vec<&str> = match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts
            .iter()
            .filter(|part| part["type"] == "text")
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => Vec::new(),
    };
    let written = parts.iter().any(|part| !part.trim().is_empty());
    let mut text = if written {
        parts.join("\n\n")
    } else {
        message["text"].as_str().unwrap_or_default().to_owned()
    };
    for attachment in message["attachments"].as_array().into_iter().flatten() {
        let name = attachment["file_name"].as_str().unwrap_or("attachment");
        if let Some(content) = attachment["extracted_content"]
            .as_str()
            .filter(|content| !content.trim().is_empty())
        {
            text.push_str(&format!("\n\n[{name}]\n{content}"));
        }
    }
    text
}
