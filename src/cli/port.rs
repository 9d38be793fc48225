//! `export` and `import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::foreign::{self, From};
use super::local::{self, Local};
use super::{CONFIGURATION, Failure, INTERNAL, UNAVAILABLE, USAGE, runtime, say};
use crate::config::{Database, Settings, Sources};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Clock, Scope, SystemClock};
use crate::port::source::input::{self, Wanted};
use crate::port::{self, Conflicts, Converted, Imports, PortError, Problems, Report};
use crate::store::{StoreError, sqlite};

const DATA: u8 = 1;

#[derive(Args)]
pub(super) struct ExportArgs {
    /// Only this project
    #[arg(long)]
    project: Option<String>,
    /// File to write, or - for the standard output
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// Store everything in this project, whatever project it comes from
    #[arg(long)]
    project: Option<String>,
    /// Store everything that can be stored and report the rest; without this, one part that cannot be stored keeps
    /// everything out
    #[arg(long)]
    keep_going: bool,
    /// Program that the data comes from, where that is not this one
    #[arg(long, value_name = "PROGRAM")]
    from: Option<From>,
    /// With --from cognitive-memory-python: only this table; can be repeated
    #[arg(long = "table", value_name = "TABLE", requires = "from")]
    tables: Vec<String>,
    /// With --from cognitive-memory-python: which column holds a field, as FIELD=COLUMN; can be repeated
    #[arg(long = "column", value_name = "FIELD=COLUMN", requires = "from")]
    columns: Vec<String>,
    /// File to read, or - for the standard input; for other programs the file, folder, zip archive or URL with their
    /// data
    file: PathBuf,
}

impl std::convert::From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Store(error) => error.into(),
            PortError::Problem(_) => Self {
                code: DATA,
                error: error.into(),
            },
            PortError::Input { .. } => Self {
                code: USAGE,
                error: error.into(),
            },
            PortError::File { .. } => Self {
                code: INTERNAL,
                error: error.into(),
            },
        }
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(what: &'static str, length: u64, bytes: bool) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let numbers = if bytes {
        "{bytes}/{total_bytes}"
    } else {
        "{human_pos}/{human_len}"
    };
    let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {numbers} {{eta}}"));
    let bar = ProgressBar::with_draw_target(Some(length), target).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A store that can be read, whether or not a service has it open.
pub(super) async fn readable(settings: &Settings) -> Result<Local, Failure> {
    if let Database::Sqlite { path } = &settings.database {
        sqlite::refuse_other_name(path)?;
    }
    let local = local::store(settings)?;
    if local.embedded.is_none() {
        let pending = local.store.pending_migrations().await?;
        if !pending.is_empty() {
            let error = anyhow::anyhow!(
                "the database has an older schema (missing: {}): start the service once, or run `cognitive-memory-mcp \
                 migrate`",
                pending.join(", ")
            );
            return Err(Failure {
                code: CONFIGURATION,
                error,
            });
        }
        local.store.prepare().await?;
    }
    Ok(local)
}

/// A store that can be written. The embedded file belongs to one process at a time.
pub(super) async fn writable(settings: &Settings, what: &str) -> Result<Local, Failure> {
    let local = local::store(settings)?;
    local
        .store
        .prepare()
        .await
        .map_err(|error| stop_first(error, what))?;
    Ok(local)
}

/// Says what to do about a service that has the file open.
pub(super) fn stop_first(error: StoreError, what: &str) -> Failure {
    if !matches!(error, StoreError::InUse { .. }) {
        return error.into();
    }
    let error = anyhow::Error::from(error).context(format!(
        "{what} needs the embedded database for itself; stop the service (systemctl --user stop \
         cognitive-memory-mcp, or end the client that started it), {what}, and start it again"
    ));
    Failure {
        code: UNAVAILABLE,
        error,
    }
}

/// The scope of all projects, or of one that exists.
pub(super) async fn scope(local: &Local, project: Option<&str>) -> Result<Scope, Failure> {
    let projects = local.store.projects().await?;
    match project {
        None => Ok(Scope::new(DEFAULT_PROJECT, "export").reading(projects)),
        Some(name) if projects.iter().any(|known| known == name) => Ok(Scope::new(name, "export")),
        Some(name) => {
            let known = if projects.is_empty() {
                "none yet".to_owned()
            } else {
                projects.join(", ")
            };
            let error = anyhow::anyhow!("there is no project {name:?}; there are: {known}");
            Err(Failure { code: USAGE, error })
        }
    }
}

pub(super) fn file_error(path: &Path) -> impl Fn(std::io::Error) -> PortError {
    let path = path.to_owned();
    move |source| PortError::File {
        path: path.clone(),
        source,
    }
}

/// Makes the name of a file durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), PortError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error(folder))
}

/// A file for this user alone, under another name until it is complete.
pub(super) struct Draft {
    path: PathBuf,
    draft: PathBuf,
    done: bool,
}

impl Draft {
    pub(super) fn new(path: &Path) -> Self {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        Self {
            path: path.to_owned(),
            draft: draft.into(),
            done: false,
        }
    }

    /// Where it is until then.
    pub(super) fn place(&self) -> &Path {
        &self.draft
    }

    pub(super) fn create(&self) -> Result<File, PortError> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.draft).map_err(file_error(&self.draft))
    }

    /// Makes it durable, with its name.
    pub(super) fn finish(mut self) -> Result<(), PortError> {
        let done = File::open(&self.draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&self.draft, &self.path));
        done.map_err(file_error(&self.path))?;
        self.done = true;
        sync_folder(&self.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.draft);
        }
    }
}

/// Fails if there is no directory for a file that is to be written.
pub(super) fn require_folder(file: &Path) -> Result<(), Failure> {
    match file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) if !folder.is_dir() => {
            let error = anyhow::anyhow!(
                "there is no directory {}; create it, or name another file",
                folder.display()
            );
            Err(Failure { code: USAGE, error })
        }
        _ => Ok(()),
    }
}

pub(super) fn export(args: &ExportArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    require_folder(&args.file)?;
    runtime()?.block_on(async {
        let local = readable(&settings).await?;
        let scope = scope(&local, args.project.as_deref()).await?;
        let exported = if args.file.as_os_str() == "-" {
            let out = &mut std::io::stdout().lock();
            write_all(
                &local,
                &scope,
                out,
                &file_error(Path::new("standard output")),
            )
            .await
            .map_err(close_pipe)?
        } else {
            let draft = Draft::new(&args.file);
            let mut out = BufWriter::new(draft.create()?);
            let exported = write_all(&local, &scope, &mut out, &file_error(&args.file)).await?;
            drop(out);
            draft.finish()?;
            exported
        };
        local.store.close().await;
        note(&format!(
            "{} records exported, {} of them memories (sha256 {})",
            exported.records, exported.memories, exported.sha256
        ));
        Ok(0)
    })
}

/// The reader of the standard output went away before the end of an export.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the standard output has gone away")]
pub(super) struct ClosedPipe;

fn close_pipe(failure: Failure) -> Failure {
    match failure.error.downcast_ref() {
        Some(PortError::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Failure {
                code: failure.code,
                error: ClosedPipe.into(),
            }
        }
        _ => failure,
    }
}

pub(super) async fn write_all(
    local: &Local,
    scope: &Scope,
    out: &mut dyn Write,
    failed: &dyn Fn(std::io::Error) -> PortError,
) -> Result<port::Exported, Failure> {
    let mut snapshot = local.store.snapshot(scope).await?;
    let bar = bar("exporting", snapshot.size().await?, false);
    let exported = port::export(snapshot.as_mut(), out, failed, &mut |done| {
        bar.set_position(done)
    })
    .await;
    bar.finish_and_clear();
    Ok(exported?)
}

/// A remark for a person. The standard output may be the export itself.
pub(super) fn note(text: &str) {
    super::say_aside(text);
}

/// Names of our own export files.
const EXPORT: Wanted = Wanted {
    description: "export (.jsonl)",
    accepts: |name| name.ends_with(".jsonl"),
};
/// Problems that are listed when nothing is stored anyway.
const LISTED_WHEN_REFUSED: usize = 20;

pub(super) fn import(args: &ImportArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    runtime()?.block_on(async {
        let conflicts = if args.from.is_some() {
            Conflicts::KeepBoth
        } else {
            Conflicts::Report
        };
        let imports = Imports {
            project: args.project.clone(),
            keep_going: args.keep_going,
            conflicts,
        };
        if let Some(from) = args.from {
            return import_foreign(from, args, &settings, &imports).await;
        }
        let spool = spool(&settings, &args.file)?;
        let path = spool.as_ref().map_or(args.file.as_path(), Draft::place);
        store_file(&settings, path, &imports, Converted::default()).await
    })
}

async fn import_foreign(
    from: From,
    args: &ImportArgs,
    settings: &Settings,
    imports: &Imports,
) -> Result<u8, Failure> {
    let draft = Draft::new(&scratch(settings, "import")?);
    let mapping = foreign::mapping(&args.columns)?;
    let project = args.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    // For a database the standard input has its URL, which `foreign` reads.
    let spooled = if from == From::CognitiveMemoryPython {
        None
    } else {
        spool_input(settings, &args.file)?
    };
    let file = spooled
        .as_ref()
        .map_or(args.file.as_path(), Draft::place)
        .to_owned();
    let size = std::fs::metadata(&file)
        .map(|data| if data.is_file() { data.len() } else { 0 })
        .unwrap_or_default();
    let reading = bar("reading", size, true);
    let tables = (args.tables.as_slice(), mapping);
    let converted = foreign::convert(from, &file, tables, project, &draft, &|bytes| {
        reading.inc(bytes)
    })
    .await;
    reading.finish_and_clear();
    drop(spooled);
    store_file(settings, draft.place(), imports, converted?).await
}

fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// The file to import, as one that can be read twice: a copy of the standard input or of the export in a zip archive.
fn spool(settings: &Settings, file: &Path) -> Result<Option<Draft>, Failure> {
    if is_standard_input(file) {
        return spool_input(settings, file);
    }
    // Says what is wrong with a path, and what else is there.
    input::Inputs::find(file, EXPORT)?;
    if file.is_dir() {
        let reason = "this is a folder; name the export in it".to_owned();
        return Err(PortError::Input {
            path: file.to_owned(),
            reason,
        }
        .into());
    }
    if !input::is_zip(file).map_err(file_error(file))? {
        return Ok(None);
    }
    let draft = Draft::new(&scratch(settings, "import")?);
    let mut out = draft.create()?;
    input::extract_single(file, EXPORT, &mut out)?;
    Ok(Some(draft))
}

/// A copy of the standard input, if that is what is to be read.
fn spool_input(settings: &Settings, file: &Path) -> Result<Option<Draft>, Failure> {
    if !is_standard_input(file) {
        return Ok(None);
    }
    let draft = Draft::new(&scratch(settings, "import")?);
    let mut out = draft.create()?;
    std::io::copy(&mut std::io::stdin().lock(), &mut out).map_err(file_error(draft.place()))?;
    Ok(Some(draft))
}

/// The file that a path leads to, without symbolic links.
pub(super) fn file_itself(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A path for what is needed for a while: beside the embedded database, where there is room for it.
pub(super) fn scratch(settings: &Settings, name: &str) -> Result<PathBuf, Failure> {
    let folder = match &settings.database {
        // Not the data directory, which may be on another disk: a restored database is moved from here to its place.
        Database::Sqlite { path } => match file_itself(path).parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        },
        Database::Postgres(_) => std::env::temp_dir(),
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(file_error(&folder))?;
    Ok(folder.join(format!("{name}-{}", SystemClock.new_id())))
}

/// Checks a file, then stores it, and says what became of it. `converted` is what was found on the way to the file.
pub(super) async fn store_file(
    settings: &Settings,
    path: &Path,
    imports: &Imports,
    converted: Converted,
) -> Result<u8, Failure> {
    let size = std::fs::metadata(path)
        .map(|data| data.len())
        .unwrap_or_default();
    let checking = bar("checking", size, true);
    let checked = port::check(path, &mut |done| checking.set_position(done))?;
    checking.finish_and_clear();
    let Converted {
        mut problems,
        mut warnings,
        omitted,
    } = converted;
    problems.extend(checked.problems);
    if problems.count > 0 && !imports.keep_going {
        list(&problems, "not imported", LISTED_WHEN_REFUSED);
        let error = anyhow::anyhow!(
            "nothing was stored, because {} cannot be imported; run it again with --keep-going to store the other {}",
            counted(problems.count, "part"),
            counted(checked.records, "record")
        );
        return Err(Failure { code: DATA, error });
    }
    let local = writable(settings, "import").await?;
    let storing = bar("importing", size, true);
    let report = port::import(&*local.store, path, imports, &mut |done| {
        storing.set_position(done)
    })
    .await;
    storing.finish_and_clear();
    let mut report = report?;
    local.store.close().await;
    let refused = report.problems.count;
    problems.extend(std::mem::take(&mut report.problems));
    warnings.extend(std::mem::take(&mut report.warnings));
    list(&warnings, "warning", usize::MAX);
    list(&problems, "not imported", usize::MAX);
    for (what, count) in &omitted {
        note(&format!("left out on purpose: {what}: {count}"));
    }
    say(&format!(
        "{}\n",
        summary(&report, problems.count, warnings.count)
    ))?;
    Ok(u8::from(refused > 0 && !imports.keep_going))
}

/// One line about an import.
fn summary(report: &Report, left_out: u64, warnings: u64) -> String {
    let mut text = format!("{} stored", counted(report.created, "record"));
    if report.created > 0 {
        text.push_str(&format!(" ({})", by_kind(&report.created_by_kind)));
    }
    text.push_str(&format!(", {} already there", report.present));
    if left_out > 0 {
        text.push_str(&format!(", {left_out} left out"));
    }
    if warnings > 0 {
        text.push_str(&format!(", {}", counted(warnings, "warning")));
    }
    text
}

fn by_kind(counts: &BTreeMap<&'static str, u64>) -> String {
    // Memories first: they are what people look for.
    let (memories, others): (Vec<_>, Vec<_>) =
        counts.iter().partition(|(kind, _)| **kind == "memories");
    let texts: Vec<String> = memories
        .into_iter()
        .chain(others)
        .map(|(kind, count)| format!("{kind}: {count}"))
        .collect();
    texts.join(", ")
}

pub(super) fn counted(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn list(problems: &Problems, label: &str, most: usize) {
    let listed = problems.first.len().min(most);
    for problem in problems.first.iter().take(most) {
        note(&format!("{label}: {problem}"));
    }
    let more = problems.count - listed as u64;
    if more > 0 {
        note(&format!("{label}: {more} more"));
    }
}
