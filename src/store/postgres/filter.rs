//! The filter of searches: its conditions and their parameters.
//!
//! A statement with a filter has the projects in `$1`, the filter up to `$20`, and its own parameters from `$21` on. A new
//! condition takes the next free parameter.

use crate::domain::{Filter, Scope};

/// The number of parameters that are reserved for projects and filter.
const RESERVED: usize = 20;

/// The conditions of `domain::Filter` on `memory m`.
macro_rules! filter {
    () => {
        "($11::int <> 1 OR m.updated_at <= $10) AND ($11::int <> 2 OR m.occurred_at <= $10) AND m.deleted_at IS NULL \
         AND ($2::text[] IS NULL OR m.kind = ANY ($2)) \
         AND ($3::text[] IS NULL OR m.tag_keys @> (SELECT fold_tags($3))) \
         AND ($4::text IS NULL OR m.session = $4) \
         AND ($5::text IS NULL OR m.speaker = $5) \
         AND ($6::timestamptz IS NULL OR m.occurred_at >= $6) \
         AND ($7::timestamptz IS NULL OR m.occurred_at < $7) \
         AND ($8::float8 IS NULL OR m.importance >= $8) \
         AND ($9::boolean OR ((m.superseded_by IS NULL OR (\
            $11::int = 2 AND EXISTS (SELECT FROM memory s WHERE s.id = m.superseded_by AND s.occurred_at > $10))) \
             AND (m.valid_until IS NULL OR m.valid_until > $10)))"
    };
}
pub(super) use filter;

/// A filter as parameters.
pub(super) struct FilterColumns<'a> {
    readable: Vec<&'a str>,
    kinds: Option<Vec<&'static str>>,
    tags: Option<&'a [String]>,
    filter: &'a Filter,
}

type RowQuery<'q, T> = sqlx::query::QueryAs<'q, sqlx::Postgres, T, sqlx::postgres::PgArguments>;

impl<'a> FilterColumns<'a> {
    pub(super) fn new(scope: &'a Scope, filter: &'a Filter) -> Self {
        let kinds: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
        Self {
            readable: scope.readable().collect(),
            kinds: Some(kinds).filter(|kinds| !kinds.is_empty()),
            tags: (!filter.tags.is_empty()).then_some(filter.tags.as_slice()),
            filter,
        }
    }

    pub(super) fn bind<'q, T>(&'q self, query: RowQuery<'q, T>) -> RowQuery<'q, T> {
        let filter = self.filter;
        let query = query
            .bind(&self.readable)
            .bind(&self.kinds)
            .bind(self.tags)
            .bind(&filter.session)
            .bind(&filter.speaker)
            .bind(filter.since)
            .bind(filter.until)
            .bind(filter.min_importance)
            .bind(filter.include_outdated)
            .bind(filter.now)
            .bind(filter.as_of.code());
        (11..RESERVED).fold(query, |query, _| query.bind(None::<bool>))
    }
}
