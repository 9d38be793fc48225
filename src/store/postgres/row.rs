//! Rows that the database returns, and memories as parameters.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::domain::Hit;
use crate::domain::memory::{Episode, Memory};
use crate::store::fields;
use crate::store::memory_columns::{read_episode, read_memory};
use crate::store::row_reader::{Fields, plain_fields};

impl Fields for PgRow {
    plain_fields!();

    fn uuids(&self, column: &str) -> sqlx::Result<Vec<Uuid>> {
        self.try_get(column)
    }

    fn texts(&self, column: &str) -> sqlx::Result<Vec<String>> {
        self.try_get(column)
    }

    fn optional_json(&self, column: &str) -> sqlx::Result<Option<Value>> {
        self.try_get(column)
    }

    fn optional_time(&self, column: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
        self.try_get(column)
    }
}

/// A memory with its related data.
pub(super) struct MemoryRow(pub(super) Memory);

impl FromRow<'_, PgRow> for MemoryRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        read_memory(row).map(Self)
    }
}

/// A hit of the lexical search with the frequencies of its terms, packed by the statement in `$numbers`.
pub(super) struct LexicalRow {
    pub(super) hit: Hit,
    pub(super) numbers: Vec<i64>,
    pub(super) indexed_length: i32,
}

impl FromRow<'_, PgRow> for LexicalRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let HitRow(hit) = HitRow::from_row(row)?;
        Ok(Self {
            hit: Hit {
                bm25: row.try_get("score")?,
                exact: row.try_get("exact")?,
                ..hit
            },
            numbers: row.try_get("numbers")?,
            indexed_length: row.try_get("indexed_length")?,
        })
    }
}

/// A memory with the data that ranking needs.
pub(super) struct HitRow(pub(super) Hit);

impl FromRow<'_, PgRow> for HitRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        fields::hit(row).map(Self)
    }
}

/// A passage near to the query.
pub(super) struct SemanticRow(pub(super) Hit);

impl FromRow<'_, PgRow> for SemanticRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let HitRow(hit) = HitRow::from_row(row)?;
        let cosine = Some(row.try_get("cosine")?);
        let passage: i32 = row.try_get("chunk")?;
        Ok(Self(Hit {
            cosine,
            passage: passage.unsigned_abs(),
            ..hit
        }))
    }
}

/// A row of the REMEMBER statement about an item, or about the earlier request with the same key.
pub(super) enum RememberRow {
    Item {
        place: usize,
        old: Option<Uuid>,
        differs: bool,
    },
    Previous(PreviousRow),
}

impl FromRow<'_, PgRow> for RememberRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(match row.try_get::<Option<i64>, _>("n")? {
            Some(n) => Self::Item {
                place: usize::try_from(n - 1).map_err(|error| sqlx::Error::Decode(error.into()))?,
                old: row.try_get("old_id")?,
                differs: row.try_get("differs")?,
            },
            None => Self::Previous(PreviousRow::from_row(row)?),
        })
    }
}

/// The answer to an earlier request.
pub(super) struct PreviousRow {
    pub(super) request_hash: Vec<u8>,
    pub(super) answer: Vec<Uuid>,
}

impl FromRow<'_, PgRow> for PreviousRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            request_hash: row.try_get("request_hash")?,
            answer: row.try_get("answer")?,
        })
    }
}

/// The capabilities of the server.
pub(super) struct ServerRow {
    pub(super) version: i32,
    pub(super) encoding: String,
    pub(super) read_only: bool,
    pub(super) vector: Option<String>,
    pub(super) vector_available: Option<String>,
    /// Whether users with the right to create in the database can create the extension without a superuser.
    pub(super) vector_trusted: bool,
    pub(super) database: String,
    pub(super) role: String,
    pub(super) schema: Option<String>,
    pub(super) may_create: bool,
    pub(super) migrated: bool,
}

impl FromRow<'_, PgRow> for ServerRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            version: row.try_get("version")?,
            encoding: row.try_get("encoding")?,
            read_only: row.try_get("read_only")?,
            vector: row.try_get("vector")?,
            vector_available: row.try_get("vector_available")?,
            vector_trusted: row.try_get("vector_trusted")?,
            database: row.try_get("database")?,
            role: row.try_get("role")?,
            schema: row.try_get("schema")?,
            may_create: row.try_get("may_create")?,
            migrated: row.try_get("migrated")?,
        })
    }
}

/// A memory to be indexed again.
pub(super) struct IndexedRow {
    pub(super) project_id: i32,
    pub(super) seq: i64,
    pub(super) content: String,
    pub(super) speaker: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) episode: Option<Episode>,
    pub(super) live: bool,
}

impl FromRow<'_, PgRow> for IndexedRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            project_id: row.try_get("project_id")?,
            seq: row.try_get("seq")?,
            content: row.try_get("content")?,
            speaker: row.try_get("speaker")?,
            tags: row.try_get("tags")?,
            episode: read_episode(row)?,
            live: row.try_get("live")?,
        })
    }
}
