//! The filter of searches: its conditions and their parameters.
//!
//! A statement with a filter has its own parameters up to `$9`, and the filter from `$10` on. A new condition takes the next
//! number.

use crate::domain::{AsOf, Filter};

/// Binds the parameters of [`conditions`], from `$10` on.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {{
        let kinds: Vec<&str> = $filter.kinds.iter().map(|kind| kind.as_str()).collect();
        $query
            .bind(serde_json::to_string(&kinds).expect("texts always serialise"))
            .bind(crate::store::sqlite::param::tag_keys(&$filter.tags))
            .bind($filter.session.as_deref())
            .bind($filter.speaker.as_deref())
            .bind($filter.since.map(|time| time.timestamp_micros()))
            .bind($filter.until.map(|time| time.timestamp_micros()))
            .bind($filter.min_importance)
            .bind($filter.now.timestamp_micros())
    }};
}
pub(super) use bind_filter;

/// The condition for a single project, which is the usual scope: SQLite walks its index from the end.
const IN_PROJECT: &str =
    "m.project_id = (SELECT value FROM json_each($1)) AND m.deleted_at IS NULL";
const IN_SCOPE: &str = "m.project_id IN (SELECT value FROM json_each($1)) AND m.deleted_at IS NULL";
const KINDS: &str = " AND m.kind IN (SELECT value FROM json_each($10))";
const TAGS: &str = " AND NOT EXISTS (SELECT 1 FROM json_each($11) w \
    WHERE NOT EXISTS (SELECT 1 FROM memory_tag t WHERE t.memory_seq = m.seq AND t.tag = w.value))";
const SESSION: &str = " AND m.session = $12";
const SPEAKER: &str = " AND m.speaker = $13";
const SINCE: &str = " AND m.occurred_at >= $14";
const UNTIL: &str = " AND m.occurred_at < $15";
const IMPORTANCE: &str = " AND m.importance >= $16";
const CURRENT: &str =
    " AND m.superseded_by IS NULL AND (m.valid_until IS NULL OR m.valid_until > $17)";
const KNOWN_THEN: &str = " AND m.updated_at <= $17";
const HAPPENED: &str = " AND m.occurred_at <= $17";
const TRUE_THEN: &str = " AND (m.valid_until IS NULL OR m.valid_until > $17) AND (m.superseded_by IS NULL \
    OR EXISTS (SELECT 1 FROM memory s WHERE s.id = m.superseded_by AND s.occurred_at > $17))";

/// Returns only the requested conditions, so that each can use its index.
pub(super) fn conditions(filter: &Filter, projects: &[i64]) -> String {
    let scope = if projects.len() == 1 {
        IN_PROJECT
    } else {
        IN_SCOPE
    };
    let true_then = filter.as_of == AsOf::TrueThen;
    let parts = [
        (!filter.kinds.is_empty(), KINDS),
        (!filter.tags.is_empty(), TAGS),
        (filter.session.is_some(), SESSION),
        (filter.speaker.is_some(), SPEAKER),
        (filter.since.is_some(), SINCE),
        (filter.until.is_some(), UNTIL),
        (filter.min_importance.is_some(), IMPORTANCE),
        (!filter.include_outdated && !true_then, CURRENT),
        (!filter.include_outdated && true_then, TRUE_THEN),
        (filter.as_of == AsOf::KnownThen, KNOWN_THEN),
        (true_then, HAPPENED),
    ];
    let asked = parts
        .iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, sql)| *sql);
    std::iter::once(scope).chain(asked).collect()
}
