//! Compares names and words without case and separators.

/// Returns a name without case and separators: `maxChars` equals `max_chars`.
pub(super) fn fold_name(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' ' | '.'))
        .flat_map(char::to_lowercase)
        .collect()
}
