//! `export`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::{Draft, file_error, require_folder};
use super::open_store::{OpenedStore, export_scope, open_readable};
use super::output::{ClosedPipe, memories_among, print_note, progress_bar};
use super::{Failure, load_settings, start_runtime};
use crate::config::Sources;
use crate::domain::Scope;
use crate::domain::count::count_of;
use crate::transfer::{self, TransferError};

#[derive(Args)]
pub(super) struct ExportArgs {
    /// Only this project
    #[arg(long)]
    project: Option<String>,
    /// File to write, or - for the standard output
    file: PathBuf,
}

pub(super) fn run(args: &ExportArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    require_folder(&args.file)?;
    start_runtime()?.block_on(async {
        let local = open_readable(&settings).await?;
        let scope = export_scope(&local, args.project.as_deref()).await?;
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
            let mut out = BufWriter::new(draft.create_file()?);
            let exported = write_all(&local, &scope, &mut out, &file_error(&args.file)).await?;
            drop(out);
            draft.finish_file()?;
            exported
        };
        local.store.close().await;
        print_note(&format!(
            "{} exported, {} (sha256 {})",
            count_of(exported.records, "record"),
            memories_among(exported.memories),
            exported.sha256
        ));
        Ok(0)
    })
}

fn close_pipe(failure: Failure) -> Failure {
    match failure.error.downcast_ref() {
        Some(TransferError::File { source, .. })
            if source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Failure {
                code: failure.code,
                error: ClosedPipe.into(),
            }
        }
        _ => failure,
    }
}

pub(super) async fn write_all(
    local: &OpenedStore,
    scope: &Scope,
    out: &mut dyn Write,
    failed: &dyn Fn(std::io::Error) -> TransferError,
) -> Result<transfer::Exported, Failure> {
    let mut snapshot = local.store.snapshot(scope).await?;
    let bar = progress_bar("exporting", snapshot.size().await?, false);
    let exported = transfer::export_snapshot(snapshot.as_mut(), out, failed, &mut |done| {
        bar.set_position(done)
    })
    .await;
    bar.finish_and_clear();
    Ok(exported?)
}
