//! Values in the form in which statements take them.

/// Counts and lengths are far below 2^31, since texts are limited to 64 KiB.
pub(super) fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// Plain data as JSON text.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}
