//! `config`: what is in force, and whether it is right.

use clap::Subcommand;

use super::{CONFIGURATION, Failure, say, warn};
use crate::config::{self, Purpose, Sources};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration is valid, with every problem at once
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
            say(&reading.check())?;
            warn(&reading.warnings);
        }
        ConfigCommand::Show => {
            say(&reading.show())?;
            warn(&reading.warnings);
        }
        ConfigCommand::Markdown => {
            say(&config::to_markdown())?;
            return Ok(0);
        }
    }
    Ok(code)
}
