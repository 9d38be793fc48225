//! The statements of [`super::focus`]. `$1` is the project's number, `$2` the session.

use crate::store::statement::statements;

statements! {
    /// Everything that a session has in mind.
    ITEMS = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id FROM focus f WHERE project_id = $1 AND session = $2 ORDER BY touched_at DESC, seq DESC";
    /// What left it, the latest first.
    ARCHIVED = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id, archived_at, reason FROM focus_archive a \
        WHERE project_id = $1 AND session = $2 AND ($3 IS NULL OR seq < $3) ORDER BY seq DESC LIMIT $4";
    /// One of that.
    ARCHIVED_ITEM = "SELECT seq, id, content, importance, created_at, touched_at, \
        memory_id, archived_at, reason FROM focus_archive a \
        WHERE project_id = $1 AND session = $2 AND id = $3";
    /// A new item, or one that comes back. $8 is the id of its memory, else $9 the hash of a text that may be one's.
    INSERT = "INSERT INTO focus (project_id, session, id, content, importance, created_at, touched_at, memory_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce((SELECT id FROM memory WHERE id = $8 AND project_id = $1), \
        (SELECT id FROM memory WHERE project_id = $1 AND content_hash = $9 ORDER BY seq LIMIT 1))) \
        RETURNING seq, memory_id";
    /// An item was used.
    TOUCH = "UPDATE focus SET touched_at = max(touched_at, $3), importance = max(importance, $4) \
        WHERE project_id = $1 AND seq = $2";
    /// An item goes.
    DELETE = "DELETE FROM focus WHERE project_id = $1 AND seq = $2";
    /// And is kept here. $8 is the id of its memory.
    ARCHIVE = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, memory_id, \
        archived_at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, \
        (SELECT id FROM memory WHERE id = $8 AND project_id = $1), $9, $10) \
        RETURNING seq, memory_id";
    /// An item comes back.
    DELETE_ARCHIVED = "DELETE FROM focus_archive WHERE project_id = $1 AND seq = $2";
    /// The items that were touched longest ago go to the archive ($3, $4: when and why) until $2 are left.
    ARCHIVE_REST = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
            memory_id, archived_at, reason) \
        SELECT project_id, session, id, content, importance, created_at, touched_at, memory_id, $3, $4 FROM focus \
        WHERE project_id = $1 \
        ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2)";
    /// The same items leave.
    DELETE_REST = "DELETE FROM focus WHERE seq IN (SELECT seq FROM focus WHERE project_id = $1 \
        ORDER BY touched_at, seq LIMIT max(0, (SELECT count(*) FROM focus WHERE project_id = $1) - $2))";
    /// The items that were archived first go until $2 are left.
    DELETE_OLDEST = "DELETE FROM focus_archive WHERE seq IN (SELECT seq FROM focus_archive WHERE project_id = $1 \
        ORDER BY seq LIMIT max(0, (SELECT count(*) FROM focus_archive WHERE project_id = $1) - $2))";
}
