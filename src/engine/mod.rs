//! The use cases of the memory. Tools and command line call the same functions, with the same parameters, validation
//! and answers.
//!
//! Depends on `domain`, `embed` and the traits of `store`. A use case is a file with `FooParams`, `FooOutput` and an
//! `Engine::foo`, which validates everything before the first write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::domain::secrets::SecretPolicy;
use crate::domain::{Analyzer, Clock, Invalid, Scope, validate};
use crate::embed::Desk;
use crate::store::{Store, StoreError};

mod answer_size;
mod as_of;
mod candidates;
mod completion;
mod entity_note;
mod explore;
mod explore_size;
mod focus;
mod forget;
mod get;
mod graph_parts;
mod graph_view;
mod link;
mod notices;
mod recall;
mod recall_empty;
mod recall_note;
mod recall_page;
mod recall_request;
mod recall_search;
mod recall_versions;
mod recall_view;
mod reference;
mod remember;
mod review;
mod secret_gate;
mod session;
mod similar;
mod status;
mod token;
mod update;
mod view;

pub use candidates::{CandidateView, PairView};
pub use completion::Completable;
pub use explore::{EntityDetail, ExploreMode, ExploreOutput, ExploreParams};
pub use focus::{FocusAction, FocusOutput, FocusParams, FocusView};
pub use forget::{ForgetOutput, ForgetParams, ForgottenView, Mode};
pub use get::{GetOutput, GetParams, HistoryView};
pub use graph_view::{EntityView, RelationView};
pub use link::{EntityItem, LinkOutput, LinkParams, MentionItem, RelationItem, UnlinkMode};
pub use notices::Notices;
pub use recall::RecallParams;
pub use recall_note::RecallNotes;
pub use recall_view::{AnswerPrinter, Detail, HitView, RecallOutput, Why};
pub use remember::{Indexed, RememberItem, RememberOutput, RememberParams, StoredView};
pub use review::{
    ReviewAction, ReviewCommand, ReviewOutput, ReviewParams, ReviewReport, ReviewView,
};
pub use session::{OpenReview, SessionStart, SessionStartParams};
pub use similar::SimilarView;
pub use status::{StatusOutput, StatusParams, ValueCount, ValueCounts};
pub use token::{TokenAnswer, TokenCommand, TokenView, fresh_token};
pub use update::{Feedback, UpdateOutput, UpdateParams};
pub use view::MemoryView;

/// Maximum of the counts of relations and memories of an entity.
pub const MOST_COUNTED: u64 = crate::store::graph::MOST_COUNTED.unsigned_abs();

/// The use cases, working on one store.
pub struct Engine {
    store: Arc<dyn Store>,
    analyzer: Arc<Analyzer>,
    clock: Arc<dyn Clock>,
    notes: RecallNotes,
    desk: Arc<Desk>,
    focus_capacity: usize,
    review_days: u32,
    notices: Notices,
    comparisons: similar::RateLimiter,
    secrets: SecretPolicy,
}

/// Default number of days before a review expires.
const REVIEW_DAYS: u32 = 30;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("analyzer", &self.analyzer)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Creates an engine on a store whose lexical index uses `analyzer`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, analyzer: Arc<Analyzer>, clock: Arc<dyn Clock>) -> Self {
        let focus_capacity = crate::domain::focus::DEFAULT_CAPACITY;
        Self {
            store,
            analyzer,
            clock,
            notes: RecallNotes::default(),
            desk: Arc::new(Desk::closed()),
            focus_capacity,
            review_days: REVIEW_DAYS,
            notices: Notices::default(),
            comparisons: similar::RateLimiter::new(),
            secrets: SecretPolicy::Refuse,
        }
    }

    /// Also finds memories by meaning, with the embedder in `desk`.
    #[must_use]
    pub fn with_embedder(mut self, desk: Arc<Desk>) -> Self {
        self.desk = desk;
        self
    }

    /// Sets the capacity of the working memory.
    #[must_use]
    pub fn with_focus_capacity(mut self, capacity: usize) -> Self {
        self.focus_capacity = capacity;
        self
    }

    /// Sets the number of days before a review expires.
    #[must_use]
    pub fn with_review_days(mut self, days: u32) -> Self {
        self.review_days = days;
        self
    }

    /// Sets the handling of credentials in text that is to be stored.
    #[must_use]
    pub fn with_secrets(mut self, policy: SecretPolicy) -> Self {
        self.secrets = policy;
        self
    }

    /// Adds sentences for `status`.
    #[must_use]
    pub fn with_notices(mut self, notices: Notices) -> Self {
        self.notices = notices;
        self
    }

    /// Returns the current time of the use cases.
    #[must_use]
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now()
    }

    /// Queues all live memories for new vectors, which the service computes in the background. Returns the number of
    /// queued memories.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn reindex(&self) -> Result<u64, EngineError> {
        let mut place = None;
        loop {
            place = self.store.queue_missing(None, place).await?;
            if place.is_none() {
                break;
            }
        }
        self.desk.call();
        self.index_backlog().await
    }

    /// Counts the memories that wait for a vector, in all projects.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn index_backlog(&self) -> Result<u64, EngineError> {
        Ok(self.store.index_backlog().await?)
    }

    /// Returns the memories that recall returned since the last flush.
    #[must_use]
    pub fn recall_notes(&self) -> &RecallNotes {
        &self.notes
    }
}

/// The reason why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Invalid arguments of the caller.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// An error of the store.
    #[error(transparent)]
    Store(StoreError),
    /// Parts of IDs that match nothing.
    #[error("{field}: no ID begins or ends with {}", references.join(", "))]
    UnknownReference {
        field: String,
        references: Vec<String>,
    },
    /// A part of an ID that matches more than one object.
    #[error("{field}: {reference} matches several IDs: {}", candidates.join("; "))]
    AmbiguousReference {
        field: String,
        reference: String,
        /// Full IDs, each with the first line of its text.
        candidates: Vec<String>,
    },
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(invalid) => Self::Invalid(invalid),
            other => Self::Store(other),
        }
    }
}

impl EngineError {
    /// Renames the argument to the name that the caller uses. The index in a list is left out.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        match &mut self {
            Self::UnknownReference { field, .. } | Self::AmbiguousReference { field, .. } => {
                validate::rename_field(field, from, to);
                self
            }
            Self::Invalid(_) | Self::Store(_) => match self {
                Self::Invalid(invalid) => Self::Invalid(invalid.renamed(from, to)),
                other => other,
            },
        }
    }

    /// Returns a stable code for programs; unlike the sentence, it never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_argument",
            Self::UnknownReference { .. } => "not_found",
            Self::AmbiguousReference { .. } => "ambiguous_id",
            Self::Store(error) => match error {
                StoreError::NotFound { .. } => "not_found",
                StoreError::VersionConflict { .. } => "version_conflict",
                StoreError::IdempotencyConflict { .. } => "idempotency_conflict",
                StoreError::TurnExists { .. } => "turn_exists",
                StoreError::AlreadySuperseded { .. } => "already_superseded",
                StoreError::LimitExceeded { .. } => "limit_exceeded",
                StoreError::TokenExists { .. } => "token_exists",
                StoreError::TokenUnknown { .. } => "token_unknown",
                StoreError::Protected { .. } => "protected",
                StoreError::Decided { .. } => "already_decided",
                StoreError::Overtaken(_) => "changed_again",
                StoreError::TooManyReviews { .. } => "too_many_reviews",
                StoreError::Unavailable { .. } => "database_unavailable",
                StoreError::InUse { .. }
                | StoreError::Setup { .. }
                | StoreError::FileReplaced { .. } => "database_setup",
                _ => "internal",
            },
        }
    }

    /// Returns the version of a memory if the caller expected another one.
    #[must_use]
    pub fn current_version(&self) -> Option<i64> {
        match self {
            Self::Store(StoreError::VersionConflict { current, .. }) => Some(*current),
            _ => None,
        }
    }

    /// Returns advice for the caller, which follows the sentence of `Display`.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.code() {
            "invalid_argument" => "Correct the argument and call again. Nothing was changed.",
            "not_found" => {
                "Find the ID with recall, with get and include_deleted, or with focus and action list. Nothing was \
                 changed."
            }
            "ambiguous_id" => "Call again with more digits or with a full ID. Nothing was changed.",
            "version_conflict" => {
                "Read the memory again with get, then repeat the update with its current version. Nothing was changed."
            }
            "idempotency_conflict" => {
                "Use a new idempotency_key for different arguments. Nothing was stored."
            }
            "turn_exists" => {
                "Use the next free turn number, or update the stored turn. Nothing was stored."
            }
            "already_superseded" => "Supersede the newer memory instead. Nothing was stored.",
            "limit_exceeded" => {
                "Purge memories that are no longer needed (forget with mode purge; link with erase): bytes include the \
                 earlier versions of memories. Or ask the operator for a higher MEMORY_PROJECT_MAX_MEMORIES, \
                 MEMORY_PROJECT_MAX_BYTES or MEMORY_PROJECT_MAX_ENTRIES, or for MEMORY_HISTORY_DAYS. Nothing was stored."
            }
            "token_exists" => {
                "Choose another name, or renew that token's secret with `token rotate`. Nothing was changed."
            }
            "token_unknown" => "List the tokens with `token list`. Nothing was changed.",
            "protected" => {
                "Store the item without supersedes, then call review with action judge to ask the owner for the \
                 replacement. Nothing was stored."
            }
            "changed_again" => "Undo the later change first. Nothing was changed.",
            "already_decided" => "List the open reviews. Nothing was changed.",
            "too_many_reviews" => {
                "Ask the owner to decide some of them first. Nothing was changed."
            }
            "database_unavailable" => {
                "The service reconnects by itself. Call again in a few seconds; pass an idempotency_key with a write."
            }
            "database_setup" => "Ask the operator to check the log of the service.",
            _ => {
                "This is a defect in the service. Its log has the details under the ID of this request."
            }
        }
    }
}

/// One call of a use case, with its scope and its costs.
#[derive(Debug)]
pub struct Call {
    /// Projects of the caller.
    pub scope: Scope,
    database_micros: AtomicU64,
    rows: AtomicU64,
    hits: AtomicU64,
    reserved: AtomicUsize,
}

impl Call {
    /// Starts a call in `scope`.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            database_micros: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            reserved: AtomicUsize::new(0),
        }
    }

    /// Reserves characters of the answer for notes that are not part of it.
    pub fn reserve(&self, chars: usize) {
        self.reserved.store(chars, Ordering::Relaxed);
    }

    /// Returns the part of `max_chars` that is not reserved.
    fn unreserved(&self, max_chars: usize) -> usize {
        max_chars.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    /// Awaits a store method and adds its time to that of the call.
    async fn database<T>(
        &self,
        method: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = method.await;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.database_micros.fetch_add(micros, Ordering::Relaxed);
        result
    }

    fn count_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    fn count_hits(&self, hits: usize) {
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
    }

    /// Returns the time spent in the store.
    #[must_use]
    pub fn database_time(&self) -> Duration {
        Duration::from_micros(self.database_micros.load(Ordering::Relaxed))
    }

    /// Returns the number of memories read or written.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Returns the number of hits of a recall.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

/// Runs work that would block other tasks on a separate thread.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        if error.is_panic() {
            std::panic::resume_unwind(error.into_panic());
        }
        EngineError::Store(StoreError::Unavailable {
            reason: "the service is stopping".to_owned(),
            source: None,
        })
    })
}
