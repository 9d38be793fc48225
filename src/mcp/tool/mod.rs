//! The tools. Each file has the description that a model reads and the compact text of an answer; the engine does the
//! work.

use std::sync::Arc;

use async_trait::async_trait;
use rmcp::handler::server::common::{schema_for_output, schema_for_type};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::quote::{first_chars, inline_text, quote_lines};
use super::argument::Problem;
use super::error::ToolError;
use crate::domain::Invalid;
use crate::domain::count::verb_for;
use crate::domain::reference::short_id;
use crate::engine::{Call, Engine, EntityDetail, FocusView, MOST_COUNTED, MemoryView, ReviewView};

mod explore;
mod focus;
mod forget;
mod get;
mod link;
mod quote;
mod recall;
mod remember;
mod review;
mod schema;
mod status;
mod update;

/// Every tool, in the order in which a model sees them.
pub(super) const ALL: [&dyn MemoryTool; 10] = [
    &remember::Remember,
    &recall::Recall,
    &get::Get,
    &update::Update,
    &forget::Forget,
    &focus::Focus,
    &link::Link,
    &explore::Explore,
    &review::Review,
    &status::Status,
];

/// The names of [`ALL`], without a prefix.
pub(super) const NAMES: [&str; 10] = [
    "remember", "recall", "get", "update", "forget", "focus", "link", "explore", "review", "status",
];

/// An answer in both forms.
pub(super) struct Answer {
    /// The structured content, which the output schema describes.
    pub(super) structured: Value,
    /// A short text for a model.
    pub(super) text: String,
    /// Final lines that lead on, for example a cursor; they are never cut.
    pub(super) ending: String,
    /// Maximum number of characters of the printed text.
    pub(super) limit: Option<usize>,
}

impl Answer {
    /// Returns the text, preceded by notes to the caller, within the limit.
    pub(super) fn print_text(&self, notes: &[String]) -> String {
        let text = print_notes(notes) + &self.text;
        let separator = if text.is_empty() || self.ending.is_empty() {
            ""
        } else {
            "\n"
        };
        let ending = format!("{separator}{}", self.ending);
        match self.limit {
            None => text + &ending,
            Some(limit) => {
                let room = limit.saturating_sub(ending.chars().count());
                cut_text(cut_text(text, room) + &ending, limit)
            }
        }
    }

    /// Adds notes to the caller to the `notes` of the structured answer.
    pub(super) fn add_notes(&mut self, notes: &[String]) {
        if notes.is_empty() {
            return;
        }
        if let Some(output) = self.structured.as_object_mut() {
            let known = output
                .entry("notes")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(known) = known.as_array_mut() {
                known.splice(0..0, notes.iter().cloned().map(Value::String));
            }
        }
    }
}

/// Formats notes as separate lines.
pub(super) fn print_notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("Note: {note}\n")).collect()
}

/// Returns the beginning of a text that is longer than `most` characters.
fn cut_text(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some(_) if most == 0 => String::new(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// A tool with its parameters and its output, implemented by a file of this folder.
pub(super) trait ModelTool: Send + Sync {
    /// The arguments.
    type Params: JsonSchema + DeserializeOwned + Send + 'static;
    /// The structured answer.
    type Output: JsonSchema + 'static;

    const NAME: &'static str;
    /// The name in a list for people.
    const TITLE: &'static str;
    const DESCRIPTION: &'static str;

    fn hints() -> ToolAnnotations;

    /// Returns whether a call with these prepared arguments changes anything.
    fn writes(_: &JsonObject) -> bool {
        Self::hints().read_only_hint != Some(true)
    }

    /// Returns whether a call with these prepared arguments may need more than a few MiB of memory. Only some such
    /// calls run concurrently.
    fn reads_much(_: &JsonObject) -> bool {
        false
    }

    /// Reports everything that the tool would refuse in these parameters before any lookup.
    fn check(_: &Engine, _: Self::Params) -> Result<(), Invalid> {
        Ok(())
    }

    /// Calls the use case and describes its answer.
    fn run(
        engine: &Engine,
        call: &Call,
        params: Self::Params,
    ) -> impl Future<Output = Result<Answer, ToolError>> + Send;
}

#[async_trait]
impl<T: ModelTool> MemoryTool for T {
    fn definition(&self) -> Tool {
        let input = schema::input_schema(&schema_for_type::<T::Params>());
        let output = schema::output_schema(&schema_for_output::<T::Output>());
        Tool::new(T::NAME, T::DESCRIPTION, input)
            .with_title(T::TITLE)
            .with_raw_output_schema(output)
            .annotate(T::hints().open_world(false))
    }

    fn parameters(&self) -> Arc<JsonObject> {
        schema_for_type::<T::Params>()
    }

    fn writes(&self, arguments: &JsonObject) -> bool {
        T::writes(arguments)
    }

    fn reads_much(&self, arguments: &JsonObject) -> bool {
        T::reads_much(arguments)
    }

    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid> {
        serde_json::from_value(Value::Object(arguments))
            .map_or(Ok(()), |params| T::check(engine, params))
    }

    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError> {
        T::run(engine, call, parse_params(arguments)?).await
    }
}

/// A tool as the server calls it.
#[async_trait]
pub(super) trait MemoryTool: Send + Sync {
    /// Name, description, schemas, hints.
    fn definition(&self) -> Tool;

    /// Returns the full schema of the arguments, from which [`super::argument::Shape`] is compiled.
    fn parameters(&self) -> Arc<JsonObject>;

    /// Returns whether a call with these prepared arguments changes anything.
    fn writes(&self, arguments: &JsonObject) -> bool;

    /// Returns whether a call with these prepared arguments may need more than a few MiB of memory.
    fn reads_much(&self, _: &JsonObject) -> bool {
        false
    }

    /// Reports everything that the tool would refuse in these arguments before any lookup. Placeholders may replace
    /// required arguments.
    fn check(&self, engine: &Engine, arguments: JsonObject) -> Result<(), Invalid>;

    /// Reads the arguments, calls the use case and describes its answer.
    async fn run(
        &self,
        engine: &Engine,
        call: &Call,
        arguments: JsonObject,
    ) -> Result<Answer, ToolError>;
}

/// Minimum number of requested characters that count as much, which is more than the default.
const MUCH_TEXT: usize = 50_000;

/// Returns a number among arguments, or the length of a list; 0 if there is neither.
fn given_count(arguments: &JsonObject, name: &str) -> usize {
    match arguments.get(name) {
        Some(Value::Array(list)) => list.len(),
        Some(value) => value
            .as_u64()
            .map_or(0, |number| usize::try_from(number).unwrap_or(usize::MAX)),
        None => 0,
    }
}

/// Returns the action if it was given; an empty text if it is not a string.
fn given_action(arguments: &JsonObject) -> Option<&str> {
    arguments
        .get("action")
        .map(|action| action.as_str().unwrap_or_default())
}

/// Parses arguments that [`super::argument::prepare`] converted to the form of the parameters.
fn parse_params<P: DeserializeOwned>(arguments: JsonObject) -> Result<P, ToolError> {
    serde_path_to_error::deserialize(Value::Object(arguments)).map_err(|error| {
        // The schema and the parameters disagree, which is a defect. The caller could not understand the error.
        // The error itself may quote a value, which the log must not contain.
        let path = error.path().to_string();
        tracing::error!(
            path,
            "arguments that fit the schema do not fit the parameters"
        );
        let field = Some(path).filter(|path| path != ".").unwrap_or_default();
        let text = "not accepted; see the input schema of the tool".to_owned();
        ToolError::Arguments(vec![Problem {
            field,
            value: None,
            expected: None,
            text,
        }])
    })
}

fn build_answer(output: &impl serde::Serialize, text: String) -> Answer {
    let structured =
        serde_json::to_value(output).expect("an output is plain data, which always serialises");
    Answer {
        structured,
        text,
        ending: String::new(),
        limit: None,
    }
}

/// Returns an answer whose text has at most `limit` characters.
fn limited_answer(
    output: &impl serde::Serialize,
    text: String,
    ending: String,
    limit: usize,
) -> Answer {
    Answer {
        ending,
        limit: Some(limit),
        ..build_answer(output, text)
    }
}

/// Formats a list in a line of about `room` characters, and counts the entries that do not fit.
fn list_within(label: &str, entries: &[String], room: usize) -> Option<String> {
    let mut line = format!("{label}: {}", entries.first()?);
    if line.len() > room {
        return Some(format!("{label}: {}", entries.len()));
    }
    let mut shown = 1;
    for entry in &entries[1..] {
        if line.len() + entry.len() > room {
            break;
        }
        line.push_str(", ");
        line.push_str(entry);
        shown += 1;
    }
    if shown < entries.len() {
        line.push_str(&format!(" and {} more", entries.len() - shown));
    }
    Some(line)
}

/// Formats IDs for a text answer; the structured answer has all digits.
fn short_ids(ids: &[String]) -> String {
    ids.iter()
        .map(|id| short_id(id))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Maximum number of characters of a text in a line.
const EXCERPT_CHARS: usize = 160;

/// Prepends the notes of an answer.
fn with_notes(notes: &[String], text: &str) -> String {
    let mut lines: Vec<String> = notes.iter().map(|note| format!("Note: {note}")).collect();
    if !text.is_empty() {
        lines.push(text.to_owned());
    }
    lines.join("\n")
}

/// Describes one item of the working memory.
pub(super) fn describe_focus(item: &FocusView) -> String {
    let reason = item
        .reason
        .as_ref()
        .map(|reason| format!(" ({})", inline_text(reason)))
        .unwrap_or_default();
    format!(
        "[{}]{reason}\n{}",
        short_id(&item.id),
        quote_lines(&item.content)
    )
}

/// Describes an entity with its relations and the memories that mention it, one per line.
pub(super) fn describe_detail(detail: &EntityDetail) -> String {
    let mut lines = vec![explore::describe_entity(&detail.entity)];
    lines.extend(detail.relations.iter().map(explore::describe_relation));
    let shown = detail.relations.len() as u64;
    if detail.relation_count > shown {
        lines.push(format!(
            "{shown} of {} relations, the strongest",
            format_count(detail.relation_count)
        ));
    }
    if detail.ended_relations > 0 {
        let ended = format_count(detail.ended_relations);
        lines.push(format!(
            "{ended} ended {} not listed; explore with valid_at shows an earlier time",
            verb_for(detail.ended_relations, "relation is", "relations are")
        ));
    }
    if !detail.memories.is_empty() {
        let (shown, all) = (detail.memories.len(), format_count(detail.memory_count));
        lines.push(format!(
            "mentioned by {shown} of {all} {}: {}",
            verb_for(detail.memory_count, "memory", "memories"),
            short_ids(&detail.memories)
        ));
    }
    lines.join("\n")
}

/// Formats a number that the store counts up to a limit.
fn format_count(number: u64) -> String {
    if number >= MOST_COUNTED {
        format!("{MOST_COUNTED} or more")
    } else {
        number.to_string()
    }
}

/// Describes one review in a line.
pub(super) fn describe_review(review: &ReviewView) -> String {
    let mut line = format!(
        "[review {}] {}: {}",
        short_id(&review.id),
        review.state,
        proposed_change(review)
    );
    if let Some(reason) = &review.reason {
        line.push_str(&format!("; reason: {}", first_chars(reason, EXCERPT_CHARS)));
    }
    if review.state == "open" {
        line.push_str(&format!("; expires {}", review.until));
    }
    line
}

/// Describes the change that a review proposes.
fn proposed_change(review: &ReviewView) -> String {
    let (memory, change) = (short_id(&review.memory), &review.change);
    let field = |name: &str| change[name].as_str().unwrap_or_default();
    match review.action.as_str() {
        "supersede" => format!(
            "replace memory {memory} with {} ({})",
            short_id(field("by")),
            field("judgement")
        ),
        "nothing" => format!(
            "memories {memory} and {} are unrelated",
            short_id(field("other"))
        ),
        "update" => {
            let fields = change.as_object().into_iter().flatten();
            let changes: Vec<String> = fields
                .map(|(name, value)| format!("{name} to {}", shown_value(value)))
                .collect();
            format!("update memory {memory}: {}", changes.join(", "))
        }
        action => format!("{action} memory {memory}"),
    }
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{}\"", first_chars(text, EXCERPT_CHARS)),
        other => first_chars(&other.to_string(), EXCERPT_CHARS),
    }
}

/// Describes the requests for protected memories, which did not change.
fn awaiting_owner(done: &str, reviews: &[ReviewView]) -> String {
    let ids: Vec<&str> = reviews.iter().map(|review| short_id(&review.id)).collect();
    let (request, verb) = if ids.len() == 1 {
        ("Request", "awaits")
    } else {
        ("Requests", "await")
    };
    format!(
        "Not {done}: protected. {request} {} {verb} the owner: `cognitive-memory-mcp review`.",
        ids.join(", ")
    )
}

/// Describes one memory: a line with its ID and attributes, then its text with every line marked.
pub(super) fn describe_memory(memory: &MemoryView) -> String {
    let mut text = describe_attributes(memory);
    text.push('\n');
    let spoken = memory
        .speaker
        .as_ref()
        .map(|speaker| format!("{}: {}", inline_text(speaker), memory.content));
    text.push_str(&quote_lines(spoken.as_ref().unwrap_or(&memory.content)));
    if let (Some(situation), Some(outcome), Some(lesson)) =
        (&memory.situation, memory.outcome, &memory.lesson)
    {
        let episode = format!("Situation: {situation}\nOutcome: {outcome}\nLesson: {lesson}");
        text.push_str(&format!("\n{}", quote_lines(&episode)));
    }
    if !memory.metadata.is_empty() {
        text.push_str(&format!(
            "\n{}",
            quote_lines(&format!(
                "Metadata: {}",
                inline_text(memory.metadata.as_str())
            ))
        ));
    }
    text
}

fn describe_attributes(memory: &MemoryView) -> String {
    // Models do not need fractions of a second.
    let at = memory
        .occurred_at
        .split(['.', 'Z'])
        .next()
        .unwrap_or_default();
    let mut line = format!("[{} {}] {at}Z", memory.kind, short_id(&memory.id));
    let mut add = |label: &str, value: &str| {
        line.push_str(" · ");
        line.push_str(label);
        line.push_str(&inline_text(value));
    };
    if let Some(project) = &memory.project {
        add("project ", project);
    }
    if let Some(session) = &memory.session {
        let turn = memory
            .turn
            .map(|turn| format!("#{turn}"))
            .unwrap_or_default();
        add("session ", &format!("{session}{turn}"));
    }
    if !memory.tags.is_empty() {
        add("tags ", &memory.tags.join(", "));
    }
    if memory.version > 1 {
        add("version ", &memory.version.to_string());
    }
    if let Some(id) = &memory.superseded_by {
        add("superseded by ", short_id(id));
    }
    if let Some(id) = &memory.current {
        add("current version ", short_id(id));
    }
    if !memory.supersedes.is_empty() {
        add("supersedes ", &short_ids(&memory.supersedes));
    }
    if memory.protected {
        add("", "protected");
    }
    if let Some(until) = &memory.valid_until {
        add("valid until ", until);
    }
    if memory.deleted_at.is_some() {
        add("", "deleted");
    }
    line
}
