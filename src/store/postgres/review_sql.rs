//! SQL statements of reviews and of reads of earlier states; see [`super::sql`].

use super::memory_sql::memory_columns;
use crate::store::statement::statements;

macro_rules! review {
    () => {
        "SELECT r.id, m.id AS memory, r.state, r.proposal, r.actor, r.reason, r.created_at, r.expires_at, r.decided_by, \
         r.decided_at, r.decision_reason, r.applied_version FROM project p JOIN review r ON r.project_id = p.id \
         JOIN memory m ON m.project_id = r.project_id AND m.seq = r.memory_seq WHERE p.name = $1 AND "
    };
}

statements! {
    /// Inserts a new review.
    INSERT_REVIEW = "INSERT INTO review (project_id, id, memory_seq, other_seq, state, proposal, \
            actor, reason, created_at, expires_at) \
        SELECT m.project_id, $2, m.seq, (SELECT o.seq FROM memory o WHERE o.id = $4 AND o.project_id = m.project_id), $5, \
            $6::text::jsonb, $7, $8, $9, $10 \
        FROM project p JOIN memory m ON m.project_id = p.id WHERE p.name = $1 AND m.id = $3";
    /// An open or dismissed review with the same proposal.
    SAME_REVIEW = concat!(
        review!(),
        "m.id = $2 AND r.state = $3 AND r.proposal = $4::text::jsonb AND (r.state <> 'open' OR r.expires_at > $5) LIMIT 1"
    );
    /// The number of open reviews.
    COUNT_OPEN = "SELECT count(*) FROM project p JOIN review r ON r.project_id = p.id \
        WHERE p.name = $1 AND r.state = 'open' AND r.expires_at > $2";
    /// One review.
    REVIEW = concat!(review!(), "r.id = $2");
    /// One review, locked to be decided.
    LOCK_REVIEW = concat!(review!(), "r.id = $2 FOR UPDATE OF r");
    /// Open reviews, newest first.
    OPEN_REVIEWS = concat!(
        review!(),
        "r.state = 'open' AND r.expires_at > $2 ORDER BY r.seq DESC LIMIT $3"
    );
    /// Reviews about given memories.
    REVIEWS_ABOUT = concat!(
        review!(),
        "r.seq = ANY (ARRAY(\
            SELECT b.seq FROM memory k JOIN review b ON b.project_id = k.project_id AND b.memory_seq = k.seq \
            WHERE k.id = ANY ($2) \
            UNION SELECT b.seq FROM memory k JOIN review b ON b.project_id = k.project_id AND b.other_seq = k.seq \
            WHERE k.id = ANY ($2)\
        )) ORDER BY r.seq DESC LIMIT $3"
    );
    /// Reviews about two memories, at least one of which is given.
    REVIEWS_OF_PAIRS = concat!(
        review!(),
        "r.other_seq IS NOT NULL AND r.seq = ANY (ARRAY(\
            SELECT b.seq FROM memory k JOIN review b ON b.project_id = k.project_id AND b.memory_seq = k.seq \
            WHERE k.id = ANY ($2) \
            UNION SELECT b.seq FROM memory k JOIN review b ON b.project_id = k.project_id AND b.other_seq = k.seq \
            WHERE k.id = ANY ($2)\
        )) ORDER BY r.seq DESC LIMIT $3"
    );
    /// All reviews, newest first.
    ALL_REVIEWS = concat!(review!(), "true ORDER BY r.seq DESC LIMIT $2");
    /// Stores a decision.
    DECIDE = "UPDATE review r SET state = $3, decided_by = $4, decided_at = $5, \
            decision_reason = $6, applied_version = $7 \
        FROM project p WHERE p.name = $1 AND r.project_id = p.id AND r.id = $2";
    /// Changes of a memory from a version on.
    HISTORY_FROM = "SELECT m.id, h.version, h.change, h.old, h.actor, h.reason, h.at FROM project p \
        JOIN memory m ON m.project_id = p.id JOIN history h ON h.project_id = p.id AND h.memory_seq = m.seq \
        WHERE p.name = $1 AND m.id = $2 AND h.version >= $3 ORDER BY h.seq";
    /// Memories that existed at a time and changed after it, each with the first change after it and the time of the
    /// last change before it. Returns up to $3 memories and $4 bytes, and the total number, counted up to one more.
    CHANGED_SINCE = concat!(
        "SELECT ",
        memory_columns!(),
        ", m.later_version, m.then, m.all, \
            (SELECT max(h.at) FROM history h WHERE h.project_id = m.project_id AND h.memory_seq = m.seq AND h.at <= $2) \
                AS changed_before \
         FROM (SELECT m.*, f.version AS later_version, f.old AS then, count(*) OVER () AS all, \
                row_number() OVER newest AS place, sum(octet_length(m.content) + octet_length(f.old::text)) OVER newest AS size \
            FROM (SELECT m.* FROM project p JOIN memory m ON m.project_id = p.id \
                WHERE p.name = ANY ($1) AND m.updated_at > m.created_at AND m.updated_at > $2 AND m.created_at <= $2 \
                ORDER BY m.updated_at DESC, m.seq DESC LIMIT $3 + 1) m \
            CROSS JOIN LATERAL (SELECT h.version, h.old FROM history h \
                WHERE h.project_id = m.project_id AND h.memory_seq = m.seq AND h.at > $2 ORDER BY h.seq LIMIT 1) f \
            WINDOW newest AS (ORDER BY m.updated_at DESC, m.seq DESC)) m \
         JOIN project p ON p.id = m.project_id WHERE m.place = 1 OR (m.place <= $3 AND m.size <= $4) \
         ORDER BY m.updated_at DESC, m.seq DESC"
    );
    /// Chains of replacements in both directions. A memory can replace many others, so the backward direction is
    /// limited.
    CHAINS = "WITH RECURSIVE scope AS (SELECT p.id AS project_id FROM project p WHERE p.name = ANY ($1)), \
        newer AS (SELECT i.id, 0 AS step FROM unnest($2::uuid[]) AS i(id) \
            UNION SELECT m.superseded_by, n.step + 1 FROM newer n JOIN memory m ON m.id = n.id \
            WHERE m.superseded_by IS NOT NULL AND n.step < $3 AND m.project_id IN (SELECT project_id FROM scope)), \
        older AS (SELECT i.id, 0 AS step FROM unnest($2::uuid[]) AS i(id) \
            UNION SELECT m.id, o.step + 1 FROM older o JOIN memory m ON m.superseded_by = o.id \
            WHERE o.step < $3 AND m.project_id IN (SELECT project_id FROM scope)) \
        SELECT m.id, m.superseded_by, EXISTS (SELECT FROM memory s WHERE s.id = m.superseded_by AND s.deleted_at IS NULL \
                AND s.superseded_by IS NULL AND s.project_id IN (SELECT project_id FROM scope)) \
        FROM (SELECT id, min(place) AS place FROM (SELECT id, step::bigint AS place FROM newer UNION ALL \
                (SELECT id, step + $3 FROM older LIMIT cardinality($2) + $3)) w GROUP BY id) w \
        JOIN memory m ON m.id = w.id \
        WHERE m.superseded_by IS NOT NULL AND m.project_id IN (SELECT project_id FROM scope) \
        ORDER BY w.place, m.seq DESC LIMIT $3";
}
