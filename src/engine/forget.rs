//! Deletes, restores and purges memories.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::reference::check_ids;
use super::{Call, Engine, EngineError, ReviewView};
use crate::domain::count::{count_of, verb_for};
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{Memory, Proposal};
use crate::store::{ForgetMode, StoreError};

/// Maximum number of changed memories that are listed; more are only counted.
const MOST_LISTED: usize = 20;
/// Maximum number of characters of a text in the list.
const SHOWN_CHARS: usize = 80;

/// Memories to forget.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetParams {
    /// Up to 200; all or none
    #[schemars(extend("x-aliases" = ["id", "memory_id", "memory_ids", "memory", "memories"], "x-split" = "ids"))]
    pub ids: Vec<String>,
    /// delete (default) can be undone with restore; purge cannot
    #[serde(default)]
    pub mode: Mode,
    /// Recorded in the history
    #[serde(default)]
    pub reason: Option<String>,
}

/// The kind of deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, extend("x-synonyms" = {"remove": "delete", "soft_delete": "delete", "undelete": "restore", "undo": "restore", "recover": "restore", "soft": "delete"}))]
pub enum Mode {
    /// Hide.
    #[default]
    Delete,
    /// Show again.
    Restore,
    /// Remove for ever.
    Purge,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ForgetOutput {
    /// The requested mode.
    pub mode: Mode,
    /// Number of memories that changed; the others already were in that state.
    pub changed: u64,
    /// The memories that changed, unless there are many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub memories: Vec<ForgottenView>,
    /// Requests to the owner of protected memories, which did not change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub reviews: Vec<ReviewView>,
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// A memory that was deleted, restored or purged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForgottenView {
    pub id: String,
    /// The beginning of its text; absent for a purged memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Engine {
    /// Reports everything that [`Engine::forget`] would refuse before it looks up the memories.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_forget(&self, params: &ForgetParams) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        if params.ids.is_empty() {
            problems.note(Invalid::new("ids", "[]", "at least one ID"));
        }
        problems.check(check_ids("ids", &params.ids));
        problems.check(validate::optional_text(
            "reason",
            params.reason.as_deref(),
            validate::MAX_REASON_BYTES,
        ));
        problems.refuse_if_any()
    }

    /// Deletes, restores or purges memories of the caller's own project, all or none. Protected memories do not
    /// change: a review asks their owner.
    ///
    /// # Errors
    /// Not found, naming every unknown ID.
    pub async fn forget(
        &self,
        call: &Call,
        mut params: ForgetParams,
    ) -> Result<ForgetOutput, EngineError> {
        let mut notes = self.screen_secrets(&mut params)?;
        self.check_forget(&params)?;
        let ids = self.resolve_ids(call, "ids", &params.ids).await?;
        call.count_rows(ids.len());
        let mode = ForgetMode::from(params.mode);
        let before = call
            .database(self.store.get(&call.scope, &ids, true))
            .await?;
        let (changed, reviews) = self
            .forget_unprotected(call, &ids, mode, params.reason.as_deref())
            .await?;
        let awaiting: Vec<&str> = reviews
            .iter()
            .map(|review| review.memory.as_str())
            .collect();
        let concerned = |memory: &&Memory| {
            !awaiting.contains(&memory.id.to_string().as_str()) && params.mode.applies_to(memory)
        };
        let affected: Vec<&Memory> = before.iter().filter(concerned).collect();
        let unchanged = ids.len().saturating_sub(affected.len() + reviews.len());
        let listed = if affected.len() <= MOST_LISTED {
            affected.as_slice()
        } else {
            &[]
        };
        notes.extend(params.mode.note_unchanged(unchanged));
        Ok(ForgetOutput {
            mode: params.mode,
            changed,
            memories: listed
                .iter()
                .map(|memory| ForgottenView::new(memory, params.mode))
                .collect(),
            reviews,
            notes,
        })
    }

    /// Changes the memories that are not protected, and asks the owner of the others.
    async fn forget_unprotected(
        &self,
        call: &Call,
        ids: &[Uuid],
        mode: ForgetMode,
        reason: Option<&str>,
    ) -> Result<(u64, Vec<ReviewView>), EngineError> {
        let now = self.clock.now();
        let protected = match call
            .database(self.store.forget(&call.scope, ids, mode, reason, now))
            .await
        {
            Ok(changed) => return Ok((changed, Vec::new())),
            Err(StoreError::Protected { ids }) => ids,
            Err(error) => return Err(error.into()),
        };
        let proposal = match mode {
            ForgetMode::Delete => Proposal::Delete,
            ForgetMode::Restore => Proposal::Restore,
            ForgetMode::Purge => Proposal::Purge,
        };
        let proposals = protected.iter().map(|id| (*id, proposal.clone())).collect();
        let reviews = self
            .propose(call, proposals, reason.map(str::to_owned))
            .await?;
        let rest: Vec<Uuid> = ids
            .iter()
            .filter(|id| !protected.contains(id))
            .copied()
            .collect();
        if rest.is_empty() {
            return Ok((0, reviews));
        }
        Ok((
            call.database(self.store.forget(&call.scope, &rest, mode, reason, now))
                .await?,
            reviews,
        ))
    }
}

impl From<Mode> for ForgetMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Delete => Self::Delete,
            Mode::Restore => Self::Restore,
            Mode::Purge => Self::Purge,
        }
    }
}

impl Mode {
    /// Returns the participle for sentences.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Self::Delete => "deleted",
            Self::Restore => "restored",
            Self::Purge => "purged",
        }
    }

    /// Returns whether the mode changes a memory in this state.
    fn applies_to(self, memory: &Memory) -> bool {
        match self {
            Self::Delete => memory.deleted_at.is_none(),
            Self::Restore => memory.deleted_at.is_some(),
            Self::Purge => true,
        }
    }

    fn note_unchanged(self, count: usize) -> Option<String> {
        let state = match self {
            Self::Delete => "already deleted",
            Self::Restore => "not deleted",
            Self::Purge => return None,
        };
        match count {
            0 => None,
            n => Some(format!(
                "{} did not change; {} {state}.",
                count_of(n as u64, "memory"),
                verb_for(n as u64, "it was", "they were")
            )),
        }
    }
}

impl ForgottenView {
    /// Creates the view of a memory. The text of a purged memory is not repeated, because none of it may
    /// remain.
    fn new(memory: &Memory, mode: Mode) -> Self {
        let shown = || memory.content.chars().take(SHOWN_CHARS).collect();
        Self {
            id: memory.id.to_string(),
            content: (mode != Mode::Purge).then(shown),
        }
    }
}
