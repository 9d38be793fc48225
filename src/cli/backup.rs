//! `backup` and `restore`.
//!
//! A backup of the embedded database is a complete SQLite file; one of a PostgreSQL database is an export, which either
//! database takes. Both are tried before they get their name: they are restored into a scratch database, which is
//! checked and compared record by record with what was to be saved. A restore does the same, so the present database is
//! replaced only after the new one is complete, and is kept aside.

use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;

use super::local::{self, Local};
use super::port::scratch as scratch_path;
use super::port::{
    Draft, counted, file_error, file_itself, note, readable, require_folder, stop_first,
    sync_folder, writable, write_all,
};
use super::{Failure, INTERNAL, UNAVAILABLE, USAGE, runtime, say};
use crate::config::{Database, Settings, Sources};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Clock, Scope, SystemClock};
use crate::port::{self, Exported, Imports};
use crate::store::port::PortStore;
use crate::store::sqlite::{self, SqliteOptions, SqliteStore};
use crate::store::{CheckStore, Finding, Store, StoreError, StoredToken, TokenStore};

/// What every SQLite file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// Exit code for a file that cannot be restored.
const DATA: u8 = 1;
/// How often a copy is made again because something was written meanwhile.
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
    /// Restore the tokens in the file, too; otherwise those that are in force here stay, and no others
    #[arg(long)]
    keep_tokens: bool,
    /// File that `backup` or `export` wrote
    file: PathBuf,
}

/// A store in a folder of its own, gone with the value.
struct Scratch {
    folder: PathBuf,
    store: Arc<SqliteStore>,
}

/// The kind of content of a file.
struct Restored {
    records: Exported,
    /// Damage of derived data, which the restore repairs.
    repaired: Vec<Finding>,
}

impl Scratch {
    fn file(folder: &Path) -> PathBuf {
        folder.join("memory.db")
    }

    /// Creates the folder, for this user alone.
    fn new(folder: PathBuf, local: &Local) -> Result<Self, Failure> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(file_error(&folder))?;
        let store = SqliteStore::open(
            SqliteOptions::new(Self::file(&folder)),
            Arc::clone(&local.analyzer),
        );
        Ok(Self {
            folder,
            store: Arc::new(store),
        })
    }

    /// Restores a file into it.
    async fn restore(&self, file: &Path) -> Result<Restored, Failure> {
        if is_sqlite(file)? {
            copy_database(file, &Self::file(&self.folder))?;
            let opened = self.store.prepare().await;
            opened.map_err(|error| data_error(file, &anyhow::Error::from(error)))?;
        } else {
            self.import(file).await?;
        }
        let repaired = self.repair(file).await?;
        Ok(Restored {
            records: fingerprint(&*self.store).await?,
            repaired,
        })
    }

    async fn import(&self, file: &Path) -> Result<(), Failure> {
        let checked = port::check(file, &mut |_| {})?;
        if let Some(problem) = checked.problems.first.first() {
            return Err(data_error(file, problem));
        }
        self.store.prepare().await?;
        let imports = Imports {
            project: None,
            keep_going: false,
            conflicts: port::Conflicts::Report,
        };
        let report = port::import(&*self.store, file, &imports, &mut |_| {}).await?;
        report
            .problems
            .first
            .first()
            .map_or(Ok(()), |problem| Err(data_error(file, problem)))
    }

    /// Refuses damaged memories, and repairs a damaged word index.
    async fn repair(&self, file: &Path) -> Result<Vec<Finding>, Failure> {
        let findings = self.store.inspect().await?;
        if let Some(finding) = findings
            .iter()
            .find(|finding| !finding.subject.is_derived())
        {
            return Err(data_error(file, &format!("not sound: {}", finding.detail)));
        }
        if !findings.is_empty() {
            self.store.request_index_rebuild().await?;
            self.store.close().await;
            self.store.prepare().await?;
            if let Some(finding) = self.store.inspect().await?.first() {
                return Err(data_error(
                    file,
                    &format!("cannot be repaired: {}", finding.detail),
                ));
            }
        }
        Ok(findings)
    }
}

fn data_error(file: &Path, problem: &dyn std::fmt::Display) -> Failure {
    let mut text = format!("{}: {problem:#}", file.display());
    for log in SIDE_FILES
        .map(|suffix| with_suffix(file, suffix))
        .iter()
        .filter(|log| has_content(log))
    {
        text.push_str(&format!(
            "; the changes in {} were applied: move it away if it is of another database",
            log.display()
        ));
    }
    Failure {
        code: DATA,
        error: anyhow!(text),
    }
}

/// Changes to a database that are not in its file yet.
const SIDE_FILES: [&str; 2] = ["-wal", "-journal"];

fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.len() > 0)
}

/// Copies a database together with the changes that are still in its log, as a service that was killed leaves them.
fn copy_database(file: &Path, target: &Path) -> Result<(), Failure> {
    if let Some(owner) = sqlite::owner(file) {
        let error = anyhow!(
            "{} is in use by process {}; save it with `backup`, and restore what that writes",
            file.display(),
            owner.pid
        );
        return Err(Failure {
            code: UNAVAILABLE,
            error,
        });
    }
    sqlite::refuse_other_name(file)?;
    for suffix in ["", SIDE_FILES[0], SIDE_FILES[1]] {
        let (from, to) = (with_suffix(file, suffix), with_suffix(target, suffix));
        if suffix.is_empty() || has_content(&from) {
            std::fs::copy(&from, &to).map_err(file_error(&from))?;
            private(&to)?;
        }
    }
    Ok(())
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
    Ok(port::export(
        snapshot.as_mut(),
        &mut std::io::sink(),
        &failed,
        &mut |_| {},
    )
    .await?)
}

pub(super) fn is_sqlite(path: &Path) -> Result<bool, Failure> {
    let mut begin = Vec::new();
    if !path.exists() {
        let error = anyhow!(
            "there is no file {}; name one that `backup` or `export` wrote",
            path.display()
        );
        return Err(Failure { code: USAGE, error });
    }
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        return Err(Failure {
            code: USAGE,
            error: anyhow!("{} is not a regular file", path.display()),
        });
    }
    let file = std::fs::File::open(path).map_err(file_error(path))?;
    file.take(SQLITE.len() as u64)
        .read_to_end(&mut begin)
        .map_err(file_error(path))?;
    Ok(begin == SQLITE)
}

fn private(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(file_error(path))?;
    }
    Ok(())
}

pub(super) fn backup(args: &BackupArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    runtime()?.block_on(async {
        // A link without a target is there, too.
        if args.file.exists() || args.file.is_symlink() {
            let error = anyhow!("{} exists already; name another file", args.file.display());
            return Err(Failure { code: USAGE, error });
        }
        require_folder(&args.file)?;
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
        // Beside the backup: the disk of the database may be full.
        let scratch = Scratch::new(with_suffix(draft.place(), ".scratch"), &local)?;
        let Restored { records: restored, repaired } = scratch.restore(draft.place()).await?;
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
        for Finding { detail, remedy, .. } in repaired {
            note(&format!("warning: {detail}. The backup is complete, and a restore repairs this; here, {remedy}."));
        }
        if saved.is_none() {
            note(
                "The service wrote all the time. The backup is that of one moment, and sound, but it could not be compared \
                 with the database.",
            );
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
            let error = StoreError::InUse {
                path: path.display().to_string(),
                pid: owner.pid,
                url: owner.url,
            };
            return Err(stop_first(error, "restore"));
        }
        if local.embedded.is_none() {
            local.store.prepare().await?;
        }
        let empty = is_empty(&local).await;
        if !args.replace && !empty.as_ref().is_ok_and(|empty| *empty) {
            let error = match empty {
                Err(error) => {
                    anyhow::Error::from(error).context("the database that is there cannot be read")
                }
                Ok(_) => anyhow!("the database is not empty"),
            };
            let error = error.context("nothing was restored; --replace keeps aside what is there");
            return Err(Failure { code: USAGE, error });
        }
        let scratch = Scratch::new(scratch_path(&settings, "scratch")?, &local)?;
        let Restored {
            records: restored, ..
        } = scratch.restore(&args.file).await?;
        let present = present_tokens(&settings, &local).await?;
        let tokens = Tokens::of(&scratch, present, args.keep_tokens).await?;
        let aside = match &settings.database {
            Database::Sqlite { path } => {
                scratch.store.replace_tokens(&tokens.in_force).await?;
                scratch.store.close().await;
                swap(&Scratch::file(&scratch.folder), &file_itself(path))?
            }
            Database::Postgres(_) => {
                let aside = refill(&settings, &scratch, empty.unwrap_or(false), &restored).await?;
                scratch.store.close().await;
                add_tokens(&settings, &tokens.added).await?;
                aside
            }
        };
        tokens.tell(args.keep_tokens);
        say(&format!(
            "{}, {} of them memories, restored (sha256 {:.16}…)\n",
            counted(restored.records, "record"),
            restored.memories,
            restored.sha256
        ))?;
        if let Some(aside) = aside {
            say(&format!(
                "What was there before is in {}\n",
                aside.display()
            ))?;
        }
        Ok(0)
    })
}

async fn is_empty(local: &Local) -> Result<bool, StoreError> {
    local.store.is_empty().await
}

fn aside_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".before-restore-{}",
        SystemClock.now().format("%Y%m%dT%H%M%SZ")
    ));
    name.into()
}

/// The tokens to restore and to keep.
struct Tokens {
    /// Those of the file that are valid.
    of_file: Vec<String>,
    /// Those of the file that the database gets.
    added: Vec<StoredToken>,
    /// All that the database has in the end.
    in_force: Vec<StoredToken>,
}

impl Tokens {
    /// Tokens that are in force stay so. Those of the file come back only on request, because the file may be somebody
    /// else's, and never against a token of the same name, which may have been revoked since.
    async fn of(scratch: &Scratch, present: Vec<StoredToken>, keep: bool) -> Result<Self, Failure> {
        let stored = scratch.store.tokens().await?;
        let valid: Vec<StoredToken> = stored
            .into_iter()
            .filter(|stored| stored.token.revoked_at.is_none())
            .collect();
        let of_file = valid
            .iter()
            .map(|stored| format!("{:?}", stored.token.name))
            .collect();
        let is_new = |stored: &StoredToken| {
            !present
                .iter()
                .any(|known| known.token.name == stored.token.name || known.sha256 == stored.sha256)
        };
        let added: Vec<StoredToken> = if keep {
            valid.into_iter().filter(is_new).collect()
        } else {
            Vec::new()
        };
        let in_force = present.into_iter().chain(added.iter().cloned()).collect();
        Ok(Self {
            of_file,
            added,
            in_force,
        })
    }

    fn tell(&self, keep: bool) {
        if self.of_file.is_empty() {
            return;
        }
        let names = self.of_file.join(", ");
        if keep {
            let added: Vec<String> = self
                .added
                .iter()
                .map(|stored| format!("{:?}", stored.token.name))
                .collect();
            let added = if added.is_empty() {
                "none".to_owned()
            } else {
                added.join(", ")
            };
            note(&format!(
                "Tokens in the file: {names}; restored: {added}. A token of the same name here takes precedence."
            ));
        } else {
            note(&format!(
                "Tokens in the file: {names}; they were not restored. Repeat with --replace --keep-tokens if you trust \
                 whoever has them, or make new ones with `token create`."
            ));
        }
    }
}

/// The tokens of the embedded database that is to be replaced, revoked ones included. PostgreSQL keeps its own.
async fn present_tokens(settings: &Settings, local: &Local) -> Result<Vec<StoredToken>, Failure> {
    let exists = match &settings.database {
        Database::Sqlite { path } => std::fs::metadata(path).is_ok_and(|data| data.len() > 0),
        Database::Postgres(_) => false,
    };
    if !exists {
        return Ok(Vec::new());
    }
    // Opened and closed, the database is one file without a log beside it. One that cannot be opened is kept as it is.
    let tokens = match local.store.prepare().await {
        Ok(()) => local.store.tokens().await,
        Err(error @ StoreError::InUse { .. }) => return Err(stop_first(error, "restore")),
        Err(error) => Err(error),
    };
    local.store.close().await;
    Ok(tokens.unwrap_or_else(|error| {
        note(&format!(
            "The tokens of the present database cannot be read ({error}), and are not kept."
        ));
        Vec::new()
    }))
}

async fn add_tokens(settings: &Settings, tokens: &[StoredToken]) -> Result<(), Failure> {
    if tokens.is_empty() {
        return Ok(());
    }
    let local = writable(settings, "restore").await?;
    for token in tokens {
        match local.store.create_token(token).await {
            Ok(()) | Err(StoreError::TokenExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    local.store.close().await;
    Ok(())
}

/// Puts the new file in the place of the old one, and returns where the old one is now. A log or journal of the old one must
/// not stay, because SQLite would apply it to the new one.
fn swap(new: &Path, path: &Path) -> Result<Option<PathBuf>, Failure> {
    let name = aside_name(path);
    let mut moved = Vec::new();
    let result = swap_files(new, path, &name, &mut moved);
    if let Err(failure) = result {
        for (from, to) in moved.iter().rev() {
            // The first failure is reported; its message names the file.
            let _ = std::fs::rename(to, from);
        }
        return Err(failure);
    }
    sync_folder(path)?;
    Ok((!moved.is_empty()).then_some(name))
}

fn swap_files(
    new: &Path,
    path: &Path,
    aside: &Path,
    moved: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<(), Failure> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(aside, suffix));
        if from.exists() || from.is_symlink() {
            std::fs::rename(&from, &to).map_err(file_error(&from))?;
            moved.push((from, to));
        }
    }
    std::fs::rename(new, path).map_err(file_error(path))?;
    Ok(())
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
        builder
            .recursive(true)
            .create(&settings.data_dir)
            .map_err(file_error(&settings.data_dir))?;
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
    let imports = Imports {
        project: None,
        keep_going: false,
        conflicts: port::Conflicts::Report,
    };
    let size = std::fs::metadata(&file)
        .map(|data| data.len())
        .unwrap_or_default();
    let bar = super::port::bar("restoring", size, true);
    let report = port::import(&*local.store, &file, &imports, &mut |done| {
        bar.set_position(done)
    })
    .await;
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
            aside
                .map(|aside| format!(" (what was there before is in {})", aside.display()))
                .unwrap_or_default()
        );
        return Err(Failure {
            code: INTERNAL,
            error,
        });
    }
    Ok(aside)
}
