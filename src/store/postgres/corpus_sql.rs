//! The first statement of a recall.

/// The number of memories of `here` that contain a term: counted up to $3 per project and estimated beyond.
macro_rules! frequency {
    ($term:literal) => {
        concat!(
            "(SELECT coalesce(sum(CASE WHEN f.counted < $3 THEN f.counted ELSE least(here.documents, \
                f.counted * (here.newest - here.oldest + 1.0) / (here.newest - f.reached + 1)) END), 0) \
            FROM here CROSS JOIN LATERAL (\
                SELECT count(*) AS counted, min(x.memory_seq) AS reached FROM (\
                    SELECT x.memory_seq FROM posting x WHERE x.project_id = here.id AND x.term = ",
            $term,
            " ORDER BY x.memory_seq DESC LIMIT $3\
                ) x\
            ) f)::bigint"
        )
    };
}

/// The first term of the vocabulary of `here` that satisfies a condition, read from the index alone.
macro_rules! next_term {
    ($condition:literal) => {
        concat!(
            "(SELECT x.term FROM here CROSS JOIN LATERAL (\
                SELECT x.term FROM posting x WHERE x.project_id = here.id AND ",
            $condition,
            " ORDER BY x.term LIMIT 1\
            ) x ORDER BY x.term LIMIT 1)"
        )
    };
}

/// Size of the corpus and frequencies of terms. Up to `$3` postings of a term are counted in each project, which is
/// exact for all terms that matter for ranking. Beyond that limit, the frequency is estimated from how far back in the
/// storage order those postings reach, so that a common word costs no more than a rare one. Frequencies that the caller
/// already knows (`$13`) are not counted again.
///
/// For the longest unknown terms that may be misspelled (`$4`: letters), the statement counts their spelling
/// candidates: the spellings of `$5` to `$7`, with any of the letters in the gap, and the first terms after the
/// prefixes of `$8` and `$9` and before `$12`, found by single steps of the index. The upper end is passed as a plain
/// parameter for two reasons. Behind row-level security, a condition on a function of the column cannot end an index
/// scan; and without an end, the scan would read all later terms if no term has the prefix. Most spellings are not
/// words, so the statement tests whether a spelling exists before it counts it. `domain::spelling` judges the results.
pub(super) const CORPUS_STATS: &str = concat!(
    "WITH RECURSIVE here AS MATERIALIZED (\
        SELECT p.id, \
            (SELECT coalesce(sum(c.documents), 0)::bigint FROM corpus c WHERE c.project_id = p.id) AS documents, \
            (SELECT coalesce(sum(c.total_length), 0)::bigint FROM corpus c WHERE c.project_id = p.id) AS total_length, \
            (SELECT min(m.seq) FROM memory m WHERE m.project_id = p.id) AS oldest, \
            (SELECT max(m.seq) FROM memory m WHERE m.project_id = p.id) AS newest \
        FROM project p WHERE p.name = ANY ($1)\
    ), asked AS MATERIALIZED (\
        SELECT q.n, q.term, q.letters, coalesce(q.known, ",
    frequency!("q.term"),
    ") AS frequency FROM unnest($2::text[], $4::text[], $13::bigint[]) WITH ORDINALITY AS q(term, letters, known, n)\
    ), unknown AS MATERIALIZED (\
        SELECT a.n, a.term, a.letters FROM asked a WHERE a.frequency = 0 AND a.letters IS NOT NULL \
        ORDER BY char_length(a.term) DESC, a.n LIMIT $10\
    ), beside AS (\
        SELECT h.n, h.beyond, x.term, 1 AS step \
        FROM unnest($8::bigint[], $9::text[], $12::text[]) AS h(n, head, beyond) \
        JOIN unknown u ON u.n = h.n CROSS JOIN LATERAL ",
    next_term!("x.term >= h.head AND x.term < h.beyond"),
    " x \
        UNION ALL \
        SELECT b.n, b.beyond, x.term, b.step + 1 FROM beside b CROSS JOIN LATERAL ",
    next_term!("x.term > b.term AND x.term < b.beyond"),
    " x WHERE b.step < $11\
    ), spelled AS (\
        SELECT s.n, s.before AS term FROM unnest($5::bigint[], $6::text[], $7::text[]) AS s(n, before, behind) \
        JOIN unknown u ON u.n = s.n WHERE s.behind IS NULL \
        UNION \
        SELECT s.n, s.before || l.letter || s.behind \
        FROM unknown u CROSS JOIN LATERAL unnest(string_to_array(u.letters, NULL)) AS l(letter) \
        JOIN unnest($5::bigint[], $6::text[], $7::text[]) AS s(n, before, behind) ON s.n = u.n \
        WHERE s.behind IS NOT NULL \
        UNION \
        SELECT b.n, b.term FROM beside b JOIN unknown u ON u.n = b.n \
        WHERE abs(char_length(b.term) - char_length(u.term)) <= 2 OR starts_with(b.term, u.term)\
    ), near AS MATERIALIZED (\
        SELECT * FROM (SELECT s.n, s.term, ",
    frequency!("s.term"),
    " AS frequency FROM spelled s WHERE (SELECT true FROM here CROSS JOIN LATERAL (\
            SELECT FROM posting x WHERE x.project_id = here.id AND x.term = s.term LIMIT 1\
        ) x LIMIT 1) OFFSET 0) s WHERE s.frequency > 0\
    ) \
    SELECT coalesce((SELECT sum(documents) FROM here), 0)::bigint AS documents, \
        coalesce((SELECT sum(total_length) FROM here), 0)::bigint AS total_length, \
        ARRAY(SELECT a.frequency FROM asked a ORDER BY a.n) AS frequencies, \
        ARRAY(SELECT n.n FROM near n ORDER BY n.n, n.term) AS near_places, \
        ARRAY(SELECT n.term FROM near n ORDER BY n.n, n.term) AS near_terms, \
        ARRAY(SELECT n.frequency FROM near n ORDER BY n.n, n.term) AS near_frequencies, \
        EXISTS (SELECT FROM here JOIN entity e ON e.project_id = here.id) AS has_entities, \
        EXISTS (SELECT FROM here CROSS JOIN LATERAL (\
            SELECT FROM memory m WHERE m.project_id = here.id AND m.session IS NOT NULL ORDER BY m.session LIMIT 1\
        ) AS first) AS has_sessions"
);
