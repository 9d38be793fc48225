//! Imports a file into a database: first every line is read and checked, then the records are stored in portions. Each
//! portion is one transaction, and existing records are left unchanged, so that repeating an interrupted import
//! continues it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::conflict::{Conflicts, Renamed};
use super::export::to_hex;
use super::format::{self, End, Line};
use super::report::Report;
use super::screen::screen_line;
use super::source::text::{TextReader, next_raw_line};
use super::{Problem, Problems, TransferError, conflict};
use crate::domain::Scope;
use crate::domain::secrets::SecretPolicy;
use crate::store::Store;
use crate::store::port::{Imported, Record};

/// Maximum number of records per transaction.
const PORTION: usize = 200;
/// Approximate maximum size of the records of a transaction.
const PORTION_BYTES: usize = 1024 * 1024;
/// Maximum size of a record line.
const LONGEST_LINE: usize = 256 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// The result of checking a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records that can be stored.
    pub records: u64,
    /// Hash of the record lines.
    pub sha256: String,
    /// Lines that cannot be stored.
    pub problems: Problems,
}

/// How an import is done.
#[derive(Debug, Clone)]
pub struct Imports {
    /// The target project; `None` keeps the project that each record names.
    pub project: Option<String>,
    /// Whether to store valid records and report the others.
    pub keep_going: bool,
    /// Handling of memories that are already stored with another text.
    pub conflicts: Conflicts,
    /// Handling of credentials in the records.
    pub secrets: SecretPolicy,
}

/// A line, or the reason why it is not text, and whether it ends with a line end.
type Text<'a> = (Result<&'a str, String>, bool);

/// The lines of a file, with their numbers.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    bytes: u64,
    /// The line that was read last, with its line end, which the hash includes.
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, TransferError> {
        let failed = |source| TransferError::File {
            path: path.to_owned(),
            source,
        };
        let reader = File::open(path).and_then(decode_file).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            number: 0,
            bytes: 0,
            line: Vec::new(),
        })
    }

    fn current_line(&self) -> String {
        format!("line {}", self.number)
    }

    /// Returns the next line.
    fn next_line(&mut self) -> Result<Option<Text<'_>>, TransferError> {
        let read = next_raw_line(&mut self.reader, LONGEST_LINE);
        let read = read.map_err(|source| TransferError::File {
            path: self.path.clone(),
            source,
        })?;
        let Some(line) = read else { return Ok(None) };
        self.number += 1;
        self.bytes += line.length;
        let Some(bytes) = line.bytes else {
            self.line.clear();
            let text = format!("the line is longer than {} MiB", LONGEST_LINE / 1024 / 1024);
            return Ok(Some((Err(text), line.is_terminated)));
        };
        self.line = bytes;
        if line.is_terminated {
            self.line.push(b'\n');
        }
        let text = std::str::from_utf8(&self.line)
            .map_err(|error| format!("this is not UTF-8 text ({error})"));
        Ok(Some((text, line.is_terminated)))
    }
}

/// Removes a byte order mark, and decodes UTF-16, which some shells write when they redirect an export.
fn decode_file(file: File) -> io::Result<Box<dyn BufRead + Send>> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut begin = Vec::new();
    (&mut reader).take(3).read_to_end(&mut begin)?;
    let rest = |begin: Vec<u8>, reader| io::Cursor::new(begin).chain(reader);
    Ok(match begin.as_slice() {
        [0xef, 0xbb, 0xbf] => Box::new(reader),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Box::new(TextReader::new(rest(begin, reader))),
        _ => Box::new(rest(begin, reader)),
    })
}

/// Reads a file to its end. `secrets` is the policy of the import that follows.
///
/// # Errors
/// Fails if the file is not readable or not an export; the result contains the problems inside the file.
pub fn check_file(
    path: &Path,
    secrets: SecretPolicy,
    progress: &mut dyn FnMut(u64),
) -> Result<Checked, TransferError> {
    let mut checked = Checked::default();
    let mut hash = Sha256::new();
    let mut each = |record: Option<Record>, text: &str, bytes| {
        hash.update(text.as_bytes());
        checked.records += u64::from(record.is_some());
        progress(bytes);
    };
    let end = walk_lines(path, secrets, &mut checked.problems, &mut each)?;
    checked.sha256 = to_hex(&hash.finalize());
    if let Some((place, end)) = end
        && checked.problems.count == 0
        && (end.records != checked.records || end.sha256 != checked.sha256)
    {
        checked.problems.add(
            place,
            format!(
                "the file was changed after it was written: expected {} records with hash {:.12}…, got {} with {:.12}…",
                end.records, end.sha256, checked.records, checked.sha256
            ),
        );
    }
    Ok(checked)
}

/// Passes every line between header and end to `each`, with the record if it is one. Returns the end line.
fn walk_lines(
    path: &Path,
    secrets: SecretPolicy,
    problems: &mut Problems,
    each: &mut dyn FnMut(Option<Record>, &str, u64),
) -> Result<Option<(String, End)>, TransferError> {
    let mut lines = Lines::open(path)?;
    let problem = |place: String, text: String| TransferError::Problem(Problem { place, text });
    match lines.next_line()? {
        None => {
            return Err(problem(
                path.display().to_string(),
                "the file is empty".to_owned(),
            ));
        }
        Some((text, _)) => {
            text.and_then(|text| format::read_header(text.trim()))
                .map_err(|text| problem("line 1".to_owned(), text))?;
        }
    }
    let mut end: Option<(String, End)> = None;
    let mut is_behind_end = false;
    loop {
        let place = format!("line {}", lines.number + 1);
        let bytes = lines.bytes;
        let Some((text, whole)) = lines.next_line()? else {
            break;
        };
        if end.is_some() && !is_behind_end {
            is_behind_end = true;
            problems.add(
                &place,
                "there is text after the end line, such as another export",
            );
        }
        let is_header = is_header(&text);
        match text.and_then(|text| Ok((text, read_screened_line(text, secrets)?.0))) {
            Ok((text, Line::Record(record))) if whole => each(Some(record), text, bytes),
            Ok((_, Line::End(found))) => end = Some((place, found)),
            Ok((text, Line::Record(record))) => {
                each(Some(record), text, bytes);
            }
            Err(_) if !whole => {
                problems.add(
                    place,
                    "the line is cut: the file was not written or copied completely",
                );
                return Ok(None);
            }
            Err(_) if is_behind_end && is_header => {}
            Err(error) => {
                problems.add(place, error);
                each(None, text_of(&lines.line), bytes);
            }
        }
    }
    if end.is_none() {
        problems.add(
            lines.current_line(),
            "the end line is missing: the file was not written or copied completely",
        );
    }
    Ok(end)
}

/// Reads a line after the policy for credentials was applied to it. Returns a note if it was changed.
fn read_screened_line(text: &str, secrets: SecretPolicy) -> Result<(Line, Option<String>), String> {
    let screened = screen_line(text.trim(), secrets)?;
    Ok((format::read_line(&screened.text)?, screened.note))
}

/// Returns whether a line begins an export.
fn is_header(text: &Result<&str, String>) -> bool {
    text.as_ref().is_ok_and(|text| {
        text.starts_with("{\"format\"") && format::read_header(text.trim()).is_ok()
    })
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Stores the records of a file that was checked by [`check_file`]; lines that it reported are skipped.
///
/// # Errors
/// Fails if the file is not readable or the database fails. Records that were stored before the failure remain, and
/// are `present` next time.
pub async fn import_file(
    store: &dyn Store,
    path: &Path,
    imports: &Imports,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, TransferError> {
    let mut report = Report::default();
    let mut lines = Lines::open(path)?;
    lines.next_line()?;
    let mut portion = Portion::new(imports.conflicts);
    loop {
        let place = format!("line {}", lines.number + 1);
        let Some((text, _)) = lines.next_line()? else {
            break;
        };
        let read = text.and_then(|text| {
            let (line, note) = read_screened_line(text, imports.secrets)?;
            Ok((text.len(), line, note))
        });
        let (length, record, note) = match read {
            Ok((length, Line::Record(record), note)) => (length, record, note),
            // Another export may follow the end. [`check_file`] has reported the unreadable lines.
            Ok((_, Line::End(_), _)) | Err(_) => continue,
        };
        if let Some(note) = note {
            report.warnings.add(place.clone(), note);
        }
        let project = imports
            .project
            .clone()
            .unwrap_or_else(|| record.project().to_owned());
        if portion.is_full(length, &project) {
            portion.store_records(store, &mut report).await?;
        }
        portion.add(place, record, length, project);
        progress(lines.bytes);
    }
    portion.store_records(store, &mut report).await?;
    progress(lines.bytes);
    Ok(report)
}

struct Portion {
    project: String,
    places: Vec<String>,
    records: Vec<Record>,
    bytes: usize,
    conflicts: Conflicts,
    /// Memories of earlier portions that were stored under another ID.
    renamed: Renamed,
}

impl Portion {
    fn new(conflicts: Conflicts) -> Self {
        Self {
            project: String::new(),
            places: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            conflicts,
            renamed: Renamed::default(),
        }
    }

    fn is_full(&self, more: usize, project: &str) -> bool {
        !self.records.is_empty()
            && (self.project != project
                || self.records.len() >= PORTION
                || self.bytes.saturating_add(more) > PORTION_BYTES)
    }

    fn add(&mut self, place: String, record: Record, bytes: usize, project: String) {
        self.project = project;
        self.places.push(place);
        self.records.push(record);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    async fn store_records(
        &mut self,
        store: &dyn Store,
        report: &mut Report,
    ) -> Result<(), TransferError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let scope = Scope::new(&self.project, "import");
        let answers = store.import(&scope, &self.records).await?;
        let batch = conflict::Batch {
            store,
            scope: &scope,
            records: &self.records,
            places: &self.places,
        };
        let contested = batch.find_contested(&answers, self.conflicts).await?;
        for (index, answer) in answers.into_iter().enumerate() {
            if contested.contains_key(&index) {
                continue;
            }
            match answer {
                Imported::Created => report.count_created(&self.records[index]),
                Imported::Present => report.present += 1,
                Imported::Refused(why) => report.problems.add(self.places[index].clone(), why),
            }
        }
        batch
            .store_settlements(contested, &mut self.renamed, report)
            .await?;
        self.places.clear();
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}
