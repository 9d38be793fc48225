//! `status`, `tags` and `entities`: the contents of the memory.

use clap::Args;
use serde_json::{Value, json};

use super::memory_commands::{CallArgs, MOST_CHARS, call_tool, print_answer, set_given};
use super::service_client::Memory;
use super::{Failure, fail, load_settings, start_runtime};
use crate::config::Sources;

/// Maximum number of values in one answer of `status`.
const MOST_VALUES: usize = 1_000;
/// Number of entities per page.
const PAGE: usize = 500;

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    call: CallArgs,
}

#[derive(Args)]
pub(super) struct TagsArgs {
    /// Number of tags, the most frequent first, at most 1000
    #[arg(long, short = 'n', default_value_t = MOST_VALUES)]
    limit: usize,
    #[command(flatten)]
    call: CallArgs,
}

#[derive(Args)]
pub(super) struct EntitiesArgs {
    /// Beginning of the names
    prefix: Vec<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Number of entities
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    call: CallArgs,
}

pub(super) fn status(args: &StatusArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let answer = call_tool(&settings, &args.call, "status", json!({}))?;
    print_answer(&args.call, &answer, |terminal| terminal.status(&answer))?;
    Ok(0)
}

pub(super) fn tags(args: &TagsArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let mut answer = call_tool(
        &settings,
        &args.call,
        "status",
        json!({ "limit": args.limit }),
    )?;
    let tags = answer["tags"].take();
    print_answer(&args.call, &tags, |terminal| {
        terminal.counts(&tags, "TAG", "No tags.")
    })?;
    Ok(0)
}

pub(super) fn entities(args: &EntitiesArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    if args.limit == 0 {
        fail!(USAGE, "--limit: expected 1 or more, got 0");
    }
    let answer = start_runtime()?.block_on(async {
        let memory = Memory::open(&settings, args.call.project.as_deref()).await?;
        let answer = list_entities(&memory, args).await;
        memory.close().await;
        answer
    })?;
    print_answer(&args.call, &answer, |terminal| terminal.entities(&answer))?;
    Ok(0)
}

/// Reads pages until there are as many entities as requested or no more.
async fn list_entities(memory: &Memory, args: &EntitiesArgs) -> Result<Value, Failure> {
    let prefix = Some(args.prefix.join(" ")).filter(|prefix| !prefix.is_empty());
    let mut entities: Vec<Value> = Vec::new();
    let mut is_partial = true;
    while is_partial && entities.len() < args.limit {
        let limit = (args.limit - entities.len()).min(PAGE);
        let mut arguments = json!({ "mode": "list", "limit": limit, "max_chars": MOST_CHARS });
        let after = entities.last().map(|last| last["name"].clone());
        let kind = args.kind.as_deref().map(Value::from);
        set_given(
            &mut arguments,
            [
                ("name", prefix.clone().map(Value::from)),
                ("type", kind),
                ("after", after),
            ],
        );
        let mut page = memory.call("explore", arguments).await?;
        let Value::Array(found) = page["entities"].take() else {
            break;
        };
        is_partial = page["partial"] == true && !found.is_empty();
        entities.extend(found);
    }
    Ok(json!({ "entities": entities, "partial": is_partial }))
}
