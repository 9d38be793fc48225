//! [`ReferenceStore`] on PostgreSQL.

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::attempt::{Effect, attempt};
use super::{PostgresStore, bounded};
use crate::domain::{IdPart, Scope};
use crate::store::Result;
use crate::store::reference::{REFERENT_CHARS, Referable, ReferenceStore, Referent};
use crate::store::statement::{bind, statements};

/// The parts: the lowest ($2) and highest ($3) ID with a prefix, and the digits of a suffix ($4). `tailed` are the IDs
/// whose last digits are among $5. A function finds them by an index that the planner cannot use under row-level
/// security.
macro_rules! parts {
    ($kind:literal) => {
        concat!(
            "WITH tailed AS MATERIALIZED (SELECT t.id FROM unnest(ids_with_tail('",
            $kind,
            "', $5::text[])) AS t(id)), wanted AS MATERIALIZED (\
                SELECT w.part, w.low, w.high, w.suffix FROM unnest($2::uuid[], $3::uuid[], $4::text[]) \
                WITH ORDINALITY AS w(low, high, suffix, part)) "
        )
    };
}

/// The rows of a table in project `p` to which the part `w` refers, with the given columns.
macro_rules! referred {
    ($table:literal, $condition:literal, $columns:literal) => {
        concat!(
            "(SELECT ",
            $columns,
            " FROM ",
            $table,
            " x WHERE x.project_id = p.id AND ",
            $condition,
            " AND x.id >= w.low AND x.id <= w.high ORDER BY x.id LIMIT $6) UNION (SELECT ",
            $columns,
            " FROM tailed t JOIN ",
            $table,
            " x ON x.id = t.id WHERE x.project_id = p.id AND ",
            $condition,
            " AND right(replace(t.id::text, '-', ''), length(w.suffix)) = w.suffix LIMIT $6)"
        )
    };
}

statements! {
    /// Memories of the readable projects $1; $7 characters of text.
    REFERRED_MEMORIES = concat!(
        parts!("memory"),
        "SELECT w.part, r.id, r.text FROM wanted w CROSS JOIN project p CROSS JOIN LATERAL (",
        referred!("memory", "true", "x.id, left(x.content, $7) AS text"),
        ") r WHERE p.name = ANY ($1) ORDER BY w.part, r.id"
    );
    /// Items in the working memory of a session ($8) and in its archive.
    REFERRED_ITEMS = concat!(
        parts!("focus"),
        "SELECT w.part, r.id, r.text FROM wanted w CROSS JOIN project p CROSS JOIN LATERAL (",
        referred!(
            "focus",
            "x.session = $8",
            "x.id, left(x.content, $7) AS text"
        ),
        " UNION ",
        referred!(
            "focus_archive",
            "x.session = $8",
            "x.id, left(x.content, $7) AS text"
        ),
        ") r WHERE p.name = ANY ($1) ORDER BY w.part, r.id"
    );
    /// Reviews, with the text of their memory.
    REFERRED_REVIEWS = concat!(
        parts!("review"),
        "SELECT w.part, r.id, coalesce((SELECT left(m.content, $7) FROM memory m WHERE m.project_id = p.id \
            AND m.seq = r.memory_seq), '') AS text \
         FROM wanted w CROSS JOIN project p CROSS JOIN LATERAL (",
        referred!("review", "true", "x.id, x.memory_seq"),
        ") r WHERE p.name = ANY ($1) ORDER BY w.part, r.id"
    );
}

#[async_trait]
impl ReferenceStore for PostgresStore {
    async fn referents(
        &self,
        scope: &Scope,
        kind: Referable<'_>,
        parts: &[IdPart],
        most: usize,
    ) -> Result<Vec<Referent>> {
        let own = [scope.project()];
        let readable: Vec<&str> = scope.readable().collect();
        let (statement, projects, session) = match kind {
            Referable::Memory => (REFERRED_MEMORIES, readable.as_slice(), None),
            Referable::FocusItem { session } => (REFERRED_ITEMS, own.as_slice(), Some(session)),
            Referable::Review => (REFERRED_REVIEWS, own.as_slice(), None),
        };
        let lowest: Vec<Uuid> = parts.iter().map(IdPart::lowest).collect();
        let highest: Vec<Uuid> = parts.iter().map(IdPart::highest).collect();
        let suffixes: Vec<Option<&str>> = parts.iter().map(IdPart::suffix).collect();
        let tails: Vec<&str> = parts.iter().filter_map(IdPart::tail).collect();
        let mut found: Vec<Referent> = attempt!(self.attempts(scope, "look up an ID", Effect::Read)?, connection => async {
            let mut query = bind!(sqlx::query(statement) =>
                projects, &lowest, &highest, &suffixes, &tails, bounded(most), REFERENT_CHARS);
            if let Some(session) = session {
                query = query.bind(session);
            }
            let rows = query.fetch_all(connection).await?;
            let read = |row: &sqlx::postgres::PgRow| {
                let part = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or_default();
                Ok(Referent { part, id: row.try_get(1)?, text: row.try_get(2)? })
            };
            Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
        })?;
        // A part may refer to several memories in each project.
        let mut counted = (0, 0);
        found.retain(|referent| {
            counted = if counted.0 == referent.part {
                (counted.0, counted.1 + 1)
            } else {
                (referent.part, 1)
            };
            counted.1 <= most
        });
        Ok(found)
    }
}
