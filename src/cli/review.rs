//! `review`: the owner decides about proposals of models. Only this command can approve; no tool can.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::control::{self, ReviewRequest};
use super::open_store::create_store;
use super::output::{print_result, to_json};
use super::terminal::{Terminal, moment, shown};
use super::{Failure, discovery, fail, load_settings, option_name, start_runtime};
use crate::config::{Database, Settings, Sources};
use crate::domain::Decision;
use crate::domain::reference::short_id;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::{ReviewCommand, ReviewReport, ReviewView};
use crate::store::sqlite;

/// Exit code of a refused decision.
const REFUSED: u8 = 1;
/// Indentation of the old and the new text in columns.
const INDENT: usize = 4;

#[derive(Args)]
pub(super) struct ReviewArguments {
    /// Project of the memories
    #[arg(long, global = true, default_value = DEFAULT_PROJECT)]
    project: String,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the changes that await a decision
    List {
        /// Also those that were decided or have expired
        #[arg(long)]
        all: bool,
        /// Number of reviews, newest first
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one review
    Show {
        /// ID of the review, or its last 8 digits
        id: String,
    },
    /// Make the proposed change
    Approve(Choice),
    /// Leave the memory as it is
    Reject(Choice),
    /// Undo an approved change
    Undo(Choice),
}

#[derive(Args)]
struct Choice {
    /// ID of the review, or its last 8 digits
    id: String,
    /// Reason, recorded in the history
    #[arg(long)]
    reason: Option<String>,
}

impl Choice {
    fn decide(self, decision: Decision) -> ReviewCommand {
        ReviewCommand::Decide {
            id: self.id,
            decision,
            reason: self.reason,
        }
    }
}

pub(super) fn run(arguments: ReviewArguments, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let command = match arguments.command {
        Command::List { all, limit } => ReviewCommand::List { all, limit },
        Command::Show { id } => ReviewCommand::Show { id },
        Command::Approve(choice) => choice.decide(Decision::Approve),
        Command::Reject(choice) => choice.decide(Decision::Reject),
        Command::Undo(choice) => choice.decide(Decision::Undo),
    };
    let project = arguments.project.clone();
    let request = ReviewRequest {
        project: arguments.project,
        command,
    };
    let report = start_runtime()?.block_on(send_request(&settings, request))?;
    let text = if arguments.json {
        to_json(&report)?
    } else {
        describe_report(&report, &project)
    };
    print_result(&text)?;
    Ok(0)
}

/// Sends the request to the service that has the file open; without one, or with PostgreSQL, opens the database.
async fn send_request(
    settings: &Settings,
    request: ReviewRequest,
) -> Result<ReviewReport, Failure> {
    if let Database::Sqlite { path } = &settings.database {
        let answer = control::send_command(settings, "review", &request).await;
        if let Some(report) = answer.map_err(|error| Failure::new(REFUSED, error))? {
            return report.map_err(|refusal| {
                let message = option_name::in_words_of_command("review", &refusal.message, &[]);
                Failure {
                    code: REFUSED,
                    error: anyhow::anyhow!(message),
                }
            });
        }
        if let Some(owner) = sqlite::owner(path) {
            fail!(
                UNAVAILABLE,
                "process {} has the database {} open and does not listen at {}: run this command where it runs (in its \
                 container: `podman exec`), as its user, or stop it first",
                owner.pid,
                path.display(),
                discovery::shown_sockets(settings)
            );
        }
        if !path.exists() {
            fail!(
                UNAVAILABLE,
                "there is no database {}; `config show` prints its configured path",
                path.display()
            );
        }
    }
    let local = create_store(settings)?;
    local.store.prepare().await?;
    let engine = local.build_engine(settings);
    let report = control::carry_out(&engine, request).await;
    local.store.close().await;
    report.map_err(|error| Failure {
        code: REFUSED,
        error: control::describe_refusal(&error),
    })
}

fn describe_report(report: &ReviewReport, project: &str) -> String {
    if report.reviews.is_empty() {
        return "No reviews await a decision.\n".to_owned();
    }
    let terminal = Terminal::of_stdout();
    let reviews: Vec<String> = report
        .reviews
        .iter()
        .map(|review| describe_review(&terminal, review, report, project))
        .collect();
    reviews.join("\n")
}

/// Describes a review, the proposed change, and the commands for deciding it.
fn describe_review(
    terminal: &Terminal,
    review: &ReviewView,
    report: &ReviewReport,
    project: &str,
) -> String {
    let id = short_id(&review.id);
    let mut text = format!(
        "{}  {}: {} memory {}\n",
        terminal.bold(id),
        review.state,
        review.action,
        short_id(&review.memory)
    );
    text.push_str(&describe_change(terminal, review, report));
    let mut line = |name: &str, value: &str| {
        text.push_str(&format!(
            "    {} {}\n",
            terminal.dim(&format!("{name:<9}")),
            shown(value)
        ));
    };
    line(
        "proposed",
        &format!("{} by {}", moment(&review.at), review.by),
    );
    if let Some(reason) = &review.reason {
        line("reason", reason);
    }
    if let (Some(by), Some(at)) = (&review.decided_by, &review.decided_at) {
        let why = review
            .decision_reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        line("decided", &format!("{} by {by}{why}", moment(at)));
    }
    let project = if project == DEFAULT_PROJECT {
        String::new()
    } else {
        format!(" --project {project}")
    };
    let command = |word: &str| format!("cognitive-memory-mcp review {word} {id}{project}");
    match review.state.as_str() {
        "open" => {
            line("expires", &moment(&review.until));
            line("approve", &command("approve"));
            line("reject", &command("reject"));
        }
        "approved" => line("undo", &command("undo")),
        _ => {}
    }
    text
}

/// Describes the old and the new values.
fn describe_change(terminal: &Terminal, review: &ReviewView, report: &ReviewReport) -> String {
    let find = |id: &str| {
        report
            .memories
            .iter()
            .find(|memory| memory["id"] == id)
            .unwrap_or(&Value::Null)
    };
    let content = |memory: &Value| memory["content"].as_str().unwrap_or_default().to_owned();
    let memory = find(&review.memory);
    let is_pending = review.state == "open";
    match review.action.as_str() {
        "delete" | "purge" if is_pending => terminal.difference(&content(memory), "", INDENT),
        _ if review.change["by"].is_string() => {
            let by = find(review.change["by"].as_str().unwrap_or_default());
            terminal.difference(&content(memory), &content(by), INDENT)
        }
        _ => {
            let fields = review.change.as_object().into_iter().flatten();
            fields
                .map(|(field, new)| {
                    field_change(
                        terminal,
                        field,
                        if is_pending {
                            &memory[field]
                        } else {
                            &Value::Null
                        },
                        new,
                    )
                })
                .collect()
        }
    }
}

fn field_change(terminal: &Terminal, field: &str, old: &Value, new: &Value) -> String {
    let words = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (old, new) = (words(old), words(new));
    if field == "content" {
        return terminal.difference(&old, &new, INDENT);
    }
    let label = |value: String| {
        if value.is_empty() {
            value
        } else {
            format!("{field}: {value}")
        }
    };
    terminal.difference(&label(old), &label(new), INDENT)
}
