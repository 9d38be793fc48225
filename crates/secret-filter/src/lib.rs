//! Finds and masks credentials in text: tokens of known services, private keys, passwords in URLs and connection
//! strings, and random values that are assigned to a name such as `api_key`.
//!
//! Depends on no other part of the program. Invariants: the time is linear in the length of the text, no memory is
//! kept except the compiled rules, and masking a masked text changes nothing. A new format is a line in `rule.rs`.

use std::ops::Range;

mod assignment;
mod mark;
mod private_key;
mod rule;
mod scanner;
mod secret;
mod value;

pub use rule::rule_names;
pub use secret::Secret;

/// Maximum number of passes of a masking; more than two need a text that was made for it.
const MOST_PASSES: usize = 8;

/// Finds the credentials in a text, in order and without overlaps. Marks of an earlier masking divide the text.
#[must_use]
pub fn find_secrets(text: &str) -> Vec<Secret> {
    let mut secrets = Vec::new();
    let mut from = 0;
    while let Some(mark) = mark::find_mark(&text[from..]) {
        scan_part(text, from..from + mark.start, &mut secrets);
        from += mark.end;
    }
    scan_part(text, from..text.len(), &mut secrets);
    secrets
}

fn scan_part(text: &str, part: Range<usize>, secrets: &mut Vec<Secret>) {
    let start = part.start;
    let text = &text[part];
    let mut found = scanner::scan_known_formats(text);
    found.extend(private_key::find_private_keys(text));
    found.extend(assignment::find_assigned_secrets(text));
    let merged = merge_overlaps(text, found).into_iter();
    secrets.extend(merged.map(|secret| Secret {
        range: start + secret.range.start..start + secret.range.end,
        rule: secret.rule,
    }));
}

/// Finds the credentials in a value that belongs to a name, such as a field of a JSON object: everything that
/// [`find_secrets`] finds, and the whole value if the name is that of a credential and the value looks random.
#[must_use]
pub fn find_named_secrets(name: &str, value: &str) -> Vec<Secret> {
    let mut found = find_secrets(value);
    if let Some(rule) = assignment::judge_pair(name, value) {
        found.push(Secret {
            range: 0..value.len(),
            rule,
        });
    }
    merge_overlaps(value, found)
}

/// Replaces the credentials in a text by marks such as `[secret removed: github-token]`. Returns `None` if there are
/// none.
#[must_use]
pub fn mask(text: &str) -> Option<String> {
    mask_found(text, find_secrets(text))
}

/// Replaces the credentials in a value that belongs to a name, as [`mask`] does.
#[must_use]
pub fn mask_named(name: &str, value: &str) -> Option<String> {
    mask_found(value, find_named_secrets(name, value))
}

/// Replaces the credentials, and those that are recognised only after the others are gone.
fn mask_found(text: &str, mut secrets: Vec<Secret>) -> Option<String> {
    if secrets.is_empty() {
        return None;
    }
    let mut masked = text.to_owned();
    for _ in 0..MOST_PASSES {
        masked = mark::replace_secrets(&masked, &secrets);
        secrets = find_secrets(&masked);
        if secrets.is_empty() {
            break;
        }
    }
    Some(masked)
}

/// Sorts the credentials and unites those that overlap. The rule that begins first names the union; of two that begin
/// together, the rule that was listed first.
fn merge_overlaps(text: &str, mut found: Vec<Secret>) -> Vec<Secret> {
    found.sort_by_key(|secret| secret.range.start);
    let mut merged: Vec<Secret> = Vec::with_capacity(found.len());
    for mut secret in found {
        secret.range.start = text.floor_char_boundary(secret.range.start);
        secret.range.end = text.ceil_char_boundary(secret.range.end);
        match merged.last_mut() {
            Some(last) if secret.range.start < last.range.end => {
                last.range.end = last.range.end.max(secret.range.end);
            }
            _ => merged.push(secret),
        }
    }
    merged
}
