//! The command line options, derived from the table of settings.

use std::collections::BTreeMap;

use clap::builder::StyledStr;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::setting::{SETTINGS, SettingInfo, find_setting};

/// Settings given on the command line. Add it to a clap struct with `#[command(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    values: BTreeMap<&'static str, String>,
}

impl Flags {
    /// Sets a value as on the command line. Unknown names and secrets are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(setting) = find_setting(name).filter(|setting| !setting.is_secret()) {
            self.values.insert(setting.name, value.into());
        }
        self
    }

    /// Removes a value, for a command in which the option has another meaning.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.values.remove(name);
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

fn list_options() -> impl Iterator<Item = (&'static SettingInfo, Arg)> {
    SETTINGS.iter().copied().filter_map(|setting| {
        let help = format!(
            "{} [setting {}; default {}]",
            setting.doc,
            setting.name,
            setting.default.describe()
        );
        let option = Arg::new(setting.name)
            .long(setting.flag?)
            .value_name("VALUE")
            .help(help);
        Some((setting, option))
    })
}

/// Returns the help on all settings, for terminals.
#[must_use]
pub fn settings_help() -> StyledStr {
    let secrets: Vec<&str> = SETTINGS
        .iter()
        .filter(|setting| setting.flag.is_none())
        .map(|setting| setting.name)
        .collect();
    let after = format!(
        "These have no option, because every process can read command lines: {}. Set them in the environment, in a file that \
         NAME_FILE names, or in .env.development and .env.production of the configuration directory.",
        secrets.join(", ")
    );
    let mut command = Command::new("settings")
        .disable_help_flag(true)
        .max_term_width(100)
        .about(
            "Every command accepts these options. Each can also be set in the environment by its setting name, in a file \
             that NAME_FILE names, or in .env.development and .env.production of the configuration directory; `config show` \
             prints the current values and their origins.",
        )
        .help_template("{about-with-newline}\n{all-args}{after-help}")
        .after_help(after);
    for (setting, option) in list_options() {
        command = command.arg(option.help_heading(setting.section.title()));
    }
    command.render_long_help()
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        // Hidden, because they would bury the options of the command. `help settings` shows them.
        command.args(list_options().map(|(_, option)| option.hide(true).global(true)))
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
        for setting in SETTINGS.iter().filter(|setting| !setting.is_secret()) {
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
        let cli =
            Cli::try_parse_from(["x", "--listen", "127.0.0.1:1", "serve", "--log-level=debug"])
                .expect("valid arguments");
        assert!(matches!(cli.command, Sub::Serve));
        assert_eq!(cli.flags.get("MEMORY_LISTEN"), Some("127.0.0.1:1"));
        assert_eq!(cli.flags.get("MEMORY_LOG_LEVEL"), Some("debug"));
        assert_eq!(cli.flags.get("MEMORY_LOG_FILE"), None);
    }

    #[test]
    fn the_help_on_settings_has_all_of_them() {
        let help = settings_help().to_string();
        for setting in SETTINGS {
            assert!(help.contains(setting.name), "{}", setting.name);
            assert!(
                setting
                    .flag
                    .is_none_or(|flag| help.contains(&format!("--{flag} "))),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn secrets_have_no_option() {
        assert!(Cli::try_parse_from(["x", "--tokens", "a b", "serve"]).is_err());
        assert!(Cli::try_parse_from(["x", "--database-password", "b", "serve"]).is_err());
        assert_eq!(
            Flags::default()
                .with("MEMORY_TOKENS", "x")
                .get("MEMORY_TOKENS"),
            None
        );
    }
}
