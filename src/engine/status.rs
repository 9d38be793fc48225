//! Figures about the memory.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Engine, EngineError};

/// Nothing to ask.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusParams {}

/// The state of the memory.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusOutput {
    /// Version of the service.
    pub version: String,
    /// Project that is written to.
    pub project: String,
    /// All projects that are read.
    pub readable_projects: Vec<String>,
    /// Live memories.
    pub memories: u64,
    /// The same by kind.
    pub by_kind: BTreeMap<String, u64>,
    /// Deleted, can be restored.
    pub deleted: u64,
    /// Replaced by newer ones.
    pub superseded: u64,
    /// Waiting for the index by meaning.
    pub index_backlog: u64,
    /// Reviews that wait for the owner.
    pub open_reviews: u64,
    /// Embedding model; absent: recall is by words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// sqlite or postgres.
    pub database: String,
    /// Version of the database.
    pub database_version: String,
    /// Newest migration.
    pub schema_version: i64,
    /// Damage that a check of the data found, and its remedy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Engine {
    /// Counts and versions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn status(&self, call: &Call, _: StatusParams) -> Result<StatusOutput, EngineError> {
        let now = self.clock.now();
        let counts = call.database(self.store.counts(&call.scope, now)).await?;
        let open_reviews = call.database(self.store.open_reviews(&call.scope, now)).await?;
        let info = call.database(self.store.info()).await?;
        Ok(StatusOutput {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: call.scope.project().to_owned(),
            readable_projects: call.scope.readable().map(str::to_owned).collect(),
            memories: counts.by_kind.values().sum(),
            by_kind: counts.by_kind,
            deleted: counts.deleted,
            superseded: counts.superseded,
            index_backlog: counts.index_backlog,
            open_reviews,
            model: self.desk.embedder().map(|embedder| embedder.model().id.clone()),
            database: info.backend.to_owned(),
            database_version: info.version,
            schema_version: info.schema_version,
            notes: self.notices.current(),
        })
    }
}
