//! `import`.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::{Draft, file_error, file_size, scratch_path};
use super::import_source::{database_url, parse_columns, source_parser};
use super::open_store::{open_writable, secret_policy};
use super::output::{print_note, print_result, progress_bar};
use super::{Failure, fail, load_settings, start_runtime};
use crate::config::{Settings, Sources, is_credential_name};
use crate::domain::count::count_of;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::secrets::SecretPolicy;
use crate::domain::{Clock, SystemClock};
use crate::transfer::source::input::{self, Wanted};
use crate::transfer::source::{ImportInput, ImportSource};
use crate::transfer::{self, Conflicts, Converted, Imports, Problems, Report, Sink, TransferError};

#[derive(Args)]
pub(super) struct ImportArgs {
    /// Store everything in this project, whatever project it comes from
    #[arg(long)]
    project: Option<String>,
    /// Store all valid records and report the rest; without this option, one invalid record keeps all from being stored
    #[arg(long)]
    keep_going: bool,
    /// Program that wrote the data, if it is not this one
    #[arg(long, value_name = "PROGRAM", value_parser = source_parser())]
    from: Option<&'static dyn ImportSource>,
    /// With --from cognitive-memory-python: only this table; can be repeated
    #[arg(long = "table", value_name = "TABLE", requires = "from")]
    tables: Vec<String>,
    /// With --from cognitive-memory-python: column of a field, as FIELD=COLUMN; can be repeated
    #[arg(long = "column", value_name = "FIELD=COLUMN", requires = "from")]
    columns: Vec<String>,
    /// File to read, or - for the standard input; for other programs the file, folder, zip archive or URL with their
    /// data
    file: PathBuf,
}

/// File names of our own exports.
const EXPORT: Wanted = Wanted {
    description: "export (.jsonl)",
    accepts: |name| name.ends_with(".jsonl"),
};
/// Maximum number of listed problems if nothing is stored anyway.
const LISTED_WHEN_REFUSED: usize = 20;

pub(super) fn run(args: &ImportArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    if let Some(project) = args
        .project
        .as_deref()
        .filter(|name| !is_credential_name(name))
    {
        fail!(
            USAGE,
            "--project: expected a name of letters, digits, `-`, `_` and `.`, got {project:?}"
        );
    }
    start_runtime()?.block_on(async {
        let conflicts = if args.from.is_some() {
            Conflicts::KeepBoth
        } else {
            Conflicts::Report
        };
        let imports = Imports {
            project: args.project.clone(),
            keep_going: args.keep_going,
            conflicts,
            secrets: secret_policy(&settings).unwrap_or(SecretPolicy::Mask),
        };
        if let Some(from) = args.from {
            return import_foreign(from, args, &settings, &imports).await;
        }
        let spooled = spool_file(&settings, &args.file)?;
        let path = spooled
            .as_ref()
            .map_or(args.file.as_path(), Draft::draft_path);
        store_file(&settings, path, &imports, Converted::default()).await
    })
}

/// Converts the data of another program to an export, and imports it.
async fn import_foreign(
    from: &dyn ImportSource,
    args: &ImportArgs,
    settings: &Settings,
    imports: &Imports,
) -> Result<u8, Failure> {
    let columns = parse_columns(&args.columns)?;
    // Standard input contains either the URL of a database or the data.
    let (url, spooled) = if from.is_database() {
        (database_url(&args.file)?, None)
    } else {
        (String::new(), spool_input(settings, &args.file)?)
    };
    let path = spooled
        .as_ref()
        .map_or(args.file.as_path(), Draft::draft_path);
    let reading = progress_bar("reading", file_size(path), true);
    let input = ImportInput {
        path,
        url: &url,
        tables: &args.tables,
        columns: &columns,
        progress: &|bytes| reading.inc(bytes),
    };
    let project = args.project.as_deref().unwrap_or(DEFAULT_PROJECT);
    let draft = Draft::new(&scratch_path(settings, "import")?);
    let converted = convert_data(from, &input, project, &draft).await;
    reading.finish_and_clear();
    let converted = converted?;
    for note in &converted.notes {
        print_note(note);
    }
    store_file(settings, draft.draft_path(), imports, converted).await
}

async fn convert_data(
    from: &dyn ImportSource,
    input: &ImportInput<'_>,
    project: &str,
    draft: &Draft,
) -> Result<Converted, TransferError> {
    let failed = file_error(draft.draft_path());
    let mut out = BufWriter::new(draft.create_file()?);
    let mut sink = Sink::new(&mut out, &failed, from.name(), project, SystemClock.now())?;
    from.read(input, &mut sink).await?;
    sink.write_end()
}

fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Returns the file to import in a form that can be read twice: a copy of standard input, or of the export in a zip
/// archive.
fn spool_file(settings: &Settings, file: &Path) -> Result<Option<Draft>, Failure> {
    if is_standard_input(file) {
        return spool_input(settings, file);
    }
    // Explains a wrong path and suggests other files.
    input::Inputs::find_files(file, EXPORT)?;
    if file.is_dir() {
        let reason = "this is a folder; name the export in it".to_owned();
        return Err(TransferError::Input {
            path: file.to_owned(),
            reason,
        }
        .into());
    }
    if !input::is_zip(file).map_err(file_error(file))? {
        return Ok(None);
    }
    let draft = Draft::new(&scratch_path(settings, "import")?);
    let mut out = draft.create_file()?;
    input::extract_single(file, EXPORT, &mut out)?;
    Ok(Some(draft))
}

/// Copies standard input to a file if the path is `-`.
fn spool_input(settings: &Settings, file: &Path) -> Result<Option<Draft>, Failure> {
    if !is_standard_input(file) {
        return Ok(None);
    }
    let draft = Draft::new(&scratch_path(settings, "import")?);
    let mut out = draft.create_file()?;
    std::io::copy(&mut std::io::stdin().lock(), &mut out)
        .map_err(file_error(draft.draft_path()))?;
    Ok(Some(draft))
}

/// Checks and stores a file, and prints the result. `converted` contains the problems of a preceding conversion.
pub(super) async fn store_file(
    settings: &Settings,
    path: &Path,
    imports: &Imports,
    converted: Converted,
) -> Result<u8, Failure> {
    let size = file_size(path);
    let checking = progress_bar("checking", size, true);
    let checked = transfer::check_file(path, imports.secrets, &mut |done| {
        checking.set_position(done)
    })?;
    checking.finish_and_clear();
    let Converted {
        mut problems,
        mut warnings,
        omitted,
        ..
    } = converted;
    problems.extend(checked.problems);
    if problems.count > 0 && !imports.keep_going {
        print_problems(&problems, "not imported", LISTED_WHEN_REFUSED);
        fail!(
            DATA,
            "nothing was stored, because {} cannot be imported; repeat with --keep-going to store the other {}",
            count_of(problems.count, "part"),
            count_of(checked.records, "record")
        );
    }
    let local = open_writable(settings, "import").await?;
    let storing = progress_bar("importing", size, true);
    let report = transfer::import_file(&*local.store, path, imports, &mut |done| {
        storing.set_position(done)
    })
    .await;
    storing.finish_and_clear();
    let mut report = report?;
    local.store.close().await;
    let refused = report.problems.count;
    problems.extend(std::mem::take(&mut report.problems));
    warnings.extend(std::mem::take(&mut report.warnings));
    print_problems(&warnings, "warning", usize::MAX);
    print_problems(&problems, "not imported", usize::MAX);
    for (what, count) in &omitted {
        print_note(&format!("omitted on purpose: {what}: {count}"));
    }
    print_result(&format!(
        "{}\n",
        summarize_report(&report, problems.count, warnings.count)
    ))?;
    Ok(u8::from(refused > 0 && !imports.keep_going))
}

/// Formats one line about an import.
fn summarize_report(report: &Report, left_out: u64, warnings: u64) -> String {
    let mut text = format!("{} stored", count_of(report.created, "record"));
    if report.created > 0 {
        text.push_str(&format!(" ({})", by_kind(&report.created_by_kind)));
    }
    text.push_str(&format!(", {} already there", report.present));
    if left_out > 0 {
        text.push_str(&format!(", {left_out} left out"));
    }
    if warnings > 0 {
        text.push_str(&format!(", {}", count_of(warnings, "warning")));
    }
    text
}

fn by_kind(counts: &BTreeMap<&'static str, u64>) -> String {
    // Memories come first, because people look for them.
    let (memories, others): (Vec<_>, Vec<_>) =
        counts.iter().partition(|(kind, _)| **kind == "memories");
    let texts: Vec<String> = memories
        .into_iter()
        .chain(others)
        .map(|(kind, count)| format!("{kind}: {count}"))
        .collect();
    texts.join(", ")
}

fn print_problems(problems: &Problems, label: &str, most: usize) {
    let listed = problems.first.len().min(most);
    for problem in problems.first.iter().take(most) {
        print_note(&format!("{label}: {problem}"));
    }
    let more = problems.count - listed as u64;
    if more > 0 {
        print_note(&format!("{label}: {more} more"));
    }
}
