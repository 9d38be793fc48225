//! `scan`: finds credentials in stored memories, and replaces them by marks on request.
//!
//! Masking writes an export without credentials and restores it, so that no index, vector, page or earlier version
//! still has them. The previous data is kept aside, as by `restore`.

use std::io::{BufWriter, Write};

use clap::Args;

use super::backup::{RestoreOptions, refuse_running_service, restore_file};
use super::export::write_all;
use super::files::{Draft, file_error, scratch_path};
use super::open_store::{export_scope, open_readable};
use super::output::{print_note, print_result};
use super::{DATA, Failure, load_settings, start_runtime};
use crate::config::{Settings, Sources};
use crate::domain::count::count_of;
use crate::domain::secrets::FoundSecret;
use crate::transfer::{Exported, Finding, LineScanner};

/// Maximum number of listed records; more are counted.
const MOST_LISTED: usize = 1_000;

#[derive(Args)]
pub(super) struct ScanArgs {
    /// Only this project
    #[arg(long)]
    project: Option<String>,
    /// Replace the credentials by marks, also in the history; the service must be stopped, and the previous data is kept aside
    #[arg(long, conflicts_with = "project")]
    mask: bool,
}

/// The records with credentials.
#[derive(Default)]
struct Findings {
    listed: Vec<Finding>,
    count: u64,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.count += 1;
        if self.listed.len() < MOST_LISTED {
            self.listed.push(finding);
        }
    }

    fn print_list(&self) -> Result<(), Failure> {
        for Finding { place, found } in &self.listed {
            let fields: Vec<String> = found.iter().map(FoundSecret::to_string).collect();
            print_result(&format!("{place}: {}\n", fields.join(", ")))?;
        }
        let more = self.count - self.listed.len() as u64;
        if more > 0 {
            print_note(&format!("{} not listed", count_of(more, "more record")));
        }
        Ok(())
    }
}

pub(super) fn run(args: &ScanArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    start_runtime()?.block_on(async {
        if args.mask {
            mask_records(&settings).await
        } else {
            report_records(&settings, args.project.as_deref()).await
        }
    })
}

async fn report_records(settings: &Settings, project: Option<&str>) -> Result<u8, Failure> {
    let (exported, findings) =
        scan_records(settings, project, &mut std::io::sink(), "standard output").await?;
    findings.print_list()?;
    if findings.count == 0 {
        print_note(&format!(
            "No credentials in {}.",
            count_of(exported.records, "record")
        ));
        return Ok(0);
    }
    print_note(&format!(
        "Credentials in {} of {}. To replace them by marks, stop the service and run `cognitive-memory-mcp scan --mask`; \
         to remove a memory with its history, `cognitive-memory-mcp forget --purge ID`. Change the credentials, because \
         others may have read them.",
        findings.count,
        count_of(exported.records, "record"),
    ));
    Ok(DATA)
}

async fn mask_records(settings: &Settings) -> Result<u8, Failure> {
    refuse_running_service(settings, "scan --mask")?;
    let draft = Draft::new(&scratch_path(settings, "scan")?);
    let mut out = BufWriter::new(draft.create_file()?);
    let name = draft.draft_path().display().to_string();
    let (present, findings) = scan_records(settings, None, &mut out, &name).await?;
    drop(out);
    findings.print_list()?;
    if findings.count == 0 {
        print_note("No credentials were found, and nothing was changed.");
        return Ok(0);
    }
    let options = RestoreOptions {
        replace: true,
        present: Some(present),
        ..RestoreOptions::new("scan --mask")
    };
    restore_file(settings, draft.draft_path(), options).await?;
    print_note(&format!(
        "Masked the credentials of {}. The previous data still has them: delete it after you have checked the result, and \
         delete earlier backups. Vectors are computed again in the background of the service.",
        count_of(findings.count, "record")
    ));
    Ok(0)
}

/// Writes an export without credentials. Returns the records as they are, and those with credentials.
async fn scan_records(
    settings: &Settings,
    project: Option<&str>,
    out: &mut (dyn Write + Send),
    name: &str,
) -> Result<(Exported, Findings), Failure> {
    let local = open_readable(settings).await?;
    let scope = export_scope(&local, project).await?;
    let mut findings = Findings::default();
    let mut report = |finding| findings.add(finding);
    let mut scanner = LineScanner::new(out, &mut report);
    let failed = file_error(name.as_ref());
    let exported = write_all(&local, &scope, &mut scanner, &failed).await?;
    local.store.close().await;
    Ok((exported, findings))
}
