//! Faults of a tool, as a model sees them: a stable code, a sentence, and what to do next.

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::json;

use crate::engine::EngineError;

/// Why a tool did nothing.
#[derive(Debug)]
pub(super) enum ToolError {
    /// The arguments do not have the form of the schema.
    Arguments { path: String, problem: String },
    /// The use case refused or failed.
    Engine(EngineError),
    /// The caller may only read.
    ReadOnly,
    /// The time for one request is over.
    Timeout { seconds: u64 },
    /// The use case panicked; the log has the place.
    Panic,
}

impl From<EngineError> for ToolError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl ToolError {
    /// The stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Arguments { .. } => "invalid_argument",
            Self::Engine(error) => error.code(),
            Self::ReadOnly => "forbidden",
            Self::Timeout { .. } => "timeout",
            Self::Panic => "internal",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Arguments { path, problem } if path == "." => problem.clone(),
            Self::Arguments { path, problem } => format!("{path}: {problem}"),
            Self::Engine(error) => error.to_string(),
            Self::ReadOnly => "this access may only read".to_owned(),
            Self::Timeout { seconds } => format!("no answer within {seconds} s"),
            Self::Panic => "the service ran into a defect of its own".to_owned(),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Arguments { .. } => "Correct the argument and call again; nothing was stored.",
            Self::Engine(error) => error.advice(),
            Self::ReadOnly => "The user has to grant it the scope memory:write; nothing was changed.",
            Self::Timeout { .. } => {
                "A write may or may not have been done; repeating it with the same idempotency_key is safe."
            }
            Self::Panic => "The service's log has the details under this request's id.",
        }
    }

    /// The same where the protocol has no place for a result that failed.
    pub(super) fn into_error_data(self) -> ErrorData {
        let (code, message, advice) = (self.code(), self.message(), self.advice());
        let data = Some(json!({ "code": code, "advice": advice }));
        let message = format!("{code}: {message}. {advice}");
        if matches!(self, Self::Arguments { .. } | Self::Engine(EngineError::Invalid(_))) {
            ErrorData::invalid_params(message, data)
        } else {
            ErrorData::internal_error(message, data)
        }
    }

    /// The tool result with `isError`.
    pub(super) fn into_result(self) -> CallToolResult {
        let (code, message, advice) = (self.code(), self.message(), self.advice());
        let mut error = json!({ "code": code, "message": message, "advice": advice });
        if let Self::Engine(EngineError::Invalid(invalid)) = &self {
            error["field"] = invalid.field.clone().into();
            error["value"] = invalid.value.clone().into();
            error["expected"] = invalid.expected.clone().into();
        }
        if let Self::Engine(engine) = &self
            && let Some(current) = engine.current_version()
        {
            error["current_version"] = current.into();
        }
        if let Self::Arguments { path, .. } = &self {
            error["field"] = path.clone().into();
        }
        let mut result = CallToolResult::structured_error(json!({ "error": error }));
        result.content = vec![ContentBlock::text(format!("{code}: {message}. {advice}"))];
        result
    }
}
