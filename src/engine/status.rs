//! Counts of the memories of a project, and the versions of the service and the database.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Engine, EngineError};
use crate::domain::validate;
use crate::store::{Facet, FacetValues};

/// Default number of values of each list.
const DEFAULT_VALUES: usize = 10;
/// Maximum number of values of each list.
const MOST_VALUES: usize = 1_000;

/// The values to count.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatusParams {
    /// Values of each list, 1 to 1000, default 10.
    pub limit: Option<usize>,
}

/// The state of the memory.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusOutput {
    /// Version of the service.
    pub version: String,
    /// Project that the caller writes to.
    pub project: String,
    /// Projects that the caller reads.
    pub readable_projects: Vec<String>,
    /// Live memories.
    pub memories: u64,
    /// Live memories by kind.
    pub by_kind: BTreeMap<String, u64>,
    /// Deleted memories that can be restored.
    pub deleted: u64,
    /// Superseded memories.
    pub superseded: u64,
    /// Most frequent tags among the newest 20,000 memories.
    pub tags: ValueCounts,
    /// Most frequent conversations.
    pub sessions: ValueCounts,
    /// Most frequent speakers.
    pub speakers: ValueCounts,
    /// Most frequent entity types, with the number of entities.
    pub entity_types: ValueCounts,
    /// Memories awaiting embedding.
    pub index_backlog: u64,
    /// Reviews that await the owner.
    pub open_reviews: u64,
    /// Embedding model; absent if recall uses words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// sqlite or postgres.
    pub database: String,
    /// Version of the database.
    pub database_version: String,
    /// Number of the newest migration.
    pub schema_version: i64,
    /// Damage that a check of the data found, and how to repair it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Values with the number of their memories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ValueCounts {
    /// Most frequent first.
    pub top: Vec<ValueCount>,
    /// Number of values that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// A value and the number of its memories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ValueCount {
    /// The value.
    pub value: String,
    /// Number of memories with this value.
    pub count: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<FacetValues> for ValueCounts {
    fn from(found: FacetValues) -> Self {
        let more = found.total.saturating_sub(found.values.len() as u64);
        let top = found
            .values
            .into_iter()
            .map(|(value, count)| ValueCount { value, count })
            .collect();
        Self { top, more }
    }
}

impl Engine {
    /// Returns counts and versions.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a limit out of range; also fails if the database does not
    /// respond.
    pub async fn status(
        &self,
        call: &Call,
        params: StatusParams,
    ) -> Result<StatusOutput, EngineError> {
        let limit = params.limit.unwrap_or(DEFAULT_VALUES);
        let limit = validate::whole_number("limit", limit, 1, MOST_VALUES)?;
        let now = self.clock.now();
        let counts = call.database(self.store.counts(&call.scope, now)).await?;
        let open_reviews = call
            .database(self.store.open_reviews(&call.scope, now))
            .await?;
        let info = call.database(self.store.info()).await?;
        Ok(StatusOutput {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: call.scope.project().to_owned(),
            readable_projects: call.scope.readable().map(str::to_owned).collect(),
            memories: counts.by_kind.values().sum(),
            by_kind: counts.by_kind,
            deleted: counts.deleted,
            superseded: counts.superseded,
            tags: self.value_counts(call, Facet::Tag, limit).await?,
            sessions: self.value_counts(call, Facet::Session, limit).await?,
            speakers: self.value_counts(call, Facet::Speaker, limit).await?,
            entity_types: self.value_counts(call, Facet::EntityType, limit).await?,
            index_backlog: counts.index_backlog,
            open_reviews,
            model: self
                .desk
                .embedder()
                .map(|embedder| embedder.model().id.clone()),
            database: info.backend.to_owned(),
            database_version: info.version,
            schema_version: info.schema_version,
            notes: self.notices.current(),
        })
    }

    async fn value_counts(
        &self,
        call: &Call,
        facet: Facet,
        limit: usize,
    ) -> Result<ValueCounts, EngineError> {
        Ok(call
            .database(self.store.facet(&call.scope, facet, limit))
            .await?
            .into())
    }
}
