//! `completions` and `man`, generated from the definition of the command line.

use clap::{CommandFactory, ValueEnum};

use super::output::print_result;
use super::{Cli, Failure};
use crate::config;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    /// source <(cognitive-memory-mcp completions bash)
    Bash,
    /// a file _cognitive-memory-mcp in a folder of $fpath
    Zsh,
    /// cognitive-memory-mcp completions fish | source
    Fish,
}

pub(super) fn print_completions(shell: Shell) -> Result<u8, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "cognitive-memory-mcp", &mut script);
    print_result(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

pub(super) fn print_manual() -> Result<u8, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(Failure::internal)?;
    page.extend_from_slice(
        format!(
            ".SH SETTINGS\n{}",
            format_verbatim(&config::settings_help().to_string())
        )
        .as_bytes(),
    );
    let mut command = Cli::command();
    command.build();
    // One manual page for all: each command follows the text of the program.
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        let man = clap_mangen::Man::new(subcommand.clone());
        let heading = format!(".SH COMMAND {}\n", subcommand.get_name().to_uppercase());
        page.extend_from_slice(heading.as_bytes());
        man.render_synopsis_section(&mut page)
            .and_then(|()| man.render_description_section(&mut page))
            .map_err(Failure::internal)?;
        let text = subcommand.clone().render_help().to_string();
        page.extend_from_slice(format_verbatim(&text).as_bytes());
    }
    print_result(&String::from_utf8_lossy(&page))?;
    Ok(0)
}

/// Formats text that is printed line by line.
fn format_verbatim(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace("\n.", "\n\\&.")
        .replace("\n'", "\n\\&'");
    format!(".nf\n{}\n.fi\n", text.trim_end())
}
