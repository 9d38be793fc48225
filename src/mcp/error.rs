//! Errors of a tool as a model sees them: a stable code, a sentence, and the next step.

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::json;

use super::argument::{self, Problem};
use crate::domain::Invalid;
use crate::engine::EngineError;

/// Maximum number of problems of a call in the structured answer.
const MAX_LISTED: usize = 20;

/// The reason why a tool failed.
#[derive(Debug)]
pub(super) enum ToolError {
    /// The arguments do not fit the schema, for these reasons.
    Arguments(Vec<Problem>),
    /// The use case refused or failed.
    Engine(EngineError),
    /// The caller may only read.
    ReadOnly,
    /// The time limit of a request was exceeded.
    Timeout { seconds: u64 },
    /// Too many other requests read much at the moment.
    Busy,
    /// The use case panicked; the log has the location.
    Panic,
}

impl From<EngineError> for ToolError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl ToolError {
    /// Returns the stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Arguments(_) => "invalid_argument",
            Self::Engine(error) => error.code(),
            Self::ReadOnly => "forbidden",
            Self::Timeout { .. } => "timeout",
            Self::Busy => "busy",
            Self::Panic => "internal",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Arguments(problems) => argument::describe_problems(problems),
            Self::Engine(error) => error.to_string(),
            Self::ReadOnly => "this credential may only read".to_owned(),
            Self::Timeout { seconds } => format!("the call took longer than {seconds} s"),
            Self::Busy => "the service is busy with other requests that read much".to_owned(),
            Self::Panic => "the call failed because of a defect in the service".to_owned(),
        }
    }

    /// Returns the next step for the caller. `writes`: the call may have stored something.
    fn next_step(&self, writes: bool) -> &'static str {
        match self {
            Self::Arguments(problems) if problems.len() > 1 && writes => {
                "Correct all of these and call again. Nothing was stored."
            }
            Self::Arguments(problems) if problems.len() > 1 => {
                "Correct all of these and call again."
            }
            Self::Engine(EngineError::Invalid(invalid))
                if !invalid.further.is_empty() && writes =>
            {
                "Correct all of these and call again. Nothing was stored."
            }
            Self::Engine(EngineError::Invalid(invalid)) if !invalid.further.is_empty() => {
                "Correct all of these and call again."
            }
            Self::Arguments(_) | Self::Engine(EngineError::Invalid(_)) if writes => {
                "Correct the argument and call again. Nothing was stored."
            }
            Self::Arguments(_) | Self::Engine(EngineError::Invalid(_)) => {
                "Correct the argument and call again."
            }
            Self::Engine(error) => error.advice(),
            Self::ReadOnly => "Ask the user to grant the scope memory:write. Nothing was changed.",
            Self::Timeout { .. } => {
                "A write may have taken effect. Repeat it with the same idempotency_key."
            }
            Self::Busy => "Nothing was done; try again in a few seconds, or ask for less at once.",
            Self::Panic => "The log of the service has the details under the ID of this request.",
        }
    }

    /// Returns a protocol error, for methods without failed results.
    pub(super) fn into_error_data(self) -> ErrorData {
        // Only reads fail in this way.
        let (code, message, advice) = (self.code(), self.message(), self.next_step(false));
        let data = Some(json!({ "code": code, "advice": advice }));
        let message = format!("{code}: {message}. {advice}");
        if matches!(
            self,
            Self::Arguments(_) | Self::Engine(EngineError::Invalid(_))
        ) {
            ErrorData::invalid_params(message, data)
        } else {
            ErrorData::internal_error(message, data)
        }
    }

    /// Returns the tool result with `isError`. `writes`: the call may have stored something; `notes`: how its
    /// arguments were read.
    pub(super) fn into_result(self, writes: bool, notes: &[String]) -> CallToolResult {
        let (code, message, advice) = (self.code(), self.message(), self.next_step(writes));
        let mut error = json!({ "code": code, "message": message, "advice": advice });
        if let Self::Engine(EngineError::Invalid(invalid)) = &self {
            error["field"] = invalid.field.clone().into();
            error["value"] = invalid.value.clone().into();
            error["expected"] = invalid.expected.clone().into();
            if !invalid.further.is_empty() {
                error["problems"] = invalid.all().map(describe_refusal).collect();
            }
        }
        if let Self::Engine(engine) = &self
            && let Some(current) = engine.current_version()
        {
            error["current_version"] = current.into();
        }
        if let Self::Arguments(problems) = &self {
            if let [first, ..] = problems.as_slice() {
                describe_problem(first, &mut error);
            }
            if problems.len() > 1 {
                error["problems"] = problems
                    .iter()
                    .take(MAX_LISTED)
                    .map(|problem| {
                        let mut listed = json!({ "message": problem.to_string() });
                        describe_problem(problem, &mut listed);
                        listed
                    })
                    .collect();
            }
        }
        if !notes.is_empty() {
            error["notes"] = notes.into();
        }
        // A message that is a sentence already ends with a mark.
        let stop = if message.ends_with(['?', '.', '!']) {
            ""
        } else {
            "."
        };
        let mut text = format!("{code}: {message}{stop} {advice}");
        for note in notes {
            text.push_str("\nNote: ");
            text.push_str(note);
        }
        let mut result = CallToolResult::structured_error(json!({ "error": error }));
        result.content = vec![ContentBlock::text(text)];
        result
    }
}

/// Describes one of several refused values for a program.
fn describe_refusal(invalid: &Invalid) -> serde_json::Value {
    json!({
        "message": invalid.describe(),
        "field": invalid.field,
        "value": invalid.value,
        "expected": invalid.expected,
    })
}

/// Adds field, value and expectation of a problem to the description for a program.
fn describe_problem(problem: &Problem, object: &mut serde_json::Value) {
    object["field"] = problem.field.clone().into();
    if let Some(value) = &problem.value {
        object["value"] = value.clone().into();
    }
    if let Some(expected) = &problem.expected {
        object["expected"] = expected.clone().into();
    }
}
