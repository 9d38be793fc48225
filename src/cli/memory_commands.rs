//! `remember`, `recall`, `list`, `show` and `forget`, for people and their scripts.

use std::io::{BufRead, IsTerminal, Read};

use clap::Args;
use serde_json::{Value, json};

use super::output::{print_note, print_result, to_json};
use super::service_client::Memory;
use super::terminal::{Terminal, entries, strings, visible};
use super::{Failure, fail, load_settings, start_runtime};
use crate::config::{Settings, Sources};
use crate::domain::count::count_of;
use crate::domain::ranking::confidence::is_low;
use crate::domain::reference::{first_line, short_id};

/// Number of memories per page; `list` reads as many pages as it needs.
const PAGE: usize = 100;
/// Exit code if protected memories did not change, or a person did not confirm.
const UNCHANGED: u8 = 1;
/// Exit code if nothing was found, as with grep.
const NOTHING_FOUND: u8 = 1;
/// Requested number of characters of one answer; further parts are read with further calls.
pub(super) const MOST_CHARS: usize = 1_000_000;
/// Most bytes of a text on the standard input, more than a memory may have.
const MOST_INPUT: u64 = 1024 * 1024;
/// Maximum number of characters of a memory in a confirmation prompt.
const SHOWN_CHARS: usize = 60;

/// Options that all commands on memories share.
#[derive(Args)]
pub(super) struct CallArgs {
    /// Project of the memories [default: the project of the token, or `default` without one]
    #[arg(long, value_name = "NAME")]
    pub(super) project: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct RememberArgs {
    /// The text, quoted or not; - or no text reads it from the standard input
    text: Vec<String>,
    /// Label to filter by; can be repeated
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// note, insight, dialogue or episode
    #[arg(long, default_value = "note")]
    kind: String,
    /// From 0 to 1
    #[arg(long, value_parser = finite_number)]
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
    #[arg(long, allow_negative_numbers = true, value_parser = finite_number)]
    outcome: Option<f64>,
    /// For an episode: what to do next time
    #[arg(long)]
    lesson: Option<String>,
    /// ID of a memory that this one replaces; can be repeated
    #[arg(long, value_name = "ID")]
    supersedes: Vec<String>,
    #[command(flatten)]
    call: CallArgs,
}

#[derive(Args)]
pub(super) struct FilterArgs {
    /// Only with this tag; can be repeated
    #[arg(long = "tag", short = 't', value_name = "TAG")]
    tags: Vec<String>,
    /// Only of this kind; can be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only of this conversation
    #[arg(long)]
    session: Option<String>,
    /// Only memories that happened at or after this date or time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only memories that happened before this date or time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Also superseded and expired memories
    #[arg(long)]
    outdated: bool,
    #[command(flatten)]
    call: CallArgs,
}

#[derive(Args)]
pub(super) struct RecallArgs {
    /// Question or words
    #[arg(required = true)]
    query: Vec<String>,
    /// Number of memories, at most 100
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// Also print why each memory was found
    #[arg(long)]
    explain: bool,
    /// Exit with code 1 also if the matches are so weak that they may not answer the question
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Number of memories
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: usize,
    /// List all memories
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Cursor of an earlier list, to continue it
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// IDs, or their last 8 digits
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Also show every change
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    call: CallArgs,
}

#[derive(Args)]
pub(super) struct ForgetArgs {
    /// IDs, or their last 8 digits; all of the memories are deleted, or none
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Restore deleted memories
    #[arg(long, conflicts_with = "purge")]
    restore: bool,
    /// Remove the memories and their history permanently; asks first
    #[arg(long)]
    purge: bool,
    /// Purge without asking
    #[arg(long, short = 'y', requires = "purge")]
    yes: bool,
    /// Reason, recorded in the history
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    call: CallArgs,
}

/// Opens the memory for one call.
pub(super) fn call_tool(
    settings: &Settings,
    args: &CallArgs,
    tool: &str,
    arguments: Value,
) -> Result<Value, Failure> {
    start_runtime()?.block_on(async {
        let memory = Memory::open(settings, args.project.as_deref()).await?;
        let answer = memory.call(tool, arguments).await;
        memory.close().await;
        answer
    })
}

/// Prints an answer as JSON, or as formatted by `draw`.
pub(super) fn print_answer(
    args: &CallArgs,
    answer: &Value,
    draw: impl FnOnce(&Terminal) -> String,
) -> Result<(), Failure> {
    if !args.json {
        return print_result(&draw(&Terminal::of_stdout()));
    }
    print_result(&to_json(answer)?)
}

/// Sets the arguments that were given.
pub(super) fn set_given<const N: usize>(arguments: &mut Value, given: [(&str, Option<Value>); N]) {
    for (name, value) in given {
        if let Some(value) = value {
            arguments[name] = value;
        }
    }
}

/// Reads text from standard input.
pub(super) fn read_input() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        print_note("Type the text, then press Ctrl-D on an empty line.");
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(MOST_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(Failure::internal)?;
    if bytes.len() as u64 > MOST_INPUT {
        fail!(
            USAGE,
            "the text on the standard input is longer than {MOST_INPUT} bytes. Nothing was stored; split it into several memories"
        );
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => fail!(
            USAGE,
            "the text on the standard input is not UTF-8 (byte {}). Nothing was stored; convert it, for instance with iconv",
            error.utf8_error().valid_up_to() + 1
        ),
    };
    Ok(text.trim_end().to_owned())
}

/// Reads a number of an option. NaN and infinities are no numbers of JSON and would be lost.
pub(super) fn finite_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number such as 0.5".to_owned()),
    }
}

pub(super) fn remember(args: RememberArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let text = args.text.join(" ");
    let text = if text.is_empty() || text == "-" {
        read_input()?
    } else {
        text
    };
    if text.trim().is_empty() {
        fail!(USAGE, "the text is empty. Nothing was stored.");
    }
    let mut item = json!({ "content": text, "kind": args.kind, "tags": args.tags, "supersedes": args.supersedes });
    set_given(
        &mut item,
        [
            ("importance", args.importance.map(Value::from)),
            ("occurred_at", args.at.map(Value::from)),
            ("session", args.session.map(Value::from)),
            ("situation", args.situation.map(Value::from)),
            ("outcome", args.outcome.map(Value::from)),
            ("lesson", args.lesson.map(Value::from)),
        ],
    );
    let answer = call_tool(
        &settings,
        &args.call,
        "remember",
        json!({ "items": [item] }),
    )?;
    print_answer(&args.call, &answer, |terminal| {
        describe_stored(terminal, &answer)
    })?;
    Ok(0)
}

/// Describes the result of storing a text.
fn describe_stored(terminal: &Terminal, answer: &Value) -> String {
    let memory = &answer["memories"][0];
    let list = |name: &str| {
        memory[name]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
    };
    let id = terminal.bold(short_id(memory["id"].as_str().unwrap_or_default()));
    let verb = if memory["created"] == true {
        "Remembered as"
    } else {
        "Already stored as"
    };
    let mut text = format!("{verb} {id}\n");
    let merged = list("merged");
    if !merged.is_empty() {
        text.push_str(&terminal.block(&format!("Added to it: {}", merged.join(", ")), 0));
    }
    for ignored in list("ignored") {
        text.push_str(&terminal.block(&format!("Not changed: {ignored}"), 0));
    }
    for similar in entries(memory, "similar") {
        let get = |name: &str| similar[name].as_str().unwrap_or_default();
        let line = format!(
            "Similar: {} {}",
            short_id(get("id")),
            first_line(get("content"), SHOWN_CHARS)
        );
        text.push_str(&terminal.dim(&terminal.block(&line, 0)));
    }
    terminal.notes(answer) + &text
}

fn filter_arguments(filter: &FilterArgs) -> Value {
    let mut arguments = json!({ "tags": filter.tags, "kinds": filter.kinds, "include_outdated": filter.outdated,
        "detail": "full" });
    let given = |value: &Option<String>| value.as_deref().map(Value::from);
    set_given(
        &mut arguments,
        [
            ("session", given(&filter.session)),
            ("since", given(&filter.since)),
            ("until", given(&filter.until)),
        ],
    );
    arguments
}

pub(super) fn recall(args: &RecallArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let mut arguments = filter_arguments(&args.filter);
    arguments["query"] = args.query.join(" ").into();
    arguments["limit"] = args.limit.into();
    if args.explain {
        arguments["explain"] = true.into();
    }
    let answer = call_tool(&settings, &args.filter.call, "recall", arguments)?;
    print_answer(&args.filter.call, &answer, |terminal| {
        terminal.hits(&answer)
    })?;
    let nothing = answer["hits"].as_array().is_none_or(Vec::is_empty);
    let weak = args.strict && answer["confidence"].as_f64().is_some_and(is_low);
    Ok(if nothing || weak { NOTHING_FOUND } else { 0 })
}

pub(super) fn list(args: &ListArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let call = &args.filter.call;
    if args.limit == 0 {
        fail!(USAGE, "--limit: expected 1 or more, got 0");
    }
    let limit = if args.all { usize::MAX } else { args.limit };
    let answer = start_runtime()?.block_on(async {
        let memory = Memory::open(&settings, call.project.as_deref()).await?;
        let answer = list_pages(&memory, args, limit).await;
        memory.close().await;
        answer
    })?;
    print_answer(call, &answer, |terminal| terminal.rows(&answer))?;
    Ok(0)
}

/// Reads pages until there are `limit` memories or no more.
async fn list_pages(memory: &Memory, args: &ListArgs, limit: usize) -> Result<Value, Failure> {
    let mut cursor = args.cursor.clone();
    let (mut hits, mut notes) = (Vec::new(), Vec::new());
    loop {
        let mut arguments = filter_arguments(&args.filter);
        arguments["limit"] = limit.saturating_sub(hits.len()).min(PAGE).into();
        set_given(&mut arguments, [("cursor", cursor.take().map(Value::from))]);
        let mut page = memory.call("recall", arguments).await?;
        if let Value::Array(found) = page["hits"].take() {
            hits.extend(found);
        }
        if let Value::Array(found) = page["notes"].take() {
            notes.extend(
                found
                    .into_iter()
                    .filter(|note| !notes.contains(note))
                    .collect::<Vec<_>>(),
            );
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || hits.len() >= limit {
            break;
        }
    }
    let mut answer = json!({ "hits": hits });
    let notes = (!notes.is_empty()).then_some(Value::Array(notes));
    set_given(
        &mut answer,
        [("next_cursor", cursor.map(Value::from)), ("notes", notes)],
    );
    Ok(answer)
}

pub(super) fn show(args: &ShowArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let answer = start_runtime()?.block_on(async {
        let memory = Memory::open(&settings, args.call.project.as_deref()).await?;
        let answer = get_parts(&memory, &args.ids, args.history).await;
        memory.close().await;
        answer
    })?;
    print_answer(&args.call, &answer, |terminal| terminal.whole(&answer))?;
    let missing: Vec<&str> = strings(&answer["missing"]).collect();
    if missing.is_empty() {
        return Ok(0);
    }
    fail!(
        USAGE,
        "there is no memory {}; `list` and `recall` print IDs",
        missing.join(", ")
    )
}

/// Reads memories and their history, regardless of their size.
async fn get_parts(memory: &Memory, ids: &[String], history: bool) -> Result<Value, Failure> {
    let mut rest: Vec<Value> = ids.iter().map(|id| id.as_str().into()).collect();
    let mut answer = json!({ "memories": [] });
    while !rest.is_empty() {
        let mut arguments = json!({ "ids": rest, "history": history, "include_deleted": true, "max_chars": MOST_CHARS });
        let mut not_read = Vec::new();
        loop {
            let mut part = memory.call("get", arguments.clone()).await?;
            let cursor = part["next_cursor"].take();
            if let Value::Array(ids) = part["not_read"].take() {
                not_read.extend(ids);
            }
            for name in ["memories", "missing", "history", "notes"] {
                append_entries(&mut answer, name, part[name].take());
            }
            if cursor.is_null() {
                break;
            }
            arguments["cursor"] = cursor;
        }
        if not_read.len() >= rest.len() {
            break;
        }
        rest = not_read;
    }
    Ok(answer)
}

fn append_entries(answer: &mut Value, name: &str, more: Value) {
    let Value::Array(more) = more else { return };
    match answer[name].as_array_mut() {
        Some(known) => known.extend(more),
        None => answer[name] = Value::Array(more),
    }
}

pub(super) fn forget(args: &ForgetArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    if args.purge && !args.yes && !confirm_purge(&settings, args)? {
        print_note("Nothing was purged.");
        return Ok(UNCHANGED);
    }
    let (mode, done) = match (args.restore, args.purge) {
        (true, _) => ("restore", "restored"),
        (_, true) => ("purge", "purged; this cannot be undone"),
        _ => ("delete", "deleted; `forget --restore` undoes this"),
    };
    let mut arguments = json!({ "ids": args.ids, "mode": mode });
    set_given(
        &mut arguments,
        [("reason", args.reason.as_deref().map(Value::from))],
    );
    let answer = call_tool(&settings, &args.call, "forget", arguments)?;
    print_answer(&args.call, &answer, |_| {
        describe_forgotten(&answer, done, mode)
    })?;
    let refused = answer["reviews"]
        .as_array()
        .is_some_and(|reviews| !reviews.is_empty());
    Ok(if refused { UNCHANGED } else { 0 })
}

/// Lists the memories to be purged on the terminal, and asks for confirmation.
fn confirm_purge(settings: &Settings, args: &ForgetArgs) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        fail!(
            USAGE,
            "--purge removes memories and their history permanently: confirm it with --yes"
        );
    }
    let arguments = json!({ "ids": args.ids, "include_deleted": true, "max_chars": MOST_CHARS });
    let found = call_tool(settings, &args.call, "get", arguments)?;
    for memory in entries(&found, "memories") {
        let get = |name: &str| memory[name].as_str().unwrap_or_default();
        let text = first_line(get("content"), SHOWN_CHARS);
        print_note(&format!("{} {}", short_id(get("id")), visible(&text)));
    }
    print_note("Remove these memories and their history permanently? Type yes to confirm:");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::internal)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Describes the changes, and the requests that await the owner of protected memories.
fn describe_forgotten(answer: &Value, done: &str, mode: &str) -> String {
    let changed = answer["changed"].as_u64().unwrap_or_default();
    let mut lines = Vec::new();
    let reviews: Vec<&str> = entries(answer, "reviews")
        .filter_map(|review| review["id"].as_str())
        .collect();
    for note in strings(&answer["notes"]) {
        lines.push(note.to_owned());
    }
    if changed > 0 || reviews.is_empty() {
        lines.push(format!("{} {done}", count_of(changed, "memory")));
    }
    if !reviews.is_empty() {
        let participle = match mode {
            "restore" => "restored",
            "purge" => "purged",
            _ => "deleted",
        };
        lines.push(format!(
            "Not {participle}: protected. {}",
            describe_awaiting(&reviews)
        ));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Lists the requests that await the owner, and the command for deciding them.
pub(super) fn describe_awaiting(reviews: &[&str]) -> String {
    let (request, verb) = if reviews.len() == 1 {
        ("Request", "awaits")
    } else {
        ("Requests", "await")
    };
    let ids: Vec<&str> = reviews.iter().map(|id| short_id(id)).collect();
    format!(
        "{request} {} {verb} the owner: `cognitive-memory-mcp review list`.",
        ids.join(", ")
    )
}
