//! SQL statements of [`super::port`].

use crate::store::statement::statements;

macro_rules! in_projects {
    ($column:literal) => {
        concat!($column, " IN (SELECT value FROM json_each($1))")
    };
}

statements! {
    /// Begins a transaction in which every later statement sees the same moment.
    BEGIN = "BEGIN";
    /// All projects.
    PROJECTS = "SELECT id, name FROM project ORDER BY name";
    /// The number of records of the projects ($1).
    SIZE = concat!(
        "SELECT (SELECT count(*) FROM memory WHERE ",
        in_projects!("project_id"),
        ") + (SELECT count(*) FROM entity WHERE ",
        in_projects!("project_id"),
        ") + (SELECT count(*) FROM relation WHERE ",
        in_projects!("project_id"),
        ") + (SELECT count(*) FROM mention n JOIN memory m ON m.seq = n.memory_seq WHERE ",
        in_projects!("m.project_id"),
        ") + (SELECT count(*) FROM focus WHERE ",
        in_projects!("project_id"),
        ") + (SELECT count(*) FROM focus_archive WHERE ",
        in_projects!("project_id"),
        ") + (SELECT count(*) FROM review WHERE ",
        in_projects!("project_id"),
        ")"
    );
    ENTITIES = concat!(
        "SELECT e.seq AS place, 0 AS place2, e.seq, p.name AS project, e.name, e.type, e.properties, e.use_count, e.last_used_at, e.created_at, e.updated_at \
         FROM entity e \
         JOIN project p ON p.id = e.project_id WHERE e.seq > $2 AND ",
        in_projects!("e.project_id"),
        " ORDER BY e.seq LIMIT $3"
    );
    RELATIONS = concat!(
        "SELECT r.seq AS place, 0 AS place2, r.seq, r.from_seq, r.to_seq, p.name AS project, s.name AS source, \
         s.type AS source_type, t.name AS target, t.type AS target_type, r.type, r.weight, r.properties, r.use_count, \
         r.last_used_at, r.valid_from, r.valid_to, r.created_at, r.updated_at FROM relation r \
         JOIN project p ON p.id = r.project_id JOIN entity s ON s.seq = r.from_seq JOIN entity t ON t.seq = r.to_seq \
         WHERE r.seq > $2 AND ",
        in_projects!("r.project_id"),
        " ORDER BY r.seq LIMIT $3"
    );
    MENTIONS = concat!(
        "SELECT n.memory_seq AS place, n.entity_seq AS place2, p.name AS project, m.id AS memory, e.name, e.type FROM mention n JOIN memory m ON m.seq = n.memory_seq \
         JOIN project p ON p.id = m.project_id JOIN entity e ON e.seq = n.entity_seq WHERE (n.memory_seq, n.entity_seq) > ($2, $4) AND ",
        in_projects!("m.project_id"),
        " ORDER BY n.memory_seq, n.entity_seq LIMIT $3"
    );
    FOCUS = concat!(
        "SELECT f.seq AS place, 0 AS place2, f.seq, p.name AS project, f.id, f.session, f.content, f.importance, f.created_at, \
         f.touched_at, NULL AS archived_at, NULL AS reason, f.memory_id \
         FROM focus f JOIN project p ON p.id = f.project_id WHERE f.seq > $2 AND ",
        in_projects!("f.project_id"),
        " ORDER BY f.seq LIMIT $3"
    );
    ARCHIVE = concat!(
        "SELECT f.seq AS place, 0 AS place2, f.seq, p.name AS project, f.id, f.session, f.content, f.importance, f.created_at, \
         f.touched_at, f.archived_at, \
         f.reason, f.memory_id FROM focus_archive f JOIN project p ON p.id = f.project_id \
         WHERE f.seq > $2 AND ",
        in_projects!("f.project_id"),
        " ORDER BY f.seq LIMIT $3"
    );
    REVIEWS = concat!(
        "SELECT r.seq AS place, 0 AS place2, r.id, m.id AS memory, r.state, r.proposal, r.actor, r.reason, r.created_at, r.expires_at, r.decided_by, \
         r.decided_at, r.decision_reason, r.applied_version, p.name AS project FROM review r \
         JOIN memory m ON m.seq = r.memory_seq JOIN project p ON p.id = r.project_id WHERE r.seq > $2 AND ",
        in_projects!("r.project_id"),
        " ORDER BY r.seq LIMIT $3"
    );
    /// The project and number of a memory.
    FIND_MEMORY = "SELECT project_id, seq FROM memory WHERE id = $1";
    /// Bytes of the history of memories ($1: JSON of numbers), except those that have only their creation.
    HISTORY_SIZES = "SELECT h.memory_seq, sum(octet_length(h.old)) FROM json_each($1) w \
        CROSS JOIN history h ON h.memory_seq = w.value WHERE h.old IS NOT NULL GROUP BY h.memory_seq";
    /// The next entries ($3) of the history of a memory ($1) after a position ($2).
    HISTORY_AFTER = "SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at, h.seq AS place \
        FROM memory m JOIN history h ON h.memory_seq = m.seq WHERE m.seq = $1 AND h.seq > $2 ORDER BY h.seq LIMIT $3";
    /// An entity by its normalized name.
    FIND_ENTITY = "SELECT seq FROM entity WHERE project_id = $1 AND name_key = $2";
    /// Inserts a relation and returns a row, unless an equal relation of the same time exists.
    INSERT_RELATION = "INSERT INTO relation (project_id, from_seq, to_seq, type, weight, properties, \
        use_count, last_used_at, valid_from, valid_to, created_at, updated_at) \
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 \
        WHERE NOT EXISTS (SELECT 1 FROM relation r WHERE r.project_id = $1 AND r.from_seq = $2 AND r.to_seq = $3 AND r.type = $4 \
            AND r.valid_from IS $9)";
    INSERT_MENTION = "INSERT INTO mention (memory_seq, entity_seq) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    /// Inserts an item and returns a row, unless it exists in the working memory or the archive. $8 and $9 are
    /// those of [`INSERT_ARCHIVE`], both null.
    INSERT_FOCUS = "INSERT INTO focus (project_id, id, session, content, importance, created_at, \
        touched_at, memory_id) SELECT $1, $2, $3, $4, $5, $6, $7, (SELECT id FROM memory WHERE id = $10 AND project_id = $1) \
        WHERE coalesce($8, $9) IS NULL AND NOT EXISTS (SELECT 1 FROM focus f WHERE f.id = $2) AND NOT EXISTS (SELECT 1 FROM focus_archive f WHERE f.id = $2)";
    /// Inserts an archived item. $10 is the ID of a memory, which may be unknown here.
    INSERT_ARCHIVE = "INSERT INTO focus_archive (project_id, id, session, content, importance, \
        created_at, touched_at, archived_at, reason, memory_id) \
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT id FROM memory WHERE id = $10 AND project_id = $1) \
        WHERE NOT EXISTS (SELECT 1 FROM focus f WHERE f.id = $2) AND NOT EXISTS (SELECT 1 FROM focus_archive f WHERE f.id = $2)";
    /// Inserts a review and returns a row if it is new. $3 is the number of the memory, $4 the ID of the other
    /// one.
    INSERT_REVIEW = "INSERT INTO review (project_id, id, memory_seq, other_seq, state, proposal, actor, reason, \
        created_at, expires_at, decided_by, decided_at, decision_reason, applied_version) \
        SELECT $1, $2, $3, (SELECT seq FROM memory WHERE id = $4 AND project_id = $1), $5, $6, $7, $8, $9, $10, $11, $12, $13, \
        $14 WHERE NOT EXISTS (SELECT 1 FROM review WHERE id = $2)";
    /// Empties everything except the schema and the names of projects.
    CLEAR = "DELETE FROM mention; DELETE FROM relation; DELETE FROM entity; DELETE FROM focus; \
        DELETE FROM focus_archive; DELETE FROM review; DELETE FROM idempotency; DELETE FROM memory; \
        INSERT INTO memory_term (memory_term) VALUES ('delete-all'); UPDATE project SET documents = 0, total_length = 0";
    /// Writes a complete and compact copy of the file to $1.
    VACUUM_INTO = "VACUUM INTO $1";
    /// Permits `VACUUM INTO`, which SQLite treats as a write although this database is not changed.
    UNRESTRICTED = "PRAGMA query_only = OFF";
}
