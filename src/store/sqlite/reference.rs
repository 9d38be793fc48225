//! [`ReferenceStore`] on SQLite.

use async_trait::async_trait;
use sqlx::Row;

use super::SqliteStore;
use super::read::limit;
use crate::domain::{IdPart, Scope};
use crate::store::Result;
use crate::store::reference::{REFERENT_CHARS, Referable, ReferenceStore, Referent};
use crate::store::statement::{bind, statements};

/// Numbers of the rows of a table whose ID begins with a part (from $2 to $3) or ends with it ($5; the index contains
/// the last digits, $4). The condition names the project, and the session if there is one.
macro_rules! referred {
    ($table:literal, $condition:literal) => {
        concat!(
            "SELECT seq FROM (SELECT seq FROM ",
            $table,
            " WHERE ",
            $condition,
            " AND id BETWEEN $2 AND $3 ORDER BY id LIMIT $6) UNION SELECT seq FROM (SELECT seq FROM ",
            $table,
            " WHERE ",
            $condition,
            " AND substr(hex(id), 25) = $4 AND substr(hex(id), -length($5)) = $5 LIMIT $6)"
        )
    };
}

statements! {
    /// Memories. $1 is the project, $7 the number of characters of text.
    REFERRED_MEMORIES = concat!("SELECT m.id, substr(m.content, 1, $7) FROM memory m WHERE m.seq IN (",
        referred!("memory", "project_id = $1"), ") ORDER BY m.id LIMIT $6");
    /// Items in the working memory of a session ($8) and in its archive.
    REFERRED_ITEMS = concat!("SELECT f.id, substr(f.content, 1, $7) FROM focus f WHERE f.seq IN (",
        referred!("focus", "project_id = $1 AND session = $8"), ") UNION ALL \
        SELECT a.id, substr(a.content, 1, $7) FROM focus_archive a WHERE a.seq IN (",
        referred!("focus_archive", "project_id = $1 AND session = $8"), ") ORDER BY 1 LIMIT $6");
    /// Reviews, with the text of their memory.
    REFERRED_REVIEWS = concat!("SELECT r.id, (SELECT substr(m.content, 1, $7) FROM memory m WHERE m.seq = r.memory_seq) \
        FROM review r WHERE r.seq IN (", referred!("review", "project_id = $1"), ") ORDER BY r.id LIMIT $6");
}

#[async_trait]
impl ReferenceStore for SqliteStore {
    async fn referents(
        &self,
        scope: &Scope,
        kind: Referable<'_>,
        parts: &[IdPart],
        most: usize,
    ) -> Result<Vec<Referent>> {
        let (statement, session) = match kind {
            Referable::Memory => (REFERRED_MEMORIES, None),
            Referable::FocusItem { session } => (REFERRED_ITEMS, Some(session)),
            Referable::Review => (REFERRED_REVIEWS, None),
        };
        let open = self.opened()?;
        self.read("looking up an ID", scope, async |connection, readable| {
            let projects = match kind {
                Referable::Memory => readable,
                _ => open
                    .project(scope.project(), connection)
                    .await?
                    .into_iter()
                    .collect(),
            };
            let mut found = Vec::new();
            for (part, digits) in parts.iter().enumerate() {
                let mut referents = Vec::new();
                for project in &projects {
                    let mut query = bind!(sqlx::query(statement) =>
                        project, digits.lowest(), digits.highest(),
                        digits.tail().map(str::to_ascii_uppercase),
                        digits.suffix().map(str::to_ascii_uppercase), limit(most), REFERENT_CHARS);
                    if let Some(session) = session {
                        query = query.bind(session);
                    }
                    for row in query.fetch_all(&mut *connection).await? {
                        let (id, text) = (row.try_get(0)?, row.try_get(1)?);
                        referents.push(Referent { part, id, text });
                    }
                }
                referents.sort_by_key(|referent| referent.id);
                referents.truncate(most);
                found.append(&mut referents);
            }
            Ok(found)
        })
        .await
    }
}
