//! Checks that the program understands every command that the documentation, the help or an error quotes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

const PROGRAM: &str = "cognitive-memory-mcp";

/// Returns the files that quote commands.
fn quoting_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    let mut folders = ["src", "docs", "quadlet", "compose"]
        .map(|folder| root.join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|kind| kind == "rs" || kind == "md" || kind == "container")
            {
                files.push(path);
            }
        }
    }
    files
}

/// Finds the commands in a text: after the program's name, and between backticks without it
/// (`token create NAME`).
fn quoted_commands(text: &str) -> Vec<String> {
    let program = Cli::command();
    let families: Vec<&str> = program
        .get_subcommands()
        .filter(|known| known.has_subcommands())
        .map(clap::Command::get_name)
        .collect();
    let mut commands = Vec::new();
    // Long strings of the source continue on the next line.
    let text = text.replace("\\n", "\n").replace("\\\n", " ");
    for (place, _) in text.match_indices(PROGRAM) {
        let quoted = text[..place]
            .trim_end_matches("/usr/local/bin/")
            .ends_with('`');
        let rest = &text[place + PROGRAM.len()..];
        let Some(rest) = rest.strip_prefix(' ') else {
            continue;
        };
        let command = end_of_command(rest);
        let first = command.split_whitespace().next().unwrap_or_default();
        // Code that composes a command.
        if command.contains('{') {
            continue;
        }
        if quoted
            || program
                .get_subcommands()
                .any(|known| known.get_name() == first)
        {
            commands.push(command);
        }
    }
    for part in text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|part| !part.contains('\n'))
    {
        let mut words = part.split_whitespace();
        if words.next().is_some_and(|first| families.contains(&first)) && words.next().is_some() {
            commands.push(end_of_command(part));
        }
    }
    commands
}

/// Returns the command without the text after it: the end of a quotation, another command, a redirection, a
/// comment.
fn end_of_command(text: &str) -> String {
    let end = text
        .find([
            '`', '\n', '"', '\'', ';', '>', '<', '#', ')', ',', '\u{2026}',
        ])
        .unwrap_or(text.len());
    let is_quote_next = text[end..].starts_with(['"', '\'']);
    let text = &text[..end];
    let end = [" | ", " || ", " && ", ". "]
        .iter()
        .filter_map(|sign| text.find(sign))
        .min()
        .unwrap_or(text.len());
    let command = text[..end].trim_end_matches(['.', ':', ' ']);
    // The value of the last option is in quotation marks.
    if is_quote_next
        && command
            .split_whitespace()
            .last()
            .is_some_and(|word| word.starts_with("--"))
    {
        format!("{command} VALUE")
    } else {
        command.to_owned()
    }
}

/// Returns whether the program accepts the command. A quotation may omit required arguments and use
/// placeholders.
fn is_known(command: &str) -> bool {
    let words = command
        .split_whitespace()
        .map(|word| word.split('|').next().unwrap_or(word));
    match Cli::try_parse_from([PROGRAM].into_iter().chain(words)) {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelp
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::DisplayVersion
                | ErrorKind::ValueValidation
        ),
    }
}

#[test]
fn every_quoted_command_exists() {
    let (mut unknown, mut count) = (Vec::new(), 0);
    for file in quoting_files()
        .into_iter()
        .filter(|file| !file.ends_with(file!()))
    {
        let text = fs::read_to_string(&file).expect("a text");
        for command in quoted_commands(&text) {
            count += 1;
            if !is_known(&command) {
                unknown.push(format!("{}: {command}", file.display()));
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "commands that do not exist:\n{}",
        unknown.join("\n")
    );
    assert!(count > 60, "only {count} commands were found");
}

#[test]
fn commands_that_do_not_exist_are_noticed() {
    let text = "Run `cognitive-memory-mcp token make NAME`, then `token make NAME`.\n  cognitive-memory-mcp list --colour\n";
    let commands = quoted_commands(text);
    assert_eq!(
        commands,
        ["token make NAME", "list --colour", "token make NAME"]
    );
    assert!(commands.iter().all(|command| !is_known(command)));
    for known in [
        "token create NAME --project P",
        "review approve|reject ID",
        "show",
        "list -n 10",
        "serve",
    ] {
        assert!(is_known(known), "{known}");
    }
}
