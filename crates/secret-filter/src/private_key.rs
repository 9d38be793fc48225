//! Private keys in PEM and PGP armor.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use crate::rule::PRIVATE_KEY;
use crate::secret::Secret;

/// Minimum length of a run of base64 in a key. Documentation shows dots or a few words instead.
const SHORTEST_RUN: usize = 20;
const DASHES: &str = "-----";

static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    RegexBuilder::new(
        r"-----BEGIN (?:[A-Za-z0-9]+ ){0,4}(?:PRIVATE KEY(?: BLOCK)?|[Ss]tatic key V1)-----",
    )
    .unicode(false)
    .build()
    .expect("a test uses the pattern")
});

/// Finds private keys: from the first line to the last, or to the end of the base64 text if the last line is missing.
pub(crate) fn find_private_keys(text: &str) -> Vec<Secret> {
    HEADER
        .find_iter(text.as_bytes())
        .filter_map(|header| locate_key(text, header.range()))
        .map(|range| Secret {
            range,
            rule: PRIVATE_KEY,
        })
        .collect()
}

fn locate_key(text: &str, header: Range<usize>) -> Option<Range<usize>> {
    let body = &text[header.end..];
    let marker = body.find(DASHES);
    let end = match marker {
        Some(at) if body[at..].starts_with("-----END ") => {
            let title = at + "-----END ".len();
            let closing = body[title..].find(DASHES);
            closing.map_or(title, |length| title + length + DASHES.len())
        }
        _ => unfinished_body(&body[..marker.unwrap_or(body.len())]),
    };
    has_long_run(&body[..end]).then(|| header.start..header.end + end)
}

/// Returns the length of the base64 text at the beginning, including line ends that are written as `\n`.
fn unfinished_body(body: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=\\ \t\r\n".contains(c);
    body.find(|c| !is_part(c)).unwrap_or(body.len())
}

fn has_long_run(body: &str) -> bool {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    body.split(|c| !is_base64(c))
        .any(|run| run.len() >= SHORTEST_RUN)
}
