//! SQL statements of [`super::graph`]. `$1` is the project's number, or a JSON list of the readable ones.

use crate::store::statement::statements;

macro_rules! entity {
    () => {
        "SELECT e.seq, (SELECT p.name FROM project p WHERE p.id = e.project_id) AS project, e.name, e.type, e.properties, e.use_count, \
         e.last_used_at, e.created_at, e.updated_at FROM entity e "
    };
}

macro_rules! relation {
    () => {
        "SELECT r.seq, r.from_seq, r.to_seq, r.type, r.weight, r.properties, r.valid_from, r.valid_to, r.use_count, \
         r.created_at, r.updated_at FROM "
    };
}

/// The relations of the entity `f.value`. `$near` is its own end of the relation, `$far` the other one. Returns one
/// text per entity, because a row per relation costs more than reading it. Weights are whole numbers (multiples of
/// 2^-53), because formatting fractions costs more than the rest.
macro_rules! steps {
    ($near:literal, $far:literal) => {
        concat!(
            "(SELECT group_concat(format('%d:%d:%d', s.seq, s.far, s.weight * 9007199254740992)) FROM (SELECT r.seq, r.",
            $far,
            " AS far, r.weight FROM relation r WHERE r.",
            $near,
            " = f.value AND r.project_id IN (SELECT value FROM json_each($1)) \
             AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) \
             AND ($4 IS NULL OR r.type = $4) ORDER BY r.weight DESC, r.seq LIMIT $5) s)"
        )
    };
}

/// Each project contributes at most the requested number, read from its index.
macro_rules! list {
    ($extra:literal) => {
        concat!(
            entity!(),
            "WHERE e.seq IN (SELECT x.value FROM json_each($1) p, json_each((SELECT json_group_array(e.seq) FROM (\
                SELECT e.seq FROM entity e WHERE e.project_id = p.value",
            $extra,
            " AND e.name_key >= $2 AND e.name_key < $3 AND e.name_key > $4 ORDER BY e.name_key LIMIT $5) e)) x) \
             ORDER BY e.name_key, e.seq LIMIT $5"
        )
    };
}

statements! {
    /// Entities by name ($2: JSON of normalized names).
    BY_KEY = concat!(entity!(), "WHERE e.project_id IN (SELECT value FROM json_each($1)) \
        AND e.name_key IN (SELECT value FROM json_each($2)) ORDER BY e.seq");
    /// Entities by the normalized words of their names ($2: JSON).
    BY_WORDS = concat!(entity!(), "WHERE e.project_id IN (SELECT value FROM json_each($1)) \
        AND e.words IN (SELECT value FROM json_each($2)) ORDER BY e.seq");
    /// The newest entities ($2), without their properties.
    NEWEST = "SELECT e.seq, (SELECT p.name FROM project p WHERE p.id = e.project_id) AS project, e.name, e.type, '{}' AS properties, e.use_count, \
        e.last_used_at, e.created_at, e.updated_at FROM entity e \
        WHERE e.project_id IN (SELECT value FROM json_each($1)) ORDER BY e.seq DESC LIMIT $2";
    /// Entities by number, as one JSON text, because a row per entity costs more than reading it.
    BY_NUMBER = "SELECT json_group_array(json_array(e.seq, (SELECT p.name FROM project p WHERE p.id = e.project_id), e.name, \
            e.type, json(e.properties), e.use_count, e.last_used_at, e.created_at, e.updated_at)) \
        FROM entity e WHERE e.seq IN (SELECT value FROM json_each($2)) \
        AND e.project_id IN (SELECT value FROM json_each($1))";
    /// Entities ordered by name. The names begin with $2, come before $3 if it is given, and come after $4.
    LIST = list!("");
    /// The same list, restricted to one type.
    LIST_TYPE = list!(" AND e.type = $6");
    /// Relations between pairs of entities ($2: JSON of pairs).
    BETWEEN = concat!(relation!(), "json_each($2) w CROSS JOIN relation r ON r.from_seq = w.value ->> 0 \
        AND r.to_seq = w.value ->> 1 WHERE r.project_id = $1 ORDER BY r.seq");
    /// Relations by number, also as one JSON text.
    RELATIONS = "SELECT json_group_array(json_array(r.seq, r.from_seq, r.to_seq, r.type, r.weight, json(r.properties), \
            r.valid_from, r.valid_to, r.use_count, r.created_at, r.updated_at)) \
        FROM relation r WHERE r.seq IN (SELECT value FROM json_each($2)) \
        AND r.project_id IN (SELECT value FROM json_each($1))";
    /// Relations of entities ($2: JSON of their numbers) at the time $3.
    STEPS = concat!("SELECT f.value, ", steps!("from_seq", "to_seq"), ", ", steps!("to_seq", "from_seq"),
        " FROM json_each($2) f");

    /// Relations between entities ($2) at the time $3, strongest first.
    AMONG = "SELECT group_concat(s.seq) FROM (SELECT r.seq FROM json_each($2) f CROSS JOIN relation r ON r.from_seq = f.value \
        WHERE r.to_seq IN (SELECT value FROM json_each($2)) AND r.project_id IN (SELECT value FROM json_each($1)) \
        AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) \
        AND ($4 IS NULL OR r.type = $4) ORDER BY r.weight DESC, r.seq LIMIT $5) s";

    /// Inserts a new entity.
    INSERT_ENTITY = "INSERT INTO entity (project_id, name, name_key, words, type, properties, use_count, last_used_at, \
        created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING seq";
    /// Updates the merged fields of an entity.
    UPDATE_ENTITY = "UPDATE entity SET type = $3, properties = $4, use_count = $5, last_used_at = $6, updated_at = $7 \
        WHERE project_id = $1 AND seq = $2";
    /// Deletes an entity with its relations and mentions.
    DELETE_ENTITY = "DELETE FROM entity WHERE project_id = $1 AND seq = $2";
    /// Inserts a new relation.
    INSERT_RELATION = "INSERT INTO relation (project_id, from_seq, to_seq, type, weight, properties, use_count, \
        last_used_at, valid_from, valid_to, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    /// Updates the merged fields of a relation.
    UPDATE_RELATION = "UPDATE relation SET weight = $3, properties = $4, use_count = $5, last_used_at = $6, \
        valid_from = $7, valid_to = $8, updated_at = $9 WHERE project_id = $1 AND seq = $2";
    /// Deletes a relation that is declared wrong from the start.
    DELETE_RELATION = "DELETE FROM relation WHERE project_id = $1 AND seq = $2";
    /// Inserts a mention of an entity, unless the memory is protected and already existed (not $4).
    INSERT_MENTION = "INSERT OR IGNORE INTO mention (memory_seq, entity_seq) SELECT m.seq, e.seq FROM memory m \
        JOIN entity e ON e.seq = $3 AND e.project_id = m.project_id \
        WHERE m.project_id = $1 AND m.id = $2 AND ($4 OR NOT m.protected)";

    /// The newest memories that mention entities ($2), are valid at $3 and were stored before $5, up to $4 per entity.
    MENTIONS = "SELECT f.value AS entity, m.id, m.seq FROM json_each($2) f, \
        json_each((SELECT json_group_array(x.memory_seq) FROM (SELECT x.memory_seq FROM mention x JOIN memory m ON m.seq = x.memory_seq \
            WHERE x.entity_seq = f.value AND m.project_id IN (SELECT value FROM json_each($1)) AND m.deleted_at IS NULL \
            AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $3) AND x.memory_seq < $5 \
            ORDER BY x.memory_seq DESC LIMIT $4) x)) x \
        JOIN memory m ON m.seq = x.value ORDER BY f.key, m.seq DESC";
    /// The number of memories that mention entities ($2) and are valid at $3, and of their relations that are valid or
    /// have ended, each up to $4.
    ENTITY_SIZES = "SELECT f.value AS entity, \
        (SELECT count(*) FROM (SELECT 1 FROM mention x JOIN memory m ON m.seq = x.memory_seq WHERE x.entity_seq = f.value \
            AND m.project_id IN (SELECT value FROM json_each($1)) AND m.deleted_at IS NULL AND m.superseded_by IS NULL \
            AND (m.valid_until IS NULL OR m.valid_until > $3) LIMIT $4)) AS memories, \
        (SELECT count(*) FROM (SELECT 1 FROM relation r WHERE (r.from_seq = f.value OR r.to_seq = f.value) \
            AND r.project_id IN (SELECT value FROM json_each($1)) AND (r.valid_from IS NULL OR r.valid_from <= $3) \
            AND (r.valid_to IS NULL OR r.valid_to > $3) LIMIT $4)) AS relations, \
        (SELECT count(*) FROM (SELECT 1 FROM relation r WHERE (r.from_seq = f.value OR r.to_seq = f.value) \
            AND r.project_id IN (SELECT value FROM json_each($1)) AND r.valid_to <= $3 LIMIT $4)) AS ended \
        FROM json_each($2) f";
    /// Entities (at most $3 per memory) of the newest $3 live memories that mention one of the given entities ($2). A
    /// row without an entity states whether any were left out.
    TOGETHER = "WITH reached AS MATERIALIZED (SELECT x.value AS memory_seq FROM json_each($2) f, json_each((\
            SELECT json_group_array(x.memory_seq) FROM (SELECT x.memory_seq FROM mention x WHERE x.entity_seq = f.value \
                ORDER BY x.memory_seq DESC LIMIT $3 + 1) x)) x), \
        near AS MATERIALIZED (SELECT DISTINCT r.memory_seq FROM reached r CROSS JOIN memory m ON m.seq = r.memory_seq \
            WHERE m.deleted_at IS NULL AND m.project_id IN (SELECT value FROM json_each($1)) \
            ORDER BY r.memory_seq DESC LIMIT $3), \
        found AS MATERIALIZED (SELECT n.memory_seq, x.value AS entity FROM near n, json_each((\
            SELECT json_group_array(x.entity_seq) FROM (SELECT x.entity_seq FROM mention x WHERE x.memory_seq = n.memory_seq \
                ORDER BY x.entity_seq LIMIT $3 + 1) x)) x), \
        counted AS MATERIALIZED (SELECT entity, count(*) AS memories FROM found \
            WHERE entity NOT IN (SELECT value FROM json_each($2)) GROUP BY entity) \
        SELECT NULL, (SELECT count(*) FROM reached) > $3 OR (SELECT count(*) FROM counted) > $4 \
            OR EXISTS (SELECT 1 FROM found GROUP BY memory_seq HAVING count(*) > $3) \
        UNION ALL SELECT * FROM (SELECT entity, memories FROM counted ORDER BY 2 DESC, 1 LIMIT $4)";
}
