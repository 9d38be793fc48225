//! The command line options, derived from the table.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::setting::{SETTINGS, setting};

/// Settings given on the command line. Put it into a clap struct with `#[command(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
}

impl Flags {
    /// Sets a value as if it had been given on the command line; a name that is no setting, or a secret, is ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(setting) = setting(name).filter(|setting| !setting.secret) {
            self.values.insert(setting.name, value.into());
        }
        self
    }

    /// The value given for a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

impl Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for setting in SETTINGS {
            let Some(flag) = setting.flag else { continue };
            command = command.arg(
                Arg::new(setting.name)
                    .long(flag)
                    .value_name("VALUE")
                    .help(format!("{} [setting {}; default {}]", setting.doc, setting.name, setting.default.describe()))
                    .hide_short_help(true)
                    .global(true)
                    .help_heading("Settings"),
            );
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.values.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(clap::Subcommand)]
    enum Sub {
        Serve,
    }

    #[test]
    fn options_work_on_both_sides_of_the_subcommand() {
        let cli = Cli::try_parse_from(["x", "--listen", "127.0.0.1:1", "serve", "--log-level=debug"])
            .expect("valid arguments");
        assert!(matches!(cli.command, Sub::Serve));
        assert_eq!(cli.flags.get("MEMORY_LISTEN"), Some("127.0.0.1:1"));
        assert_eq!(cli.flags.get("MEMORY_LOG_LEVEL"), Some("debug"));
        assert_eq!(cli.flags.get("MEMORY_LOG_FILE"), None);
    }

    #[test]
    fn secrets_have_no_option() {
        assert!(Cli::try_parse_from(["x", "--tokens", "a b", "serve"]).is_err());
        assert!(Cli::try_parse_from(["x", "--database-password", "b", "serve"]).is_err());
        assert_eq!(Flags::default().with("MEMORY_TOKENS", "x").get("MEMORY_TOKENS"), None);
    }
}
