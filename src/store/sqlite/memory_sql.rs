//! Statements that read and write whole memories.

use super::param::{Query, json, micros};
use crate::domain::Memory;
use crate::store::memory_columns::{
    ColumnValue, changed_parameters, memory_values, written_columns, written_parameters,
};
use crate::store::statement::statements;

/// Memories with the columns that `read_memory` reads.
macro_rules! memory {
    () => {
        concat!(
            "SELECT ",
            crate::store::memory_columns::read_columns!(),
            ", (SELECT p.name FROM project p WHERE p.id = m.project_id) AS project, m.project_id, m.recall_count, \
              m.last_recalled_at, (SELECT json_group_array(hex(s.source_id) ORDER BY s.position) FROM source s \
              WHERE s.memory_seq = m.seq) AS sources FROM memory m "
        )
    };
}
pub(super) use memory;

macro_rules! insert_memory {
    () => {
        concat!(
            "INSERT INTO memory (project_id, recall_count, last_recalled_at, ",
            written_columns!(),
            ") VALUES ($1, $2, $3, ",
            written_parameters!(),
            ")"
        )
    };
}

statements! {
    /// Inserts a memory with the parameters of [`bind_memory`].
    INSERT_MEMORY = concat!(insert_memory!(), " RETURNING seq");
    /// A new memory with its history, index entry and index job, and the grown corpus.
    REMEMBER = concat!(insert_memory!(), "; \
        INSERT INTO history (memory_seq, version, change, actor, at) \
         SELECT seq, 1, 'created', $4, created_at FROM memory WHERE id = $6; \
        INSERT INTO index_job (memory_seq, project_id) SELECT seq, $1 FROM memory WHERE id = $6; \
        INSERT INTO memory_term (rowid, terms) SELECT seq, $5 FROM memory WHERE id = $6; \
        UPDATE project SET documents = documents + 1, total_length = total_length + $10 WHERE id = $1");
    /// Updates the fields of a memory that may change, with the parameters of [`bind_memory`].
    UPDATE_MEMORY = concat!("UPDATE memory SET ", changed_parameters!(), " WHERE id = $6");
}

/// Values that REMEMBER writes in addition to the memory.
pub(super) struct Beside<'q> {
    pub(super) actor: &'q str,
    pub(super) index_entry: String,
}

/// Binds the project ($1), the usage ($2, $3), the data beside a new memory ($4, $5), and the columns of the memory.
pub(super) fn bind_memory<'q>(
    statement: &'static str,
    memory: &'q Memory,
    project: i64,
    length: Option<u32>,
    beside: Option<Beside<'q>>,
) -> Query<'q> {
    let (actor, index_entry) = beside
        .map(|beside| (beside.actor, beside.index_entry))
        .unzip();
    let mut query = sqlx::query(statement)
        .bind(project)
        .bind(memory.recall_count)
        .bind(micros(memory.last_recalled_at))
        .bind(actor)
        .bind(index_entry);
    for (_, value) in memory_values(memory, length) {
        query = match value {
            ColumnValue::Text(text) => query.bind(text),
            ColumnValue::Integer(number) => query.bind(number),
            ColumnValue::Real(number) => query.bind(number),
            ColumnValue::Flag(flag) => query.bind(flag),
            ColumnValue::Uuid(id) => query.bind(id),
            ColumnValue::Bytes(bytes) => query.bind(bytes.to_vec()),
            ColumnValue::Time(time) => query.bind(micros(time)),
            ColumnValue::Texts(texts) => query.bind(json(&texts)),
            ColumnValue::Object(object) => query.bind(json(object)),
        };
    }
    query
}
