//! `backup` and `restore`.
//!
//! A backup of the embedded database is a complete SQLite file; one of a PostgreSQL database is an export, which either
//! database takes. Both are tried before they get their name: they are restored into a scratch database, which is
//! checked and compared record by record with what was to be saved. Both kinds end with a checksum. A restore does the same, so the present database is
//! replaced only after the new one is complete, and is kept aside.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;

use super::export::write_all;
use super::files::{
    Draft, create_private_folder, file_error, is_sqlite, make_private, require_folder,
    resolve_links, scratch_path, sync_folder, with_suffix,
};
use super::open_store::{
    OpenedStore, create_store, explain_in_use, export_scope, open_readable, open_writable,
};
use super::output::{describe_records, print_note, print_result, progress_bar, with_causes};
use super::{DATA, Failure, USAGE, fail, load_settings, start_runtime};
use crate::config::{Database, Settings, Sources};
use crate::domain::count::count_of;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::secrets::SecretPolicy;
use crate::domain::{Clock, Scope, SystemClock};
use crate::store::port::PortStore;
use crate::store::sqlite::{self, Checksum, SqliteOptions, SqliteStore};
use crate::store::{CheckStore, Finding, Pace, Store, StoreError, StoredToken, TokenStore};
use crate::transfer::{self, Exported, Imports};

/// Maximum number of attempts to copy a database without a concurrent write.
const MOST_COPIES: usize = 3;

#[derive(Args)]
pub(super) struct BackupArgs {
    /// File to write
    file: PathBuf,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// Replace the present data, which is kept aside
    #[arg(long)]
    replace: bool,
    /// Also restore the tokens in the file; without this option only the present tokens stay valid
    #[arg(long)]
    keep_tokens: bool,
    /// File that `backup` or `export` wrote
    file: PathBuf,
}

/// A store in its own folder, removed when dropped.
struct Scratch {
    folder: PathBuf,
    store: Arc<SqliteStore>,
}

/// The result of restoring a file.
struct Restored {
    records: Exported,
    /// Damage of derived data, which the restore repairs.
    repaired: Vec<Finding>,
    /// Whether the file has a checksum.
    has_checksum: bool,
}

impl Scratch {
    fn database_path(folder: &Path) -> PathBuf {
        folder.join("memory.db")
    }

    /// Creates the folder, accessible only to this user.
    fn new(folder: PathBuf, local: &OpenedStore) -> Result<Self, Failure> {
        create_private_folder(&folder, false)?;
        let store = SqliteStore::open(
            SqliteOptions::new(Self::database_path(&folder)),
            Arc::clone(&local.analyzer),
        );
        Ok(Self {
            folder,
            store: Arc::new(store),
        })
    }

    /// Restores a file to the scratch database.
    async fn restore_file(&self, file: &Path) -> Result<Restored, Failure> {
        let has_checksum = if is_sqlite(file)? {
            self.restore_database(file).await?
        } else {
            self.import_export(file).await?;
            true
        };
        let repaired = self.repair_index(file).await?;
        if !has_checksum {
            self.refuse_damaged_pages(file).await?;
        }
        Ok(Restored {
            records: hash_records(&*self.store).await?,
            repaired,
            has_checksum,
        })
    }

    /// Copies a database and opens the copy. Returns whether the file has a checksum, which is correct.
    async fn restore_database(&self, file: &Path) -> Result<bool, Failure> {
        let copied = Self::database_path(&self.folder);
        copy_database(file, &copied)?;
        let checksum = sqlite::take_checksum(&copied).map_err(file_error(&copied))?;
        let opened = self.store.prepare().await;
        opened.map_err(|error| data_error(file, &with_causes(&error.into())))?;
        if checksum == Checksum::Wrong {
            // A more precise finding comes first.
            self.repair_index(file).await?;
            let problem = "the file differs from its checksum, so it was damaged or changed after the backup; restore \
                           another backup";
            return Err(data_error(file, &problem));
        }
        Ok(checksum == Checksum::Correct)
    }

    /// Reads every page of a database without a checksum.
    async fn refuse_damaged_pages(&self, file: &Path) -> Result<(), Failure> {
        let findings = self.store.inspect_deeply(Pace::FULL_SPEED).await?;
        let damage = findings
            .iter()
            .find(|finding| !finding.subject.is_derived());
        damage.map_or(Ok(()), |finding| {
            Err(data_error(file, &format!("damaged: {}", finding.detail)))
        })
    }

    async fn import_export(&self, file: &Path) -> Result<(), Failure> {
        let checked = transfer::check_file(file, SecretPolicy::Allow, &mut |_| {})?;
        if let Some(problem) = checked.problems.first.first() {
            return Err(data_error(file, problem));
        }
        self.store.prepare().await?;
        let imports = Imports {
            project: None,
            keep_going: false,
            conflicts: transfer::Conflicts::Report,
            secrets: SecretPolicy::Allow,
        };
        let report = transfer::import_file(&*self.store, file, &imports, &mut |_| {}).await?;
        report
            .problems
            .first
            .first()
            .map_or(Ok(()), |problem| Err(data_error(file, problem)))
    }

    /// Refuses damaged memories, and repairs a damaged word index.
    async fn repair_index(&self, file: &Path) -> Result<Vec<Finding>, Failure> {
        let findings = self.store.inspect().await?;
        if let Some(finding) = findings
            .iter()
            .find(|finding| !finding.subject.is_derived())
        {
            return Err(data_error(file, &format!("damaged: {}", finding.detail)));
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
    Failure::new(DATA, anyhow!(text))
}

/// Suffixes of files with changes that are not in the database file yet.
const SIDE_FILES: [&str; 2] = ["-wal", "-journal"];

fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.len() > 0)
}

/// Copies a database together with the changes that are still in its log, as a service that was killed leaves them.
fn copy_database(file: &Path, target: &Path) -> Result<(), Failure> {
    if let Some(owner) = sqlite::owner(file) {
        fail!(
            UNAVAILABLE,
            "{} is in use by process {}; save it with `backup`, and restore the file that it writes",
            file.display(),
            owner.pid
        );
    }
    sqlite::refuse_other_name(file)?;
    for suffix in ["", SIDE_FILES[0], SIDE_FILES[1]] {
        let (from, to) = (with_suffix(file, suffix), with_suffix(target, suffix));
        if suffix.is_empty() || has_content(&from) {
            std::fs::copy(&from, &to).map_err(file_error(&from))?;
            make_private(&to)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the number of records, and a hash of all records.
async fn hash_records(store: &dyn Store) -> Result<Exported, Failure> {
    let scope = Scope::new(DEFAULT_PROJECT, "backup").reading(store.projects().await?);
    let mut snapshot = store.snapshot(&scope).await?;
    let failed = file_error(Path::new("the records"));
    Ok(transfer::export_snapshot(
        snapshot.as_mut(),
        &mut std::io::sink(),
        &failed,
        &mut |_| {},
    )
    .await?)
}

pub(super) fn backup(args: &BackupArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    start_runtime()?.block_on(async {
        // A link without a target exists, too.
        if args.file.exists() || args.file.is_symlink() {
            fail!(USAGE, "{} already exists; name another file", args.file.display());
        }
        require_folder(&args.file)?;
        let local = open_readable(&settings).await?;
        let draft = Draft::new(&args.file);
        let saved = match &settings.database {
            Database::Sqlite { path } => {
                let saved = copy_while_running(&local, path, &draft).await?;
                sqlite::append_checksum(draft.draft_path()).map_err(file_error(&args.file))?;
                saved
            }
            Database::Postgres(_) => {
                let scope = export_scope(&local, None).await?;
                let mut out = BufWriter::new(draft.create_file()?);
                Some(write_all(&local, &scope, &mut out, &file_error(&args.file)).await?)
            }
        };
        // Next to the backup, because the disk of the database may be full.
        let scratch = Scratch::new(with_suffix(draft.draft_path(), ".scratch"), &local)?;
        let Restored { records: restored, repaired, .. } = scratch.restore_file(draft.draft_path()).await?;
        scratch.store.close().await;
        if let Some(saved) = saved.as_ref().filter(|saved| **saved != restored) {
            fail!(INTERNAL, "the backup was discarded, because it differs from the database: {} became {}",
                count_of(saved.records, "record"),
                restored.records);
        }
        draft.finish_file()?;
        local.store.close().await;
        for Finding { detail, remedy, .. } in repaired {
            print_note(&format!("warning: {detail}. The backup is complete, and a restore repairs this; for the present database, {remedy}."));
        }
        if saved.is_none() {
            print_note(
                "The service wrote during the backup. The backup is complete and consistent, but could not be compared with \
                 the database.",
            );
        }
        print_result(&format!(
            "{}: {}, verified by a restore (sha256 {:.16}…)\n",
            args.file.display(),
            describe_records(restored.records, restored.memories),
            restored.sha256
        ))?;
        Ok(0)
    })
}

/// Copies the file, and returns its hash if nothing was written meanwhile.
async fn copy_while_running(
    local: &OpenedStore,
    path: &Path,
    draft: &Draft,
) -> Result<Option<Exported>, Failure> {
    let mut before = hash_records(&*local.store).await?;
    for _ in 0..MOST_COPIES {
        let _ = std::fs::remove_file(draft.draft_path());
        draft.create_file()?;
        sqlite::copy(path, draft.draft_path()).await?;
        let after = hash_records(&*local.store).await?;
        if before == after {
            return Ok(Some(after));
        }
        before = after;
    }
    Ok(None)
}

/// How a file replaces the database.
pub(super) struct RestoreOptions {
    /// The command, for errors.
    pub(super) what: &'static str,
    pub(super) replace: bool,
    pub(super) keep_tokens: bool,
    /// The records that the file replaces, if the database must not have changed since they were read.
    pub(super) present: Option<Exported>,
}

impl RestoreOptions {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            replace: false,
            keep_tokens: false,
            present: None,
        }
    }
}

pub(super) fn restore(args: &RestoreArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let options = RestoreOptions {
        replace: args.replace,
        keep_tokens: args.keep_tokens,
        ..RestoreOptions::new("restore")
    };
    start_runtime()?.block_on(async {
        restore_file(&settings, &args.file, options).await?;
        Ok(0)
    })
}

/// Fails if a service has the embedded database open.
pub(super) fn refuse_running_service(settings: &Settings, what: &str) -> Result<(), Failure> {
    if let Database::Sqlite { path } = &settings.database
        && let Some(owner) = sqlite::owner(path)
    {
        let error = StoreError::InUse {
            path: path.display().to_string(),
            pid: owner.pid,
            url: owner.url,
        };
        return Err(explain_in_use(error, what));
    }
    Ok(())
}

/// Fills the database from a file, and prints the result.
pub(super) async fn restore_file(
    settings: &Settings,
    file: &Path,
    options: RestoreOptions,
) -> Result<(), Failure> {
    refuse_running_service(settings, options.what)?;
    let local = create_store(settings)?;
    if local.embedded.is_none() {
        local.store.prepare().await?;
    }
    let empty = is_empty(&local).await;
    if !options.replace && !empty.as_ref().is_ok_and(|empty| *empty) {
        let error = match empty {
            Err(error) => anyhow::Error::from(error).context("the present database cannot be read"),
            Ok(_) => anyhow!("the database is not empty"),
        };
        let error =
            error.context("nothing was restored; with --replace the present data is kept aside");
        return Err(Failure::new(USAGE, error));
    }
    let scratch = Scratch::new(scratch_path(settings, "scratch")?, &local)?;
    let Restored {
        records: restored,
        has_checksum,
        ..
    } = scratch.restore_file(file).await?;
    let present = present_tokens(settings, &local, options.what).await?;
    let tokens = Tokens::choose_tokens(&scratch, present, options.keep_tokens).await?;
    let aside = match &settings.database {
        Database::Sqlite { path } => {
            scratch.store.replace_tokens(&tokens.in_force).await?;
            scratch.store.close().await;
            replace_database(
                &Scratch::database_path(&scratch.folder),
                &resolve_links(path),
            )?
        }
        Database::Postgres(_) => {
            let is_empty = empty.unwrap_or(false);
            let aside = refill_database(settings, &scratch, is_empty, &restored, &options).await?;
            scratch.store.close().await;
            add_tokens(settings, &tokens.added, options.what).await?;
            aside
        }
    };
    tokens.print_summary(options.keep_tokens);
    if !has_checksum {
        print_note(
            "The file has no checksum, because an earlier version wrote it or it is not a backup. Its structure was checked, \
             but a changed character of a text cannot be detected.",
        );
    }
    print_result(&format!(
        "{}, restored (sha256 {:.16}…)\n",
        describe_records(restored.records, restored.memories),
        restored.sha256
    ))?;
    if let Some(aside) = aside {
        print_result(&format!("The previous data is in {}\n", aside.display()))?;
    }
    Ok(())
}

async fn is_empty(local: &OpenedStore) -> Result<bool, StoreError> {
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
    /// All tokens that the database has in the end.
    in_force: Vec<StoredToken>,
}

impl Tokens {
    /// Valid tokens remain valid. Tokens of the file are restored only on request, because the file may come from
    /// another person, and never if a token of the same name exists, which may have been revoked since.
    async fn choose_tokens(
        scratch: &Scratch,
        present: Vec<StoredToken>,
        keep: bool,
    ) -> Result<Self, Failure> {
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

    fn print_summary(&self, keep: bool) {
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
            print_note(&format!(
                "Tokens in the file: {names}; restored: {added}. A present token of the same name takes precedence."
            ));
        } else {
            print_note(&format!(
                "Tokens in the file: {names}; they were not restored. Repeat with --replace --keep-tokens if you trust \
                 their holders, or create new ones with `token create`."
            ));
        }
    }
}

/// Returns all tokens of the embedded database to be replaced. PostgreSQL keeps its own.
async fn present_tokens(
    settings: &Settings,
    local: &OpenedStore,
    what: &str,
) -> Result<Vec<StoredToken>, Failure> {
    let exists = match &settings.database {
        Database::Sqlite { path } => std::fs::metadata(path).is_ok_and(|data| data.len() > 0),
        Database::Postgres(_) => false,
    };
    if !exists {
        return Ok(Vec::new());
    }
    // Opening and closing the database empties its log. A database that cannot be opened is kept as it is.
    let tokens = match local.store.prepare().await {
        Ok(()) => local.store.tokens().await,
        Err(error @ StoreError::InUse { .. }) => return Err(explain_in_use(error, what)),
        Err(error) => Err(error),
    };
    local.store.close().await;
    Ok(tokens.unwrap_or_else(|error| {
        print_note(&format!(
            "The tokens of the present database cannot be read and are not kept: {error}."
        ));
        Vec::new()
    }))
}

async fn add_tokens(
    settings: &Settings,
    tokens: &[StoredToken],
    what: &str,
) -> Result<(), Failure> {
    if tokens.is_empty() {
        return Ok(());
    }
    let local = open_writable(settings, what).await?;
    for token in tokens {
        match local.store.create_token(token).await {
            Ok(()) | Err(StoreError::TokenExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    local.store.close().await;
    Ok(())
}

/// Replaces the old file by the new one, and returns the new path of the old one. A log or journal of the old file must
/// not remain, because SQLite would apply it to the new one.
fn replace_database(new: &Path, path: &Path) -> Result<Option<PathBuf>, Failure> {
    let name = aside_name(path);
    let mut moved = Vec::new();
    if let Err(failure) = swap_files(new, path, &name, &mut moved) {
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

/// Saves and empties the database, and fills it from the scratch one.
async fn refill_database(
    settings: &Settings,
    scratch: &Scratch,
    empty: bool,
    expected: &Exported,
    options: &RestoreOptions,
) -> Result<Option<PathBuf>, Failure> {
    let local = open_writable(settings, options.what).await?;
    let mut aside = None;
    if !empty {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .create(&settings.data_dir)
            .map_err(file_error(&settings.data_dir))?;
        let name = with_suffix(&aside_name(&settings.data_dir.join("postgres")), ".jsonl");
        let draft = Draft::new(&name);
        let scope = export_scope(&local, None).await?;
        let mut out = BufWriter::new(draft.create_file()?);
        let saved = write_all(&local, &scope, &mut out, &file_error(&name)).await?;
        drop(out);
        if options
            .present
            .as_ref()
            .is_some_and(|present| *present != saved)
        {
            fail!(
                UNAVAILABLE,
                "another process wrote to the database meanwhile, so nothing was changed; stop the service and repeat {}",
                options.what
            );
        }
        draft.finish_file()?;
        aside = Some(name);
    }
    let file = scratch.folder.join("restore.jsonl");
    let draft = Draft::new(&file);
    let mut out = BufWriter::new(draft.create_file()?);
    let scope = Scope::new(DEFAULT_PROJECT, "restore").reading(scratch.store.projects().await?);
    let mut snapshot = scratch.store.snapshot(&scope).await?;
    transfer::export_snapshot(snapshot.as_mut(), &mut out, &file_error(&file), &mut |_| {}).await?;
    drop(out);
    draft.finish_file()?;
    if !empty {
        local.store.clear().await?;
    }
    let imports = Imports {
        project: None,
        keep_going: false,
        conflicts: transfer::Conflicts::Report,
        secrets: SecretPolicy::Allow,
    };
    let size = std::fs::metadata(&file)
        .map(|data| data.len())
        .unwrap_or_default();
    let bar = progress_bar("restoring", size, true);
    let report = transfer::import_file(&*local.store, &file, &imports, &mut |done| {
        bar.set_position(done)
    })
    .await;
    bar.finish_and_clear();
    report?;
    let now = hash_records(&*local.store).await?;
    local.store.close().await;
    if now != *expected {
        fail!(
            INTERNAL,
            "the database has {} after the restore instead of {}, because another process wrote to it; stop the \
             service and repeat with --replace{}",
            count_of(now.records, "record"),
            expected.records,
            aside
                .map(|aside| format!(" (the previous data is in {})", aside.display()))
                .unwrap_or_default()
        );
    }
    Ok(aside)
}
