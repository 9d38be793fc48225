//! The result of a search.

use std::ops::Range;

/// A credential in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Bytes of the credential; begins and ends at characters.
    pub range: Range<usize>,
    /// Name of the rule that found it.
    pub rule: &'static str,
}
