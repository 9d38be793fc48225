//! Keeps the server's statistics of table sizes current.
//!
//! Plans are made once per session, and again after a table was analyzed. In a young database the planner takes the
//! tables for empty, so that a partly suitable index seems as good as the right one, and each store reads all memories.
//! The server's own analysis runs once a minute at the earliest; a bulk load is finished by then, or takes minutes
//! because of bad plans.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::PostgresStore;
use super::attempt::{Effect, attempt};
use super::row_security::View;
use crate::store::Result;

/// Names of our tables that have more than doubled since the server last analyzed them.
const GROWN: &str = "SELECT format('%I.%I', s.schemaname, s.relname) FROM pg_stat_user_tables s \
    JOIN pg_class c ON c.oid = s.relid \
    WHERE c.relnamespace = current_schema()::regnamespace AND s.n_mod_since_analyze > greatest(200, c.reltuples) \
        AND pg_has_role(session_user, c.relowner, 'USAGE') ORDER BY 1";
/// The statement with its name, for the test that prepares each one.
pub(super) const ALL: &[(&str, &str)] = &[("GROWN", GROWN)];
/// Time limit for analyzing every table.
const ANALYZE: Duration = Duration::from_secs(30);

impl PostgresStore {
    /// Analyzes tables that have grown, except tables that are locked as a whole.
    pub(super) async fn analyze_grown(&self) -> Result<()> {
        let grown: Vec<String> = attempt!(self.attempts(View::All, "read statistics", Effect::Read)?, connection => async {
            Ok(sqlx::query_scalar(GROWN).fetch_all(connection).await?)
        })?;
        if grown.is_empty() {
            return Ok(());
        }
        let mut connection = self.connect().await?;
        self.within("analyse tables", ANALYZE, async {
            let statement = AssertSqlSafe(format!("ANALYZE (SKIP_LOCKED) {}", grown.join(", ")));
            sqlx::raw_sql(statement).execute(&mut connection).await?;
            Ok(())
        })
        .await?;
        tracing::debug!(
            tables = grown.join(", "),
            "the server looked at tables that have grown"
        );
        Ok(())
    }
}
