//! Writes a database to a file.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::TransferError;
use super::format::{self, End};
use crate::store::port::{MemoryRecord, Record, RecordPosition, Section, Snapshot};

/// Maximum number of records in memory at once.
const PAGE: i64 = 100;

/// The result of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Number of records.
    pub records: u64,
    /// Number of memories among them.
    pub memories: u64,
    /// Hash of all record lines; databases with the same records have the same hash.
    pub sha256: String,
}

/// Writes all records of a snapshot, page by page.
///
/// # Errors
/// [`TransferError::Store`] of the database; `failed`, which knows the name of `out`, converts errors of `out`.
pub async fn export_snapshot(
    snapshot: &mut dyn Snapshot,
    out: &mut dyn Write,
    failed: &dyn Fn(std::io::Error) -> TransferError,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, TransferError> {
    let mut exported = Exported::default();
    let mut hash = Sha256::new();
    writeln!(out, "{}", format::write_header()).map_err(failed)?;
    for section in Section::ALL {
        let mut after = RecordPosition::default();
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
                    record => write(&format::write_line(&record))?,
                }
                write("\n")?;
            }
            progress(exported.records);
        }
    }
    exported.sha256 = to_hex(&hash.finalize());
    let end = End {
        records: exported.records,
        sha256: exported.sha256.clone(),
    };
    writeln!(out, "{}", format::write_line(&end))
        .and_then(|()| out.flush())
        .map_err(failed)?;
    Ok(exported)
}

/// Writes a memory whose history is too long to be loaded at once. Its line looks like that of any other memory.
async fn write_in_parts(
    snapshot: &mut dyn Snapshot,
    record: MemoryRecord,
    write: &mut dyn FnMut(&str) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    const END: &str = "]}";
    let memory = record.memory.clone();
    let line = format::write_line(&Record::Memory(Box::new(record)));
    write(
        line.strip_suffix(END)
            .expect("the history is the last field of the line of a memory"),
    )?;
    let (mut after, mut separator) = (RecordPosition::default(), "");
    loop {
        let (entries, place) = snapshot.history(&memory, after).await?;
        if entries.is_empty() {
            break;
        }
        after = place;
        for entry in entries {
            write(separator)?;
            write(&format::write_line(&entry))?;
            separator = ",";
        }
    }
    write(END)
}

/// Returns bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
