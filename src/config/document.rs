//! The settings for people: `config show`, `config check` and docs/configuration.md.

use std::fmt::Write as _;

use super::assemble::Reading;
use super::setting::{SETTINGS, Section};

impl Reading {
    /// A table of every setting: name, value without secrets, origin.
    pub fn show(&self) -> String {
        let rows =
            self.entries.iter().map(|entry| [entry.name.to_owned(), entry.value.clone(), entry.origin.to_string()]);
        let rows: Vec<[String; 3]> =
            std::iter::once(["NAME".to_owned(), "VALUE".to_owned(), "ORIGIN".to_owned()]).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let (first, second) = (width(0), width(1));
        let mut text = String::new();
        for [name, value, origin] in &rows {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name:first$}  {value:second$}  {origin}");
        }
        text
    }

    /// Whether the settings are valid, in words: a summary, or every problem.
    pub fn check(&self) -> String {
        let file = match (&self.env_file, self.env_file_found) {
            (Some(name), true) => format!("Read {name}."),
            (Some(name), false) => format!("There is no {name}."),
            (None, _) => "No .env file was read.".to_owned(),
        };
        match &self.settings {
            Ok(settings) => format!("The configuration is valid: {}.\n{file}\n", settings.summary()),
            Err(error) => format!("{error}\n\n{file}\n"),
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

- `cognitive-memory-mcp config check` says whether the configuration is valid, and everything that is wrong with it.
- `cognitive-memory-mcp config show` prints every value with its origin. Secrets are not shown.

A configuration that is not valid ends the service with exit code 78, which the units exempt from restarts.

## Where values come from

The first of these which has a value wins:

1. an option on the command line (`--listen 127.0.0.1:9000`); secrets have none, since every process can see them;
2. the process environment;
3. the file named by `NAME_FILE`, for example `MEMORY_TOKENS_FILE=/run/secrets/tokens`; the variable itself may stand in the
   environment or in the `.env` file, and one line end at the end of the file is not part of the value;
4. the file `NAME` in systemd's credentials directory (`$CREDENTIALS_DIRECTORY`);
5. `.env.production` or `.env.development`, whichever `ENVIRONMENT` picks, in `MEMORY_CONFIG_DIR`;
6. the default.

An empty value (`NAME=`) brings the default back over lower layers. `NAME` and `NAME_FILE` in the same layer are an error,
and so is an empty or unreadable file. A name that begins with `MEMORY_` and is no setting is an error too, wherever it stands.

`.env` files have lines `NAME=value`. Put values with spaces, `#`, quotes or `$` into single quotes: outside of them `$NAME`
stands for the value of a variable. Relative paths start at the working directory, `~/` is the home directory.

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
