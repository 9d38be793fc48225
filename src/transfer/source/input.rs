//! The files that an importer reads: one file, the matching files of a folder, or those of a zip archive.
//!
//! Only files in the path of the caller are read: symbolic links are not followed, and pipes, devices and sockets
//! are not opened. Skipped files are reported. The expanded size of an archive is limited.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use zip::ZipArchive;

use super::text::TextReader;
use crate::transfer::{Problems, TransferError};

/// Maximum depth of nested folders.
const DEEPEST_FOLDER: usize = 64;
/// Maximum number of files of a folder or archive.
const MOST_FILES: usize = 1_000_000;
/// An archive may always expand to this size,
const LEAST_EXPANSION: u64 = 64 * 1024 * 1024;
/// and beyond it to this multiple of its own size. Text rarely compresses to less than a twentieth.
const MOST_EXPANSION_RATIO: u64 = 200;
const BUFFER_BYTES: usize = 64 * 1024;
/// Maximum number of names that an error message suggests.
const SUGGESTED_NAMES: usize = 8;

/// The files that an importer reads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Name of the data for messages.
    pub description: &'static str,
    /// Returns whether the data includes a file of this name, in lower case.
    pub accepts: fn(&str) -> bool,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Archived(usize),
}

/// A file to read.
#[derive(Debug)]
pub struct Input {
    /// Path relative to that of the caller.
    pub name: String,
    /// When it was last changed, if known.
    pub modified: Option<DateTime<Utc>>,
    place: Place,
}

/// The files to read, sorted by name.
pub struct Inputs {
    root: PathBuf,
    archive: Option<ZipArchive<BufReader<File>>>,
    /// Bytes to which the archive may still expand in this pass.
    budget: u64,
    /// The files.
    pub files: Vec<Input>,
    /// Skipped files with the reasons.
    pub skipped: Problems,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("root", &self.root)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Reads a file of [`Inputs`].
pub type InputReader<'a> = TextReader<Box<dyn Read + 'a>>;

impl Inputs {
    /// Finds the files below a path.
    ///
    /// # Errors
    /// Fails if nothing exists at the path, or no wanted file. The message names files that look like wanted
    /// ones.
    pub fn find_files(path: &Path, wanted: Wanted) -> Result<Self, TransferError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, wanted, &error))?;
        let mut inputs = Self {
            root: path.to_owned(),
            archive: None,
            budget: 0,
            files: Vec::new(),
            skipped: Problems::default(),
        };
        if metadata.is_dir() {
            inputs.walk_folder(path, wanted)?;
        } else if !metadata.is_file() {
            let reason = format!(
                "this is {}; name a file or a folder, or - to read standard input",
                describe_kind(&metadata)
            );
            return Err(TransferError::Input {
                path: path.to_owned(),
                reason,
            });
        } else if is_zip(path).map_err(|error| unreadable(path, wanted, &error))? {
            inputs.list_archive(path, wanted)?;
        } else {
            let name = path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned();
            let modified = metadata.modified().ok().map(DateTime::from);
            inputs.files.push(Input {
                name,
                modified,
                place: Place::File(path.to_owned()),
            });
        }
        if inputs.files.is_empty() {
            return Err(inputs.nothing_found(path, wanted, metadata.is_dir()));
        }
        inputs.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(inputs)
    }

    /// Begins another pass over the files.
    pub fn restart_reading(&mut self) {
        self.budget = self.archive_budget();
    }

    /// Opens a file and passes it to `each`. The inner result has the errors of the file itself.
    ///
    /// # Errors
    /// Returns the error of `each`.
    pub fn read<T>(
        &mut self,
        index: usize,
        progress: &dyn Fn(u64),
        each: impl FnOnce(&mut InputReader<'_>) -> Result<T, TransferError>,
    ) -> Result<io::Result<T>, TransferError> {
        let Some(input) = self.files.get(index) else {
            return Ok(Err(io::ErrorKind::NotFound.into()));
        };
        match (&input.place, &mut self.archive) {
            (Place::File(path), _) => match open_regular(path) {
                Ok(file) => {
                    let counted = Counted {
                        reader: file,
                        budget: None,
                        progress,
                    };
                    each(&mut TextReader::new(Box::new(counted))).map(Ok)
                }
                Err(error) => Ok(Err(error)),
            },
            (Place::Archived(number), Some(archive)) => match archive.by_index(*number) {
                Ok(entry) => {
                    let counted = Counted {
                        reader: entry,
                        budget: Some(&mut self.budget),
                        progress,
                    };
                    each(&mut TextReader::new(Box::new(counted))).map(Ok)
                }
                Err(error) => Ok(Err(io::Error::other(error))),
            },
            (Place::Archived(_), None) => Ok(Err(io::ErrorKind::NotFound.into())),
        }
    }

    /// Returns the approximate total size of the files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files
            .iter()
            .map(|input| match &input.place {
                Place::File(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
                Place::Archived(_) => 0,
            })
            .sum()
    }

    fn archive_budget(&self) -> u64 {
        let size = std::fs::metadata(&self.root).map_or(0, |metadata| metadata.len());
        size.saturating_mul(MOST_EXPANSION_RATIO)
            .max(LEAST_EXPANSION)
    }

    fn walk_folder(&mut self, root: &Path, wanted: Wanted) -> Result<(), TransferError> {
        let mut folders = vec![(root.to_owned(), 0)];
        let mut seen = 0_usize;
        while let Some((folder, depth)) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(source) if depth == 0 => return Err(unreadable(root, wanted, &source)),
                Err(error) => {
                    self.skipped.add(
                        self.name_of(&folder),
                        format!("the folder cannot be read: {error}"),
                    );
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.skipped.add(
                            self.name_of(&folder),
                            format!("the folder cannot be read: {error}"),
                        );
                        break;
                    }
                };
                seen += 1;
                if seen > MOST_FILES {
                    self.skipped.add(
                        self.name_of(&folder),
                        format!("more than {MOST_FILES} files: the rest is not read"),
                    );
                    return Ok(());
                }
                if let Some(folder) = self.visit_entry(&entry.path(), wanted) {
                    if depth < DEEPEST_FOLDER {
                        folders.push((folder, depth + 1));
                    } else {
                        let reason = format!("folders deeper than {DEEPEST_FOLDER} are not read");
                        self.skipped.add(self.name_of(&folder), reason);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds an entry of a folder if it is wanted; returns it if it is a folder.
    fn visit_entry(&mut self, path: &Path, wanted: Wanted) -> Option<PathBuf> {
        let file_name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if file_name.starts_with('.') {
            return None;
        }
        let metadata = match std::fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.skipped.add(self.name_of(path), error.to_string());
                return None;
            }
        };
        if metadata.is_dir() {
            return Some(path.to_owned());
        }
        let is_wanted = (wanted.accepts)(&file_name);
        if metadata.is_symlink() {
            // A link to a folder may hide wanted files behind any name.
            if is_wanted || path.is_dir() {
                let target = std::fs::read_link(path)
                    .map(|target| target.display().to_string())
                    .unwrap_or_default();
                let reason = format!(
                    "this symbolic link to {target} is not followed; import its target by itself"
                );
                self.skipped.add(self.name_of(path), reason);
            }
        } else if is_wanted && !metadata.is_file() {
            self.skipped.add(
                self.name_of(path),
                format!("this is {}, which is not read", describe_kind(&metadata)),
            );
        } else if is_wanted {
            let modified = metadata.modified().ok().map(DateTime::from);
            self.files.push(Input {
                name: self.name_of(path),
                modified,
                place: Place::File(path.to_owned()),
            });
        }
        None
    }

    fn list_archive(&mut self, path: &Path, wanted: Wanted) -> Result<(), TransferError> {
        let broken = |error: &dyn std::fmt::Display| TransferError::Input {
            path: path.to_owned(),
            reason: format!(
                "the zip archive cannot be read ({error}); download it again, or unpack it yourself"
            ),
        };
        let file = File::open(path).map_err(|error| broken(&error))?;
        let mut archive = ZipArchive::new(BufReader::with_capacity(BUFFER_BYTES, file))
            .map_err(|error| broken(&error))?;
        for number in 0..archive.len().min(MOST_FILES) {
            let entry = match archive.by_index_raw(number) {
                Ok(entry) => entry,
                Err(error) => {
                    self.skipped
                        .add(format!("entry {}", number + 1), error.to_string());
                    continue;
                }
            };
            let name = entry.name().to_owned();
            let is_hidden = name
                .split('/')
                .any(|part| part.starts_with('.') || part == "__MACOSX");
            let file_name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
            if entry.is_dir() || is_hidden || !(wanted.accepts)(&file_name) {
                continue;
            }
            if entry.is_symlink() {
                self.skipped.add(name, "this symbolic link is not followed");
            } else if entry.encrypted() {
                self.skipped.add(
                    name,
                    "this file is encrypted; unpack the archive yourself and import the folder",
                );
            } else {
                let modified = entry.last_modified().and_then(archived_time);
                self.files.push(Input {
                    name,
                    modified,
                    place: Place::Archived(number),
                });
            }
        }
        self.archive = Some(archive);
        self.budget = self.archive_budget();
        Ok(())
    }

    fn name_of(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.root).unwrap_or(path);
        let name = if name.as_os_str().is_empty() {
            path
        } else {
            name
        };
        name.display().to_string()
    }

    fn nothing_found(&self, path: &Path, wanted: Wanted, is_folder: bool) -> TransferError {
        let mut reason = format!("there is no {} in it", wanted.description);
        if let Some(skipped) = self.skipped.first.first() {
            reason.push_str(&format!("; skipped: {skipped}"));
        }
        if is_folder && let Some(names) = similar_files(path, wanted) {
            reason.push_str(&format!("; files that look like exports: {names}"));
        }
        TransferError::Input {
            path: path.to_owned(),
            reason,
        }
    }
}

/// Opens a file after checking that it is a regular one: opening a pipe would wait for its other end.
fn open_regular(path: &Path) -> io::Result<File> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        // The file of the caller may be a link.
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other(format!(
                "this is {}",
                describe_kind(&metadata)
            )));
        }
    } else if !metadata.is_file() {
        return Err(io::Error::other(format!(
            "this is {}",
            describe_kind(&metadata)
        )));
    }
    File::open(path)
}

/// Returns whether a file is a zip archive, by its first bytes.
///
/// # Errors
/// Fails if it is not readable.
pub fn is_zip(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    open_regular(path)?.take(4).read_to_end(&mut begin)?;
    Ok(begin == *b"PK\x03\x04" || begin == *b"PK\x05\x06")
}

fn archived_time(at: zip::DateTime) -> Option<DateTime<Utc>> {
    let day = chrono::NaiveDate::from_ymd_opt(
        i32::from(at.year()),
        u32::from(at.month()),
        u32::from(at.day()),
    )?;
    let time = day.and_hms_opt(
        u32::from(at.hour()),
        u32::from(at.minute()),
        u32::from(at.second()),
    )?;
    Some(time.and_utc())
}

fn describe_kind(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if metadata.is_dir() {
        "a folder"
    } else {
        "no regular file"
    }
}

/// Explains why a path is not readable, and suggests other files.
pub(super) fn unreadable(path: &Path, wanted: Wanted, error: &io::Error) -> TransferError {
    let mut reason = error.to_string();
    if error.kind() == io::ErrorKind::NotFound {
        reason = "there is no such file or folder".to_owned();
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        match similar_files(parent, wanted) {
            Some(names) => {
                reason.push_str(&format!("; in {} there are: {names}", parent.display()))
            }
            None if parent.is_dir() => {
                reason.push_str(&format!(
                    "; {} has no {} either",
                    parent.display(),
                    wanted.description
                ));
            }
            None => reason.push_str(&format!("; {} is no folder either", parent.display())),
        }
    }
    TransferError::Input {
        path: path.to_owned(),
        reason,
    }
}

/// Returns names of files in a folder that look like exports.
fn similar_files(folder: &Path, wanted: Wanted) -> Option<String> {
    let usual = ["json", "jsonl", "zip", "db", "sqlite"];
    let mut names: Vec<(bool, String)> = std::fs::read_dir(folder)
        .ok()?
        .take(MOST_FILES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| {
            let is_wanted = (wanted.accepts)(&name.to_lowercase());
            let is_usual = name
                .rsplit_once('.')
                .is_some_and(|(_, end)| usual.contains(&end.to_lowercase().as_str()));
            (is_wanted || is_usual).then_some((!is_wanted, name))
        })
        .collect();
    if names.is_empty() {
        return None;
    }
    names.sort();
    let more = names.len().saturating_sub(SUGGESTED_NAMES);
    let names: Vec<String> = names
        .into_iter()
        .take(SUGGESTED_NAMES)
        .map(|(_, name)| name)
        .collect();
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Some(format!("{}{more}", names.join(", ")))
}

/// Counts the bytes that are read, and fails if a budget is used up.
struct Counted<'a, R> {
    reader: R,
    budget: Option<&'a mut u64>,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(budget) = &mut self.budget {
            let rest = budget.checked_sub(count as u64).ok_or_else(|| {
                io::Error::other(
                    "the zip archive expands to far more than text does; if you trust it, unpack it and import the folder",
                )
            })?;
            **budget = rest;
        }
        (self.progress)(count as u64);
        Ok(count)
    }
}

/// Copies the single wanted file of an archive to `out`.
///
/// # Errors
/// Fails if the archive has none or several of them, if it is not readable, or if the copy cannot be written.
pub fn extract_single(
    path: &Path,
    wanted: Wanted,
    out: &mut impl io::Write,
) -> Result<(), TransferError> {
    let mut inputs = Inputs::find_files(path, wanted)?;
    if inputs.files.len() != 1 {
        let names: Vec<&str> = inputs
            .files
            .iter()
            .take(SUGGESTED_NAMES)
            .map(|input| input.name.as_str())
            .collect();
        let reason = format!(
            "it contains several files; unpack it and import them one by one: {}",
            names.join(", ")
        );
        return Err(TransferError::Input {
            path: path.to_owned(),
            reason,
        });
    }
    let failed = |source| TransferError::File {
        path: path.to_owned(),
        source,
    };
    let copied = inputs.read(0, &|_| {}, |reader| io::copy(reader, out).map_err(failed))?;
    copied.map(drop).map_err(failed)
}
