//! `remember`, `recall`, `list`, `show` and `forget`, for people and their scripts.

use std::io::{IsTerminal, Read};

use clap::Args;
use serde_json::{Value, json};

use super::paper::Paper;
use super::remote::Memory;
use super::{Failure, USAGE, runtime, say};
use crate::config::Sources;
use crate::domain::reference::short_id;

#[derive(Args)]
pub(super) struct RememberArgs {
    /// The text; - or nothing reads it from the standard input
    text: Option<String>,
    /// Label to filter by; can be repeated
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// note, insight, dialogue or episode
    #[arg(long, default_value = "note")]
    kind: String,
    /// From 0 to 1
    #[arg(long)]
    importance: Option<f64>,
    /// When it happened: a date, or a time such as 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Conversation it belongs to
    #[arg(long)]
    session: Option<String>,
    /// For an episode: what was tried
    #[arg(long)]
    situation: Option<String>,
    /// For an episode: how it went, from -1 to 1
    #[arg(long, allow_negative_numbers = true)]
    outcome: Option<f64>,
    /// For an episode: what to do next time
    #[arg(long)]
    lesson: Option<String>,
    /// Id of a memory that this one replaces; can be repeated
    #[arg(long, value_name = "ID")]
    supersedes: Vec<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct FilterArgs {
    /// At most so many, 1 to 100
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// Only with this tag; can be repeated
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// Only of this kind; can be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only of this conversation
    #[arg(long)]
    session: Option<String>,
    /// Only what happened at or after this date or time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what happened before this date or time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Also what was replaced or has expired
    #[arg(long)]
    outdated: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RecallArgs {
    /// Question or words
    #[arg(required = true)]
    query: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// Ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Also what happened to it
    #[arg(long)]
    history: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ForgetArgs {
    /// Ids: all of them, or none
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Bring back what was deleted
    #[arg(long, conflicts_with = "purge")]
    restore: bool,
    /// Remove every trace, for ever
    #[arg(long)]
    purge: bool,
    /// Why; kept in the history
    #[arg(long)]
    reason: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Exit code if protected memories did not change.
const UNCHANGED: u8 = 1;

/// One call, and the answer on paper.
fn run(
    sources: &Sources,
    tool: &str,
    arguments: Value,
    as_json: bool,
    draw: impl FnOnce(&Paper, &Value) -> String,
) -> Result<(u8, Value), Failure> {
    let settings = super::settings(sources)?;
    let answer = runtime()?.block_on(async {
        let memory = Memory::open(&settings).await?;
        let answer = memory.call(tool, arguments).await;
        memory.close().await;
        answer
    })?;
    if as_json {
        let text = serde_json::to_string_pretty(&answer).map_err(Failure::internal)?;
        say(&format!("{text}\n"))?;
    } else {
        say(&draw(&Paper::of_stdout(), &answer))?;
    }
    Ok((0, answer))
}

pub(super) fn remember(args: RememberArgs, sources: &Sources) -> Result<u8, Failure> {
    let text = match args.text.filter(|text| text != "-") {
        Some(text) => text,
        None => {
            if std::io::stdin().is_terminal() {
                super::port::note("Type the text, then Ctrl-D on a line of its own.");
            }
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map_err(Failure::internal)?;
            text.trim_end().to_owned()
        }
    };
    let mut item = json!({ "content": text, "kind": args.kind, "tags": args.tags, "supersedes": args.supersedes });
    let optional = [
        ("importance", args.importance.map(Value::from)),
        ("occurred_at", args.at.map(Value::from)),
        ("session", args.session.map(Value::from)),
        ("situation", args.situation.map(Value::from)),
        ("outcome", args.outcome.map(Value::from)),
        ("lesson", args.lesson.map(Value::from)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            item[name] = value;
        }
    }
    let arguments = json!({ "items": [item] });
    run(sources, "remember", arguments, args.json, |paper, answer| {
        let stored = &answer["memories"][0];
        let id = paper.bold(short_id(stored["id"].as_str().unwrap_or_default()));
        if stored["created"] == true { format!("Remembered as {id}\n") } else { format!("Known already, as {id}\n") }
    })
    .map(|(code, _)| code)
}

fn filtered(filter: &FilterArgs) -> Value {
    let mut arguments = json!({ "limit": filter.limit, "tags": filter.tags, "kinds": filter.kinds,
        "include_outdated": filter.outdated });
    for (name, value) in [("session", &filter.session), ("since", &filter.since), ("until", &filter.until)] {
        if let Some(value) = value {
            arguments[name] = value.as_str().into();
        }
    }
    arguments
}

pub(super) fn recall(args: &RecallArgs, sources: &Sources) -> Result<u8, Failure> {
    let mut arguments = filtered(&args.filter);
    arguments["query"] = args.query.join(" ").into();
    let (code, answer) = run(sources, "recall", arguments, args.filter.json, Paper::hits)?;
    // As grep does: a script sees whether there was anything.
    let nothing = answer["hits"].as_array().is_none_or(Vec::is_empty);
    Ok(if nothing { 1 } else { code })
}

pub(super) fn list(args: &ListArgs, sources: &Sources) -> Result<u8, Failure> {
    let mut arguments = filtered(&args.filter);
    if let Some(cursor) = &args.cursor {
        arguments["cursor"] = cursor.as_str().into();
    }
    run(sources, "recall", arguments, args.filter.json, Paper::rows).map(|(code, _)| code)
}

pub(super) fn show(args: &ShowArgs, sources: &Sources) -> Result<u8, Failure> {
    let arguments = json!({ "ids": args.ids, "history": args.history, "include_deleted": true });
    let (code, answer) = run(sources, "get", arguments, args.json, Paper::whole)?;
    let missing: Vec<&str> = answer["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if missing.is_empty() {
        return Ok(code);
    }
    let error = anyhow::anyhow!("there is no memory {}", missing.join(", "));
    Err(Failure { code: USAGE, error })
}

pub(super) fn forget(args: &ForgetArgs, sources: &Sources) -> Result<u8, Failure> {
    let (mode, done) = match (args.restore, args.purge) {
        (true, _) => ("restore", "restored"),
        (_, true) => ("purge", "purged; this cannot be undone"),
        _ => ("delete", "deleted; `forget --restore` undoes this"),
    };
    let mut arguments = json!({ "ids": args.ids, "mode": mode });
    if let Some(reason) = &args.reason {
        arguments["reason"] = reason.as_str().into();
    }
    let (code, answer) = run(sources, "forget", arguments, args.json, |_, answer| forgotten(answer, done, mode))?;
    let refused = answer["reviews"].as_array().is_some_and(|reviews| !reviews.is_empty());
    Ok(if refused { UNCHANGED } else { code })
}

/// What was done, and which requests await the owner of protected memories.
fn forgotten(answer: &Value, done: &str, mode: &str) -> String {
    let changed = answer["changed"].as_u64().unwrap_or_default();
    let mut lines = Vec::new();
    let reviews: Vec<&str> =
        answer["reviews"].as_array().into_iter().flatten().filter_map(|review| review["id"].as_str()).collect();
    if changed > 0 {
        let what = if changed == 1 { "1 memory".to_owned() } else { format!("{changed} memories") };
        lines.push(format!("{what} {done}"));
    }
    for note in answer["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(note.to_owned());
    }
    if !reviews.is_empty() {
        let participle = match mode {
            "restore" => "restored",
            "purge" => "purged",
            _ => "deleted",
        };
        let (request, verb) = if reviews.len() == 1 { ("Request", "awaits") } else { ("Requests", "await") };
        let ids = reviews.join(", ");
        lines.push(format!(
            "Not {participle}: protected. {request} {ids} {verb} the owner: `cognitive-memory-mcp review`."
        ));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
