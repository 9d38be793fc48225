//! Row-level security: a second protection behind the conditions of the statements.
//!
//! The service works as the role `USER_app`, which owns no table, and sets the projects of the caller in the session.
//! The policies of every table with a `project_id` show the role the rows of those projects, and let it change the rows
//! of the project that it writes. A session without this setting sees no rows. The owner of the tables migrates,
//! rebuilds and creates tokens.
//!
//! The setting belongs to the session and changes only when a connection is lent for other projects. [`install`]
//! creates the policies instead of a migration, so that a new table cannot be forgotten.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::fault::{self, Fault};
use super::row::ServerRow;
use super::sql;
use crate::domain::Scope;
use crate::store::statement::bind;

/// Increased with each change of the policies below, so that existing databases get the new ones.
const EDITION: u32 = 2;
/// The policies read names from the session and numbers from the tables; each is computed once per statement.
///
/// `IN` makes the planner build a hash for lookups. With `=`, the planner uses the policy as an index condition, takes
/// it for selective, and reads a whole project although the statement's own condition finds ten rows.
const READABLE: &str = "project_id IN (SELECT p.id FROM project p \
    WHERE p.name = ANY (nullif(current_setting('memory.projects', true), '')::text[]))";
const WRITABLE: &str = "project_id IN (SELECT p.id FROM project p \
    WHERE p.name = nullif(current_setting('memory.project', true), ''))";
/// Usage statistics, which are written by reading calls.
const WRITTEN_BY_READERS: &[&str] = &["recall_stat"];
/// Maximum length of a role name.
const LONGEST_NAME: usize = 63;

/// Whether the service works under row-level security.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowSecurity {
    /// Enabled if the role exists or can be created.
    #[default]
    Auto,
    /// Always enabled; without the role the service does not use the database.
    On,
    /// Disabled.
    Off,
}

/// The purpose of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    /// Statements that read no project's rows.
    Nothing,
    /// Work across all projects with the rights of the owner, for jobs of the service.
    All,
    /// The work of a caller.
    Projects {
        /// The project that may be written.
        project: String,
        /// The projects that may be read.
        readable: Vec<String>,
    },
}

impl From<&Scope> for View {
    fn from(scope: &Scope) -> Self {
        Self::Projects {
            project: scope.project().to_owned(),
            readable: scope.readable().map(str::to_owned).collect(),
        }
    }
}

/// Prepares a connection for a view.
pub(super) async fn show(
    connection: &mut PgConnection,
    role: Option<&str>,
    view: &View,
) -> sqlx::Result<()> {
    let empty = Vec::new();
    let (project, readable) = match view {
        View::Nothing | View::All => ("", &empty),
        View::Projects { project, readable } => (project.as_str(), readable),
    };
    let role = role.filter(|_| *view != View::All).unwrap_or("none");
    bind!(sqlx::query(sql::VIEW) => role, readable, project)
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns the name of the role for a user.
pub(super) fn role_of(user: &str) -> String {
    let mut name = user.to_owned();
    while name.len() + "_app".len() > LONGEST_NAME {
        name.pop();
    }
    name + "_app"
}

/// Returns the value that a database stores to record the policies of this program.
pub(super) fn mark(newest_migration: i64, role: &str) -> String {
    format!("{EDITION} {newest_migration} {role}")
}

/// Returns the role if this session may use it and it has its rights.
pub(super) async fn usable(
    connection: &mut PgConnection,
    server: &ServerRow,
) -> Result<Option<String>, Fault> {
    let role = role_of(&server.role);
    let usable: bool = sqlx::query_scalar(sql::ROLE_READY)
        .bind(&role)
        .fetch_one(connection)
        .await?;
    Ok(usable.then_some(role))
}

/// Creates missing policies for all tables, and the role with its rights. Called under the migration lock.
pub(super) async fn install(
    connection: &mut PgConnection,
    server: &ServerRow,
    wanted: RowSecurity,
    newest_migration: i64,
) -> Result<Option<String>, Fault> {
    let role = role_of(&server.role);
    let user = &server.role;
    let obstacle = if let Err(error) = make_role(connection, &role, user).await {
        let remedy = format!(
            "the role {role:?} for row-level security is missing and user {user:?} may not create it: as a superuser \
             (or what your service has instead) run CREATE ROLE \"{role}\" NOLOGIN; GRANT \"{role}\" TO \"{user}\""
        );
        Some((remedy, error))
    } else {
        lend_vector(connection, &role).await?
    };
    if let Some((reason, error)) = obstacle {
        if wanted == RowSecurity::On {
            return Err(fault::setup(format!(
                "{reason}; or set MEMORY_DATABASE_ROW_SECURITY=auto"
            ))
            .into());
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "row-level security is not in force: {reason}"
        );
        return Ok(None);
    }
    let quoted = quote(&role);
    let mut text = String::from("BEGIN;");
    for row in sqlx::query(sql::PROJECT_TABLES)
        .fetch_all(&mut *connection)
        .await?
    {
        let table: String = row.try_get("name")?;
        let write = if WRITTEN_BY_READERS.contains(&table.as_str()) {
            READABLE
        } else {
            WRITABLE
        };
        text += &policies(&quote(&table), READABLE, write);
        text += &format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {quoted};",
            quote(&table)
        );
    }
    let (readable, writable) = (
        "name = ANY (nullif(current_setting('memory.projects', true), '')::text[])",
        "name = nullif(current_setting('memory.project', true), '')",
    );
    text += &policies("project", readable, writable);
    let schema = quote(server.schema.as_deref().unwrap_or("public"));
    text += &format!(
        "GRANT USAGE ON SCHEMA {schema} TO {quoted}; GRANT SELECT, INSERT, UPDATE ON project TO {quoted}; \
         GRANT SELECT ON meta, schema_migration, token TO {quoted}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}; COMMIT"
    );
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(&mut *connection)
        .await?;
    bind!(sqlx::query(sql::SET_META) => "row_security", mark(newest_migration, &role))
        .execute(&mut *connection)
        .await?;
    tracing::info!(role, "row-level security is in force");
    Ok(Some(role))
}

fn policies(table: &str, readable: &str, writable: &str) -> String {
    let policy = |name: &str, rule: String| {
        format!("DROP POLICY IF EXISTS {name} ON {table}; CREATE POLICY {name} ON {table} {rule};")
    };
    [
        format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"),
        policy("reading", format!("FOR SELECT USING ({readable})")),
        policy("inserting", format!("FOR INSERT WITH CHECK ({writable})")),
        policy(
            "updating",
            format!("FOR UPDATE USING ({writable}) WITH CHECK ({writable})"),
        ),
        policy("deleting", format!("FOR DELETE USING ({writable})")),
    ]
    .concat()
}

async fn make_role(connection: &mut PgConnection, role: &str, user: &str) -> sqlx::Result<()> {
    let mut last = None;
    // Roles belong to the whole server: the service of another database may be creating the same role at this moment.
    for _ in 0..3 {
        if sqlx::query_scalar(sql::ROLE_USABLE)
            .bind(role)
            .fetch_one(&mut *connection)
            .await?
        {
            return Ok(());
        }
        let there: bool = sqlx::query_scalar(sql::ROLE_EXISTS)
            .bind(role)
            .fetch_one(&mut *connection)
            .await?;
        let make = if there {
            String::new()
        } else {
            format!("CREATE ROLE {} NOLOGIN;", quote(role))
        };
        let text = format!("{make} GRANT {} TO {}", quote(role), quote(user));
        match sqlx::raw_sql(AssertSqlSafe(text))
            .execute(&mut *connection)
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("there was an attempt"))
}

/// Lets the role use the types of pgvector, which may be in a schema of another owner. Otherwise returns advice.
async fn lend_vector(
    connection: &mut PgConnection,
    role: &str,
) -> sqlx::Result<Option<(String, sqlx::Error)>> {
    let schema: Option<String> = sqlx::query_scalar(sql::VECTOR_SCHEMA)
        .bind(role)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(schema) = schema else {
        return Ok(None);
    };
    let grant = format!(
        "GRANT USAGE ON SCHEMA {} TO {}",
        quote(&schema),
        quote(role)
    );
    let given = sqlx::raw_sql(AssertSqlSafe(grant.clone()))
        .execute(&mut *connection)
        .await;
    // A grant without the right to grant is an error or only a warning.
    let missing: Option<String> = sqlx::query_scalar(sql::VECTOR_SCHEMA)
        .bind(role)
        .fetch_optional(&mut *connection)
        .await?;
    let reason = format!(
        "the role {role:?} for row-level security may not use the schema {schema:?} of the extension pgvector: as the \
         owner of that schema run {grant}"
    );
    Ok(missing.map(|_| (reason, given.err().unwrap_or(sqlx::Error::RowNotFound))))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_fits_into_a_name() {
        assert_eq!(role_of("cognitive_memory"), "cognitive_memory_app");
        assert_eq!(role_of(&"ü".repeat(31)).len(), 62);
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
