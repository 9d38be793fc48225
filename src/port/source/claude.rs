//! The export of claude.ai: `conversations.json`. Each message becomes a turn of dialogue.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{elements, in_folder, time};
use crate::domain::Kind;
use crate::port::PortError;
use crate::port::convert::{Foreign, Sink};

/// What the actor of the import is called.
pub const SYSTEM: &str = "claude";

#[derive(Deserialize)]
struct Conversation {
    uuid: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    created_at: Value,
    chat_messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    uuid: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    content: Vec<Value>,
    sender: String,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    attachments: Vec<Value>,
}

/// Reads the file, or the folder with it.
///
/// # Errors
/// When the file cannot be read or the sink be written.
pub fn convert(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let path = in_folder(path, "conversations.json");
    elements(&path, "conversations.json of a Claude export", &mut |index, conversation: Conversation| {
        let mut turn = 0;
        for (number, message) in conversation.chat_messages.into_iter().enumerate() {
            let place = format!("conversation {}, message {}", index + 1, number + 1);
            let content = text(&message);
            if content.trim().is_empty() {
                continue;
            }
            turn += 1;
            let mut metadata = Map::new();
            if !conversation.name.is_empty() {
                metadata.insert("title".to_owned(), conversation.name.clone().into());
            }
            let foreign = Foreign {
                key: message.uuid,
                kind: Kind::Dialogue,
                content,
                metadata,
                created_at: time(&message.created_at).or_else(|| time(&conversation.created_at)),
                session: Some(conversation.uuid.clone()),
                turn: Some(turn),
                speaker: Some(message.sender),
                ..Foreign::default()
            };
            sink.memory(&place, foreign)?;
        }
        Ok(())
    })
}

/// The written parts; what a tool said or thought is left out. Older exports have `text` only.
fn text(message: &Message) -> String {
    let parts: Vec<&str> =
        message.content.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect();
    let mut text = if parts.is_empty() { message.text.clone() } else { parts.join("\n\n") };
    for attachment in &message.attachments {
        let name = attachment["file_name"].as_str().unwrap_or("attachment");
        if let Some(content) = attachment["extracted_content"].as_str().filter(|content| !content.trim().is_empty()) {
            text.push_str(&format!("\n\n[{name}]\n{content}"));
        }
    }
    text
}
