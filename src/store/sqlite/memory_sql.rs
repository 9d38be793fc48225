//! The columns of a memory, in every form that statements need.

use super::param::{Query, json, micros};
use crate::domain::Memory;
use crate::domain::memory::content_hash;
use crate::store::statement::statements;

/// Memories with the columns that `fields::memory` reads.
macro_rules! memory {
    () => {
        "SELECT m.seq, m.id, (SELECT p.name FROM project p WHERE p.id = m.project_id) AS project, m.project_id, m.kind, \
         m.length, m.importance, m.deleted_at, m.superseded_by, m.valid_until, m.occurred_at, m.created_at, \
         m.updated_at, m.version, m.recall_count, m.last_recalled_at, m.helpful, m.not_helpful, m.session, m.turn, \
         m.speaker, m.tags, m.outcome, m.situation, m.lesson, m.metadata, m.content, \
         (SELECT json_group_array(hex(s.source_id) ORDER BY s.position) FROM source s WHERE s.memory_seq = m.seq) AS sources, m.protected \
         FROM memory m "
    };
}
pub(super) use memory;

macro_rules! insert_memory {
    () => {
        "INSERT INTO memory (id, project_id, kind, length, importance, deleted_at, superseded_by, valid_until, \
         occurred_at, created_at, updated_at, version, recall_count, last_recalled_at, helpful, not_helpful, protected, \
         content_hash, session, turn, speaker, tags, outcome, situation, lesson, metadata, content) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
         $23, $24, $25, $26, $27)"
    };
}

statements! {
    /// Inserts a memory with the parameters of [`bind_memory`].
    INSERT_MEMORY = concat!(insert_memory!(), " RETURNING seq");
    /// Inserts a new memory with its history ($28: actor), index entry ($29) and index job, and updates
    /// the corpus.
    REMEMBER = concat!(insert_memory!(), "; \
        INSERT INTO history (memory_seq, version, change, actor, at) \
         SELECT seq, 1, 'created', $28, $10 FROM memory WHERE id = $1; \
        INSERT INTO index_job (memory_seq, project_id) SELECT seq, $2 FROM memory WHERE id = $1; \
        INSERT INTO memory_term (rowid, terms) SELECT seq, $29 FROM memory WHERE id = $1; \
        UPDATE project SET documents = documents + 1, total_length = total_length + $4 WHERE id = $2");
    /// Updates the fields of a memory that may change, with the parameters of [`bind_memory`].
    UPDATE_MEMORY = "UPDATE memory SET length = coalesce($4, length), importance = $5, deleted_at = $6, \
        superseded_by = $7, valid_until = $8, occurred_at = $9, updated_at = $11, version = $12, helpful = $15, \
        not_helpful = $16, protected = $17, content_hash = $18, tags = $22, outcome = $23, situation = $24, lesson = $25, \
        metadata = $26, content = $27 WHERE id = $1";
}

/// Binds a memory to the parameters 1 to 27, in the order of `insert_memory!`.
pub(super) fn bind_memory<'q>(
    query: Query<'q>,
    memory: &'q Memory,
    project: i64,
    length: Option<u32>,
) -> Query<'q> {
    let episode = memory.episode.as_ref();
    query
        .bind(memory.id)
        .bind(project)
        .bind(memory.kind.as_str())
        .bind(length)
        .bind(memory.importance)
        .bind(micros(memory.deleted_at))
        .bind(memory.superseded_by)
        .bind(micros(memory.valid_until))
        .bind(memory.occurred_at.timestamp_micros())
        .bind(memory.created_at.timestamp_micros())
        .bind(memory.updated_at.timestamp_micros())
        .bind(memory.version)
        .bind(memory.recall_count)
        .bind(micros(memory.last_recalled_at))
        .bind(memory.helpful)
        .bind(memory.not_helpful)
        .bind(memory.protected)
        .bind(content_hash(&memory.content).to_vec())
        .bind(&memory.session)
        .bind(memory.turn)
        .bind(&memory.speaker)
        .bind(json(&memory.tags))
        .bind(episode.map(|episode| episode.outcome))
        .bind(episode.map(|episode| &episode.situation))
        .bind(episode.map(|episode| &episode.lesson))
        .bind(json(&memory.metadata))
        .bind(&memory.content)
}
