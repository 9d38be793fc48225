//! SQL statements of [`super::focus`]. `$1` is the project, `$2` the session.

use crate::store::statement::statements;

macro_rules! item_columns {
    () => {
        "f.seq, f.id, f.content, f.importance, f.created_at, f.touched_at, f.memory_id"
    };
}

statements! {
    /// Serializes changes of the same session.
    LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(1) || $2, 11))";
    /// All items in the working memory of a session.
    ITEMS = concat!(
        "SELECT ",
        item_columns!(),
        " FROM focus f JOIN project p ON p.id = f.project_id WHERE p.name = $1 AND f.session = $2 \
         ORDER BY f.touched_at DESC, f.seq DESC"
    );
    /// Archived items, latest first.
    ARCHIVED = concat!(
        "SELECT ",
        item_columns!(),
        ", f.archived_at, f.reason FROM focus_archive f JOIN project p ON p.id = f.project_id \
         WHERE p.name = $1 AND f.session = $2 AND f.seq < $3 ORDER BY f.seq DESC LIMIT $4"
    );
    /// One archived item.
    ARCHIVED_ITEM = concat!(
        "SELECT ",
        item_columns!(),
        ", f.archived_at, f.reason FROM focus_archive f JOIN project p ON p.id = f.project_id \
         WHERE p.name = $1 AND f.session = $2 AND f.id = $3"
    );
    /// Inserts a new or restored item. $8 is the ID of its memory; without one, $9 is the hash of a text that a
    /// memory may have.
    INSERT = "INSERT INTO focus (project_id, session, id, content, importance, created_at, \
            touched_at, memory_id) \
        SELECT p.id, $2, $3::uuid, $4, $5::float8, $6::timestamptz, $7::timestamptz, coalesce(m.id, (\
            SELECT m.id FROM memory m WHERE m.project_id = p.id AND m.content_hash = $9 ORDER BY m.seq LIMIT 1)) \
        FROM project p LEFT JOIN LATERAL (\
            SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id FOR KEY SHARE) m ON true \
        WHERE p.name = $1 RETURNING seq, memory_id";
    /// Marks an item as used.
    TOUCH = "UPDATE focus f SET touched_at = greatest(f.touched_at, $3), \
        importance = greatest(f.importance, $4) FROM project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// Removes an item from the working memory.
    DELETE = "DELETE FROM focus f USING project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// Inserts an item into the archive. A concurrent purge of its memory, $8, waits.
    ARCHIVE = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
            memory_id, archived_at, reason) \
        SELECT p.id, $2, $3::uuid, $4, $5::float8, $6::timestamptz, $7::timestamptz, \
            m.id, $9::timestamptz, $10 \
        FROM project p LEFT JOIN LATERAL (\
            SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id FOR KEY SHARE) m ON true \
        WHERE p.name = $1 RETURNING seq, memory_id";
    /// Removes an item from the archive.
    DELETE_ARCHIVED = "DELETE FROM focus_archive f USING project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// Archives the items that were touched longest ago ($3, $4: time and reason) until $2 are left.
    ARCHIVE_REST = "WITH gone AS (\
            DELETE FROM focus f WHERE (f.project_id, f.seq) IN (\
                SELECT o.project_id, o.seq FROM project p JOIN focus o ON o.project_id = p.id WHERE p.name = $1 \
                ORDER BY o.touched_at, o.seq LIMIT (\
                    SELECT greatest(count(*) - $2, 0) FROM project p JOIN focus a ON a.project_id = p.id WHERE p.name = $1)\
            ) RETURNING f.*\
        ) \
        INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
            memory_id, archived_at, reason) \
        SELECT g.project_id, g.session, g.id, g.content, g.importance, g.created_at, g.touched_at, \
            g.memory_id, $3, $4 FROM gone g";
    /// Removes the items that were archived first until $2 are left.
    DELETE_OLDEST = "DELETE FROM focus_archive f WHERE (f.project_id, f.seq) IN (\
            SELECT o.project_id, o.seq FROM project p JOIN focus_archive o ON o.project_id = p.id WHERE p.name = $1 \
            ORDER BY o.seq LIMIT (\
                SELECT greatest(count(*) - $2, 0) FROM project p JOIN focus_archive a ON a.project_id = p.id WHERE p.name = $1)\
        )";
}
