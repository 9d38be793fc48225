//! Imports of odd, damaged or hostile data: everything valid is kept, and the rest is reported with its position.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::importer::{import, of, records};
use crate::process::{Ran, Setup};
use crate::transfer::{export, ok};

mod chat;
mod file;
mod record;

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Imports a file without --keep-going and returns what was stored.
fn imported(from: &str, name: &str, content: impl AsRef<[u8]>) -> (Setup, Ran, Vec<Value>) {
    let setup = Setup::new();
    let path = setup.file(name, content);
    let ran = import(&setup, from, text_of(&path), &[]);
    ok(&ran);
    let records = records(&setup);
    (setup, ran, records)
}

fn contents(records: &[Value]) -> Vec<String> {
    let mut contents: Vec<String> = of(records, "memory")
        .iter()
        .map(|memory| memory["content"].as_str().unwrap().to_owned())
        .collect();
    contents.sort();
    contents
}

fn claude(id: &str, fields: &Value, messages: &Value) -> Value {
    let mut conversation = json!({ "uuid": id, "name": "Talk", "created_at": "2026-03-01T10:00:00Z",
        "chat_messages": messages });
    for (name, value) in fields.as_object().unwrap() {
        conversation[name] = value.clone();
    }
    conversation
}

fn chatgpt(id: &str, texts: &[&str]) -> String {
    let mut nodes = json!({ "root": { "id": "root", "parent": null, "children": [format!("{id}-0")], "message": null } });
    for (index, text) in texts.iter().enumerate() {
        let parent = if index == 0 {
            "root".to_owned()
        } else {
            format!("{id}-{}", index - 1)
        };
        let role = if index % 2 == 0 { "user" } else { "assistant" };
        nodes[format!("{id}-{index}")] = json!({ "parent": parent, "children": [format!("{id}-{}", index + 1)],
            "message": { "id": format!("{id}-{index}"), "author": { "role": role }, "create_time": 1767225600.5,
                "content": { "content_type": "text", "parts": [text] } } });
    }
    let conversation = json!({ "id": id, "conversation_id": id, "title": "Quay", "create_time": 1767225600.0,
        "mapping": nodes, "current_node": format!("{id}-{}", texts.len() - 1) });
    conversation.to_string()
}

fn zip(path: &Path, files: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, content) in files {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect()
}
