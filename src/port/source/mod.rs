//! Readers of other programs' data, one file a program: each turns files or rows into calls of a
//! [`Sink`](super::Sink). Rows of a database come from the command line, which knows the backends.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{PortError, Problem};

pub mod basic_memory;
pub mod chatgpt;
pub mod claude;
pub mod mcp_memory_server;
pub mod mcp_memory_service;
pub mod table;

fn open(path: &Path) -> Result<BufReader<File>, PortError> {
    let file = File::open(path).map_err(|source| PortError::File { path: path.to_owned(), source })?;
    Ok(BufReader::with_capacity(64 * 1024, file))
}

fn problem(path: &Path, text: impl std::fmt::Display) -> PortError {
    PortError::Problem(Problem { place: path.display().to_string(), text: text.to_string() })
}

/// Gives the elements of a JSON array to `each`, one after the other: the whole file is never in memory.
fn elements<T: DeserializeOwned>(
    path: &Path,
    expected: &str,
    each: &mut dyn FnMut(usize, T) -> Result<(), PortError>,
) -> Result<(), PortError> {
    struct Elements<'a, T> {
        each: &'a mut dyn FnMut(usize, T) -> Result<(), PortError>,
        stopped: &'a mut Option<PortError>,
    }
    impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<'_, T> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            let mut index = 0;
            while let Some(element) = seq.next_element::<T>()? {
                if let Err(error) = (self.each)(index, element) {
                    *self.stopped = Some(error);
                    return Err(serde::de::Error::custom("stopped"));
                }
                index += 1;
            }
            Ok(())
        }
    }
    impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Elements<'_, T> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    let mut stopped = None;
    let mut reader = serde_json::Deserializer::from_reader(open(path)?);
    let read = Elements { each, stopped: &mut stopped }.deserialize(&mut reader).and_then(|()| reader.end());
    match (stopped, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(problem(path, format!("{error}; {expected} is expected"))),
        (None, Ok(())) => Ok(()),
    }
}

/// A file, or the one of this name in a folder.
fn in_folder(path: &Path, name: &str) -> std::path::PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

/// A time as programs write it: RFC 3339, without a zone, or seconds since 1970.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit is no time, which chrono says")]
        Value::Number(number) => DateTime::from_timestamp_micros((number.as_f64()? * 1e6).round() as i64),
        Value::String(text) => {
            let text = text.trim();
            DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok().or_else(|| {
                let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
                let local = forms.iter().find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok());
                let zoned = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
                let zoned = || zoned.iter().find_map(|form| DateTime::parse_from_str(text, form).ok());
                let day = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
                local
                    .map(|at| at.and_utc())
                    .or_else(|| zoned().map(|at| at.to_utc()))
                    .or_else(|| Some(day()?.and_utc()))
            })
        }
        _ => None,
    }
}

/// Labels, as a list or in a text with commas, or as JSON in a text.
fn labels(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => match serde_json::from_str::<Vec<String>>(text) {
            Ok(list) => list,
            Err(_) => {
                let text = text.trim_matches(['{', '}']);
                text.split(',')
                    .map(|tag| tag.trim().trim_matches('"').to_owned())
                    .filter(|tag| !tag.is_empty())
                    .collect()
            }
        },
        _ => Vec::new(),
    }
}

/// An object, or one as JSON in a text.
fn object(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.clone(),
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => Map::new(),
    }
}

/// Whatever identifies something, as text.
fn key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
