//! A log file that is rotated by size, for hosts without a journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::output::Output;

/// `path`, `path.1` and so on up to a number of files.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    count: u32,
    file: Option<File>,
    /// Whether a write failed halfway, so that the next line must begin with a line end.
    torn: bool,
}

impl RotatingFile {
    /// Opens or creates the file.
    pub(super) fn open(path: &Path, max_bytes: u64, count: u32) -> io::Result<Self> {
        let file = open_file(path)?;
        Ok(Self {
            path: path.to_owned(),
            max_bytes,
            count: count.max(1),
            file: Some(file),
            torn: false,
        })
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        // Another process may have rotated the file, or a person may have moved it.
        let there = fs::metadata(&self.path).ok();
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let is_ours = there
            .as_ref()
            .map(id)
            .is_some_and(|id_there| ours.as_ref().map(id) == Some(id_there));
        if !is_ours {
            self.file = None;
        }
        let size = there.map_or(0, |metadata| metadata.len());
        if size > 0 && size + line.len() as u64 > self.max_bytes {
            self.file = None;
            self.rotate_files()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open_file(&self.path)?),
        };
        if self.torn {
            file.write_all(b"\n")?;
            self.torn = false;
        }
        file.write_all(line).inspect_err(|_| self.torn = true)
    }

    fn rotate_files(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.count == 1 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.count - 1).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(1))
    }
}

/// Opens the file for this user only, because the log shows who did what.
fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|data| data.file_type().is_fifo()) {
        // Opening a named pipe would wait for a reader.
        return Err(io::Error::other("this is a named pipe; name a file"));
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

impl Output for RotatingFile {
    fn write_line(&mut self, line: &[u8]) {
        // A full disk must not stop the service. The line is on the standard output as well.
        if self.try_write(line).is_err() {
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_rotated_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatingFile::open(&path, 100, 3).unwrap();
        for number in 0..100 {
            file.write_line(format!("line number {number:06}\n").as_bytes());
        }
        assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let all = read("log.2") + &read("log.1") + &read("log");
        let expected: String = (100 - all.lines().count()..100)
            .map(|number| format!("line number {number:06}\n"))
            .collect();
        assert_eq!(all, expected, "the last lines, in order, none torn");
        assert!(
            names(directory.path())
                .iter()
                .all(|name| read(name).len() <= 100)
        );
    }

    #[test]
    fn one_file_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatingFile::open(&path, 10, 1).unwrap();
        for _ in 0..10 {
            file.write_line(b"12345678\n");
        }
        assert_eq!(names(directory.path()), ["log"]);
        assert_eq!(fs::read(&path).unwrap(), b"12345678\n");
    }

    #[test]
    fn two_writers_and_a_missing_file_are_survived() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut one = RotatingFile::open(&path, 64, 100).unwrap();
        let mut two = RotatingFile::open(&path, 64, 100).unwrap();
        for _ in 0..20 {
            one.write_line(b"one..............\n");
            two.write_line(b"two..............\n");
        }
        let lines: usize = names(directory.path())
            .iter()
            .map(|name| {
                fs::read_to_string(directory.path().join(name))
                    .unwrap()
                    .lines()
                    .count()
            })
            .sum();
        assert_eq!(lines, 40);
        fs::remove_file(&path).unwrap();
        one.write_line(b"again\n");
        assert_eq!(fs::read(&path).unwrap(), b"again\n");
    }

    #[test]
    fn a_line_longer_than_the_limit_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatingFile::open(&path, 4, 2).unwrap();
        file.write_line(b"longer than that\n");
        file.write_line(b"and once more\n");
        assert_eq!(names(directory.path()), ["log", "log.1"]);
    }

    #[test]
    fn a_directory_that_vanishes_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut file = RotatingFile::open(&inner.join("log"), 100, 2).unwrap();
        fs::remove_dir_all(&inner).unwrap();
        file.write_line(b"lost\n");
        fs::create_dir(&inner).unwrap();
        file.write_line(b"kept\n");
        assert_eq!(fs::read(inner.join("log")).unwrap(), b"kept\n");
    }
}
