//! A database as a file.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::PortError;
use super::line::{self, End};
use super::memory_line;
use crate::store::port::{MemoryRecord, Place, Record, Section, Snapshot};

/// Records that are in memory at once.
const PAGE: i64 = 100;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// How many records.
    pub records: u64,
    /// How many of them are memories.
    pub memories: u64,
    /// Hash of their lines: two databases with the same records have the same.
    pub sha256: String,
}

/// Writes all records of a snapshot, page by page.
///
/// # Errors
/// [`PortError::Store`] of the database; errors of `out` are given to `failed`, which knows its name.
pub async fn export(
    snapshot: &mut dyn Snapshot,
    out: &mut dyn Write,
    failed: &dyn Fn(std::io::Error) -> PortError,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, PortError> {
    let mut exported = Exported::default();
    let mut hash = Sha256::new();
    writeln!(out, "{}", line::header()).map_err(failed)?;
    for section in Section::ALL {
        let mut after = Place::default();
        loop {
            let (records, place) = snapshot.page(section, after, PAGE).await?;
            if records.is_empty() {
                break;
            }
            after = place;
            exported.records += records.len() as u64;
            if section == Section::Memory {
                exported.memories += records.len() as u64;
            }
            for record in records {
                let mut write = |text: &str| {
                    hash.update(text.as_bytes());
                    out.write_all(text.as_bytes()).map_err(failed)
                };
                match record {
                    Record::Memory(record) if record.history.is_empty() => {
                        write_in_parts(snapshot, *record, &mut write).await?;
                    }
                    record => write(&line::write(record))?,
                }
                write("\n")?;
            }
            progress(exported.records);
        }
    }
    exported.sha256 = hex(&hash.finalize());
    let end = End {
        records: exported.records,
        sha256: exported.sha256.clone(),
    };
    writeln!(out, "{}", line::end(&end))
        .and_then(|()| out.flush())
        .map_err(failed)?;
    Ok(exported)
}

/// Writes a memory whose history is too long to be in the process as a whole. The line is that of any other memory.
async fn write_in_parts(
    snapshot: &mut dyn Snapshot,
    record: MemoryRecord,
    write: &mut dyn FnMut(&str) -> Result<(), PortError>,
) -> Result<(), PortError> {
    const END: &str = "]}";
    let memory = record.memory.clone();
    let line = line::write(Record::Memory(Box::new(record)));
    write(
        line.strip_suffix(END)
            .expect("the history is the last field of the line of a memory"),
    )?;
    let (mut after, mut separator) = (Place::default(), "");
    loop {
        let (entries, place) = snapshot.history(&memory, after).await?;
        if entries.is_empty() {
            break;
        }
        after = place;
        for entry in entries {
            write(separator)?;
            write(&memory_line::entry(entry))?;
            separator = ",";
        }
    }
    write(END)
}

/// Bytes as people compare them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
