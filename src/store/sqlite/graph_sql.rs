//! The statements of [`super::graph`]. `$1` is the project's number, or a JSON list of the readable ones.

macro_rules! entity {
    () => {
        "SELECT e.id, (SELECT p.name FROM project p WHERE p.id = e.project), e.name, e.type, e.properties, e.use_count, \
         e.last_used_at, e.created_at, e.updated_at FROM entity e "
    };
}

macro_rules! relation {
    () => {
        "SELECT r.id, r.source, r.target, r.type, r.weight, r.properties, r.valid_from, r.valid_to, r.use_count, \
         r.created_at, r.updated_at FROM "
    };
}

/// What leads on from the entity `f.value`: `$near` is the end it is at, `$far` the other one. A text an entity,
/// since a row a relation costs more than the reading.
macro_rules! steps {
    ($near:literal, $far:literal) => {
        concat!(
            "(SELECT group_concat(s.id || ':' || s.far || ':' || s.weight) FROM (SELECT r.id, r.",
            $far,
            " AS far, r.weight FROM relation r WHERE r.",
            $near,
            " = f.value AND r.project IN (SELECT value FROM json_each($1)) \
             AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) \
             AND ($4 IS NULL OR r.type = $4) ORDER BY r.weight DESC, r.id LIMIT $5) s)"
        )
    };
}

macro_rules! named {
    ($($(#[$doc:meta])+ $name:ident = $sql:expr;)+) => {
        $($(#[$doc])+ pub(super) const $name: &str = $sql;)+
        /// All of them, for the test.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

named! {
    /// Entities by name ($2: JSON of compared names).
    BY_KEY = concat!(entity!(), "WHERE e.project IN (SELECT value FROM json_each($1)) \
        AND e.name_key IN (SELECT value FROM json_each($2)) ORDER BY e.id");
    /// Entities by number.
    BY_NUMBER = concat!(entity!(), "WHERE e.id IN (SELECT value FROM json_each($2)) \
        AND e.project IN (SELECT value FROM json_each($1))");
    /// Entities in the order of their names, which begin with $2 (and come before $3) and come after $4.
    LIST = concat!(entity!(), "WHERE e.project IN (SELECT value FROM json_each($1)) \
        AND e.name_key >= $2 AND e.name_key < $3 AND e.name_key > $4 ORDER BY e.name_key, e.id LIMIT $5");
    /// The same of one type.
    LIST_TYPE = concat!(entity!(), "WHERE e.project IN (SELECT value FROM json_each($1)) AND e.type = $6 \
        AND e.name_key >= $2 AND e.name_key < $3 AND e.name_key > $4 ORDER BY e.name_key, e.id LIMIT $5");
    /// Relations between pairs of entities ($2: JSON of pairs).
    BETWEEN = concat!(relation!(), "json_each($2) w CROSS JOIN relation r ON r.source = w.value ->> 0 \
        AND r.target = w.value ->> 1 WHERE r.project = $1 ORDER BY r.id");
    /// Relations by number.
    RELATIONS = concat!(relation!(), "relation r WHERE r.id IN (SELECT value FROM json_each($2)) \
        AND r.project IN (SELECT value FROM json_each($1))");
    /// What leads on from entities ($2: JSON of their numbers) at the time $3.
    STEPS = concat!("SELECT f.value, ", steps!("source", "target"), ", ", steps!("target", "source"),
        " FROM json_each($2) f");

    /// A new entity.
    INSERT_ENTITY = "INSERT INTO entity (project, name, name_key, words, type, properties, use_count, last_used_at, \
        created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id";
    /// Merged fields of an entity.
    UPDATE_ENTITY = "UPDATE entity SET type = $2, properties = $3, use_count = $4, last_used_at = $5, updated_at = $6 \
        WHERE id = $1";
    /// An entity with its relations and mentions.
    DELETE_ENTITY = "DELETE FROM entity WHERE id = $1";
    /// A new relation.
    INSERT_RELATION = "INSERT INTO relation (project, source, target, type, weight, properties, use_count, \
        last_used_at, valid_from, valid_to, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    /// Merged fields of a relation.
    UPDATE_RELATION = "UPDATE relation SET weight = $2, properties = $3, use_count = $4, last_used_at = $5, \
        valid_from = $6, valid_to = $7, updated_at = $8 WHERE id = $1";
    /// A relation that never was.
    DELETE_RELATION = "DELETE FROM relation WHERE id = $1";
    /// A memory mentions an entity.
    INSERT_MENTION = "INSERT OR IGNORE INTO mention (memory, entity) SELECT m.seq, $2 FROM memory m WHERE m.id = $1";

    /// The newest memories that mention entities ($2) and hold at $3, up to $4 of each.
    MENTIONS = "SELECT f.value, m.id FROM json_each($2) f, \
        json_each((SELECT json_group_array(x.memory) FROM (SELECT x.memory FROM mention x JOIN memory m ON m.seq = x.memory \
            WHERE x.entity = f.value AND m.project IN (SELECT value FROM json_each($1)) AND m.deleted_at IS NULL \
            AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $3) \
            ORDER BY x.memory DESC LIMIT $4) x)) x \
        JOIN memory m ON m.seq = x.value ORDER BY f.key, m.seq DESC";
    /// Entities in the newest $3 live memories that mention one of these ($2).
    TOGETHER = "WITH near AS MATERIALIZED (SELECT DISTINCT x.memory FROM mention x JOIN memory m ON m.seq = x.memory \
            WHERE x.entity IN (SELECT value FROM json_each($2)) AND m.deleted_at IS NULL \
            AND m.project IN (SELECT value FROM json_each($1)) ORDER BY x.memory DESC LIMIT $3) \
        SELECT x.entity, count(*) FROM near n CROSS JOIN mention x ON x.memory = n.memory \
        WHERE x.entity NOT IN (SELECT value FROM json_each($2)) GROUP BY x.entity ORDER BY 2 DESC, 1 LIMIT $3";
}
