//! Deleting, restoring and purging.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::{Call, Engine, EngineError, ReviewView};
use crate::domain::Proposal;
use crate::domain::validate::{self, Invalid};
use crate::store::{ForgetMode, StoreError};

/// What to forget.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetParams {
    /// Up to 200; all or none.
    #[schemars(extend("x-aliases" = ["id", "memory_id", "memory_ids"], "x-split" = true))]
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
#[schemars(inline, extend("x-synonyms" = {"remove": "delete", "soft_delete": "delete", "undelete": "restore"}))]
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
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ForgetOutput {
    /// What was asked.
    pub mode: Mode,
    /// How many changed; the others were in that state already.
    pub changed: u64,
    /// For protected memories, which did not change: what the owner is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub reviews: Vec<ReviewView>,
}

impl Engine {
    /// Deletes, restores or purges memories of the caller's own project, all or none. Protected ones do not change:
    /// a review asks their owner.
    ///
    /// # Errors
    /// Not found, naming every unknown id.
    pub async fn forget(&self, call: &Call, params: ForgetParams) -> Result<ForgetOutput, EngineError> {
        let ids = self.resolve_ids(call, "ids", &params.ids).await?;
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
        let reason = params.reason.as_deref();
        let protected = match call.database(self.store.forget(&call.scope, &ids, mode, reason, now)).await {
            Ok(changed) => return Ok(ForgetOutput { mode: params.mode, changed, reviews: Vec::new() }),
            Err(StoreError::Protected { ids }) => ids,
            Err(error) => return Err(error.into()),
        };
        let proposal = match mode {
            ForgetMode::Delete => Proposal::Delete,
            ForgetMode::Restore => Proposal::Restore,
            ForgetMode::Purge => Proposal::Purge,
        };
        let proposals = protected.iter().map(|id| (*id, proposal.clone())).collect();
        let reviews = self.propose(call, proposals, params.reason.clone()).await?;
        let rest: Vec<Uuid> = ids.into_iter().filter(|id| !protected.contains(id)).collect();
        let changed = if rest.is_empty() {
            0
        } else {
            call.database(self.store.forget(&call.scope, &rest, mode, reason, now)).await?
        };
        Ok(ForgetOutput { mode: params.mode, changed, reviews })
    }
}
