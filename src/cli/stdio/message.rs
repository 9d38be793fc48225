//! The lines of the bridge: reads them within limits, interprets them, and creates errors that their sender can
//! assign to a request.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::domain::lenient_json;

pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const SERVICE_ERROR: i64 = -32000;
/// Maximum length of an ID that is echoed.
const LONGEST_ID: usize = 1024;

/// A line of the standard input.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A line without its line end.
    Bytes(Vec<u8>),
    /// A line that exceeds the limit and was skipped.
    TooLong { id: Value, length: u64 },
}

/// Reads the next line. Keeps at most `limit` bytes of it in memory.
pub(super) async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: usize,
) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut length = 0_u64;
    let mut ids = IdScanner::default();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            if length == 0 {
                return Ok(None);
            }
            break;
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        length += part.len() as u64;
        if length <= limit as u64 {
            bytes.extend_from_slice(part);
        } else {
            // The ID may be before or after the part that is too long.
            ids.push_all(&std::mem::take(&mut bytes));
            ids.push_all(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(Some(if length <= limit as u64 {
        Line::Bytes(bytes)
    } else {
        Line::TooLong {
            id: ids.id(),
            length,
        }
    }))
}

/// A message, or a batch of messages, that can be forwarded.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) value: Value,
    /// Repairs of the text.
    pub(super) notes: Vec<String>,
}

impl Message {
    /// Parses a line; returns the error to answer with if it is not JSON and cannot be repaired.
    pub(super) fn parse_message(line: Vec<u8>) -> Result<Self, String> {
        let text = match String::from_utf8(line) {
            // RFC 8259 lets parsers ignore a byte order mark, which some programs write first.
            Ok(text) => text
                .strip_prefix('\u{feff}')
                .map(str::to_owned)
                .unwrap_or(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let id = find_id(error.as_bytes());
                return Err(fault(
                    &id,
                    PARSE_ERROR,
                    &format!("this line is not valid UTF-8 (byte {at}): send it as UTF-8"),
                ));
            }
        };
        let reason = match serde_json::from_str(&text) {
            Ok(value) => {
                return Ok(Self {
                    text,
                    value,
                    notes: Vec::new(),
                });
            }
            Err(error) => error,
        };
        let (mended, repairs) = lenient_json::mend(&text);
        match serde_json::from_str(&mended) {
            Ok(value) => {
                let notes = repairs
                    .iter()
                    .map(|repair| format!("In this call, {repair}."))
                    .collect();
                Ok(Self {
                    text: mended,
                    value,
                    notes,
                })
            }
            Err(_) => Err(fault(
                &find_id(text.as_bytes()),
                PARSE_ERROR,
                &format!("this line is not JSON: {reason}"),
            )),
        }
    }

    /// Returns an error as the answer to every request in the message; none for notifications.
    pub(super) fn faults(&self, code: i64, text: &str) -> Vec<String> {
        let answers: Vec<Value> = match &self.value {
            Value::Array(batch) => batch
                .iter()
                .filter_map(|one| one.get("id"))
                .map(|id| error(id, code, text))
                .collect(),
            one => one
                .get("id")
                .map(|id| error(id, code, text))
                .into_iter()
                .collect(),
        };
        match &self.value {
            Value::Array(_) if !answers.is_empty() => vec![Value::Array(answers).to_string()],
            Value::Array(_) => Vec::new(),
            _ => answers.iter().map(Value::to_string).collect(),
        }
    }

    /// Returns whether the message may be sent again if its first answer was lost: it changes nothing, or the second
    /// execution finds the result of the first.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.value {
            // Only for a single purge can the second answer be interpreted.
            Value::Array(batch) => batch.iter().all(|one| is_repeatable(one) && !is_purge(one)),
            one => is_repeatable(one),
        }
    }

    /// Converts the answer to a repeated request to the combined result of both attempts.
    pub(super) fn settle_repeated(&self, answer: Value) -> Value {
        if !is_purge(&self.value) || answer["result"]["isError"] != true {
            return answer;
        }
        let refusal = &answer["result"]["structuredContent"]["error"];
        if refusal["code"] != "not_found" {
            return answer;
        }
        let text = refusal["message"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        let ids = purged_ids(&self.value);
        let all_missing = !ids.is_empty() && ids.iter().all(|id| text.contains(&id.to_lowercase()));
        if !all_missing {
            // A purge is executed completely or not at all, so the first attempt did nothing either.
            return answer;
        }
        let sentence = "The connection was lost during the purge and it was repeated: the first attempt had purged them.";
        let count = ids.len();
        json!({
            "jsonrpc": "2.0",
            "id": answer["id"],
            "result": {
                "content": [{ "type": "text", "text": format!("{sentence} {count} purged.") }],
                "structuredContent": { "mode": "purge", "changed": count, "notes": [sentence] },
                "isError": false,
            },
        })
    }

    /// Adds notes on the message to the answer of a tool, and the ID to an error without one.
    pub(super) fn complete(&self, mut answer: Value) -> Value {
        if answer.get("error").is_some()
            && answer["id"].is_null()
            && let Some(id) = self.value.get("id")
        {
            answer["id"] = id.clone();
        }
        if self.notes.is_empty() {
            return answer;
        }
        if let Some(content) = answer
            .pointer_mut("/result/structuredContent")
            .and_then(Value::as_object_mut)
        {
            let notes = content.entry("notes").or_insert_with(|| json!([]));
            if let Some(notes) = notes.as_array_mut() {
                notes.splice(0..0, self.notes.iter().map(|note| json!(note)));
            }
        }
        if let Some(Value::String(text)) = answer.pointer_mut("/result/content/0/text") {
            *text = format!("Note: {}\n\n{text}", self.notes.join(" "));
        }
        answer
    }
}

fn is_repeatable(message: &Value) -> bool {
    if message["method"] != "tools/call" {
        return true;
    }
    let arguments = &message["params"]["arguments"];
    match message["params"]["name"].as_str().unwrap_or_default() {
        "recall" | "get" | "explore" | "status" | "forget" | "link" => true,
        // Equal memories are stored once; a turn without a number could be repeated.
        "remember" => {
            arguments["idempotency_key"].is_string() || stores_no_unnumbered_turn(arguments)
        }
        _ => false,
    }
}

/// Only items in their plain form are inspected. The service also accepts other forms, for example a kind in
/// capitals or next to the items, in which a turn of a dialogue is not recognized here.
fn stores_no_unnumbered_turn(arguments: &Value) -> bool {
    let Some(fields) = arguments.as_object() else {
        return false;
    };
    let Some(items) = fields.get("items").and_then(Value::as_array) else {
        return false;
    };
    let is_safe = |item: &Value| {
        item.is_object()
            && item.get("type").is_none()
            && match &item["kind"] {
                Value::Null => true,
                Value::String(kind) => {
                    ["note", "insight", "episode"].contains(&kind.as_str())
                        || kind == "dialogue" && item["turn"].is_number()
                }
                _ => false,
            }
    };
    fields
        .keys()
        .all(|name| ["items", "idempotency_key"].contains(&name.as_str()))
        && items.iter().all(is_safe)
}

fn is_purge(message: &Value) -> bool {
    let params = &message["params"];
    message["method"] == "tools/call"
        && params["name"] == "forget"
        && params["arguments"]["mode"]
            .as_str()
            .is_some_and(|mode| mode.trim().eq_ignore_ascii_case("purge"))
}

fn purged_ids(message: &Value) -> Vec<&str> {
    let arguments = &message["params"]["arguments"];
    let ids = [&arguments["ids"], &arguments["id"]]
        .into_iter()
        .find(|ids| !ids.is_null())
        .unwrap_or(&Value::Null);
    match ids {
        Value::Array(ids) => ids.iter().filter_map(Value::as_str).collect(),
        Value::String(id) => vec![id],
        _ => Vec::new(),
    }
}

fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

pub(super) fn fault(id: &Value, code: i64, message: &str) -> String {
    error(id, code, message).to_string()
}

/// Returns the ID of a message that need not be valid JSON; null if it is not readable.
fn find_id(line: &[u8]) -> Value {
    let mut scanner = IdScanner::default();
    scanner.push_all(line);
    scanner.id()
}

/// Finds the member `id` of the outermost object in text that need not be valid.
#[derive(Debug, Default)]
struct IdScanner {
    depth: usize,
    in_string: bool,
    after_backslash: bool,
    /// The string or number that is being read in the outermost object.
    token: Vec<u8>,
    /// Whether the following value belongs to the member `id`.
    is_id: bool,
    found: Option<Value>,
}

impl IdScanner {
    fn push_all(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        if self.in_string {
            let ends = byte == b'"' && !self.after_backslash;
            self.after_backslash = byte == b'\\' && !self.after_backslash;
            self.in_string = !ends;
            self.keep(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.token.clear();
                self.depth += 1;
            }
            b'}' | b']' => {
                self.end_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b',' => self.end_value(),
            b':' if self.depth == 1 => {
                self.is_id = self.token == b"\"id\"";
                self.token.clear();
            }
            byte if byte.is_ascii_whitespace() => {}
            byte => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.depth == 1 && self.token.len() <= LONGEST_ID {
            self.token.push(byte);
        }
    }

    fn end_value(&mut self) {
        if self.depth == 1 && self.is_id && self.found.is_none() {
            let value = serde_json::from_slice::<Value>(&self.token).ok();
            self.found = value.filter(|value| value.is_string() || value.is_number());
        }
        if self.depth == 1 {
            self.is_id = false;
            self.token.clear();
        }
    }

    fn id(mut self) -> Value {
        // The line may have been cut after the ID.
        self.end_value();
        self.found.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Line, Message, find_id, next_line};

    fn message(value: &Value) -> Message {
        Message::parse_message(value.to_string().into_bytes()).unwrap()
    }

    fn forget(mode: &str, ids: &[&str]) -> Message {
        let arguments = json!({ "ids": ids, "mode": mode });
        message(
            &json!({ "id": 3, "method": "tools/call", "params": { "name": "forget", "arguments": arguments } }),
        )
    }

    #[test]
    fn the_id_is_found_in_what_is_no_json() {
        for (line, id) in [
            (r#"{"id":7,"method":"x","params":{"id":8"#, json!(7)),
            (
                r#"{"params":{"id":8,"a":[{"id":9}]},"id":"seven" , "x"#,
                json!("seven"),
            ),
            (r#"{ "id" : -1.5e3 }"#, json!(-1500.0)),
            (r#"{"method":"id","id":"a\"b","x":]}"#, json!("a\"b")),
            (r#"{"a":"\"id\":5","b":nonsense,"id":6"#, json!(6)),
            (r#"{"id":null}"#, Value::Null),
            (r#"{"id":{"a":1}}"#, Value::Null),
            (r#"[{"id":1}]"#, Value::Null),
            ("not json", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(find_id(line.as_bytes()), id, "{line}");
        }
        assert_eq!(find_id(b"{\"id\":1,\"x\":\"caf\xe9\"}"), json!(1));
    }

    #[test]
    fn invalid_lines_give_errors_with_the_id() {
        let answer = |line: &[u8]| -> Value {
            serde_json::from_str(&Message::parse_message(line.to_vec()).unwrap_err()).unwrap()
        };
        let wrong = answer(b"{\"id\":1,\"x\":\"caf\xe9\"}");
        assert_eq!(
            (&wrong["id"], &wrong["error"]["code"]),
            (&json!(1), &json!(-32700))
        );
        assert!(
            wrong["error"]["message"]
                .as_str()
                .unwrap()
                .contains("byte 16"),
            "{wrong}"
        );
        assert_eq!(answer(b"{\"id\":\"a\",")["id"], "a");
        assert_eq!(
            answer(
                format!("{{\"x\":{}1{},\"id\":2}}", "[".repeat(500), "]".repeat(500)).as_bytes()
            )["id"],
            2
        );
    }

    #[test]
    fn half_an_emoji_is_repaired_with_a_note() {
        let line =
            br#"{"id":7,"method":"tools/call","params":{"name":"remember","arguments":{"content":"cut \ud83d"}}}"#;
        let message = Message::parse_message(line.to_vec()).unwrap();
        assert_eq!(
            message.value["params"]["arguments"]["content"],
            "cut \u{fffd}"
        );
        assert_eq!(
            serde_json::from_str::<Value>(&message.text).unwrap(),
            message.value
        );
        let answer = json!({ "id": 7, "result": { "content": [{ "type": "text", "text": "Stored." }],
            "structuredContent": { "notes": ["other"], "x": 1 } } });
        let answer = message.complete(answer);
        assert_eq!(
            answer["result"]["structuredContent"]["notes"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert!(
            answer["result"]["content"][0]["text"]
                .as_str()
                .unwrap()
                .starts_with("Note: In this call, half")
        );
    }

    #[test]
    fn errors_without_an_id_get_that_of_the_request() {
        let request = message(&json!({ "id": 5, "method": "ping" }));
        let answer = request.complete(json!({ "id": null, "error": { "code": -32600 } }));
        assert_eq!(answer["id"], 5);
        let batch = message(
            &json!([{ "id": 1, "method": "a" }, { "method": "b" }, { "id": "2", "method": "c" }]),
        );
        let faults: Value = serde_json::from_str(&batch.faults(-32000, "gone")[0]).unwrap();
        assert_eq!(
            (
                &faults[0]["id"],
                &faults[1]["id"],
                faults.as_array().unwrap().len()
            ),
            (&json!(1), &json!("2"), 2)
        );
        assert!(
            message(&json!([{ "method": "b" }]))
                .faults(-32000, "gone")
                .is_empty()
        );
    }

    #[test]
    fn an_error_in_answer_to_a_repaired_line_stays_an_error() {
        let request =
            Message::parse_message("\u{feff}{\"id\": 1, \"method\": \"pi\tng\"}".into()).unwrap();
        assert_eq!(request.notes.len(), 1);
        let error = json!({ "id": 1, "error": { "code": -32601, "message": "unknown method" } });
        assert_eq!(request.complete(error.clone()), error);
    }

    #[test]
    fn only_what_does_no_harm_twice_is_repeated() {
        let call = |name: &str, arguments: Value| {
            message(
                &json!({ "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } }),
            )
        };
        assert!(
            forget("purge", &["a"]).is_repeatable() && call("recall", json!({})).is_repeatable()
        );
        assert!(call("remember", json!({ "items": [{ "content": "x" }] })).is_repeatable());
        assert!(
            !call(
                "remember",
                json!({ "items": [{ "content": "x", "kind": "dialogue" }] })
            )
            .is_repeatable()
        );
        // The service accepts these forms as dialogue, too.
        for arguments in [
            json!({ "items": [{ "content": "x", "kind": "Dialogue" }] }),
            json!({ "items": [{ "content": "x", "type": "dialogue" }] }),
            json!({ "items": [{ "content": "x" }], "kind": "dialogue" }),
            json!({ "items": ["{\"content\": \"x\", \"kind\": \"dialogue\"}"] }),
            json!({ "content": "x", "kind": "dialogue" }),
        ] {
            assert!(
                !call("remember", arguments.clone()).is_repeatable(),
                "{arguments}"
            );
        }
        for name in ["update", "focus", "review", "unknown"] {
            assert!(!call(name, json!({})).is_repeatable(), "{name}");
        }
        let batch = json!([
            forget("delete", &["a"]).value,
            call("status", json!({})).value
        ]);
        assert!(message(&batch).is_repeatable());
        assert!(!message(&json!([forget("purge", &["a"]).value])).is_repeatable());
    }

    #[test]
    fn a_purge_that_was_done_by_its_first_attempt_is_done() {
        let refusal = |text: &str| {
            json!({ "jsonrpc": "2.0", "id": 3, "result": { "isError": true, "content": [],
                "structuredContent": { "error": { "code": "not_found", "message": text } } } })
        };
        let done = forget("purge", &["A1", "b2"]).settle_repeated(refusal("not found: a1, b2"));
        assert_eq!(
            (&done["id"], &done["result"]["isError"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(done["result"]["structuredContent"]["changed"], 2);
        // One of them still exists, so the first attempt was refused, too.
        let partly = forget("purge", &["a1", "b2"]).settle_repeated(refusal("not found: b2"));
        assert_eq!(partly["result"]["isError"], true);
        let deleted = forget("delete", &["a1"]).settle_repeated(refusal("not found: a1"));
        assert_eq!(deleted["result"]["isError"], true);
    }

    #[tokio::test]
    async fn long_lines_are_skipped_with_their_id() {
        let long = "x".repeat(100);
        let text =
            format!("short\n{{\"a\":\"{long}\",\"id\":4}}\n{{\"id\":5,\"a\":\"{long}\"}}\n\nlast");
        let mut reader = tokio::io::BufReader::with_capacity(7, text.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader, 50).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines[0], Line::Bytes(b"short".to_vec()));
        assert_eq!(
            lines[1],
            Line::TooLong {
                id: json!(4),
                length: 115
            }
        );
        assert_eq!(
            lines[2],
            Line::TooLong {
                id: json!(5),
                length: 115
            }
        );
        assert_eq!(lines.len(), 5, "{lines:?}");
    }
}
