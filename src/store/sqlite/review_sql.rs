//! SQL statements of reviews and of reads of earlier states; see [`super::sql`].

use super::memory_sql::memory;
use crate::store::statement::statements;

macro_rules! review {
    () => {
        "SELECT r.id, m.id AS memory, r.state, r.proposal, r.actor, r.reason, r.created_at, r.expires_at, r.decided_by, \
         r.decided_at, r.decision_reason, r.applied_version FROM review r JOIN memory m ON m.seq = r.memory_seq "
    };
}

statements! {
    /// Inserts a new review ($3: ID of the memory, $4: ID of the other one).
    INSERT_REVIEW = "INSERT INTO review (project_id, id, memory_seq, other_seq, state, proposal, actor, reason, created_at, expires_at) \
        SELECT $1, $2, m.seq, (SELECT seq FROM memory WHERE id = $4), $5, $6, $7, $8, $9, $10 FROM memory m WHERE m.id = $3";
    /// An open or dismissed review with the same proposal.
    SAME_REVIEW = concat!(review!(), "WHERE m.id = $1 AND r.project_id = $2 AND r.state = $3 AND r.proposal = $4 \
        AND (r.state <> 'open' OR r.expires_at > $5) LIMIT 1");
    /// The number of open reviews.
    COUNT_OPEN = "SELECT count(*) FROM review WHERE project_id = $1 AND state = 'open' AND expires_at > $2";
    /// One review.
    REVIEW = concat!(review!(), "WHERE r.project_id = $1 AND r.id = $2");
    /// Open reviews, newest first.
    OPEN_REVIEWS = concat!(review!(), "WHERE r.project_id = $1 AND r.state = 'open' AND r.expires_at > $2 \
        ORDER BY r.seq DESC LIMIT $3");
    /// Reviews about given memories ($2: JSON of IDs in hexadecimal).
    REVIEWS_ABOUT = concat!(review!(), "WHERE r.project_id = $1 AND r.seq IN (\
        SELECT b.seq FROM json_each($2) w JOIN memory k ON k.id = unhex(w.value) JOIN review b ON b.memory_seq = k.seq \
        UNION SELECT b.seq FROM json_each($2) w JOIN memory k ON k.id = unhex(w.value) JOIN review b ON b.other_seq = k.seq) \
        ORDER BY r.seq DESC LIMIT $3");
    /// Reviews about two memories, at least one of which is given ($2: JSON of IDs in hexadecimal).
    REVIEWS_OF_PAIRS = concat!(review!(), "WHERE r.project_id = $1 AND r.other_seq IS NOT NULL AND r.seq IN (\
        SELECT b.seq FROM json_each($2) w JOIN memory k ON k.id = unhex(w.value) JOIN review b ON b.memory_seq = k.seq \
        UNION SELECT b.seq FROM json_each($2) w JOIN memory k ON k.id = unhex(w.value) JOIN review b ON b.other_seq = k.seq) \
        ORDER BY r.seq DESC LIMIT $3");
    /// All reviews, newest first.
    ALL_REVIEWS = concat!(review!(), "WHERE r.project_id = $1 ORDER BY r.seq DESC LIMIT $2");
    /// Stores a decision.
    DECIDE = "UPDATE review SET state = $2, decided_by = $3, decided_at = $4, decision_reason = $5, applied_version = $6 \
        WHERE id = $1";
    /// Changes of a memory from a version on.
    HISTORY_FROM = "SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at FROM history h \
        JOIN memory m ON m.seq = h.memory_seq WHERE h.memory_seq = $1 AND h.version >= $2 ORDER BY h.seq";

    /// Memories that existed at a time ($2) and changed after it, with the size of their current and earlier states.
    CHANGED_SINCE = "SELECT c.seq, octet_length(c.content) + octet_length(c.metadata) \
            + coalesce(octet_length(c.situation) + octet_length(c.lesson), 0) \
            + coalesce((SELECT octet_length(h.old) FROM history h WHERE h.seq = (SELECT min(n.seq) FROM history n \
                WHERE n.memory_seq = c.seq AND n.at > $2 AND n.old IS NOT NULL)), 0) \
        FROM memory c WHERE c.project_id IN (SELECT value FROM json_each($1)) AND c.updated_at > c.created_at \
        AND c.updated_at > $2 AND c.created_at <= $2 ORDER BY c.updated_at DESC, c.seq DESC LIMIT $3";
    /// Given memories ($1: JSON of numbers).
    CHANGED = concat!(memory!(), "WHERE m.seq IN (SELECT value FROM json_each($1)) ORDER BY m.updated_at DESC, m.seq DESC");
    /// The first change after a time ($2) of each given memory ($1: JSON of numbers), and the time of the last
    /// change before it.
    FIRST_CHANGE = "SELECT h.memory_seq, h.version, h.old, \
        (SELECT max(p.at) FROM history p WHERE p.memory_seq = h.memory_seq AND p.at <= $2 AND p.old IS NOT NULL) FROM history h \
        WHERE h.seq IN (SELECT (SELECT min(n.seq) FROM history n WHERE n.memory_seq = w.value AND n.at > $2 \
        AND n.old IS NOT NULL) FROM json_each($1) w)";
    /// Chains of replacements in both directions from given memories ($2: JSON of IDs in hexadecimal). A memory can
    /// replace many others, so the backward direction is limited.
    CHAINS = "WITH RECURSIVE scope (project_id) AS (SELECT value FROM json_each($1)), \
        newer (id, step) AS (SELECT unhex(value), 0 FROM json_each($2) \
            UNION SELECT m.superseded_by, n.step + 1 FROM newer n CROSS JOIN memory m ON m.id = n.id \
            WHERE m.superseded_by IS NOT NULL AND n.step < $3 AND m.project_id IN (SELECT project_id FROM scope)), \
        older (id, step) AS (SELECT unhex(value), 0 FROM json_each($2) \
            UNION SELECT m.id, o.step + 1 FROM older o CROSS JOIN memory m ON m.superseded_by = o.id \
            WHERE o.step < $3 AND m.project_id IN (SELECT project_id FROM scope) \
            LIMIT (SELECT count(*) FROM json_each($2)) + $3) \
        SELECT m.id, m.superseded_by, EXISTS (SELECT 1 FROM memory s WHERE s.id = m.superseded_by \
                AND s.deleted_at IS NULL AND s.superseded_by IS NULL AND s.project_id IN (SELECT project_id FROM scope)) \
            FROM (SELECT id, min(place) AS place FROM (SELECT id, step AS place FROM newer \
                UNION ALL SELECT id, step + $3 FROM older) GROUP BY id) w \
        CROSS JOIN memory m ON m.id = w.id \
        WHERE m.superseded_by IS NOT NULL AND m.project_id IN (SELECT project_id FROM scope) \
        ORDER BY w.place, m.seq DESC LIMIT $3";
}
