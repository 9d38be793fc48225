//! A database as a file.

use std::io::Write;

use sha2::{Digest, Sha256};

use super::PortError;
use super::line::{self, End};
use crate::store::port::{Place, Section, Snapshot};

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
                let mut text = line::write(record);
                text.push('\n');
                hash.update(text.as_bytes());
                out.write_all(text.as_bytes()).map_err(failed)?;
            }
            progress(exported.records);
        }
    }
    exported.sha256 = hex(&hash.finalize());
    let end = End { records: exported.records, sha256: exported.sha256.clone() };
    writeln!(out, "{}", line::end(&end)).and_then(|()| out.flush()).map_err(failed)?;
    Ok(exported)
}

/// Bytes as people compare them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
