//! `review`: the owner decides what models proposed. The one way to approve; no tool does it.

use std::fmt::Write as _;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::control::{self, ReviewRequest};
use super::{Failure, UNAVAILABLE, discovery, local, runtime, say};
use crate::config::{Database, Settings, Sources};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Decision, SystemClock};
use crate::engine::{Engine, ReviewCommand, ReviewReport, ReviewView};
use crate::store::sqlite;

/// Exit code of a decision that was refused.
const REFUSED: u8 = 1;

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
    /// List what waits for a decision
    List {
        /// Also what was decided or has expired
        #[arg(long)]
        all: bool,
        /// At most so many, newest first
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show a review with the memory that it is about
    Show {
        /// Id of the review
        id: String,
    },
    /// Carry out what was proposed
    Approve(Choice),
    /// Leave the memory as it is
    Reject(Choice),
    /// Take back what was approved
    Undo(Choice),
}

#[derive(Args)]
struct Choice {
    /// Id of the review
    id: String,
    /// Why; kept in the history
    #[arg(long)]
    reason: Option<String>,
}

impl Choice {
    fn decide(self, decision: Decision) -> ReviewCommand {
        ReviewCommand::Decide { id: self.id, decision, reason: self.reason }
    }
}

pub(super) fn run(arguments: ReviewArguments, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    let command = match arguments.command {
        Command::List { all, limit } => ReviewCommand::List { all, limit },
        Command::Show { id } => ReviewCommand::Show { id },
        Command::Approve(choice) => choice.decide(Decision::Approve),
        Command::Reject(choice) => choice.decide(Decision::Reject),
        Command::Undo(choice) => choice.decide(Decision::Undo),
    };
    let request = ReviewRequest { project: arguments.project, command };
    let report = runtime()?.block_on(ask(&settings, request))?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).map_err(Failure::internal)? + "\n"
    } else {
        describe(&report)
    };
    say(&text)?;
    Ok(0)
}

/// Through the service that has the file open; where there is none, or with PostgreSQL, on the database itself.
async fn ask(settings: &Settings, request: ReviewRequest) -> Result<ReviewReport, Failure> {
    if let Database::Sqlite { path } = &settings.database {
        let answer = control::ask(settings, "review", &request).await;
        if let Some(report) = answer.map_err(|error| Failure { code: REFUSED, error })? {
            return report.map_err(|refusal| Failure { code: REFUSED, error: anyhow::anyhow!(refusal.message) });
        }
        if let Some(owner) = sqlite::owner(path) {
            let error = anyhow::anyhow!(
                "process {} has the database {} open and does not listen at {}: run this command where it runs (in its \
                 container: `podman exec`), as its user, or stop it first",
                owner.pid,
                path.display(),
                discovery::shown_sockets(settings)
            );
            return Err(Failure { code: UNAVAILABLE, error });
        }
        if !path.exists() {
            let error =
                anyhow::anyhow!("there is no database {}; `config show` tells where it is looked for", path.display());
            return Err(Failure { code: UNAVAILABLE, error });
        }
    }
    let local = local::store(settings)?;
    local.store.prepare().await?;
    let engine = Engine::new(Arc::clone(&local.store), local.analyzer, Arc::new(SystemClock))
        .with_review_days(settings.review_days);
    let report = control::carry_out(&engine, request).await;
    local.store.close().await;
    report.map_err(|error| Failure { code: REFUSED, error: control::refused(&error) })
}

fn describe(report: &ReviewReport) -> String {
    if report.reviews.is_empty() {
        return "Nothing waits for a decision.\n".to_owned();
    }
    let mut text = String::new();
    for review in &report.reviews {
        line(&mut text, review);
    }
    for memory in &report.memories {
        let field = |name: &str| memory[name].as_str().unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "\nmemory {} as it is now, version {}\n{}",
            field("id"),
            memory["version"],
            shown(field("content"))
        );
        for name in ["situation", "lesson"] {
            if !field(name).is_empty() {
                let _ = writeln!(text, "{name}: {}", shown(field(name)));
            }
        }
    }
    text
}

/// Text of a model on the owner's terminal, where it must not pass for a line of ours: lines are marked, and what would
/// move the cursor or turn the direction of writing is spelled out.
fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\n    | "),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.extend(c.escape_unicode());
            }
            c if c.is_control() => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

fn line(text: &mut String, review: &ReviewView) {
    let _ = writeln!(text, "{}  {:<9} {} memory {}", review.id, review.state, review.action, review.memory);
    if !review.change.is_null() {
        let _ = writeln!(text, "    change    {}", shown(&review.change.to_string()));
    }
    let _ = writeln!(text, "    proposed  {} by {}", review.at, review.by);
    if let Some(reason) = &review.reason {
        let _ = writeln!(text, "    because   {}", shown(reason));
    }
    if review.state == "open" {
        let _ = writeln!(text, "    expires   {}", review.until);
    }
    if let (Some(by), Some(at)) = (&review.decided_by, &review.decided_at) {
        let why = review.decision_reason.as_ref().map(|reason| format!(": {}", shown(reason))).unwrap_or_default();
        let _ = writeln!(text, "    decided   {at} by {by}{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_models_text_cannot_pass_for_ours() {
        let text = "honest\n\u{1b}[2K\u{1b}[Afake\u{9b}1A\u{202e}\r";
        let safe = shown(text);
        assert_eq!(safe, "honest\n    | \\u{1b}[2K\\u{1b}[Afake\\u{9b}1A\\u{202e}\\u{d}");
    }
}
