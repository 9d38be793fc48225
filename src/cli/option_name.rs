//! Names of arguments as a person typed them. Tools name their fields in errors; commands use options and positional
//! arguments instead.

/// Fields whose option or argument has another name: tool, field, name on the command line. Positional arguments are
/// named as in the help.
const NAMES: [(&str, &str, &str); 15] = [
    ("remember", "content", "TEXT"),
    ("remember", "items", "TEXT"),
    ("remember", "tags", "--tag"),
    ("remember", "occurred_at", "--at"),
    ("recall", "query", "QUERY"),
    ("recall", "tags", "--tag"),
    ("recall", "kinds", "--kind"),
    ("recall", "include_outdated", "--outdated"),
    ("get", "ids", "ID"),
    ("forget", "ids", "ID"),
    ("update", "id", "ID"),
    ("update", "tags", "--tag"),
    ("update", "occurred_at", "--at"),
    ("explore", "name", "PREFIX"),
    ("review", "id", "ID"),
];

/// Translates the error of a tool for the command that called it: every problem names the argument that the person
/// typed.
pub(super) fn in_words_of_command(tool: &str, message: &str, problems: &[&str]) -> String {
    if problems.is_empty() {
        return rename_argument(tool, message);
    }
    let count = message
        .split(": ")
        .next()
        .filter(|count| count.ends_with(" problems"))
        .unwrap_or("several problems");
    let lines = problems
        .iter()
        .map(|problem| format!("\n  {}", rename_argument(tool, problem)));
    format!("{count}:{}", lines.collect::<String>())
}

/// Replaces the path at the beginning of a sentence.
fn rename_argument(tool: &str, sentence: &str) -> String {
    let Some((path, rest)) = sentence.split_once(": ").filter(|(path, _)| is_path(path)) else {
        return sentence.to_owned();
    };
    format!("{}: {rest}", name_on_command_line(tool, path))
}

fn is_path(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .chars()
            .all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || "_.[]".contains(sign))
}

/// Converts `items[0].tags[1]` to `--tag`: people pass one memory as options rather than a list of items.
fn name_on_command_line(tool: &str, path: &str) -> String {
    let field = path.strip_prefix("items[0].").unwrap_or(path);
    let field = field.split('[').next().unwrap_or(field);
    let named = NAMES
        .iter()
        .find(|(of, known, _)| *of == tool && *known == field);
    named.map_or_else(
        || format!("--{}", field.replace('_', "-")),
        |(_, _, name)| (*name).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn errors_name_what_was_typed() {
        for (tool, sentence, expected) in [
            (
                "remember",
                "items[0].content: expected text, got \"\"",
                "TEXT: expected text, got \"\"",
            ),
            ("remember", "items[0].tags[1]: too long", "--tag: too long"),
            (
                "recall",
                "since: expected a time: soon",
                "--since: expected a time: soon",
            ),
            (
                "update",
                "valid_until: expected a time",
                "--valid-until: expected a time",
            ),
            (
                "get",
                "ids[0]: ab12 matches several IDs: a; b",
                "ID: ab12 matches several IDs: a; b",
            ),
            ("get", "not found: x", "not found: x"),
            ("get", "Nothing: x", "Nothing: x"),
        ] {
            assert_eq!(in_words_of_command(tool, sentence, &[]), expected);
        }
        let problems = [
            "items[0].kind: expected one of",
            "items[0].importance: expected a number",
        ];
        let message =
            "2 problems: items[0].kind: expected one of; items[0].importance: expected a number";
        assert_eq!(
            in_words_of_command("remember", message, &problems),
            "2 problems:\n  --kind: expected one of\n  --importance: expected a number"
        );
    }

    #[test]
    fn every_name_is_an_argument_of_a_command() {
        let commands = |tool: &str| match tool {
            "get" => vec!["show"],
            "update" => vec!["edit"],
            "recall" => vec!["recall", "list"],
            "explore" => vec!["entities"],
            "review" => vec!["review"],
            other => vec![if other == "forget" {
                "forget"
            } else {
                "remember"
            }],
        };
        let program = Cli::command();
        for (tool, _, name) in NAMES {
            let known = commands(tool).into_iter().any(|command| {
                let command = program.find_subcommand(command).expect("a command");
                let deeper = command
                    .get_subcommands()
                    .flat_map(clap::Command::get_arguments);
                command.get_arguments().chain(deeper).any(|argument| {
                    match name.strip_prefix("--") {
                        Some(long) => argument.get_long() == Some(long),
                        None => {
                            argument
                                .get_value_names()
                                .is_some_and(|names| names.iter().any(|known| known == name))
                                || argument.get_id().as_str().eq_ignore_ascii_case(name)
                        }
                    }
                })
            });
            assert!(known, "{tool} has no {name}");
        }
    }
}
