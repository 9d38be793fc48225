//! Deleting, restoring and purging.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Engine, EngineError, parse_ids};
use crate::domain::validate::{self, Invalid};
use crate::store::ForgetMode;

/// What to forget.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetParams {
    /// Up to 200; all or none.
    pub ids: Vec<String>,
    /// delete (default) is undone by restore; purge leaves no trace.
    #[serde(default)]
    pub mode: Mode,
    /// Kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Mode {
    /// Hide.
    #[default]
    Delete,
    /// Show again.
    Restore,
    /// Remove for ever.
    Purge,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ForgetOutput {
    /// What was asked.
    pub mode: Mode,
    /// How many changed; the others were in that state already.
    pub changed: u64,
}

impl Engine {
    /// Deletes, restores or purges memories of the caller's own project, all or none.
    ///
    /// # Errors
    /// Not found, naming every unknown id.
    pub async fn forget(&self, call: &Call, params: ForgetParams) -> Result<ForgetOutput, EngineError> {
        let ids = parse_ids("ids", &params.ids)?;
        if ids.is_empty() {
            return Err(Invalid::new("ids", "[]", "at least one id").into());
        }
        if let Some(reason) = &params.reason {
            validate::text("reason", reason, validate::MAX_REASON_BYTES)?;
        }
        let mode = match params.mode {
            Mode::Delete => ForgetMode::Delete,
            Mode::Restore => ForgetMode::Restore,
            Mode::Purge => ForgetMode::Purge,
        };
        call.count_rows(ids.len());
        let now = self.clock.now();
        let changed = call.database(self.store.forget(&call.scope, &ids, mode, params.reason.as_deref(), now)).await?;
        Ok(ForgetOutput { mode: params.mode, changed })
    }
}
