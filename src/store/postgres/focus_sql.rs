//! The statements of [`super::focus`]. `$1` is the project, `$2` the session.

use crate::store::statement::statements;

macro_rules! item_columns {
    () => {
        "f.seq, f.id, f.content, f.importance, f.created_at, f.touched_at, f.memory_id"
    };
}

statements! {
    /// Those who change the same session take turns.
    LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || chr(1) || $2, 11))";
    /// Everything that a session has in mind.
    ITEMS = concat!(
        "SELECT ",
        item_columns!(),
        " FROM focus f JOIN project p ON p.id = f.project_id WHERE p.name = $1 AND f.session = $2 \
         ORDER BY f.touched_at DESC, f.seq DESC"
    );
    /// What left it, the latest first.
    ARCHIVED = concat!(
        "SELECT ",
        item_columns!(),
        ", f.archived_at, f.reason FROM focus_archive f JOIN project p ON p.id = f.project_id \
         WHERE p.name = $1 AND f.session = $2 AND f.seq < $3 ORDER BY f.seq DESC LIMIT $4"
    );
    /// One of that.
    ARCHIVED_ITEM = concat!(
        "SELECT ",
        item_columns!(),
        ", f.archived_at, f.reason FROM focus_archive f JOIN project p ON p.id = f.project_id \
         WHERE p.name = $1 AND f.session = $2 AND f.id = $3"
    );
    /// A new item, or one that comes back. $8 is the id of its memory, else $9 the hash of a text that may be one's.
    INSERT = "INSERT INTO focus (project_id, session, id, content, importance, created_at, \
            touched_at, memory_id) \
        SELECT p.id, $2, $3::uuid, $4, $5::float8, $6::timestamptz, $7::timestamptz, coalesce(m.id, (\
            SELECT m.id FROM memory m WHERE m.project_id = p.id AND m.content_hash = $9 ORDER BY m.seq LIMIT 1)) \
        FROM project p LEFT JOIN LATERAL (\
            SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id FOR KEY SHARE) m ON true \
        WHERE p.name = $1 RETURNING seq, memory_id";
    /// An item was used.
    TOUCH = "UPDATE focus f SET touched_at = greatest(f.touched_at, $3), \
        importance = greatest(f.importance, $4) FROM project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// An item goes.
    DELETE = "DELETE FROM focus f USING project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// And is kept here. Who purges its memory, $8, waits.
    ARCHIVE = "INSERT INTO focus_archive (project_id, session, id, content, importance, created_at, touched_at, \
            memory_id, archived_at, reason) \
        SELECT p.id, $2, $3::uuid, $4, $5::float8, $6::timestamptz, $7::timestamptz, \
            m.id, $9::timestamptz, $10 \
        FROM project p LEFT JOIN LATERAL (\
            SELECT m.id FROM memory m WHERE m.id = $8 AND m.project_id = p.id FOR KEY SHARE) m ON true \
        WHERE p.name = $1 RETURNING seq, memory_id";
    /// An item comes back.
    DELETE_ARCHIVED = "DELETE FROM focus_archive f USING project p WHERE p.name = $1 AND f.project_id = p.id AND f.seq = $2";
    /// The items that were touched longest ago go to the archive ($3, $4: when and why) until $2 are left.
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
    /// The items that were archived first go until $2 are left.
    DELETE_OLDEST = "DELETE FROM focus_archive f WHERE (f.project_id, f.seq) IN (\
            SELECT o.project_id, o.seq FROM project p JOIN focus_archive o ON o.project_id = p.id WHERE p.name = $1 \
            ORDER BY o.seq LIMIT (\
                SELECT greatest(count(*) - $2, 0) FROM project p JOIN focus_archive a ON a.project_id = p.id WHERE p.name = $1)\
        )";
}
