//! Output of commands: results go to standard output; notes, warnings, errors and progress go to standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Failure;
use super::terminal::Terminal;
use crate::domain::count::count_of;

/// Prints the result of a command.
pub(super) fn print_result(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that closed the pipe (`| head`) needs no more output.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::internal(
            anyhow::Error::from(error).context("cannot write to the standard output"),
        )),
        _ => Ok(()),
    }
}

/// Returns a value as indented JSON that ends with a line break.
pub(super) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value).map_err(Failure::internal)? + "\n")
}

/// Prints a line to standard error and ignores failures. Standard output may be the result itself.
pub(super) fn print_note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

pub(super) fn print_warnings(warnings: &[String]) {
    let terminal = Terminal::of_stderr();
    let label = terminal.warning_label("warning:");
    for warning in warnings {
        print_note(&terminal.labelled(&label, "warning:", warning));
    }
}

/// The reader of standard output closed it before the end of an export.
#[derive(Debug, thiserror::Error)]
#[error("the program that reads the standard output has exited")]
pub(super) struct ClosedPipe;

/// Prints an error in the style of the argument parser, with the causes that its text does not contain. Prints nothing
/// if the reader of an export has closed the pipe.
pub(super) fn print_error(error: &anyhow::Error) {
    if error.is::<ClosedPipe>() {
        return;
    }
    let terminal = Terminal::of_stderr();
    let text = error.to_string();
    print_note(&terminal.labelled(&terminal.error_label("error:"), "error:", &text));
    let mut printed = text;
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !printed.contains(&cause) {
            let line = terminal.labelled("  because:", "  because:", &cause);
            print_note(&line);
            printed.push_str(&cause);
        }
    }
}

/// Returns an error with the causes that its text does not contain, in one line.
pub(super) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}

/// Returns a progress bar, which is hidden unless standard error is a terminal.
pub(super) fn progress_bar(what: &'static str, length: u64, bytes: bool) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let numbers = if bytes {
        "{bytes}/{total_bytes}"
    } else {
        "{human_pos}/{human_len}"
    };
    let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {numbers} {{eta}}"));
    let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Returns a number of records and the number of memories among them.
pub(super) fn describe_records(records: u64, memories: u64) -> String {
    format!(
        "{}, {}",
        count_of(records, "record"),
        memories_among(memories)
    )
}

/// Returns how many of some records are memories.
pub(super) fn memories_among(count: u64) -> String {
    match count {
        1 => "1 of them a memory".to_owned(),
        count => format!("{count} of them memories"),
    }
}
