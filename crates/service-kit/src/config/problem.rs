//! Problems of the configuration, reported together.

use std::fmt;

/// A problem of the configuration, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Setting or file with the problem.
    pub name: String,
    /// The value, or a substitute for a secret one. `None` if it is missing.
    pub value: Option<String>,
    /// Source of the value.
    pub origin: Option<String>,
    /// Phrase that describes a valid value.
    pub expected: String,
    /// Sentence that states the next step.
    pub remedy: String,
}

/// All problems, at least one. `Display` is the text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
    transient: bool,
}

impl ConfigError {
    pub fn new(problems: Vec<Problem>, transient: bool) -> Self {
        Self {
            problems,
            transient,
        }
    }

    /// Returns whether a file could not be read for a reason that may disappear by itself.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "The configuration has a problem:")?,
            count => write!(f, "The configuration has {count} problems:")?,
        }
        for (index, problem) in self.problems.iter().enumerate() {
            let value = problem.value.as_deref().unwrap_or("(not set)");
            write!(
                f,
                "\n\n{:>3}. {}\n     value     {value}",
                index + 1,
                problem.name
            )?;
            if let Some(origin) = &problem.origin {
                write!(f, "\n     from      {origin}")?;
            }
            write!(
                f,
                "\n     expected  {}\n     to do     {}",
                problem.expected, problem.remedy
            )?;
        }
        Ok(())
    }
}

/// Maximum number of characters of a value that are shown.
const SHOWN: usize = 120;

/// Returns a value for display: quoted, on one line, shortened, and without the secrets of an address.
pub fn quote_value(value: &str, secret: bool) -> String {
    if secret {
        return HIDDEN.to_owned();
    }
    let mut text: String = without_secrets(value).escape_debug().collect();
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    format!("\"{text}\"")
}

/// Substitute for a secret.
pub const HIDDEN: &str = "(hidden)";

/// Hides possible secrets of an address: `http://user:password@host/path?key=1` becomes `http://***@host/path?***`.
pub fn without_secrets(value: &str) -> String {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), value),
    };
    let rest = match rest.rsplit_once('@') {
        // Without a scheme, only `user:password@host` is a misspelt address.
        Some((user, host)) if !scheme.is_empty() || user.contains(':') => format!("***@{host}"),
        _ => rest.to_owned(),
    };
    match rest.split_once('?') {
        Some((path, query)) if !scheme.is_empty() && !query.is_empty() => {
            format!("{scheme}{path}?***")
        }
        _ => format!("{scheme}{rest}"),
    }
}

/// Returns a question that names up to two candidates close to a misspelled name. The comparison ignores `prefix`.
pub fn did_you_mean<'a>(
    name: &str,
    prefix: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let stem = |name: &str| {
        name.strip_prefix(prefix)
            .unwrap_or(name)
            .to_ascii_uppercase()
    };
    let wanted = stem(name);
    let mut near: Vec<(usize, &str)> = candidates
        .map(|candidate| (edit_distance(&wanted, &stem(candidate)), candidate))
        .filter(|(distance, candidate)| *distance * 2 <= wanted.len().max(stem(candidate).len()))
        .collect();
    near.sort();
    let best = near.first()?.0;
    let names: Vec<&str> = near
        .iter()
        .filter(|(distance, _)| *distance == best)
        .map(|(_, name)| *name)
        .take(2)
        .collect();
    Some(format!("Did you mean {}?", names.join(" or ")))
}

/// Returns the Levenshtein distance in bytes, because names are ASCII.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(edit_distance("LISTEN", "LISTEN"), 0);
        assert_eq!(edit_distance("LISTEM", "LISTEN"), 1);
        assert_eq!(edit_distance("", "ABC"), 3);
        assert_eq!(edit_distance("KITTEN", "SITTING"), 3);
    }

    #[test]
    fn userinfo_is_taken_out() {
        assert_eq!(
            without_secrets("postgres://u:p@ss@h/db"),
            "postgres://***@h/db"
        );
        assert_eq!(without_secrets("http://h/x"), "http://h/x");
        assert_eq!(without_secrets("plain"), "plain");
    }

    #[test]
    fn shown_values_are_one_short_line() {
        assert_eq!(quote_value("a\nb\u{1b}[31m", false), "\"a\\nb\\u{1b}[31m\"");
        assert_eq!(quote_value("hunter2", true), HIDDEN);
        assert!(quote_value(&"é".repeat(1000), false).chars().count() < 130);
    }
}
