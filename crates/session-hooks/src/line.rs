//! Reads turns from the lines of transcripts: of Claude Code, of Codex, and of this crate's own spool.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fingerprint::hash_parts;
use crate::text::clean_text;

/// Maximum size of the text of a turn; longer ones are split.
pub const MAX_TURN_BYTES: usize = 48 * 1024;
/// Maximum length of a time.
const MAX_TIME_BYTES: usize = 40;

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Identifies the turn, also in a copy of the transcript.
    pub id: String,
    /// `user`, `assistant` or `subagent`.
    pub speaker: String,
    /// The text, verbatim except for removed parts.
    pub text: String,
    /// The time as the client wrote it, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// A line of the spool.
#[derive(Debug, Serialize, Deserialize)]
struct SpoolLine {
    turn: Turn,
}

impl Turn {
    /// Creates a turn without the parts that are not stored; `None` if nothing remains.
    pub(crate) fn from_parts(
        id: Option<&str>,
        speaker: &str,
        text: &str,
        time: Option<&str>,
    ) -> Option<Self> {
        let cleaned = clean_text(text);
        if cleaned.is_empty() {
            return None;
        }
        let time = time.filter(|time| is_time(time));
        let id = match id.filter(|id| is_id(id)) {
            Some(id) => id.to_owned(),
            None => hash_parts(&[
                time.unwrap_or_default().as_bytes(),
                speaker.as_bytes(),
                text.as_bytes(),
            ]),
        };
        Some(Self {
            id,
            speaker: speaker.to_owned(),
            text: cleaned,
            time: time.map(str::to_owned),
        })
    }

    /// Returns the line of the spool for this turn.
    pub(crate) fn to_spool_line(&self) -> String {
        let line = SpoolLine { turn: self.clone() };
        // Strings always serialise.
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }
}

/// Splits a turn whose text is too long to be stored at once.
#[must_use]
pub fn split_turn(turn: Turn) -> Vec<Turn> {
    if turn.text.len() <= MAX_TURN_BYTES {
        return vec![turn];
    }
    let mut parts = Vec::new();
    let mut rest = turn.text.as_str();
    while !rest.is_empty() {
        let end = split_position(rest);
        parts.push(Turn {
            id: format!("{}#{}", turn.id, parts.len() + 1),
            text: rest[..end].to_owned(),
            ..turn.clone()
        });
        rest = &rest[end..];
    }
    parts.retain(|part| !part.text.trim().is_empty());
    parts
}

/// Returns the end of the first part: after a line if possible.
fn split_position(text: &str) -> usize {
    let most = text.floor_char_boundary(MAX_TURN_BYTES);
    if most == text.len() {
        return most;
    }
    text[..most].rfind('\n').map_or(most, |line| line + 1)
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 100 && id.chars().all(|sign| sign.is_ascii_graphic())
}

fn is_time(time: &str) -> bool {
    (20..=MAX_TIME_BYTES).contains(&time.len())
        && time.as_bytes().get(10).is_some_and(|sign| *sign == b'T')
        && time.starts_with(|sign: char| sign.is_ascii_digit())
}

/// Reads the turn of a line; `None` for everything that nobody said: tool calls, results, thoughts, notes of the client
/// and unknown formats.
pub(crate) fn read_turn(line: &[u8]) -> Option<Turn> {
    let line: Value = serde_json::from_slice(line).ok()?;
    match line["type"].as_str() {
        Some("user" | "assistant") => read_claude_line(&line),
        Some("event_msg") => read_codex_line(&line),
        _ => serde_json::from_value::<SpoolLine>(line)
            .ok()
            .map(|line| line.turn),
    }
}

fn read_claude_line(line: &Value) -> Option<Turn> {
    let is_set = |name: &str| line[name].as_bool().unwrap_or(false);
    if is_set("isMeta") || is_set("isCompactSummary") || is_set("isVisibleInTranscriptOnly") {
        return None;
    }
    let role = line["message"]["role"].as_str().or(line["type"].as_str())?;
    // A subagent answers the assistant.
    let speaker = match (role, is_set("isSidechain")) {
        ("user", false) => "user",
        ("assistant", false) | ("user", true) => "assistant",
        ("assistant", true) => "subagent",
        _ => return None,
    };
    let text = join_texts(&line["message"]["content"])?;
    Turn::from_parts(
        line["uuid"].as_str(),
        speaker,
        &text,
        line["timestamp"].as_str(),
    )
}

/// Joins the texts of a message. Other blocks, such as tool results, are left out.
fn join_texts(content: &Value) -> Option<String> {
    if let Some(text) = content.as_str() {
        return Some(text.to_owned());
    }
    let texts: Vec<&str> = content
        .as_array()?
        .iter()
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn read_codex_line(line: &Value) -> Option<Turn> {
    let payload = &line["payload"];
    let speaker = match payload["type"].as_str()? {
        "user_message" => "user",
        "agent_message" => "assistant",
        _ => return None,
    };
    let text = payload["message"].as_str()?;
    Turn::from_parts(None, speaker, text, line["timestamp"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn turn_of(line: &Value) -> Option<(String, String)> {
        read_turn(line.to_string().as_bytes()).map(|turn| (turn.speaker, turn.text))
    }

    fn said(speaker: &str, text: &str) -> Option<(String, String)> {
        Some((speaker.to_owned(), text.to_owned()))
    }

    #[test]
    fn lines_of_claude_code_are_read() {
        let text = json!({ "type": "user", "uuid": "u1", "timestamp": "2026-01-01T10:00:00.000Z",
            "message": { "role": "user", "content": "Fix <private>pw</private>it" } });
        assert_eq!(turn_of(&text), said("user", "Fix it"));
        let blocks = json!({ "type": "assistant", "uuid": "u2", "message": { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "Done." },
            { "type": "tool_use", "name": "Bash" } ] } });
        assert_eq!(turn_of(&blocks), said("assistant", "Done."));
        let side = json!({ "type": "assistant", "isSidechain": true, "uuid": "u3",
            "message": { "role": "assistant", "content": "Found." } });
        assert_eq!(turn_of(&side), said("subagent", "Found."));
    }

    #[test]
    fn lines_that_nobody_said_are_left_out() {
        let result = json!([{ "type": "tool_result", "content": "output" }]);
        for line in [
            json!({ "type": "user", "isMeta": true, "message": { "role": "user", "content": "x" } }),
            json!({ "type": "user", "message": { "role": "user", "content": result } }),
            json!({ "type": "user", "isCompactSummary": true, "message": { "role": "user", "content": "x" } }),
            json!({ "type": "user", "message": { "role": "tool", "content": "x" } }),
            json!({ "type": "user", "message": 7 }),
            json!({ "type": "summary", "summary": "x" }),
            json!({ "type": "event_msg", "payload": { "type": "token_count" } }),
            json!([1, 2]),
            json!(null),
        ] {
            assert_eq!(turn_of(&line), None, "{line}");
        }
        assert_eq!(read_turn(b"{\"type\":"), None);
    }

    #[test]
    fn lines_of_codex_are_read_and_identified() {
        let line = |time: &str| {
            json!({ "timestamp": time, "type": "event_msg",
            "payload": { "type": "user_message", "message": "Go on" } })
            .to_string()
        };
        let first = read_turn(line("2026-01-01T10:00:00Z").as_bytes()).expect("a turn");
        let again = read_turn(line("2026-01-01T10:00:00Z").as_bytes()).expect("a turn");
        let later = read_turn(line("2026-01-01T11:00:00Z").as_bytes()).expect("a turn");
        assert_eq!(first, again);
        assert_ne!(first.id, later.id);
    }

    #[test]
    fn spool_lines_are_read_back() {
        let turn = Turn::from_parts(Some("t-1"), "user", "Line\nbreak", None).expect("a turn");
        let line = turn.to_spool_line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(read_turn(line.trim_end().as_bytes()), Some(turn));
    }

    #[test]
    fn long_turns_are_split_without_loss() {
        let text = "ünïcode words without end\n".repeat(10_000);
        let turn = Turn::from_parts(Some("long"), "user", &text, None).expect("a turn");
        let whole = turn.text.clone();
        let parts = split_turn(turn);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.text.len() <= MAX_TURN_BYTES));
        let joined: String = parts.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(joined, whole);
        assert_eq!(parts[1].id, "long#2");
    }
}
