//! `.env` files, parsed by dotenvy, with the line of each assignment.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// An assignment.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    pub name: String,
    pub value: String,
    /// First line, counted from 1.
    pub line: usize,
    /// Whether dotenvy may have replaced a `$NAME` in it.
    pub substituted: bool,
}

/// A line that cannot be parsed. Its text is left out, because it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    /// Whether dotenvy parses the line as a value that includes the next assignment: `A="C:\"` does not end at that
    /// quote. The next line may be a secret and must not be shown as a part of this one.
    pub swallows: bool,
    /// Names that these lines seem to assign.
    pub names: Vec<String>,
}

/// Returns one line per call and counts the lines, because the errors of dotenvy have no line numbers.
struct Lines<'a> {
    rest: &'a [u8],
    reached: Rc<Cell<usize>>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self
            .rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(self.rest.len(), |at| at + 1);
        let count = line.min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        if count == line && count > 0 {
            self.reached.set(self.reached.get() + 1);
        }
        Ok(count)
    }
}

/// Parses all assignments and all faults.
pub fn parse_env_file(text: &str) -> (Vec<Assignment>, Vec<Fault>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let reached = Rc::new(Cell::new(0));
    let items = dotenvy::from_read_iter(Lines {
        rest: text.as_bytes(),
        reached: Rc::clone(&reached),
    });
    let (mut assignments, mut faults) = (Vec::new(), Vec::new());
    let mut before = 0;
    for item in items {
        let end = reached.get().min(lines.len());
        // Skips the empty lines and comments before the statement.
        let skipped = lines[before..end]
            .iter()
            .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
            .count();
        let start = (before + skipped).min(end.saturating_sub(1));
        let fault = |swallows| Fault {
            line: start + 1,
            swallows,
            names: names_in(&lines[start..end]),
        };
        match item {
            Ok((_, value)) if value.lines().skip(1).any(is_assignment) => {
                faults.push(fault(true));
            }
            Ok((name, value)) => assignments.push(Assignment {
                name,
                value,
                line: start + 1,
                substituted: has_substitution(&lines[start..end].join("\n")),
            }),
            Err(_) => faults.push(fault(false)),
        }
        before = end;
    }
    (assignments, faults)
}

/// Returns the names of lines that look like `NAME=`.
fn names_in(lines: &[&str]) -> Vec<String> {
    let name = |line: &&str| {
        let line = line.trim_start();
        let (name, _) = line
            .strip_prefix("export ")
            .unwrap_or(line)
            .split_once('=')?;
        let name = name.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        (!name.is_empty() && name.chars().all(fits)).then(|| name.to_owned())
    };
    lines.iter().filter_map(name).collect()
}

/// Returns whether a line begins with `NAME=` in capitals. Base64 has other letters before an `=`.
fn is_assignment(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    line.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
            && name.contains('_')
            && name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    })
}

/// Returns whether a statement has a `$` that dotenvy replaces: outside single quotes and not escaped.
fn has_substitution(statement: &str) -> bool {
    let (mut single, mut double, mut escaped) = (false, false, false);
    let value = statement.split_once('=').map_or("", |(_, value)| value);
    let mut before = ' ';
    for c in value.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            _ if was_escaped => {}
            '\'' if !double => single = !single,
            _ if single => {}
            '\\' => escaped = true,
            '"' => double = !double,
            '#' if !double && before.is_whitespace() => return false,
            '$' => return true,
            _ => {}
        }
        before = c;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<(String, String, usize)> {
        let (assignments, faults) = parse_env_file(text);
        assert_eq!(faults, []);
        assignments
            .into_iter()
            .map(|a| (a.name, a.value, a.line))
            .collect()
    }

    fn one(name: &str, value: &str, line: usize) -> (String, String, usize) {
        (name.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn assignments_know_their_line() {
        let text =
            "\u{feff}# comment\n\nA=1\r\n  # another\nexport B='two\nlines'\n\nC=\"x\" # why\nD=";
        assert_eq!(
            lines(text),
            [
                one("A", "1", 3),
                one("B", "two\nlines", 5),
                one("C", "x", 8),
                one("D", "", 9)
            ]
        );
    }

    #[test]
    fn faults_know_their_line_and_do_not_hide_what_follows() {
        let (assignments, faults) = parse_env_file("A=1\nnot an assignment\nB=2\n\n1C=3\n");
        assert_eq!(assignments.len(), 2);
        assert_eq!(
            faults
                .iter()
                .map(|fault| (fault.line, fault.swallows))
                .collect::<Vec<_>>(),
            [(2, false), (5, false)]
        );
        assert_eq!(
            (faults[0].names.len(), &faults[1].names[..]),
            (0, &["1C".to_owned()][..])
        );
    }

    #[test]
    fn an_open_quote_is_reported_where_it_opens() {
        let (assignments, faults) = parse_env_file("A=1\n# c\nB=\"open\nC=3\n");
        assert_eq!(assignments.len(), 1);
        assert_eq!(
            faults,
            [Fault {
                line: 3,
                swallows: false,
                names: vec!["B".to_owned(), "C".to_owned()]
            }]
        );
    }

    #[test]
    fn a_value_that_takes_in_the_next_assignment_is_a_fault() {
        let (assignments, faults) =
            parse_env_file("A_DIR=\"C:\\data\\\"\nB_SECRET=hush\nC_DIR=\"x\"\n");
        assert!(
            assignments
                .iter()
                .all(|assignment| !assignment.value.contains("hush"))
        );
        assert_eq!(faults[0].line, 1);
        let (assignments, faults) =
            parse_env_file("A=1\nB_DIR=\"C:\\\"\n  export C_SECRET=hush\"\nD=2\n");
        assert_eq!(
            (faults.len(), faults[0].line, faults[0].swallows),
            (1, 2, true)
        );
        assert_eq!(faults[0].names, ["B_DIR", "C_SECRET"]);
        assert_eq!(assignments.len(), 2);
        let key = "A_KEY='-----BEGIN KEY-----\nMIIB/x+Ab0=\nabc==\n-----END KEY-----'\nB_X='a = b\nC = d'";
        assert_eq!(parse_env_file(key).1, []);
    }

    #[test]
    fn dollars_are_noticed() {
        for (text, expected) in [
            ("A=pa$word", true),
            ("A=\"pa${word}\"", true),
            ("A='pa$word'", false),
            ("A=pa\\$word", false),
            ("A=x # costs $5", false),
            ("A='it'\"${x}\"", true),
        ] {
            assert_eq!(parse_env_file(text).0[0].substituted, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_panic(text in "(?s).{0,200}") {
            let count = text.lines().count().max(1);
            let (assignments, faults) = parse_env_file(&text);
            prop_assert!(assignments.iter().all(|a| (1..=count).contains(&a.line)));
            prop_assert!(faults.iter().all(|f| (1..=count).contains(&f.line)));
        }

        #[test]
        fn single_quotes_keep_every_value(values in prop::collection::vec("[^'\\\\]{0,40}", 1..6)) {
            let text: String = values.iter().map(|value| format!("A='{value}'\n")).collect();
            let (assignments, faults) = parse_env_file(&text);
            prop_assert!(faults.is_empty());
            prop_assert_eq!(assignments.into_iter().map(|a| a.value).collect::<Vec<_>>(), values);
        }
    }
}
