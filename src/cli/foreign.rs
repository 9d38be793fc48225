//! `import --from`: another program's data becomes a file in our own format, which is then imported like any other.

use std::io::{BufWriter, Read};
use std::path::Path;

use clap::ValueEnum;

use super::port::{Draft, file_error};
use super::{Failure, USAGE};
use crate::config::without_secrets;
use crate::domain::{Clock, SystemClock};
use crate::port::source::table::{self, Columns, Rows, Sort};
use crate::port::source::{
    Progress, basic_memory, chatgpt, claude, mcp_memory_server, mcp_memory_service,
};
use crate::port::{Converted, PortError, Sink};
use crate::store::postgres::ForeignDatabase;
use crate::store::sqlite::ForeignFile;

/// Longest URL that is read from a file.
const LONGEST_URL: u64 = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum From {
    /// memory.jsonl of @modelcontextprotocol/server-memory
    McpMemoryServer,
    /// Folder or zip archive of Markdown notes of basic-memory
    BasicMemory,
    /// JSON export or SQLite file of mcp-memory-service
    McpMemoryService,
    /// Export of claude.ai: the zip archive, the unpacked folder or conversations.json
    Claude,
    /// Export of ChatGPT: the zip archive, the unpacked folder or conversations.json
    Chatgpt,
    /// PostgreSQL URL of the Python server that this program replaces: a file with it, - for the standard input, or itself
    CognitiveMemoryPython,
}

/// Reads FIELD=COLUMN.
pub(super) fn mapping(columns: &[String]) -> Result<Columns, Failure> {
    let mut mapping = Columns::new();
    for column in columns {
        let pair = column
            .split_once('=')
            .filter(|(field, name)| table::fields().any(|f| f == *field) && !name.is_empty());
        let Some((field, name)) = pair else {
            let fields: Vec<&str> = table::fields().collect();
            let error = anyhow::anyhow!(
                "--column {column:?} is not accepted; expected FIELD=COLUMN with one of {}",
                fields.join(", ")
            );
            return Err(Failure { code: USAGE, error });
        };
        mapping.insert(field.to_owned(), name.to_owned());
    }
    Ok(mapping)
}

/// Writes the data into the draft.
pub(super) async fn convert(
    from: From,
    path: &Path,
    (tables, mapping): (&[String], Columns),
    project: &str,
    draft: &Draft,
    progress: Progress<'_>,
) -> Result<Converted, Failure> {
    let system = match from {
        From::McpMemoryServer => mcp_memory_server::SYSTEM,
        From::BasicMemory => basic_memory::SYSTEM,
        From::McpMemoryService => mcp_memory_service::SYSTEM,
        From::Claude => claude::SYSTEM,
        From::Chatgpt => chatgpt::SYSTEM,
        From::CognitiveMemoryPython => table::SYSTEM,
    };
    let failed = file_error(draft.place());
    let mut out = BufWriter::new(draft.create()?);
    let mut sink = Sink::new(&mut out, &failed, system, project, SystemClock.now())?;
    match from {
        From::McpMemoryServer => mcp_memory_server::convert(path, &mut sink, progress)?,
        From::BasicMemory => basic_memory::convert(path, &mut sink, progress)?,
        From::McpMemoryService if is_database(path) => service_file(path, &mut sink).await?,
        From::McpMemoryService => mcp_memory_service::convert(path, &mut sink, progress)?,
        From::Claude => claude::convert(path, &mut sink, progress)?,
        From::Chatgpt => chatgpt::convert(path, &mut sink, progress)?,
        From::CognitiveMemoryPython => database(path, tables, mapping, &mut sink).await?,
    }
    Ok(sink.finish()?)
}

/// Whether a path is a SQLite file. Pipes and the like are not opened.
fn is_database(path: &Path) -> bool {
    path.is_file() && super::backup::is_sqlite(path).unwrap_or(false)
}

async fn service_file(path: &Path, sink: &mut Sink<'_>) -> Result<(), PortError> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let wrong = |reason: String| PortError::Input {
        path: path.to_owned(),
        reason,
    };
    let mut file = ForeignFile::open(path).await?;
    let tables = file.tables().await?;
    if !tables
        .iter()
        .any(|table| table == mcp_memory_service::TABLE)
    {
        let there = if tables.is_empty() {
            "none".to_owned()
        } else {
            tables.join(", ")
        };
        return Err(wrong(format!(
            "there is no table {:?} in this SQLite file; its tables: {there}",
            mcp_memory_service::TABLE
        )));
    }
    let mut number = 0;
    let rows = file
        .rows(mcp_memory_service::TABLE, |row| {
            number += 1;
            let place = format!("{name}, row {number}");
            for oddity in row.oddities {
                sink.warnings.add(&place, oddity);
            }
            mcp_memory_service::row(&place, &row.fields, sink)
        })
        .await;
    file.close().await;
    match rows {
        // What was read until then is kept, if the caller wants that.
        Err(PortError::Store(error)) => {
            sink.problems
                .add(format!("{name}, behind row {number}"), error.to_string());
            Ok(())
        }
        other => other,
    }
}

/// The URL that the argument is or leads to. A command line can be read by every process of the machine, so a URL with a
/// password belongs into a file or the standard input; without one, `PGPASSWORD` and `~/.pgpass` are used.
fn database_url(argument: &Path) -> Result<String, Failure> {
    let text = argument.to_string_lossy();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        if has_password(&text) {
            super::port::note(
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
        let error = anyhow::anyhow!(
            "{name:?} is neither a URL postgres://USER@HOST:PORT/DATABASE, nor -, nor a file that can be read: {error}"
        );
        Failure { code: USAGE, error }
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

async fn database(
    argument: &Path,
    tables: &[String],
    mapping: Columns,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    let mut database = ForeignDatabase::open(&database_url(argument)?).await?;
    let there = database.tables().await?;
    for table in tables {
        if !there.iter().any(|(name, ..)| name == table) {
            let names: Vec<&str> = there.iter().map(|(name, ..)| name.as_str()).collect();
            let error = anyhow::anyhow!(
                "there is no table {table:?}; there are: {}",
                names.join(", ")
            );
            return Err(Failure { code: USAGE, error });
        }
    }
    let wanted = there
        .into_iter()
        .filter(|(name, ..)| tables.is_empty() || tables.contains(name));
    let mut sorted: Vec<(Sort, String)> = Vec::new();
    for (name, columns, is_view) in wanted {
        if is_view && tables.is_empty() {
            super::port::note(&format!(
                "view {name}: left out, it shows what tables contain; --table {name} reads it"
            ));
            continue;
        }
        match table::sort(&name, &columns, &mapping) {
            Some(sort) => sorted.push((sort, name)),
            None => super::port::note(&format!(
                "table {name}: left out, its columns do not say what it contains; name them with --column"
            )),
        }
    }
    sorted.sort();
    let mut rows = Rows::new(mapping);
    for (sort, name) in sorted {
        let mut count = 0_u64;
        database
            .rows(&name, |row| {
                count += 1;
                rows.take(&name, sort, &row, sink)
            })
            .await?;
        let what = match sort {
            Sort::Entities => "entities".to_owned(),
            Sort::Relations => "relations".to_owned(),
            Sort::Memories(kind) => format!("memories of kind {kind}"),
        };
        super::port::note(&format!("table {name}: {count} rows as {what}"));
    }
    database.close().await;
    Ok(())
}
