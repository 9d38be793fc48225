//! `connect`: adds the memory to the settings of clients, and removes it.
//!
//! The crate `client-setup` knows the clients and plans the edits. This module asks, writes and reports. A problem with
//! one client does not stop the others, and nothing is written before the whole plan for a client is known.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValue;
use client_setup::{
    Action, CLIENTS, ChangedLine, Client, ClientFile, DEFAULT_NAME, Environment, Outcome,
    PlanError, Request, changed_lines, describe_setup, find_client, list_connections, plan_hooks,
    plan_server, token_advice,
};

use super::output::{print_note, print_result};
use super::terminal::{Terminal, visible};
use super::{DATA, Failure, fail};
use crate::config::Sources;
use crate::domain::{Clock, SystemClock};
use place::{find_target, user_environment};

mod place;
pub(super) mod verify;

/// The word for all clients that are installed.
const ALL: &str = "all";
/// Longest name of a server; clients build the names of tools from it.
const LONGEST_NAME: usize = 64;

const AFTER_HELP: &str = "Without --url, clients start `cognitive-memory-mcp stdio`. With --url URL, such as \
http://127.0.0.1:8765/mcp, they connect to a running service. Tokens are never written: clients read MEMORY_TOKEN, or ask for \
the token.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ConnectArgs {
    /// Clients, or `all` for those that are installed; without any, a terminal shows a menu
    #[arg(value_name = "CLIENT", value_parser = client_names())]
    clients: Vec<String>,
    /// Also add hooks that recall and store by themselves, to clients that have them
    #[arg(long)]
    hooks: bool,
    /// Only print the changes
    #[arg(long)]
    dry_run: bool,
    /// Remove the memory and its hooks from the settings
    #[arg(long, conflicts_with = "hooks")]
    remove: bool,
    /// Name of the server in the clients [default: memory]
    #[arg(long, value_parser = parse_server_name)]
    name: Option<String>,
    /// Change the files without asking
    #[arg(long, short = 'y')]
    yes: bool,
}

fn client_names() -> Vec<PossibleValue> {
    let clients = CLIENTS
        .iter()
        .map(|client| PossibleValue::new(client.name).aliases(client.aliases.iter().copied()));
    clients.chain([PossibleValue::new(ALL)]).collect()
}

fn parse_server_name(text: &str) -> Result<String, String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(is_valid) {
        return Err(format!(
            "expected 1 to {LONGEST_NAME} letters, digits, `-` and `_`"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &ConnectArgs, sources: &Sources) -> Result<u8, Failure> {
    let env = user_environment(sources)?;
    let clients = choose_clients(args, &env)?;
    if clients.is_empty() {
        print_note("No client was chosen. Nothing was changed.");
        return Ok(0);
    }
    let request = Request {
        action: if args.remove {
            Action::Remove
        } else {
            Action::Connect
        },
        name: args.name.clone(),
        target: find_target(sources, args.remove)?,
    };
    let mut session = Session {
        args,
        env: &env,
        request: &request,
        terminal: Terminal::of_stdout(),
        changed: Vec::new(),
        has_problems: false,
    };
    for client in clients {
        session.handle_client(client)?;
    }
    session.print_next_steps()?;
    Ok(if session.has_problems { DATA } else { 0 })
}

fn choose_clients(args: &ConnectArgs, env: &Environment) -> Result<Vec<&'static Client>, Failure> {
    if args.clients.iter().any(|name| name == ALL) || (args.clients.is_empty() && args.dry_run) {
        let installed: Vec<&Client> = CLIENTS
            .iter()
            .filter(|client| client.is_installed(env))
            .collect();
        if installed.is_empty() {
            fail!(
                USAGE,
                "no client was found for this user; name one to create its settings: {}",
                list_names()
            );
        }
        return Ok(installed);
    }
    if args.clients.is_empty() {
        return choose_from_menu(args, env);
    }
    let mut chosen: Vec<&'static Client> = Vec::new();
    for client in args.clients.iter().filter_map(|name| find_client(name)) {
        if !chosen.iter().any(|other| other.name == client.name) {
            chosen.push(client);
        }
    }
    Ok(chosen)
}

fn list_names() -> String {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    names.join(", ")
}

/// Shows the clients with their state, and reads the choice.
fn choose_from_menu(
    args: &ConnectArgs,
    env: &Environment,
) -> Result<Vec<&'static Client>, Failure> {
    if !std::io::stdin().is_terminal() {
        fail!(
            USAGE,
            "there is no terminal for a menu; name clients, or `{ALL}` for those that are installed: {}",
            list_names()
        );
    }
    for (index, client) in CLIENTS.iter().enumerate() {
        let state = describe_state(client, env);
        print_note(&format!("{:>3}  {:<15} {state}", index + 1, client.title));
    }
    let question = if args.remove {
        "Remove the memory from which clients?"
    } else {
        "Connect which clients?"
    };
    loop {
        print_note(&format!(
            "{question} Numbers or names, `{ALL}` for the installed ones, or Enter for none:"
        ));
        let answer = read_answer()?;
        match parse_choice(&answer, env) {
            Ok(clients) => return Ok(clients),
            Err(word) => print_note(&format!(
                "{}: expected a number from 1 to {}, a name or `{ALL}`.",
                visible(&word),
                CLIENTS.len()
            )),
        }
    }
}

fn describe_state(client: &Client, env: &Environment) -> &'static str {
    let is_connected = client.settings_file(env).is_some_and(|path| {
        let file = ClientFile::read(&path).ok();
        let text = file.as_ref().and_then(ClientFile::text).unwrap_or_default();
        list_connections(client, text).is_ok_and(|connections| !connections.is_empty())
    });
    match (is_connected, client.is_installed(env)) {
        (true, _) => "connected",
        (false, true) => "installed",
        (false, false) => "-",
    }
}

/// Returns the chosen clients, or the word that names none.
fn parse_choice(answer: &str, env: &Environment) -> Result<Vec<&'static Client>, String> {
    let mut chosen: Vec<&'static Client> = Vec::new();
    let words = answer.split([' ', ',', '\t']).map(str::trim);
    for word in words.filter(|word| !word.is_empty()) {
        if word == ALL {
            return Ok(CLIENTS
                .iter()
                .filter(|client| client.is_installed(env))
                .collect());
        }
        let by_number = || CLIENTS.get(word.parse::<usize>().ok()?.checked_sub(1)?);
        let client = find_client(word)
            .or_else(by_number)
            .ok_or_else(|| word.to_owned())?;
        if !chosen.iter().any(|other| other.name == client.name) {
            chosen.push(client);
        }
    }
    Ok(chosen)
}

/// Reads a line from the terminal; the end of the input counts as an empty line.
fn read_answer() -> Result<String, Failure> {
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::internal)?;
    Ok(answer.trim().to_owned())
}

/// A planned edit of one file.
struct Edit {
    path: PathBuf,
    file: ClientFile,
    text: String,
    /// The changes, described for the user.
    parts: Vec<(Part, Outcome)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Server,
    Hooks,
}

impl Edit {
    fn is_needed(&self) -> bool {
        self.file.text().unwrap_or_default() != self.text
    }
}

/// One run of the command.
struct Session<'a> {
    args: &'a ConnectArgs,
    env: &'a Environment,
    request: &'a Request,
    terminal: Terminal,
    /// The clients whose files were changed.
    changed: Vec<&'static Client>,
    has_problems: bool,
}

impl Session<'_> {
    fn handle_client(&mut self, client: &'static Client) -> Result<(), Failure> {
        let name = self.request.name.as_deref();
        if let Some(steps) = describe_setup(client, name, &self.request.target) {
            return self.print_steps(client, &steps);
        }
        let edits = match self.plan_edits(client) {
            Ok(edits) => edits,
            Err(problem) => {
                self.has_problems = true;
                print_note(&format!(
                    "{}: {problem}. Nothing was changed.",
                    client.title
                ));
                return Ok(());
            }
        };
        for edit in &edits {
            print_result(&self.describe_edit(client, edit))?;
        }
        let needed: Vec<&Edit> = edits.iter().filter(|edit| edit.is_needed()).collect();
        if needed.is_empty() || self.args.dry_run {
            return Ok(());
        }
        if !self.confirm_change()? {
            self.has_problems = true;
            return print_result("  Not changed.\n");
        }
        for edit in needed {
            self.apply_edit(client, edit)?;
        }
        Ok(())
    }

    fn print_steps(&self, client: &Client, steps: &str) -> Result<(), Failure> {
        if self.args.remove {
            return print_result(&format!(
                "{}: remove the server in its settings; this program does not edit them.\n",
                client.title
            ));
        }
        print_result(&format!("{}: {}\n", client.title, steps))
    }

    /// Plans all edits for a client, or returns the reason why its files cannot be edited.
    fn plan_edits(&self, client: &Client) -> Result<Vec<Edit>, String> {
        let mut edits = Vec::new();
        if let Some(path) = client.settings_file(self.env) {
            edits.push(self.plan_server_edit(client, path)?);
        }
        let hooks_file = client
            .hooks_file(self.env)
            .filter(|_| self.args.hooks || self.args.remove);
        if let Some(path) = hooks_file {
            self.plan_hooks_edit(client, path, &mut edits)?;
        }
        Ok(edits)
    }

    fn plan_server_edit(&self, client: &Client, path: PathBuf) -> Result<Edit, String> {
        let file = ClientFile::read(&path).map_err(|problem| problem.to_string())?;
        let planned = plan_server(client, file.text(), self.request)
            .map_err(|problem| format!("{}: {problem}", path.display()))?;
        Ok(Edit {
            path,
            file,
            text: planned.text,
            parts: vec![(Part::Server, planned.outcome)],
        })
    }

    /// Plans the hooks. Gemini CLI has them in the file with the servers.
    fn plan_hooks_edit(
        &self,
        client: &Client,
        path: PathBuf,
        edits: &mut Vec<Edit>,
    ) -> Result<(), String> {
        let (action, target) = (self.request.action, &self.request.target);
        let in_place = |problem: PlanError| format!("{}: {problem}", path.display());
        if let Some(edit) = edits.iter_mut().find(|edit| edit.path == path) {
            let planned = plan_hooks(client, Some(&edit.text), action, target).map_err(in_place)?;
            edit.text = planned.text;
            edit.parts.push((Part::Hooks, planned.outcome));
            return Ok(());
        }
        let file = ClientFile::read(&path).map_err(|problem| problem.to_string())?;
        let planned = plan_hooks(client, file.text(), action, target).map_err(in_place)?;
        edits.push(Edit {
            path,
            file,
            text: planned.text,
            parts: vec![(Part::Hooks, planned.outcome)],
        });
        Ok(())
    }

    /// Describes an edit: what happens in which file, and the lines that change.
    fn describe_edit(&self, client: &Client, edit: &Edit) -> String {
        let mut out = String::new();
        for (part, outcome) in &edit.parts {
            let what = match part {
                Part::Server => "the memory",
                Part::Hooks => "the hooks",
            };
            let path = edit.path.display();
            let sentence = match outcome {
                Outcome::Added => format!("add {what} to {path}"),
                Outcome::Updated => format!("update {what} in {path}"),
                Outcome::Removed => format!("remove {what} from {path}"),
                Outcome::AlreadyConnected if *part == Part::Server => {
                    format!("already connected in {path}")
                }
                Outcome::AlreadyConnected => format!("{path} already has the hooks"),
                Outcome::NotConnected => format!("{path} does not have {what}"),
            };
            out.push_str(&format!(
                "{}: {sentence}\n",
                self.terminal.bold(client.title)
            ));
        }
        for line in changed_lines(edit.file.text().unwrap_or_default(), &edit.text) {
            out.push_str(&match line {
                ChangedLine::Removed(line) => self.terminal.bad(&format!("  - {}", visible(&line))),
                ChangedLine::Added(line) => self.terminal.good(&format!("  + {}", visible(&line))),
            });
            out.push('\n');
        }
        out
    }

    /// Asks on a terminal. A program that names clients has already decided.
    fn confirm_change(&self) -> Result<bool, Failure> {
        if self.args.yes || !std::io::stdin().is_terminal() {
            return Ok(true);
        }
        print_note("Change this? [Y/n]");
        let answer = read_answer()?.to_lowercase();
        Ok(["", "y", "yes"].contains(&answer.as_str()))
    }

    fn apply_edit(&mut self, client: &'static Client, edit: &Edit) -> Result<(), Failure> {
        let suffix = format!(".{}.bak", SystemClock.now().format("%Y%m%dT%H%M%S%3fZ"));
        match edit.file.replace_text(&edit.text, &suffix) {
            Ok(backup) => {
                if self
                    .changed
                    .last()
                    .is_none_or(|last| last.name != client.name)
                {
                    self.changed.push(client);
                }
                print_result(&match backup {
                    Some(backup) => format!("  Changed. The old file is {}.\n", backup.display()),
                    None => "  Created.\n".to_owned(),
                })
            }
            Err(problem) => {
                self.has_problems = true;
                print_note(&format!("{}: {problem}.", client.title));
                Ok(())
            }
        }
    }

    fn print_next_steps(&self) -> Result<(), Failure> {
        if self.args.dry_run {
            return print_result("Nothing was changed, because of --dry-run.\n");
        }
        if self.changed.is_empty() {
            return Ok(());
        }
        let titles: Vec<&str> = self.changed.iter().map(|client| client.title).collect();
        let mut out = format!("Restart {} to apply the change.\n", titles.join(", "));
        if self.request.action == Action::Connect {
            for client in &self.changed {
                if let Some(advice) = token_advice(client, &self.request.target) {
                    out.push_str(&advice);
                    out.push('\n');
                }
            }
            if self.args.hooks && self.changed.iter().any(|client| client.name == "codex") {
                out.push_str(
                    "Codex runs new hooks only after you trust them: type /hooks in Codex.\n",
                );
            }
            let name = self.request.name.as_deref().unwrap_or(DEFAULT_NAME);
            out.push_str(&format!(
                "`cognitive-memory-mcp doctor` checks every connection. The server is named {name}.\n"
            ));
        }
        print_result(&out)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use client_setup::System;

    use super::*;

    fn nobody() -> Environment {
        Environment::new(
            System::Linux,
            Path::new("/nonexistent"),
            |_| None,
            Vec::new(),
        )
    }

    #[test]
    fn a_choice_has_numbers_and_names() {
        let names = |answer: &str| {
            let chosen = parse_choice(answer, &nobody())?;
            Ok::<_, String>(chosen.iter().map(|client| client.name).collect::<Vec<_>>())
        };
        assert_eq!(names("1, cursor 1"), Ok(vec!["claude-code", "cursor"]));
        assert_eq!(names(""), Ok(Vec::new()));
        assert_eq!(names("gemini-cli"), Ok(vec!["gemini"]));
        for wrong in ["0", "99", "-1", "emacs"] {
            assert_eq!(names(wrong), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn names_of_servers_have_letters_and_digits() {
        assert_eq!(
            parse_server_name("my_memory-2"),
            Ok("my_memory-2".to_owned())
        );
        for wrong in ["", "two words", "a.b", "ü", &"x".repeat(65)] {
            assert!(parse_server_name(wrong).is_err(), "{wrong}");
        }
    }
}
