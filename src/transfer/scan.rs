//! Finds credentials in an export while it is written, and writes the export without them.

use std::io::{self, Write};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::export::to_hex;
use super::format::{self, End};
use super::screen::find_in_line;
use crate::domain::secrets::{FoundSecret, SecretPolicy};

/// Maximum size of a line, which is the record of one memory with its history.
const LONGEST_LINE: usize = 256 * 1024 * 1024;

/// Beginning of the last line.
const END_LINE: &str = "{\"type\":\"end\"";

/// A record with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Kind, ID or name, and project of the record; without credentials.
    pub place: String,
    /// Fields and rules.
    pub found: Vec<FoundSecret>,
}

/// Takes the text of an export and writes it without credentials.
pub struct LineScanner<'a> {
    out: &'a mut dyn Write,
    report: &'a mut dyn FnMut(Finding),
    line: Vec<u8>,
    has_header: bool,
    records: u64,
    hash: Sha256,
}

impl std::fmt::Debug for LineScanner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineScanner")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl<'a> LineScanner<'a> {
    /// Writes the masked export to `out`, and reports each record with credentials.
    pub fn new(out: &'a mut dyn Write, report: &'a mut dyn FnMut(Finding)) -> Self {
        Self {
            out,
            report,
            line: Vec::new(),
            has_header: false,
            records: 0,
            hash: Sha256::new(),
        }
    }

    fn append_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.line.len() + piece.len() > LONGEST_LINE {
            let limit = LONGEST_LINE / 1024 / 1024;
            return Err(io::Error::other(format!(
                "a memory with its history is longer than {limit} MiB; shorten its history with MEMORY_HISTORY_DAYS"
            )));
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn finish_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8(line).map_err(io::Error::other)?;
        if !self.has_header {
            self.has_header = true;
            return writeln!(self.out, "{text}");
        }
        if text.starts_with(END_LINE) {
            return self.write_end();
        }
        let masked = match find_in_line(&text, SecretPolicy::Mask) {
            None => text,
            Some((fields, found)) => {
                let place = describe_record(&fields);
                (self.report)(Finding { place, found });
                Value::Object(fields).to_string()
            }
        };
        let masked = format!("{masked}\n");
        self.hash.update(masked.as_bytes());
        self.records += 1;
        self.out.write_all(masked.as_bytes())
    }

    /// Writes an end line that fits the masked lines.
    fn write_end(&mut self) -> io::Result<()> {
        let end = End {
            records: self.records,
            sha256: to_hex(&self.hash.clone().finalize()),
        };
        writeln!(self.out, "{}", format::write_line(&end))
    }
}

impl Write for LineScanner<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(last) => {
                    self.append_piece(last)?;
                    self.finish_line()?;
                }
                None => self.append_piece(piece)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Describes a masked record by kind, ID or name, and project.
fn describe_record(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let name = text("id").or_else(|| text("name")).map_or_else(
        || {
            let end = |name: &str| fields.get(name).map(|end| end["name"].to_string());
            let ends = ["source", "target"].map(|name| end(name).unwrap_or_default());
            format!("{} to {}", ends[0], ends[1])
        },
        str::to_owned,
    );
    format!(
        "{} {name} of project {}",
        text("type").unwrap_or("record"),
        text("project").unwrap_or("default")
    )
}
