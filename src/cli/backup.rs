//! `backup` and `restore`.
//!
//! A backup of the embedded database is a complete SQLite file; one of a PostgreSQL database is an export, which either
//! database takes. Both are tried before they get their name: they are restored into a scratch database, which is
//! checked and compared record by record with what was to be saved. Likewise a restore: what is in force is touched
//! only after the new database is complete, and is kept aside.

use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;

use super::local::{self, Local};
use super::port::{Draft, counted, file_error, note, readable, scratch, stop_first, writable, write_all};
use super::{Failure, INTERNAL, USAGE, runtime, say};
use crate::config::{Database, Settings, Sources};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Clock, Scope, SystemClock};
use crate::port::{self, Exported, Imports};
use crate::store::port::PortStore;
use crate::store::sqlite::{self, SqliteOptions, SqliteStore};
use crate::store::{Store, StoreError};

/// What every SQLite file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// How often a copy is made anew because something was written meanwhile.
const MOST_COPIES: usize = 3;

#[derive(Args)]
pub(super) struct BackupArgs {
    /// File to write
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// Put the backup in the place of what is there, which is kept aside
    #[arg(long)]
    replace: bool,
    /// File that `backup` or `export` wrote
    file: PathBuf,
}

/// A store in a folder of its own, gone with the value.
struct Scratch {
    folder: PathBuf,
    store: Arc<SqliteStore>,
}

impl Scratch {
    fn file(folder: &Path) -> PathBuf {
        folder.join("memory.db")
    }

    /// An empty folder for this user alone.
    fn new(settings: &Settings, local: &Local) -> Result<Self, Failure> {
        let folder = scratch(settings, "scratch")?;
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(file_error(&folder))?;
        let store = SqliteStore::open(SqliteOptions::new(Self::file(&folder)), Arc::clone(&local.analyzer));
        Ok(Self { folder, store: Arc::new(store) })
    }

    /// Restores a file into it and tells what it holds then.
    async fn restore(&self, file: &Path) -> Result<Exported, Failure> {
        if is_sqlite(file)? {
            let target = Self::file(&self.folder);
            std::fs::copy(file, &target).map_err(file_error(file))?;
            private(&target)?;
            self.store.prepare().await?;
        } else {
            let checked = port::check(file, &mut |_| {})?;
            if let Some(problem) = checked.problems.first.first() {
                return Err(Failure { code: 1, error: anyhow!("{}: {problem}", file.display()) });
            }
            self.store.prepare().await?;
            let imports = Imports { project: None, keep_going: false };
            let report = port::import(&*self.store, file, &imports, &mut |_| {}).await?;
            if let Some(problem) = report.problems.first.first() {
                return Err(Failure { code: 1, error: anyhow!("{}: {problem}", file.display()) });
            }
        }
        let wrong = self.store.inspect().await?;
        if let Some(first) = wrong.first() {
            return Err(Failure { code: 1, error: anyhow!("{} is not sound: {first}", file.display()) });
        }
        fingerprint(&*self.store).await
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The number of records, and a hash of them all.
async fn fingerprint(store: &dyn Store) -> Result<Exported, Failure> {
    let scope = Scope::new(DEFAULT_PROJECT, "backup").reading(store.projects().await?);
    let mut snapshot = store.snapshot(&scope).await?;
    let failed = file_error(Path::new("the records"));
    Ok(port::export(snapshot.as_mut(), &mut std::io::sink(), &failed, &mut |_| {}).await?)
}

pub(super) fn is_sqlite(path: &Path) -> Result<bool, Failure> {
    let mut begin = Vec::new();
    let file = std::fs::File::open(path).map_err(file_error(path))?;
    file.take(SQLITE.len() as u64).read_to_end(&mut begin).map_err(file_error(path))?;
    Ok(begin == SQLITE)
}

fn private(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(file_error(path))?;
    }
    Ok(())
}

pub(super) fn backup(args: &BackupArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    runtime()?.block_on(async {
        if args.file.exists() {
            let error = anyhow!("{} exists already; name another file", args.file.display());
            return Err(Failure { code: USAGE, error });
        }
        let local = readable(&settings).await?;
        let draft = Draft::new(&args.file);
        let saved = match &settings.database {
            Database::Sqlite { path } => copy(&local, path, &draft).await?,
            Database::Postgres(_) => {
                let scope = super::port::scope(&local, None).await?;
                let mut out = BufWriter::new(draft.create()?);
                Some(write_all(&local, &scope, &mut out, &file_error(&args.file)).await?)
            }
        };
        let scratch = Scratch::new(&settings, &local)?;
        let restored = scratch.restore(draft.place()).await?;
        scratch.store.close().await;
        if let Some(saved) = saved.as_ref().filter(|saved| **saved != restored) {
            let error = anyhow!(
                "the backup does not give back what was saved: {} records became {}; it was thrown away",
                saved.records,
                restored.records
            );
            return Err(Failure { code: INTERNAL, error });
        }
        draft.finish()?;
        local.store.close().await;
        if saved.is_none() {
            note("The service wrote all the time; the backup is that of one moment, and sound, but nothing was there to compare it with.");
        }
        say(&format!(
            "{}: {}, {} of them memories, verified by a restore (sha256 {:.16}…)\n",
            args.file.display(),
            counted(restored.records, "record"),
            restored.memories,
            restored.sha256
        ))?;
        Ok(0)
    })
}

/// Copies the file, and tells what is in it where nobody wrote meanwhile.
async fn copy(local: &Local, path: &Path, draft: &Draft) -> Result<Option<Exported>, Failure> {
    let mut before = fingerprint(&*local.store).await?;
    for _ in 0..MOST_COPIES {
        let _ = std::fs::remove_file(draft.place());
        draft.create()?;
        sqlite::copy(path, draft.place()).await?;
        let after = fingerprint(&*local.store).await?;
        if before == after {
            return Ok(Some(after));
        }
        before = after;
    }
    Ok(None)
}

pub(super) fn restore(args: &RestoreArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    runtime()?.block_on(async {
        let local = local::store(&settings)?;
        if let Database::Sqlite { path } = &settings.database
            && let Some(owner) = sqlite::owner(path)
        {
            let error = StoreError::InUse { path: path.display().to_string(), pid: owner.pid, url: owner.url };
            return Err(stop_first(error, "restore"));
        }
        if local.embedded.is_none() {
            local.store.prepare().await?;
        }
        let empty = is_empty(&local).await;
        if !args.replace && !empty.as_ref().is_ok_and(|empty| *empty) {
            let error = match empty {
                Err(error) => anyhow::Error::from(error).context("the database that is there cannot be read"),
                Ok(_) => anyhow!("the database is not empty"),
            };
            let error = error.context("nothing was restored; --replace keeps aside what is there");
            return Err(Failure { code: USAGE, error });
        }
        let scratch = Scratch::new(&settings, &local)?;
        let restored = scratch.restore(&args.file).await?;
        let aside = match &settings.database {
            Database::Sqlite { path } => {
                scratch.store.close().await;
                swap(&local, &Scratch::file(&scratch.folder), path).await?
            }
            Database::Postgres(_) => {
                let aside = refill(&settings, &scratch, empty.unwrap_or(false), &restored).await?;
                scratch.store.close().await;
                aside
            }
        };
        say(&format!(
            "{}, {} of them memories, restored (sha256 {:.16}…)\n",
            counted(restored.records, "record"),
            restored.memories,
            restored.sha256
        ))?;
        if let Some(aside) = aside {
            say(&format!("What was there before is in {}\n", aside.display()))?;
        }
        Ok(0)
    })
}

async fn is_empty(local: &Local) -> Result<bool, StoreError> {
    local.store.is_empty().await
}

fn aside_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-restore-{}", SystemClock.now().format("%Y%m%dT%H%M%SZ")));
    name.into()
}

/// Puts the new file in the place of the old one; where the old one is now.
async fn swap(local: &Local, new: &Path, path: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut aside = None;
    if path.exists() {
        // Opened and closed, it is one file without a log beside it. One that cannot be opened is kept as it is.
        if local.store.prepare().await.is_ok() {
            local.store.close().await;
        }
        let name = aside_name(path);
        for suffix in ["-wal", "-shm", ""] {
            let (from, to) = (with_suffix(path, suffix), with_suffix(&name, suffix));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(file_error(&from))?;
            }
        }
        aside = Some(name);
    }
    std::fs::rename(new, path).map_err(file_error(path))?;
    if let Some(folder) = path.parent() {
        // So that the new name outlives a power cut.
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))?;
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Empties the database after saving what is in it, and fills it from the scratch one.
async fn refill(
    settings: &Settings,
    scratch: &Scratch,
    empty: bool,
    expected: &Exported,
) -> Result<Option<PathBuf>, Failure> {
    let local = writable(settings, "restore").await?;
    let mut aside = None;
    if !empty {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).create(&settings.data_dir).map_err(file_error(&settings.data_dir))?;
        let name = with_suffix(&aside_name(&settings.data_dir.join("postgres")), ".jsonl");
        let draft = Draft::new(&name);
        let scope = super::port::scope(&local, None).await?;
        let mut out = BufWriter::new(draft.create()?);
        write_all(&local, &scope, &mut out, &file_error(&name)).await?;
        drop(out);
        draft.finish()?;
        aside = Some(name);
    }
    let file = scratch.folder.join("restore.jsonl");
    let draft = Draft::new(&file);
    let mut out = BufWriter::new(draft.create()?);
    let scope = Scope::new(DEFAULT_PROJECT, "restore").reading(scratch.store.projects().await?);
    let mut snapshot = scratch.store.snapshot(&scope).await?;
    port::export(snapshot.as_mut(), &mut out, &file_error(&file), &mut |_| {}).await?;
    drop(out);
    draft.finish()?;
    if !empty {
        local.store.clear().await?;
    }
    let imports = Imports { project: None, keep_going: false };
    let size = std::fs::metadata(&file).map(|data| data.len()).unwrap_or_default();
    let bar = super::port::bar("restoring", size, true);
    let report = port::import(&*local.store, &file, &imports, &mut |done| bar.set_position(done)).await;
    bar.finish_and_clear();
    report?;
    let now = fingerprint(&*local.store).await?;
    local.store.close().await;
    if now != *expected {
        let error = anyhow!(
            "the database holds {} records after the restore, not the {} of the backup: something else wrote meanwhile; \
             stop the service and repeat with --replace{}",
            now.records,
            expected.records,
            aside.map(|aside| format!(" (what was there before is in {})", aside.display())).unwrap_or_default()
        );
        return Err(Failure { code: INTERNAL, error });
    }
    Ok(aside)
}
