//! The events of clients. Claude Code, Codex and Gemini CLI send an object with `session_id`, `hook_event_name` and
//! fields of the event; Codex's `notify` and plugins of OpenCode send objects of their own.
//!
//! Unknown fields are ignored, and every field but the event may be missing, because clients add and rename fields.

use std::path::PathBuf;

use serde_json::Value;

use crate::fingerprint::hash_parts;
use crate::line::Turn;

/// Maximum size of an event.
pub const MAX_EVENT_BYTES: usize = 8 * 1024 * 1024;
/// Maximum length of the ID of a session.
const MAX_SESSION_BYTES: usize = 200;
/// Maximum number of turns in an event.
const MAX_INLINE_TURNS: usize = 200;

/// Events that the program handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    SessionStart,
    UserPrompt,
    Stop,
    PreCompact,
    SessionEnd,
    SubagentStop,
}

/// Every event with its names: first that of the command line, then those of clients.
const NAMES: [(EventKind, &[&str]); 6] = [
    (
        EventKind::SessionStart,
        &["session-start", "SessionStart", "session.created"],
    ),
    (
        EventKind::UserPrompt,
        &[
            "user-prompt",
            "UserPromptSubmit",
            "BeforeAgent",
            "chat.message",
        ],
    ),
    (
        EventKind::Stop,
        &[
            "stop",
            "Stop",
            "AfterAgent",
            "agent-turn-complete",
            "session.idle",
        ],
    ),
    (
        EventKind::PreCompact,
        &[
            "pre-compact",
            "PreCompact",
            "PreCompress",
            "session.compacted",
        ],
    ),
    (EventKind::SessionEnd, &["session-end", "SessionEnd"]),
    (EventKind::SubagentStop, &["subagent-stop", "SubagentStop"]),
];

impl EventKind {
    /// Parses the name of an event on the command line or in a client.
    #[must_use]
    pub fn parse_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, names)| names.contains(&name))
            .map(|(kind, _)| *kind)
    }

    /// Returns the names on the command line.
    pub fn command_names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter_map(|(_, names)| names.first().copied())
    }

    /// Returns whether the transcript may contain new turns after the event.
    #[must_use]
    pub fn stores_turns(self) -> bool {
        !matches!(self, Self::SessionStart | Self::UserPrompt)
    }

    /// Returns the name in Claude Code, for the answer.
    fn claude_name(self) -> &'static str {
        match self {
            Self::SessionStart => "SessionStart",
            Self::UserPrompt => "UserPromptSubmit",
            Self::Stop => "Stop",
            Self::PreCompact => "PreCompact",
            Self::SessionEnd => "SessionEnd",
            Self::SubagentStop => "SubagentStop",
        }
    }
}

/// An event of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// The name for the answer.
    pub name: String,
    /// ID of the conversation, if the client sent a usable one.
    pub session: Option<String>,
    /// Directory in which the client works.
    pub directory: Option<PathBuf>,
    /// The text that the user wrote.
    pub prompt: Option<String>,
    /// Whether the model has lost the earlier conversation, because it begins or was summarised.
    pub begins_context: bool,
    /// Whether it was summarised.
    pub is_compacted: bool,
    /// The transcript with new turns: that of the subagent after it has ended.
    pub transcript: Option<PathBuf>,
    /// ID of the subagent whose transcript it is.
    pub agent: Option<String>,
    /// Turns in the event itself.
    pub turns: Vec<Turn>,
}

/// The reason why an event cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is not JSON.
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but not an object.
    #[error("the event is not a JSON object")]
    NotObject,
    /// It is too large.
    #[error("the event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLarge,
}

impl Event {
    /// Reads the JSON of an event.
    ///
    /// # Errors
    /// Fails if it is too large or is not an object.
    pub fn parse_json(kind: EventKind, json: &[u8]) -> Result<Self, EventError> {
        if json.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLarge);
        }
        let value: Value =
            serde_json::from_slice(json).map_err(|error| EventError::NotJson(error.to_string()))?;
        if !value.is_object() {
            return Err(EventError::NotObject);
        }
        Ok(Self::from_object(kind, &value))
    }

    fn from_object(kind: EventKind, object: &Value) -> Self {
        let session = text_of(
            object,
            &[
                "session_id",
                "sessionID",
                "sessionId",
                "thread-id",
                "thread_id",
                "conversation_id",
            ],
        )
        .filter(|id| is_session(id));
        let source = text_of(object, &["source", "trigger"]);
        let name = text_of(object, &["hook_event_name"])
            .filter(|name| EventKind::parse_name(name) == Some(kind));
        let turns = inline_turns(object, session);
        let agent_transcript = text_of(object, &["agent_transcript_path"]);
        let transcript = agent_transcript
            .or_else(|| text_of(object, &["transcript_path", "transcriptPath"]))
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && turns.is_empty());
        let agent = agent_transcript
            .and_then(|_| text_of(object, &["agent_id"]))
            .filter(|id| is_session(id));
        Self {
            kind,
            name: name.unwrap_or(kind.claude_name()).to_owned(),
            session: session.map(str::to_owned),
            directory: text_of(object, &["cwd", "directory"])
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
            prompt: text_of(object, &["prompt", "user_prompt"]).map(str::to_owned),
            begins_context: kind == EventKind::SessionStart && source != Some("resume"),
            is_compacted: kind == EventKind::SessionStart && source == Some("compact"),
            agent: agent.map(str::to_owned),
            turns: if transcript.is_some() {
                Vec::new()
            } else {
                turns_or_last(turns, object, session)
            },
            transcript,
        }
    }

    /// Returns the session under which the turns are stored: subagents have their own.
    #[must_use]
    pub fn turn_session(&self) -> Option<String> {
        let session = self.session.clone().or_else(|| {
            let stem = self.transcript.as_ref()?.file_stem()?.to_str()?;
            is_session(stem).then(|| stem.to_owned())
        })?;
        Some(match &self.agent {
            Some(agent) => format!("{session}/{agent}"),
            None => session,
        })
    }

    /// Returns the name of the repository: that of the nearest directory with `.git`, else of the working directory.
    /// Nothing in the repository is read.
    #[must_use]
    pub fn repository(&self) -> Option<String> {
        let directory = self.directory.as_ref()?;
        let root = directory
            .ancestors()
            .find(|path| path.join(".git").exists())
            .unwrap_or(directory);
        let name = root.file_name()?.to_str()?;
        (name.len() <= MAX_SESSION_BYTES).then(|| name.to_owned())
    }
}

/// Returns the first of these fields that is a text with content.
fn text_of<'a>(object: &'a Value, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .filter_map(|name| object[*name].as_str())
        .find(|text| !text.trim().is_empty())
}

fn is_session(id: &str) -> bool {
    id.len() <= MAX_SESSION_BYTES && !id.trim().is_empty() && !id.chars().any(char::is_control)
}

/// Reads the turns that the event itself contains: those of Codex's `notify`, of Gemini CLI's `AfterAgent`, or a list
/// `messages` of objects with `id`, `role`, `text` and `time`.
fn inline_turns(object: &Value, session: Option<&str>) -> Vec<Turn> {
    let source = InlineSource { object, session };
    let mut turns = Vec::new();
    for (index, text) in texts_of(&object["input-messages"]).enumerate() {
        turns.extend(source.turn("user", index, text));
    }
    if let Some(answer) = text_of(object, &["prompt_response"]) {
        turns.extend(text_of(object, &["prompt"]).and_then(|text| source.turn("user", 0, text)));
        turns.extend(source.turn("assistant", 0, answer));
    } else if object["input-messages"].is_array() {
        let answer = text_of(object, &["last-assistant-message"]);
        turns.extend(answer.and_then(|text| source.turn("assistant", 0, text)));
    }
    let messages = object["messages"].as_array().into_iter().flatten();
    turns.extend(messages.take(MAX_INLINE_TURNS).filter_map(read_message));
    turns.truncate(MAX_INLINE_TURNS);
    turns
}

/// Without a transcript, the last answer is all that some events contain.
fn turns_or_last(turns: Vec<Turn>, object: &Value, session: Option<&str>) -> Vec<Turn> {
    if !turns.is_empty() {
        return turns;
    }
    let source = InlineSource { object, session };
    text_of(
        object,
        &["last_assistant_message", "last-assistant-message"],
    )
    .and_then(|text| source.turn("assistant", 0, text))
    .into_iter()
    .collect()
}

/// An event whose fields are turns without IDs.
struct InlineSource<'a> {
    object: &'a Value,
    session: Option<&'a str>,
}

impl InlineSource<'_> {
    fn turn(&self, speaker: &str, index: usize, text: &str) -> Option<Turn> {
        let time = text_of(self.object, &["timestamp"]);
        let number = text_of(self.object, &["turn-id", "turn_id", "prompt_id"]).or(time);
        let id = hash_parts(&[
            self.session.unwrap_or_default().as_bytes(),
            number.unwrap_or_default().as_bytes(),
            speaker.as_bytes(),
            index.to_string().as_bytes(),
            text.as_bytes(),
        ]);
        Turn::from_parts(Some(&id), speaker, text, time)
    }
}

fn texts_of(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .take(MAX_INLINE_TURNS)
        .filter_map(Value::as_str)
}

fn read_message(message: &Value) -> Option<Turn> {
    let speaker = match message["role"].as_str()? {
        "user" => "user",
        "assistant" | "model" => "assistant",
        _ => return None,
    };
    Turn::from_parts(
        message["id"].as_str(),
        speaker,
        message["text"].as_str()?,
        message["time"].as_str(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(kind: EventKind, json: &str) -> Event {
        Event::parse_json(kind, json.as_bytes()).expect("an event")
    }

    #[test]
    fn every_name_belongs_to_one_event() {
        let mut all: Vec<&str> = NAMES
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(
            EventKind::parse_name("BeforeAgent"),
            Some(EventKind::UserPrompt)
        );
        assert_eq!(EventKind::parse_name("PreToolUse"), None);
    }

    #[test]
    fn invalid_events_are_refused() {
        for json in ["", "{", "nonsense", "\u{0}", "{\"a\":"] {
            let error = Event::parse_json(EventKind::Stop, json.as_bytes()).expect_err(json);
            assert!(matches!(error, EventError::NotJson(_)), "{error}");
        }
        for json in ["[]", "7", "null", "\"text\""] {
            assert_eq!(
                Event::parse_json(EventKind::Stop, json.as_bytes()),
                Err(EventError::NotObject)
            );
        }
        let large = vec![b' '; MAX_EVENT_BYTES + 1];
        assert_eq!(
            Event::parse_json(EventKind::Stop, &large),
            Err(EventError::TooLarge)
        );
    }

    #[test]
    fn fields_of_other_types_count_as_missing() {
        let event = parse(
            EventKind::UserPrompt,
            r#"{"session_id": 7, "transcript_path": ["x"], "cwd": "relative", "prompt": {}, "hook_event_name": "Stop"}"#,
        );
        assert_eq!(
            (
                event.session,
                event.transcript,
                event.directory,
                event.prompt
            ),
            (None, None, None, None)
        );
        assert_eq!(event.name, "UserPromptSubmit");
    }

    #[test]
    fn a_resumed_session_keeps_its_context() {
        let begins = |source: &str| {
            parse(
                EventKind::SessionStart,
                &format!(r#"{{"session_id": "s", "source": "{source}"}}"#),
            )
            .begins_context
        };
        assert!(begins("startup") && begins("clear") && begins("compact") && begins("unknown"));
        assert!(!begins("resume"));
    }

    #[test]
    fn a_subagent_has_a_session_and_a_transcript_of_its_own() {
        let event = parse(
            EventKind::SubagentStop,
            r#"{"session_id": "s", "transcript_path": "/t/s.jsonl", "agent_id": "a1", "agent_transcript_path": "/t/a1.jsonl"}"#,
        );
        assert_eq!(event.turn_session().as_deref(), Some("s/a1"));
        assert_eq!(event.transcript, Some(PathBuf::from("/t/a1.jsonl")));
        // Earlier versions wrote the turns of subagents to the transcript of the session.
        let event = parse(
            EventKind::SubagentStop,
            r#"{"session_id": "s", "transcript_path": "/t/s.jsonl", "agent_id": "a1"}"#,
        );
        assert_eq!(event.turn_session().as_deref(), Some("s"));
    }

    #[test]
    fn turns_of_an_event_have_stable_ids() {
        let json = r#"{"type": "agent-turn-complete", "thread-id": "t", "turn-id": "1", "cwd": "/w",
            "input-messages": ["Rename it"], "last-assistant-message": "Renamed."}"#;
        let event = parse(EventKind::Stop, json);
        let turns: Vec<(&str, &str)> = event
            .turns
            .iter()
            .map(|turn| (turn.speaker.as_str(), turn.text.as_str()))
            .collect();
        assert_eq!(turns, [("user", "Rename it"), ("assistant", "Renamed.")]);
        assert_eq!(event, parse(EventKind::Stop, json));
        let later = parse(
            EventKind::Stop,
            &json.replace("\"turn-id\": \"1\"", "\"turn-id\": \"2\""),
        );
        assert_ne!(event.turns[0].id, later.turns[0].id);
        assert_eq!(event.turn_session().as_deref(), Some("t"));
    }

    /// Compares the fields that a fixture names with those of the event.
    fn check_fixture(file: &str, case: &Value) {
        let name = case["event"].as_str().expect("an event");
        let kind = EventKind::parse_name(name).expect("a known event");
        let event = parse(kind, &case["input"].to_string());
        let turns: Vec<[&str; 2]> = event
            .turns
            .iter()
            .map(|turn| [turn.speaker.as_str(), turn.text.as_str()])
            .collect();
        for (field, expected) in case["expect"].as_object().expect("an object") {
            let actual = match field.as_str() {
                "name" => json!(event.name),
                "session" => json!(event.session),
                "turn_session" => json!(event.turn_session()),
                "prompt" => json!(event.prompt),
                "begins_context" => json!(event.begins_context),
                "transcript" => json!(event.transcript),
                "turns" => json!(turns),
                _ => panic!("{file}: unknown field {field}"),
            };
            assert_eq!(&actual, expected, "{file}: {field} of {case}");
        }
    }

    #[test]
    fn documented_events_of_every_client_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/hooks");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("the fixtures") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a fixture");
            let cases: Vec<Value> = serde_json::from_str(&text).expect("a list");
            let file = path.display().to_string();
            cases.iter().for_each(|case| check_fixture(&file, case));
            count += cases.len();
        }
        assert!(count >= 20, "{count}");
    }

    proptest::proptest! {
        #[test]
        fn no_input_causes_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Event::parse_json(EventKind::Stop, &bytes);
            let _ = crate::line::read_turn(&bytes);
        }
    }
}
