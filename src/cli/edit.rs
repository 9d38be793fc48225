//! `edit`: changes a memory, in an editor or by options.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::memory_commands::{
    CallArgs, MOST_CHARS, call_tool, describe_awaiting, finite_number, print_answer, read_input,
    set_given,
};
use super::output::{print_note, print_result};
use super::service_client::Refused;
use super::terminal::{Terminal, visible};
use super::{Failure, USAGE, fail, load_settings};
use crate::config::{Settings, Sources};
use crate::domain::reference::short_id;
use crate::domain::{Clock, SystemClock};

/// Exit code if the memory did not change.
const UNCHANGED: u8 = 1;
/// The editor if neither `VISUAL` nor `EDITOR` is set.
const USUAL_EDITOR: &str = "vi";

#[derive(Args)]
pub(super) struct EditArgs {
    /// ID, or its last 8 digits
    id: String,
    /// New text; - reads it from the standard input; without any option $VISUAL or $EDITOR opens
    #[arg(long, value_name = "TEXT")]
    content: Option<String>,
    /// Tag that replaces all present ones; can be repeated
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// Remove all tags
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,
    /// From 0 to 1
    #[arg(long, value_parser = finite_number)]
    importance: Option<f64>,
    /// When it happened: a date or a time
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// When it stops being true: a date or a time, or never
    #[arg(long, value_name = "TIME")]
    valid_until: Option<String>,
    /// For an episode: what was tried
    #[arg(long)]
    situation: Option<String>,
    /// For an episode: how it went, from -1 to 1
    #[arg(long, allow_negative_numbers = true, value_parser = finite_number)]
    outcome: Option<f64>,
    /// For an episode: what to do next time
    #[arg(long)]
    lesson: Option<String>,
    /// Reason, recorded in the history
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    call: CallArgs,
}

pub(super) fn run(args: &EditArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let before = fetch_memory(&settings, args)?;
    let mut patch = given_changes(args)?;
    let typed = if patch == json!({}) {
        let text = edit_text(before["content"].as_str().unwrap_or_default())?;
        if before["content"].as_str().map(str::trim_end) == Some(text.as_str()) {
            print_result("Nothing changed.\n")?;
            return Ok(0);
        }
        patch["content"] = text.as_str().into();
        Some(text)
    } else {
        args.content
            .as_ref()
            .and_then(|_| patch["content"].as_str())
            .map(str::to_owned)
    };
    patch["id"] = before["id"].clone();
    patch["expected_version"] = before["version"].clone();
    set_given(
        &mut patch,
        [("reason", args.reason.as_deref().map(Value::from))],
    );
    match call_tool(&settings, &args.call, "update", patch) {
        Ok(answer) => report_change(args, &answer),
        Err(failure) => Err(keep_typed(&settings, args, typed.as_deref(), failure)),
    }
}

/// Returns the current memory.
fn fetch_memory(settings: &Settings, args: &EditArgs) -> Result<Value, Failure> {
    let mut found = call_tool(
        settings,
        &args.call,
        "get",
        json!({ "ids": [args.id], "max_chars": MOST_CHARS }),
    )?;
    if let Some(memory) = found["memories"].get_mut(0) {
        return Ok(memory.take());
    }
    fail!(
        USAGE,
        "there is no memory {}; `list` and `recall` print IDs",
        args.id
    )
}

/// Returns the requested changes of the options; empty if there are none.
fn given_changes(args: &EditArgs) -> Result<Value, Failure> {
    let content = match args.content.as_deref() {
        Some("-") => Some(read_input()?),
        given => given.map(str::to_owned),
    };
    let tags = (args.no_tags || !args.tags.is_empty()).then(|| json!(args.tags));
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    let mut patch = json!({});
    set_given(
        &mut patch,
        [
            ("content", content.map(Value::from)),
            ("tags", tags),
            ("importance", args.importance.map(Value::from)),
            ("occurred_at", text(&args.at)),
            ("valid_until", text(&args.valid_until)),
            ("situation", text(&args.situation)),
            ("outcome", args.outcome.map(Value::from)),
            ("lesson", text(&args.lesson)),
        ],
    );
    Ok(patch)
}

fn report_change(args: &EditArgs, answer: &Value) -> Result<u8, Failure> {
    let review = answer["review"]["id"].as_str();
    print_answer(&args.call, answer, |terminal| match review {
        Some(id) => format!("Not changed: protected. {}\n", describe_awaiting(&[id])),
        None => {
            let memory = &answer["memory"];
            let id = terminal.bold(short_id(memory["id"].as_str().unwrap_or_default()));
            terminal.notes(answer) + &format!("Saved {id} as version {}\n", memory["version"])
        }
    })?;
    Ok(if review.is_some() { UNCHANGED } else { 0 })
}

/// After a failure, saves the typed text to a file and shows both texts of a conflict.
fn keep_typed(
    settings: &Settings,
    args: &EditArgs,
    typed: Option<&str>,
    failure: Failure,
) -> Failure {
    let kept = typed.map(|text| (text, write_text(text)));
    let place = match &kept {
        Some((_, Ok(path))) => format!("; your text is kept in {}", path.display()),
        _ => String::new(),
    };
    let refused = failure.error.downcast_ref::<Refused>();
    if refused.is_none_or(|refused| refused.code != "version_conflict") {
        let error = if place.is_empty() {
            failure.error
        } else {
            anyhow!("{:#}{place}", failure.error)
        };
        return Failure {
            code: failure.code,
            error,
        };
    }
    let version = match (fetch_memory(settings, args), &kept) {
        (Ok(now), Some((text, _))) => {
            let terminal = Terminal::of_stderr();
            print_note(&terminal.conflict(now["content"].as_str().unwrap_or_default(), text));
            format!(" and has version {} now", now["version"])
        }
        (Ok(now), None) => format!(" and has version {} now", now["version"]),
        (Err(_), _) => String::new(),
    };
    Failure::new(
        UNCHANGED,
        anyhow!(
            "memory {} was changed meanwhile{version}; nothing was saved{place}",
            visible(&args.id)
        ),
    )
}

/// Opens the person's editor with a text and returns the saved text.
fn edit_text(text: &str) -> Result<String, Failure> {
    let Some(editor) = find_editor() else {
        fail!(
            USAGE,
            "there is no terminal for an editor; give the changes as options, such as --content TEXT or --content - for \
             the standard input, or set VISUAL to a program that edits a file"
        );
    };
    let path = write_text(text)
        .context("cannot write a file for the editor")
        .map_err(Failure::internal)?;
    let edited = run_editor(&editor, &path);
    // After a failure the file is kept, because it may contain typed text.
    let edited = edited.map_err(|error| Failure::new(USAGE, error))?;
    let _ = fs::remove_file(&path);
    Ok(edited)
}

fn run_editor(editor: &str, path: &Path) -> anyhow::Result<String> {
    // Run by a shell, because the variable may contain options: `code --wait`.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status();
    let status = status.context("cannot start a shell")?;
    if !status.success() {
        return Err(anyhow!(
            "the editor `{editor}` failed ({status}); nothing was saved, and the text is in {}; set VISUAL or EDITOR to \
             your editor",
            path.display()
        ));
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Returns the editor of the person; the default one only if there is a terminal.
fn find_editor() -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a convention of terminals, no setting of ours"
    )]
    let look = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    };
    look("VISUAL").or_else(|| look("EDITOR")).or_else(|| {
        std::io::stdin()
            .is_terminal()
            .then(|| USUAL_EDITOR.to_owned())
    })
}

/// Creates a file with a text that only this user can read.
fn write_text(text: &str) -> std::io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("memory-{}.md", SystemClock.new_id()));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    writeln!(file, "{text}")?;
    Ok(path)
}
