//! The programs whose data `import --from` reads. To add one, write its reader in [`crate::transfer::source`] and add a
//! line to [`SOURCES`].

use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::files::is_sqlite;
use super::output::print_note;
use super::{Failure, USAGE, fail};
use crate::config::without_secrets;
use crate::domain::count::count_of;
use crate::store::postgres::ForeignDatabase;
use crate::store::sqlite::ForeignFile;
use crate::transfer::source::table::{self, Columns, Rows, Sort};
use crate::transfer::source::{
    ImportInput, ImportSource, basic_memory, chatgpt, claude, mcp_memory_server, mcp_memory_service,
};
use crate::transfer::{Sink, TransferError};

/// Maximum length of a URL that is read from a file.
const LONGEST_URL: u64 = 64 * 1024;

/// Every program, in the order of the help.
static SOURCES: [&dyn ImportSource; 6] = [
    &mcp_memory_server::SOURCE,
    &basic_memory::SOURCE,
    &McpMemoryService,
    &claude::SOURCE,
    &chatgpt::SOURCE,
    &CognitiveMemoryPython,
];

/// Parses the name of a program.
pub(super) fn source_parser() -> impl TypedValueParser<Value = &'static dyn ImportSource> {
    let names = SOURCES
        .iter()
        .map(|source| PossibleValue::new(source.name()).help(source.data()));
    PossibleValuesParser::new(names).try_map(|name| {
        let mut sources = SOURCES.iter().copied();
        sources
            .find(|source| source.name() == name)
            .ok_or("unknown program")
    })
}

/// Parses arguments of the form FIELD=COLUMN.
pub(super) fn parse_columns(columns: &[String]) -> Result<Columns, Failure> {
    let mut mapping = Columns::new();
    for column in columns {
        let pair = column
            .split_once('=')
            .filter(|(field, name)| table::field_names().any(|f| f == *field) && !name.is_empty());
        let Some((field, name)) = pair else {
            let fields: Vec<&str> = table::field_names().collect();
            fail!(
                USAGE,
                "--column: expected FIELD=COLUMN with one of {}, got {column:?}",
                fields.join(", ")
            );
        };
        mapping.insert(field.to_owned(), name.to_owned());
    }
    Ok(mapping)
}

/// Returns the URL that the argument is, or that it refers to. Every process of the machine can read a command line, so
/// that a URL with a password belongs in a file or on standard input. Without a password, `PGPASSWORD` and `~/.pgpass`
/// are used.
pub(super) fn database_url(argument: &Path) -> Result<String, Failure> {
    let text = argument.to_string_lossy();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        if has_password(&text) {
            print_note(
                "warning: other users of this machine can read the password in this command line; put the URL into a file \
                 of your own and name the file, or pass - and write the URL to the standard input",
            );
        }
        return Ok(text.into_owned());
    }
    let read = if text == "-" {
        std::io::read_to_string(std::io::stdin().lock().take(LONGEST_URL))
    } else {
        std::fs::File::open(argument)
            .and_then(|file| std::io::read_to_string(file.take(LONGEST_URL)))
    };
    let read = read.map_err(|error| {
        let name = without_secrets(&text);
        Failure::new(
            USAGE,
            anyhow::anyhow!(
                "expected a URL postgres://USER@HOST:PORT/DATABASE, a file that contains it, or -, got {name:?}: {error}"
            ),
        )
    })?;
    Ok(read.lines().next().unwrap_or_default().trim().to_owned())
}

fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let in_userinfo = rest
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    in_userinfo || rest.contains("password=")
}

/// mcp-memory-service: its JSON export or its SQLite file.
struct McpMemoryService;

#[async_trait(?Send)]
impl ImportSource for McpMemoryService {
    fn name(&self) -> &'static str {
        mcp_memory_service::NAME
    }

    fn data(&self) -> &'static str {
        "JSON export or SQLite file of mcp-memory-service"
    }

    async fn read(
        &self,
        input: &ImportInput<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), TransferError> {
        // Pipes and devices are not opened.
        if input.path.is_file() && is_sqlite(input.path).unwrap_or(false) {
            return read_sqlite(input.path, sink).await;
        }
        mcp_memory_service::read_export(input.path, sink, input.progress)
    }
}

async fn read_sqlite(path: &Path, sink: &mut Sink<'_>) -> Result<(), TransferError> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let name = name.to_string_lossy();
    let table = mcp_memory_service::TABLE;
    let mut file = ForeignFile::open(path).await?;
    let tables = file.tables().await?;
    if !tables.iter().any(|known| known == table) {
        let known = if tables.is_empty() {
            "none".to_owned()
        } else {
            tables.join(", ")
        };
        return Err(TransferError::Input {
            path: path.to_owned(),
            reason: format!("there is no table {table:?} in this SQLite file; its tables: {known}"),
        });
    }
    let mut number = 0;
    let rows = file
        .rows(table, |row| {
            number += 1;
            let place = format!("{name}, row {number}");
            for oddity in row.oddities {
                sink.warnings.add(&place, oddity);
            }
            mcp_memory_service::add_row(&place, &row.fields, sink)
        })
        .await;
    file.close().await;
    match rows {
        // Earlier rows are kept if the caller requests that.
        Err(TransferError::Store(error)) => {
            let place = format!("{name}, after row {number}");
            sink.problems.add(place, error.to_string());
            Ok(())
        }
        other => other,
    }
}

/// The Python server that this program replaces, or another PostgreSQL database with memories.
struct CognitiveMemoryPython;

#[async_trait(?Send)]
impl ImportSource for CognitiveMemoryPython {
    fn name(&self) -> &'static str {
        table::NAME
    }

    fn data(&self) -> &'static str {
        "PostgreSQL URL of the Python server that this program replaces: a file with it, - for the standard input, or itself"
    }

    fn is_database(&self) -> bool {
        true
    }

    async fn read(
        &self,
        input: &ImportInput<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), TransferError> {
        let mut database = ForeignDatabase::open(input.url).await?;
        let tables = choose_tables(database.tables().await?, input, sink)?;
        let mut rows = Rows::new(input.columns.clone());
        for (sort, name) in tables {
            let mut count = 0_u64;
            database
                .rows(&name, |row| {
                    count += 1;
                    rows.add_row(&name, sort, &row, sink)
                })
                .await?;
            let what = match sort {
                Sort::Entities => "entities".to_owned(),
                Sort::Relations => "relations".to_owned(),
                Sort::Memories(kind) => format!("memories of kind {kind}"),
            };
            sink.add_note(format!(
                "table {name}: {} as {what}",
                count_of(count, "row")
            ));
        }
        database.close().await;
        Ok(())
    }
}

/// Returns the tables to read, entities first. `tables` are names with columns and whether they are views.
fn choose_tables(
    tables: Vec<(String, Vec<String>, bool)>,
    input: &ImportInput<'_>,
    sink: &mut Sink<'_>,
) -> Result<Vec<(Sort, String)>, TransferError> {
    let is_known = |wanted: &&String| tables.iter().any(|(name, ..)| name == *wanted);
    if let Some(unknown) = input.tables.iter().find(|wanted| !is_known(wanted)) {
        let names: Vec<&str> = tables.iter().map(|(name, ..)| name.as_str()).collect();
        return Err(TransferError::Input {
            path: "--table".into(),
            reason: format!("expected one of {}, got {unknown:?}", names.join(", ")),
        });
    }
    let mut chosen = Vec::new();
    for (name, columns, is_view) in tables {
        if !input.tables.is_empty() && !input.tables.contains(&name) {
            continue;
        }
        if is_view && input.tables.is_empty() {
            sink.add_note(format!(
                "view {name}: skipped, because tables contain its rows; --table {name} reads it"
            ));
            continue;
        }
        match table::classify_table(&name, &columns, input.columns) {
            Some(sort) => chosen.push((sort, name)),
            None => sink.add_note(format!(
                "table {name}: skipped, because its columns do not say what it contains; name them with --column"
            )),
        }
    }
    chosen.sort();
    Ok(chosen)
}
