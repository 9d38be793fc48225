//! SQL statements of [`super::graph`]. `$1` is the project or the readable projects.

use crate::store::statement::statements;

macro_rules! entity_columns {
    () => {
        "e.seq, p.name AS project, e.name, e.type, e.properties, e.use_count, e.last_used_at, e.created_at, e.updated_at"
    };
}

macro_rules! relation_columns {
    () => {
        "r.seq, r.from_seq, r.to_seq, r.type, r.weight, r.properties, r.valid_from, r.valid_to, r.use_count, \
         r.created_at, r.updated_at"
    };
}

/// The relations of the entity `f.seq`. `$near` is its own end of the relation, `$far` the other one.
macro_rules! steps {
    ($near:literal, $far:literal) => {
        concat!(
            "(SELECT r.seq, r.",
            $far,
            " AS other, r.weight FROM relation r WHERE r.project_id = p.id AND r.",
            $near,
            " = f.seq AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) \
             AND ($4::text IS NULL OR r.type = $4) ORDER BY r.weight DESC, r.seq LIMIT $5)"
        )
    };
}

macro_rules! list {
    ($extra:literal) => {
        concat!(
            "SELECT e.* FROM project p CROSS JOIN LATERAL (SELECT ",
            entity_columns!(),
            ", e.name_key FROM entity e WHERE e.project_id = p.id",
            $extra,
            " AND e.name_key >= $2 AND e.name_key < $3 AND e.name_key > $4 ORDER BY e.name_key LIMIT $5) e \
             WHERE p.name = ANY ($1) ORDER BY e.name_key, e.seq LIMIT $5"
        )
    };
}

statements! {
    /// Serializes writers of a project's graph: merged rows must not change between reading and writing.
    LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 13))";
    /// Entities by name.
    BY_KEY = concat!(
        "SELECT ",
        entity_columns!(),
        " FROM project p JOIN entity e ON e.project_id = p.id AND e.name_key = ANY ($2) WHERE p.name = ANY ($1) \
         ORDER BY e.seq"
    );
    /// Entities by the normalized words of their names.
    BY_WORDS = concat!(
        "SELECT ",
        entity_columns!(),
        " FROM project p JOIN entity e ON e.project_id = p.id AND e.words = ANY ($2) WHERE p.name = ANY ($1) \
         ORDER BY e.seq"
    );
    /// The newest entities, without their properties.
    NEWEST = "SELECT e.seq, p.name AS project, e.name, e.type, '{}'::jsonb AS properties, e.use_count, \
            e.last_used_at, e.created_at, e.updated_at \
        FROM project p JOIN entity e ON e.project_id = p.id WHERE p.name = ANY ($1) ORDER BY e.seq DESC LIMIT $2";
    /// Entities by number.
    BY_NUMBER = concat!(
        "SELECT ",
        entity_columns!(),
        " FROM project p JOIN entity e ON e.project_id = p.id AND e.seq = ANY ($2) WHERE p.name = ANY ($1)"
    );
    /// Entities ordered by name. The names begin with $2, come before $3 if it is given, and come after $4.
    LIST = list!("");
    /// The same list, restricted to one type.
    LIST_TYPE = list!(" AND e.type = $6");
    /// Relations between pairs of entities.
    BETWEEN = concat!(
        "SELECT ",
        relation_columns!(),
        " FROM project p CROSS JOIN unnest($2::bigint[], $3::bigint[]) AS i(source, target) \
         JOIN relation r ON r.project_id = p.id AND r.from_seq = i.source AND r.to_seq = i.target \
         WHERE p.name = $1 ORDER BY r.seq"
    );
    /// Relations by number.
    RELATIONS = concat!(
        "SELECT ",
        relation_columns!(),
        " FROM project p JOIN relation r ON r.project_id = p.id AND r.seq = ANY ($2) WHERE p.name = ANY ($1)"
    );
    /// Relations of entities, one row per entity, because a row per relation costs more than reading it.
    STEPS = concat!(
        "SELECT f.seq AS at, array_agg(s.seq) AS relations, array_agg(s.other) AS others, array_agg(s.weight) AS weights \
         FROM project p CROSS JOIN unnest($2::bigint[]) AS f(seq) CROSS JOIN LATERAL (",
        steps!("from_seq", "to_seq"),
        " UNION ALL ",
        steps!("to_seq", "from_seq"),
        ") s WHERE p.name = ANY ($1) GROUP BY f.seq"
    );
    /// Relations between entities, strongest first.
    AMONG = "SELECT array(SELECT r.seq FROM project p \
        JOIN relation r ON r.project_id = p.id AND r.from_seq = ANY ($2) AND r.to_seq = ANY ($2) \
        WHERE p.name = ANY ($1) AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) \
            AND ($4::text IS NULL OR r.type = $4) ORDER BY r.weight DESC, r.seq LIMIT $5)";
    /// Inserts new entities.
    INSERT_ENTITIES = "INSERT INTO entity (project_id, name, name_key, words, type, properties, use_count, last_used_at, created_at, updated_at) \
        SELECT p.id, i.name, i.name_key, i.words, i.type, i.properties, 1, $3, $3, $3 \
        FROM project p, json_to_recordset($2::text::json) \
            AS i(name text, name_key text, words text, type text, properties jsonb) WHERE p.name = $1 RETURNING name_key, seq";
    /// Updates the merged fields of entities.
    UPDATE_ENTITIES = "UPDATE entity e SET type = i.type, properties = i.properties, \
            use_count = e.use_count + 1, last_used_at = $3, updated_at = i.updated_at \
        FROM project p, json_to_recordset($2::text::json) \
            AS i(seq bigint, type text, properties jsonb, updated_at timestamptz) \
        WHERE p.name = $1 AND e.project_id = p.id AND e.seq = i.seq";
    /// Deletes entities with their relations and mentions.
    DELETE_ENTITIES = "DELETE FROM entity e USING project p WHERE p.name = $1 AND e.project_id = p.id AND e.seq = ANY ($2)";
    /// Inserts new relations.
    INSERT_RELATIONS = "INSERT INTO relation (project_id, from_seq, to_seq, type, weight, properties, use_count, last_used_at, valid_from, \
            valid_to, created_at, updated_at) \
        SELECT p.id, i.from_seq, i.to_seq, i.type, i.weight, i.properties, 1, $3, i.valid_from, i.valid_to, $3, $3 \
        FROM project p, json_to_recordset($2::text::json) AS i(from_seq bigint, to_seq bigint, type text, weight float8, \
            properties jsonb, valid_from timestamptz, valid_to timestamptz) WHERE p.name = $1";
    /// Updates the merged fields of relations.
    UPDATE_RELATIONS = "UPDATE relation r SET weight = i.weight, properties = i.properties, \
            use_count = r.use_count + 1, last_used_at = $3, valid_from = i.valid_from, valid_to = i.valid_to, \
            updated_at = i.updated_at \
        FROM project p, json_to_recordset($2::text::json) AS i(seq bigint, weight float8, properties jsonb, \
            valid_from timestamptz, valid_to timestamptz, updated_at timestamptz) \
        WHERE p.name = $1 AND r.project_id = p.id AND r.seq = i.seq";
    /// Deletes relations that are declared wrong from the start.
    DELETE_RELATIONS = "DELETE FROM relation r USING project p WHERE p.name = $1 AND r.project_id = p.id AND r.seq = ANY ($2)";
    /// Inserts mentions of entities. Protected memories that already existed are left unchanged.
    INSERT_MENTIONS = "INSERT INTO mention (project_id, memory_seq, entity_seq) \
        SELECT m.project_id, m.seq, i.entity FROM unnest($2::uuid[], $3::boolean[], $4::bigint[]) AS i(id, new, entity) \
        JOIN memory m ON m.id = i.id JOIN project p ON p.id = m.project_id AND p.name = $1 \
        WHERE i.new OR NOT m.protected ON CONFLICT DO NOTHING";
    /// The newest memories that mention entities, are valid at $3 and were stored before $5, up to $4 per entity.
    MENTIONS = "SELECT f.seq AS entity, m.id, m.seq FROM project p \
        CROSS JOIN unnest($2::bigint[]) WITH ORDINALITY AS f(seq, n) CROSS JOIN LATERAL (\
            SELECT m.seq, m.id FROM mention x JOIN memory m ON m.project_id = x.project_id AND m.seq = x.memory_seq \
            WHERE x.project_id = p.id AND x.entity_seq = f.seq AND m.deleted_at IS NULL AND m.superseded_by IS NULL \
                AND (m.valid_until IS NULL OR m.valid_until > $3) AND x.memory_seq < $5 \
            ORDER BY x.memory_seq DESC LIMIT $4\
        ) m WHERE p.name = ANY ($1) ORDER BY f.n, m.seq DESC";
    /// The number of memories that mention entities and are valid at $3, and of their relations that are valid or have
    /// ended, each up to $4.
    ENTITY_SIZES = "SELECT f.seq AS entity, \
        (SELECT count(*) FROM (SELECT FROM mention x JOIN memory m ON m.project_id = x.project_id AND m.seq = x.memory_seq \
            WHERE x.project_id = p.id AND x.entity_seq = f.seq AND m.deleted_at IS NULL AND m.superseded_by IS NULL \
                AND (m.valid_until IS NULL OR m.valid_until > $3) LIMIT $4) c) AS memories, \
        (SELECT count(*) FROM (SELECT FROM relation r WHERE r.project_id = p.id AND (r.from_seq = f.seq OR r.to_seq = f.seq) \
            AND (r.valid_from IS NULL OR r.valid_from <= $3) AND (r.valid_to IS NULL OR r.valid_to > $3) LIMIT $4) c) \
            AS relations, \
        (SELECT count(*) FROM (SELECT FROM relation r WHERE r.project_id = p.id AND (r.from_seq = f.seq OR r.to_seq = f.seq) \
            AND r.valid_to <= $3 LIMIT $4) c) AS ended \
        FROM unnest($2::bigint[]) AS f(seq) JOIN entity e ON e.seq = f.seq JOIN project p ON p.id = e.project_id \
        WHERE p.name = ANY ($1)";
    /// Entities (at most $3 per memory) of the newest $3 live memories that mention one of the given entities. A row
    /// without an entity states whether any were left out.
    TOGETHER = "WITH reached AS MATERIALIZED (\
            SELECT p.id AS project_id, x.memory_seq FROM project p CROSS JOIN unnest($2::bigint[]) AS f(seq) CROSS JOIN LATERAL (\
                SELECT x.memory_seq FROM mention x WHERE x.project_id = p.id AND x.entity_seq = f.seq \
                ORDER BY x.memory_seq DESC LIMIT $3 + 1\
            ) x WHERE p.name = ANY ($1)\
        ), near AS MATERIALIZED (\
            SELECT DISTINCT r.project_id, r.memory_seq FROM reached r \
            JOIN memory m ON m.project_id = r.project_id AND m.seq = r.memory_seq AND m.deleted_at IS NULL \
            ORDER BY r.memory_seq DESC LIMIT $3\
        ), found AS MATERIALIZED (\
            SELECT n.memory_seq, x.entity_seq FROM near n CROSS JOIN LATERAL (\
                SELECT x.entity_seq FROM mention x WHERE x.project_id = n.project_id AND x.memory_seq = n.memory_seq \
                ORDER BY x.entity_seq LIMIT $3 + 1) x\
        ), counted AS MATERIALIZED (\
            SELECT f.entity_seq, count(*) AS memories FROM found f WHERE f.entity_seq <> ALL ($2) GROUP BY f.entity_seq\
        ) \
        SELECT NULL::bigint, ((SELECT count(*) FROM reached) > $3 OR (SELECT count(*) FROM counted) > $4 \
            OR EXISTS (SELECT FROM found f GROUP BY f.memory_seq HAVING count(*) > $3))::int::bigint \
        UNION ALL (SELECT c.entity_seq, c.memories FROM counted c ORDER BY 2 DESC, 1 LIMIT $4)";
}
