//! Conversion of values to parameters of statements.

/// Converts a count or length, which is far below 2^31 because texts are limited to 64 KiB.
pub(super) fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Serializes plain data as JSON text.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}
