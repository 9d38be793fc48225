//! Completion of a word that a person is typing.

use super::{Call, Engine, EngineError};
use crate::domain::graph::name_key;
use crate::domain::validate::{MAX_NAME_BYTES, MAX_TAG_BYTES};
use crate::store::graph::EntityQuery;

/// Maximum number of suggestions, which is that of the protocol.
const MAX_SUGGESTIONS: usize = 100;

/// The kind of word to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completable {
    /// The ID of a memory.
    Id,
    /// A tag in use.
    Tag,
    /// The name of an entity.
    Entity,
}

impl Engine {
    /// Returns words that begin with `prefix`, likeliest first. Returns an empty list if nothing can begin with
    /// it.
    ///
    /// # Errors
    /// Fails if the database does not respond.
    pub async fn complete(
        &self,
        call: &Call,
        what: Completable,
        prefix: &str,
    ) -> Result<Vec<String>, EngineError> {
        let prefix = prefix.trim_start();
        let longest = if what == Completable::Entity {
            MAX_NAME_BYTES
        } else {
            MAX_TAG_BYTES
        };
        if prefix.len() > longest || prefix.contains('\0') {
            return Ok(Vec::new());
        }
        match what {
            Completable::Tag => Ok(call
                .database(
                    self.store
                        .tags_with_prefix(&call.scope, prefix, MAX_SUGGESTIONS),
                )
                .await?),
            Completable::Entity => {
                let query = EntityQuery::List {
                    kind: None,
                    prefix: name_key(prefix),
                    after: String::new(),
                    limit: MAX_SUGGESTIONS,
                };
                let found = call
                    .database(self.store.entities(&call.scope, &query))
                    .await?;
                // Several readable projects may know an entity by the same name, so that equal names are
                // adjacent.
                let mut names: Vec<String> = found.into_iter().map(|entity| entity.name).collect();
                names.dedup();
                Ok(names)
            }
            Completable::Id => {
                let digits = prefix.replace('-', "").to_ascii_lowercase();
                if !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
                    return Ok(Vec::new());
                }
                let ids = call
                    .database(
                        self.store
                            .ids_with_prefix(&call.scope, &digits, MAX_SUGGESTIONS),
                    )
                    .await?;
                Ok(ids.iter().map(ToString::to_string).collect())
            }
        }
    }
}
