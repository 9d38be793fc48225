//! The settings for people: `config show`, `config check` and docs/configuration.md.

use std::fmt::Write as _;

use super::assemble::{FileState, Reading};
use super::setting::{SETTINGS, Section};

impl Reading {
    /// A table of every setting (name, value without secrets, origin), then the files.
    pub fn show(&self) -> String {
        let rows = self.entries.iter().map(|entry| {
            [
                entry.name.to_owned(),
                entry.value.clone(),
                entry.origin.to_string(),
            ]
        });
        let rows: Vec<[String; 3]> =
            std::iter::once(["NAME".to_owned(), "VALUE".to_owned(), "ORIGIN".to_owned()])
                .chain(rows)
                .collect();
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let (first, second) = (width(0), width(1));
        let mut text = String::new();
        for [name, value, origin] in &rows {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:first$}  {value:second$}  {origin}");
        }
        text.push('\n');
        text.push_str(&self.list_files());
        text
    }

    /// The files that were read, are missing or were ignored, one a line.
    pub fn list_files(&self) -> String {
        let line = |file: &super::ConfigFile| match &file.state {
            FileState::Read => format!("Read {}.\n", file.path),
            FileState::Missing => format!("There is no {}.\n", file.path),
            FileState::Ignored(reason) => format!("Ignored {}: {reason}.\n", file.path),
        };
        match self.files.is_empty() {
            true => "No file was read.\n".to_owned(),
            false => self.files.iter().map(line).collect(),
        }
    }

    /// Whether the settings are valid, in words: a summary, or every problem.
    pub fn check(&self) -> String {
        let files = self.list_files();
        match &self.settings {
            Ok(settings) => format!(
                "The configuration is valid: {}.\n{files}",
                settings.summary()
            ),
            Err(error) => format!("{error}\n\n{files}"),
        }
    }
}

/// The text of docs/configuration.md.
pub fn to_markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut section: Option<Section> = None;
    for setting in SETTINGS {
        if section != Some(setting.section) {
            section = Some(setting.section);
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n### {}\n\n| Name | Default | Expected | Meaning |\n|---|---|---|---|\n",
                setting.section.title()
            );
        }
        let name = match setting.flag {
            Some(flag) => format!("`{}`<br>`--{flag}`", setting.name),
            None => format!("`{}`<br>secret", setting.name),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            setting.default.describe(),
            setting.kind.expectation(),
            setting.doc
        );
    }
    text.push_str(RULES);
    text
}

const INTRODUCTION: &str = "\
<!-- Made by `cargo run -- config markdown > docs/configuration.md` from the table in src/config/setting.rs. Do not edit. -->
# Configuration

Nothing has to be set to try the service: in development it listens on `127.0.0.1:8765` and keeps its data in an embedded
file. In production two things are never guessed: where memories are kept, and whether clients need a token.

- `cognitive-memory-mcp config check` says whether the configuration is valid for `serve`, and everything that is wrong with it.
- `cognitive-memory-mcp config show` prints every value with its origin, and the files that were read or ignored. Secrets
  are not shown.

A configuration that is not valid ends the service with exit code 78, which the units exempt from restarts. A file that
cannot be read for a passing reason, such as no free file descriptor, ends it with 69, and systemd tries again.

## Where values come from

The first of these which has a value wins:

1. an option on the command line (`--listen 127.0.0.1:9000`); secrets have none, since every process can see them;
2. the process environment;
3. the file named by `NAME_FILE`, for example `MEMORY_TOKENS_FILE=/run/secrets/tokens`; the variable itself may be set in the
   environment or in the `.env` file, and one line end at the end of the file is not part of the value;
4. the file `NAME` in systemd's credentials directory (`$CREDENTIALS_DIRECTORY`);
5. `.env.production` or `.env.development`, whichever `MEMORY_ENVIRONMENT` picks, in the configuration directory;
6. the default.

An empty value (`NAME=`) brings the default back over lower layers. `NAME` and `NAME_FILE` in the same layer are an error,
and so is an empty or unreadable file.

`.env` files have lines `NAME=value`. Put values with spaces, `#`, quotes or `$` into single quotes: outside of them `$NAME`
stands for the value of a variable. A relative path in an `.env` file starts at the directory of that file, elsewhere at the
working directory; `~/` is the home directory.

## The configuration directory

The first of these that applies is used, and no other:

1. the option `--config-dir`, which may be a relative path;
2. `MEMORY_CONFIG_DIR`, an absolute path;
3. systemd's `CONFIGURATION_DIRECTORY`: of several directories the first that has the file;
4. `$XDG_CONFIG_HOME/cognitive-memory-mcp`, else `~/.config/cognitive-memory-mcp`. A relative `XDG_CONFIG_HOME` is ignored;
5. `/etc/cognitive-memory-mcp` where `HOME` is not set or is `/`: in containers and for system services.

The working directory is never searched: a cloned repository must not decide where memories and tokens go.
`--config-dir .` reads its file on request.

The directory and the file must belong to the user of the process or to root, and must not be writable by everyone. They may
be writable by the user's primary group or root's group, and by no other. The same holds for the file behind a symbolic link;
the link itself must belong to the user or root, and no directory above may be writable by everyone unless it has the sticky
bit, as `/tmp` has. A POSIX access control list must not let another user or group write; NFSv4 ACLs are not examined. A file
that does not pass is an error for `serve` (exit code 78). Commands and `stdio` ignore it with a warning.

## Names of other programs

Names that begin with `MEMORY_` and are no settings are an error for `serve` in production, wherever they are set. Elsewhere
they cause a warning with a suggestion, since other programs use such names, too. `ENVIRONMENT` is read where
`MEMORY_ENVIRONMENT` is not set; values other than `production` and `development` cause a warning. Lines of an `.env` file
that assign names of other programs may have any syntax. Warnings go to the log or the standard error, never to the standard
output.

## Settings
";

const RULES: &str = "
## Credentials

`MEMORY_TOKENS` holds one credential a line; empty lines and lines which begin with `#` are skipped:

```
# name   token or its hash                                                        project (`default` if left out)
laptop   0b9f6c0e4d9b4a55a1d8f9a2c7e3b611
desktop  sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  project=work
```

Names and projects have 1 to 64 letters, digits, `.`, `_` or `-`; tokens have at least 16 ASCII characters without spaces.
`cognitive-memory-mcp token new NAME` makes a token and its line. With a hash the file alone opens nothing.

## Database

- `MEMORY_DATABASE_URL=postgres://USER:PASSWORD@HOST:PORT/NAME` with any of the parameters `sslmode`, `sslrootcert`, `sslcert`,
  `sslkey`, `host` (directory of a Unix socket), `port`, `application_name`, `options`, `statement-cache-capacity`; or
- `MEMORY_DATABASE_URL=sqlite:PATH`; or
- `MEMORY_DATABASE_HOST` and the parts beside it, the password by `MEMORY_DATABASE_PASSWORD_FILE`; or
- nothing, in development: `memory.db` in `MEMORY_DATA_DIR`.
";
