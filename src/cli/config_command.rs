//! `config`: shows and checks the configuration.

use clap::Subcommand;

use super::output::{print_result, print_warnings};
use super::{CONFIGURATION, Failure};
use crate::config::{self, Purpose, Sources};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration and print all problems
    Check,
    /// Show every setting with its origin; secrets are not shown
    Show,
    /// Write docs/configuration.md
    #[command(hide = true)]
    Markdown,
}

pub(super) fn run(command: ConfigCommand, sources: &Sources) -> Result<u8, Failure> {
    let purpose = match command {
        // Problems that keep `serve` from starting.
        ConfigCommand::Check => Purpose::Service,
        ConfigCommand::Show | ConfigCommand::Markdown => Purpose::Command,
    };
    let reading = config::read(sources, purpose);
    let code = if reading.settings.is_ok() {
        0
    } else {
        CONFIGURATION
    };
    match command {
        ConfigCommand::Check => {
            print_result(&reading.check())?;
            print_warnings(&reading.warnings);
        }
        ConfigCommand::Show => {
            print_result(&reading.show())?;
            print_warnings(&reading.warnings);
        }
        ConfigCommand::Markdown => {
            print_result(&config::to_markdown())?;
            return Ok(0);
        }
    }
    Ok(code)
}
