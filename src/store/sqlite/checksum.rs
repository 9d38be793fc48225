//! The checksum of a backup: a line behind the last page, where SQLite reads nothing. SQLite's own checks find damaged
//! pages, but not a changed byte of a text.
//!
//! A database that is opened to be written loses the line, because it would be wrong after the first change.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

const BEGIN: &[u8] = b"\ncognitive-memory-mcp backup sha256 ";
const DIGEST_BYTES: usize = 64;
const LINE_BYTES: usize = BEGIN.len() + DIGEST_BYTES + 1;
const PORTION: usize = 256 * 1024;

/// Result of the comparison of a file with its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The file has none: it was written by an earlier version, or is no backup.
    Absent,
    /// The file did not change after it was written.
    Correct,
    /// The file was changed after it was written.
    Wrong,
}

/// Appends the checksum of a complete file.
///
/// # Errors
/// If the file cannot be read or written.
pub fn append_checksum(path: &Path) -> io::Result<()> {
    let mut file = File::options().read(true).append(true).open(path)?;
    let mut line = BEGIN.to_vec();
    line.extend(hash_file(&mut file)?.bytes());
    line.push(b'\n');
    file.write_all(&line)
}

/// Compares a file with its checksum, and removes the checksum.
///
/// # Errors
/// If the file cannot be read or written.
pub fn take_checksum(path: &Path) -> io::Result<Checksum> {
    let Some(expected) = remove_checksum(path)? else {
        return Ok(Checksum::Absent);
    };
    let found = hash_file(&mut File::open(path)?)?;
    Ok(if found.as_bytes() == expected {
        Checksum::Correct
    } else {
        Checksum::Wrong
    })
}

/// Removes the checksum of a file, and returns it if there was one.
pub(super) fn remove_checksum(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let Some(content) = file.metadata()?.len().checked_sub(LINE_BYTES as u64) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(content))?;
    let mut line = Vec::with_capacity(LINE_BYTES);
    file.take(LINE_BYTES as u64).read_to_end(&mut line)?;
    if line.len() < LINE_BYTES || !line.starts_with(BEGIN) {
        return Ok(None);
    }
    File::options().write(true).open(path)?.set_len(content)?;
    Ok(Some(line[BEGIN.len()..][..DIGEST_BYTES].to_vec()))
}

fn hash_file(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut portion = vec![0; PORTION];
    loop {
        match file.read(&mut portion)? {
            0 => break,
            read => hash.update(&portion[..read]),
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_detects_every_changed_byte_and_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, LINE_BYTES, PORTION + 1] {
            let content = vec![b'x'; size];
            std::fs::write(&path, &content).unwrap();
            assert_eq!(take_checksum(&path).unwrap(), Checksum::Absent, "{size}");
            append_checksum(&path).unwrap();
            assert_eq!(take_checksum(&path).unwrap(), Checksum::Correct, "{size}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
            append_checksum(&path).unwrap();
            let whole = std::fs::read(&path).unwrap();
            for place in (0..size).step_by(1 + size / 7).chain(size..whole.len()) {
                let mut changed = whole.clone();
                changed[place] ^= 1;
                std::fs::write(&path, &changed).unwrap();
                let found = take_checksum(&path).unwrap();
                let is_harmless =
                    (size..size + BEGIN.len()).contains(&place) || place == whole.len() - 1;
                assert_eq!(
                    found == Checksum::Wrong,
                    !is_harmless,
                    "{place} of {size}: {found:?}"
                );
            }
        }
    }
}
