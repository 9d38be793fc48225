//! Reads tables of other programs' PostgreSQL databases as JSON objects.

use serde_json::{Map, Value};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use super::fault;
use crate::store::{Result, StoreError};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Time limit of a page of rows, because a view may take forever to compute.
const TIME_LIMIT: &str = "SET LOCAL statement_timeout = '300s'";
/// Tables and views on the search path, with their columns.
const TABLES: &str = "SELECT c.relname::text AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns, \
    bool_or(c.relkind = 'v') AS is_view \
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
        AND pg_table_is_visible(c.oid) GROUP BY c.relname ORDER BY c.relname";
const FETCH: &str = "FETCH 500 FROM foreign_rows";
const CLOSE: &str = "CLOSE foreign_rows";

/// A read-only snapshot of a database.
#[derive(Debug)]
pub struct ForeignDatabase {
    connection: PgConnection,
    options: PgConnectOptions,
}

impl ForeignDatabase {
    /// Connects to a URL.
    ///
    /// # Errors
    /// Fails if the URL is not one of PostgreSQL or the server does not respond.
    pub async fn open(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse().map_err(|source| StoreError::Setup {
            reason: "this is not a URL of a PostgreSQL database; postgres://USER:PASSWORD@HOST:PORT/DATABASE is expected"
                .to_owned(),
            source: Some(source),
        })?;
        let options = options.disable_statement_logging();
        let translate =
            |error| fault::translate(&options, "read the other program's database", error);
        let mut connection = options.connect().await.map_err(translate)?;
        sqlx::query(BEGIN)
            .execute(&mut connection)
            .await
            .map_err(translate)?;
        sqlx::query(TIME_LIMIT)
            .execute(&mut connection)
            .await
            .map_err(translate)?;
        Ok(Self {
            connection,
            options,
        })
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        fault::translate(&self.options, "read the other program's database", error)
    }

    /// Returns the names of tables and views, each with its columns and whether it is a view.
    ///
    /// # Errors
    /// Fails if the catalog is not readable.
    pub async fn tables(&mut self) -> Result<Vec<(String, Vec<String>, bool)>> {
        let rows = sqlx::query_as(TABLES).fetch_all(&mut self.connection).await;
        rows.map_err(|error| self.failed(error))
    }

    /// Passes every row of a table to `each`.
    ///
    /// # Errors
    /// Fails if the table is not readable, and with the errors of `each`.
    pub async fn rows<E: From<StoreError>>(
        &mut self,
        table: &str,
        mut each: impl FnMut(Map<String, Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = format!("\"{}\"", table.replace('"', "\"\""));
        let declare = format!(
            "DECLARE foreign_rows NO SCROLL CURSOR FOR SELECT to_jsonb(t) AS row FROM {name} t"
        );
        let declared = sqlx::query(AssertSqlSafe(declare))
            .execute(&mut self.connection)
            .await;
        declared.map_err(|error| self.failed(error))?;
        loop {
            let rows = sqlx::query(FETCH).fetch_all(&mut self.connection).await;
            let rows = rows.map_err(|error| self.failed(error))?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let value: Value = row.try_get("row").map_err(|error| self.failed(error))?;
                if let Value::Object(object) = value {
                    each(object)?;
                }
            }
        }
        let closed = sqlx::query(CLOSE).execute(&mut self.connection).await;
        closed.map(drop).map_err(|error| self.failed(error).into())
    }

    /// Closes the connection.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}
