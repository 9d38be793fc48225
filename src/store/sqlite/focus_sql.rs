//! The statements of [`super::focus`]. `$1` is the project's number, `$2` the session.

macro_rules! named {
    ($($(#[$doc:meta])+ $name:ident = $sql:expr;)+) => {
        $($(#[$doc])+ pub(super) const $name: &str = $sql;)+
        /// All of them, for the test.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

named! {
    /// Everything that a session has in mind.
    ITEMS = "SELECT seq, id, content, importance, created_at, touched_at FROM focus \
        WHERE project = $1 AND session = $2 ORDER BY touched_at DESC, seq DESC";
    /// What left it, the latest first.
    ARCHIVED = "SELECT seq, id, content, importance, created_at, touched_at, archived_at, reason, \
        (SELECT m.id FROM memory m WHERE m.seq = a.memory) FROM focus_archive a \
        WHERE project = $1 AND session = $2 AND ($3 IS NULL OR seq < $3) ORDER BY seq DESC LIMIT $4";
    /// One of that.
    ARCHIVED_ITEM = "SELECT seq, id, content, importance, created_at, touched_at, archived_at, reason, \
        (SELECT m.id FROM memory m WHERE m.seq = a.memory) FROM focus_archive a \
        WHERE project = $1 AND session = $2 AND id = $3";
    /// A new item, or one that comes back.
    INSERT = "INSERT INTO focus (project, session, id, content, importance, created_at, touched_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING seq";
    /// An item was used.
    TOUCH = "UPDATE focus SET touched_at = max(touched_at, $2), importance = max(importance, $3) WHERE seq = $1";
    /// An item goes.
    DELETE = "DELETE FROM focus WHERE seq = $1";
    /// And is kept here. $8 is the id of the memory that it became.
    ARCHIVE = "INSERT INTO focus_archive (project, session, id, content, importance, created_at, touched_at, memory, \
        archived_at, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, \
        (SELECT seq FROM memory WHERE id = $8 AND project = $1), $9, $10) RETURNING seq";
    /// An item comes back.
    DELETE_ARCHIVED = "DELETE FROM focus_archive WHERE seq = $1";
}
