//! Renders an event as a line.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::Value;
use tracing::Level;

use super::Service;

/// Maximum length of a text in a line; the journal cuts lines at 48 KB.
const MAX_TEXT: usize = 8 * 1024;

/// Keys of every JSON line. Fields of an event with such a name get the prefix `field_`.
const RESERVED: &[&str] = &["timestamp", "level", "target", "message", "service"];

/// Format of the lines of one output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// Text for people.
    Pretty {
        colour: bool,
    },
}

/// An event to be written.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) time: DateTime<Utc>,
    pub(super) level: Level,
    pub(super) target: &'a str,
    pub(super) message: String,
    /// The fields of the event and of the spans around it, each name once.
    pub(super) fields: Vec<(String, Value)>,
}

/// Returns the line including its line end.
pub(super) fn render_line(
    record: &Record<'_>,
    service: &Service,
    form: Form,
    has_priority: bool,
) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    if has_priority {
        line.extend_from_slice(priority_prefix(record.level));
    }
    match form {
        Form::Json => write_json(record, service.name, &mut line),
        Form::Pretty { colour } => {
            line.extend_from_slice(render_pretty(record, service, colour).as_bytes());
        }
    }
    line.push(b'\n');
    line
}

/// Returns the prefix of sd-daemon(3).
fn priority_prefix(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        Level::DEBUG | Level::TRACE => b"<7>",
    }
}

fn write_json(record: &Record<'_>, service: &str, line: &mut Vec<u8>) {
    let start = line.len();
    let written = (|| {
        let mut serializer = serde_json::Serializer::new(&mut *line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(
            "timestamp",
            &record.time.to_rfc3339_opts(SecondsFormat::Micros, true),
        )?;
        map.serialize_entry("level", record.level.as_str())?;
        map.serialize_entry("target", record.target)?;
        map.serialize_entry("message", shorten_text(&record.message).as_ref())?;
        map.serialize_entry("service", service)?;
        for (name, value) in &record.fields {
            let name = if RESERVED.contains(&name.as_str()) {
                format!("field_{name}")
            } else {
                name.clone()
            };
            match value {
                Value::String(text) => map.serialize_entry(&name, shorten_text(text).as_ref())?,
                value => map.serialize_entry(&name, value)?,
            }
        }
        map.end()
    })();
    // Writing to memory cannot fail. If it ever does, no half object may remain.
    if written.is_err() {
        line.truncate(start);
    }
}

fn render_pretty(record: &Record<'_>, service: &Service, colour: bool) -> String {
    const DIM: &str = "\u{1b}[2m";
    const RESET: &str = "\u{1b}[0m";
    let paint = |code: &'static str| if colour { code } else { "" };
    let hue = match record.level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    };
    let (dim, hue, reset) = (paint(DIM), paint(hue), paint(RESET));
    let target = record
        .target
        .strip_prefix(service.targets.first().copied().unwrap_or_default())
        .unwrap_or(record.target)
        .trim_start_matches("::");
    let mut line = format!(
        "{dim}{}{reset} {hue}{:5}{reset} ",
        record.time.format("%H:%M:%S%.3fZ"),
        record.level.as_str()
    );
    if !target.is_empty() {
        // Writing to a String does not fail.
        let _ = write!(line, "{dim}{target}{reset} ");
    }
    line.push_str(&escape_controls(&record.message));
    for (name, value) in &record.fields {
        let text = match value {
            Value::String(text) if text.is_empty() || text.contains([' ', '=', '"']) => {
                format!("{:?}", shorten_text(text))
            }
            Value::String(text) => escape_controls(text),
            value => value.to_string(),
        };
        let _ = write!(line, " {dim}{name}={reset}{text}");
    }
    line
}

/// Escapes control characters, which a terminal would execute.
fn escape_controls(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in shorten_text(text).chars() {
        if c.is_control() {
            visible.extend(c.escape_default())
        } else {
            visible.push(c)
        }
    }
    visible
}

fn shorten_text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return text.into();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    format!("{}… ({} bytes left out)", &text[..end], text.len() - end).into()
}
