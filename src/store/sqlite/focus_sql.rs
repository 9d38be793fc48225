//! SQL statements of [`super::focus`]. `$1` is the project's number, `$2` the session.

use crate::store::statement::statements;

statements! {
    /// All items in the working memory of a session.
    ITEMS = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id FROM focus f WHERE project_id = $1 AND session = $2 ORDER BY touched_at DESC, seq DESC";
    /// Archived items, latest first.
    ARCHIVED = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id, archived_at, reason FROM focus_archive a \
        WHERE project_id = $1 AND session = $2 AND ($3 IS NULL OR seq < $3) ORDER BY seq DESC LIMIT $4";
    /// One archived item.
    ARCHIVED_ITEM = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id, archived_at, reason FROM focus_archive a \
        WHERE project_id = $1 AND session = $2 AND id = $3";
    /// Inserts a new or restored item. $8 is the ID of its memory; without one, $9 is the hash of a text that a
    /// memory may have.
    INSERT = "INSERT INTO focus (project_id, session, id, content, importance, created_at, touched_at, memory_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce((SELECT id FROM memory WHERE id = $8 AND project_id = $1), \
        (SELECT id FROM memory WHERE project_id = $1 AND content_hash = $9 ORDER BY seq LIMIT 1))) \
        RETURNING seq, memory_id";
    /// Marks an item as used.
    TOUCH = "UPDATE focus SET touched_at = max(touched_at, $3), importance = max(importance, $4) \
        WHERE project_id = $1 AND seq = $2";
    /// Removes an item from the working memory.
    DELETE = "DELETE FROM focus WHERE project_id = $1 AND seq = $2";
    /// Inserts an item into the archive. $8 is the ID of its memory.
    ARCHIVE = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, memory_id, \
        archived_at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, \
        (SELECT id FROM memory WHERE id = $8 AND project_id = $1), $9, $10) \
        RETURNING seq, memory_id";
    /// Removes an item from the archive.
    DELETE_ARCHIVED = "DELETE FROM focus_archive WHERE project_id = $1 AND seq = $2";
    /// Archives the items that were touched longest ago ($3, $4: time and reason) until $2 are left.
    ARCHIVE_REST = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
            memory_id, archived_at, reason) \
        SELECT project_id, session, id, content, importance, created_at, touched_at, memory_id, $3, $4 FROM focus \
        WHERE project_id = $1 \
        ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2)";
    /// Removes those items from the working memory.
    DELETE_REST = "DELETE FROM focus WHERE seq IN (SELECT seq FROM focus WHERE project_id = $1 \
        ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2))";
    /// Removes the items that were archived first until $2 are left.
    DELETE_OLDEST = "DELETE FROM focus_archive WHERE seq IN (SELECT seq FROM focus_archive WHERE project_id = $1 \
        ORDER BY seq LIMIT max(0, (SELECT count(*) FROM focus_archive WHERE project_id = $1) - $2))";
}
