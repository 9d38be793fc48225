//! A file into a database: first every line is read and checked, then the records are stored in portions. Each portion
//! is one transaction and what is there already is left alone, so an import that was interrupted is continued by
//! doing it again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::export::hex;
use super::line::{self, End, Line};
use super::{PortError, Problem, Problems};
use crate::domain::Scope;
use crate::store::Store;
use crate::store::port::{Imported, Record};

/// Records of one transaction.
const PORTION: usize = 200;
/// Text of one transaction, about.
const PORTION_BYTES: usize = 1024 * 1024;
/// A longer line is no record.
const LONGEST_LINE: u64 = 256 * 1024 * 1024;

/// What a look at a file found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records that can be stored.
    pub records: u64,
    /// Hash of the record lines.
    pub sha256: String,
    /// Everything else.
    pub problems: Problems,
}

/// How an import is done.
#[derive(Debug, Clone)]
pub struct Imports {
    /// Where records go; `None` leaves them in the project they name.
    pub project: Option<String>,
    /// Store what can be stored, and report the rest.
    pub keep_going: bool,
}

/// What became of a file's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Stored.
    pub created: u64,
    /// There already.
    pub present: u64,
    /// Left out, and why.
    pub problems: Problems,
}

/// A line, or what it is instead of text, and whether it ended as a line does.
type Text<'a> = (Result<&'a str, String>, bool);

/// The lines of a file, with their numbers.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, PortError> {
        let file = File::open(path).map_err(|source| PortError::File { path: path.to_owned(), source })?;
        let reader = BufReader::with_capacity(64 * 1024, file);
        Ok(Self { path: path.to_owned(), reader, number: 0, bytes: 0, buffer: Vec::new() })
    }

    fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// The next line.
    fn next(&mut self) -> Result<Option<Text<'_>>, PortError> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(LONGEST_LINE);
        let count = limited
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| PortError::File { path: self.path.clone(), source })?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += count as u64;
        let whole = self.buffer.last() == Some(&b'\n');
        let text = std::str::from_utf8(&self.buffer).map_err(|error| format!("this is not UTF-8 text ({error})"));
        Ok(Some((text, whole)))
    }
}

/// Reads a file to its end.
///
/// # Errors
/// When the file cannot be read, or is no export at all; whatever is wrong inside of it is in the answer.
pub fn check(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Checked, PortError> {
    let mut checked = Checked::default();
    let mut hash = Sha256::new();
    let end = walk(path, &mut checked.problems, &mut |record, text, bytes| {
        hash.update(text.as_bytes());
        checked.records += u64::from(record.is_some());
        progress(bytes);
    })?;
    checked.sha256 = hex(&hash.finalize());
    if let Some((place, end)) = end
        && checked.problems.count == 0
        && (end.records != checked.records || end.sha256 != checked.sha256)
    {
        checked.problems.add(
            place,
            format!(
                "the file is not as it was written: {} records with hash {:.12}… are expected, {} with {:.12}… were read",
                end.records, end.sha256, checked.records, checked.sha256
            ),
        );
    }
    Ok(checked)
}

/// Gives every line between header and end to `each`, with the record if it is one. Returns the end line.
fn walk(
    path: &Path,
    problems: &mut Problems,
    each: &mut dyn FnMut(Option<Record>, &str, u64),
) -> Result<Option<(String, End)>, PortError> {
    let mut lines = Lines::open(path)?;
    let problem = |place: String, text: String| PortError::Problem(Problem { place, text });
    match lines.next()? {
        None => return Err(problem(path.display().to_string(), "the file is empty".to_owned())),
        Some((text, _)) => {
            text.and_then(|text| line::read_header(text.trim())).map_err(|text| problem("line 1".to_owned(), text))?;
        }
    }
    let mut end: Option<(String, End)> = None;
    loop {
        let place = format!("line {}", lines.number + 1);
        let bytes = lines.bytes;
        let Some((text, whole)) = lines.next()? else { break };
        if end.is_some() {
            problems.add(place, "there is something behind the end line");
            break;
        }
        match text.and_then(|text| Ok((text, line::read(text.trim())?))) {
            Ok((text, Line::Record(record))) if whole => each(Some(record), text, bytes),
            Ok((_, Line::End(found))) => end = Some((place, found)),
            Ok((text, Line::Record(record))) => {
                each(Some(record), text, bytes);
            }
            Err(_) if !whole => {
                problems.add(place, "the line is cut: the file was not written, or not copied, to its end");
                return Ok(None);
            }
            Err(error) => {
                problems.add(place, error);
                each(None, text_of(&lines.buffer), bytes);
            }
        }
    }
    if end.is_none() {
        problems.add(
            lines.place(),
            "the file ends here without its end line: it was not written, or not copied, to its end",
        );
    }
    Ok(end)
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Stores the records of a file that was [`check`]ed.
///
/// # Errors
/// When the file cannot be read or the database fails. What was stored until then stays, and is `present` next time.
pub async fn import(
    store: &dyn Store,
    path: &Path,
    imports: &Imports,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, PortError> {
    let mut report = Report::default();
    let mut lines = Lines::open(path)?;
    lines.next()?;
    let mut portion = Portion::default();
    loop {
        let place = format!("line {}", lines.number + 1);
        let Some((text, _)) = lines.next()? else { break };
        let read = text.and_then(|text| Ok((text.len(), line::read(text.trim())?)));
        let (length, record) = match read {
            Ok((length, Line::Record(record))) => (length, record),
            Ok((_, Line::End(_))) => break,
            Err(error) => {
                report.problems.add(place, error);
                continue;
            }
        };
        let project = imports.project.clone().unwrap_or_else(|| record.project().to_owned());
        if portion.is_full(length, &project) {
            portion.store(store, &mut report).await?;
        }
        portion.add(place, record, length, project);
        progress(lines.bytes);
    }
    portion.store(store, &mut report).await?;
    progress(lines.bytes);
    Ok(report)
}

#[derive(Default)]
struct Portion {
    project: String,
    places: Vec<String>,
    records: Vec<Record>,
    bytes: usize,
}

impl Portion {
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

    async fn store(&mut self, store: &dyn Store, report: &mut Report) -> Result<(), PortError> {
        if self.records.is_empty() {
            return Ok(());
        }
        let scope = Scope::new(&self.project, "import");
        let answers = store.import(&scope, &self.records).await?;
        for (place, answer) in self.places.drain(..).zip(answers) {
            match answer {
                Imported::Created => report.created += 1,
                Imported::Present => report.present += 1,
                Imported::Refused(why) => report.problems.add(place, why),
            }
        }
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}
