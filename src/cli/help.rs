//! `help`: of the program, of a command, and on the settings, which every command accepts as options.

use std::io::IsTerminal;

use clap::CommandFactory;

use super::output::print_result;
use super::{Cli, Failure, USAGE};
use crate::config;

/// The topic that is not a command.
const SETTINGS: &str = "settings";

pub(super) fn run(topic: &[String]) -> Result<u8, Failure> {
    if topic == [SETTINGS] {
        let help = config::settings_help();
        let text = if std::io::stdout().is_terminal() {
            help.ansi().to_string()
        } else {
            help.to_string()
        };
        print_result(&text)?;
        return Ok(0);
    }
    let arguments = ["cognitive-memory-mcp"]
        .into_iter()
        .chain(topic.iter().map(String::as_str))
        .chain(["--help"]);
    match Cli::command().try_get_matches_from(arguments) {
        Ok(_) => Ok(0),
        Err(message) => {
            // A reader that closed the pipe (`| head`) needs no more output.
            let _ = message.print();
            Ok(if message.use_stderr() { USAGE } else { 0 })
        }
    }
}
