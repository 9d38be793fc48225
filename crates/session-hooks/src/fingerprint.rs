//! Hashes that identify files, turns and positions.

use sha2::{Digest, Sha256};

/// Number of bytes of a hash that are kept.
const KEPT_BYTES: usize = 16;

/// Returns 32 hexadecimal digits that identify these parts. The length of each part counts, so that `ab, c` and
/// `a, bc` differ.
pub(crate) fn hash_parts(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .take(KEPT_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
