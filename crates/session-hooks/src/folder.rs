//! The folder with the state of hooks: what sessions have seen, transcripts with turns to deliver, turns that came with
//! events, positions in transcripts, and the latest failure.
//!
//! Hooks and one delivery process use it at the same time. A hook writes a job to `waiting`. The delivery moves it to
//! `claimed`, sends the turns, saves the position after each batch, and removes the job at the end. A job that could not
//! be finished stays in `claimed`; a newer event of the same transcript waits beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fingerprint::hash_parts;
use crate::line::Turn;
use crate::private_file::{append_lines, create_folder, open_lock, read_small_file, replace_file};
use crate::session::SessionState;
use crate::transcript::Position;

/// Maximum size of a state file.
const MAX_STATE_BYTES: u64 = 64 * 1024;
/// Maximum size of the turns of a session that came with events and are not delivered yet.
const MAX_SPOOL_BYTES: u64 = 4 * 1024 * 1024;
/// Maximum number of files in each part of the folder.
const MOST_FILES: usize = 500;
/// Time after which state that no event touched is removed.
const LONGEST_REST: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const SESSIONS: &str = "sessions";
const WAITING: &str = "waiting";
const CLAIMED: &str = "claimed";
const POSITIONS: &str = "positions";
const SPOOL: &str = "spool";
const PARTS: [&str; 5] = [SESSIONS, WAITING, CLAIMED, POSITIONS, SPOOL];
const DELIVERED: &str = "delivered.json";
const SPOOL_LOCK: &str = "spool.lock";
const LOCK: &str = "delivery.lock";

/// The two tasks of hooks. Each has a failure of its own, which its next success clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Recalling,
    Storing,
}

impl Operation {
    const ALL: [Self; 2] = [Self::Recalling, Self::Storing];

    fn failure_file(self) -> &'static str {
        match self {
            Self::Recalling => "recalling-failed.json",
            Self::Storing => "storing-failed.json",
        }
    }
}

/// A transcript with turns to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The session under which its turns are stored.
    pub session: String,
    pub transcript: PathBuf,
    /// The project, if the command named one.
    #[serde(default)]
    pub project: Option<String>,
}

/// The latest failure of hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The failure as a sentence without a period.
    pub message: String,
    /// Number of failures since the last success.
    pub count: u64,
    /// Time of the latest, in seconds since 1970.
    pub at: u64,
}

/// An overview for `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of sessions.
    pub sessions: usize,
    /// Number of transcripts with turns that are not delivered.
    pub undelivered: usize,
    /// Time of the last complete delivery, in seconds since 1970.
    pub delivered_at: Option<u64>,
    pub failure: Option<Failure>,
}

/// The reason why state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be written.
    #[error("the state of hooks in {path} cannot be written: {source}")]
    Unwritable { path: String, source: io::Error },
    /// Too many turns are waiting.
    #[error("the queue of this session is full ({MAX_SPOOL_BYTES} bytes); turns lost: {0}")]
    Full(usize),
}

/// The folder.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

/// Held by the process that delivers.
#[derive(Debug)]
pub struct DeliveryLock {
    _file: File,
}

impl StateFolder {
    /// Returns the folder without creating it.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Creates the folder and its parts.
    ///
    /// # Errors
    /// Fails if they cannot be created.
    pub fn prepare(&self) -> Result<(), StateError> {
        PARTS
            .iter()
            .try_for_each(|part| create_folder(&self.path.join(part)))
            .map_err(|source| self.unwritable(source))
    }

    /// Reads the state of a session; a new one if there is none.
    #[must_use]
    pub fn read_session(&self, session: &str) -> SessionState {
        read_json(&self.session_file(session)).unwrap_or_default()
    }

    /// Saves the state of a session.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_session(&self, session: &str, state: &SessionState) -> Result<(), StateError> {
        self.write_json(&self.session_file(session), state)
    }

    /// Adds a transcript with turns to deliver.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn add_job(&self, job: &Job) -> Result<(), StateError> {
        self.write_json(&self.path.join(WAITING).join(job.file_name()), job)
    }

    /// Keeps turns that came with an event, and adds the job to deliver them.
    ///
    /// # Errors
    /// Fails if too many are waiting, or if the file cannot be written.
    pub fn add_turns(
        &self,
        session: &str,
        turns: &[Turn],
        project: Option<&str>,
    ) -> Result<(), StateError> {
        let path = self.path.join(SPOOL).join(file_name(session) + "l");
        let lines: String = turns.iter().map(Turn::to_spool_line).collect();
        let _spool = self.lock_spool()?;
        let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if size + lines.len() as u64 > MAX_SPOOL_BYTES {
            return Err(StateError::Full(turns.len()));
        }
        append_lines(&path, &lines).map_err(|source| self.unwritable(source))?;
        self.add_job(&Job {
            session: session.to_owned(),
            transcript: path,
            project: project.map(str::to_owned),
        })
    }

    /// Returns the lock of the delivery; `None` if another process has it.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub fn try_lock(&self) -> Result<Option<DeliveryLock>, StateError> {
        let file = open_lock(&self.path.join(LOCK)).map_err(|source| self.unwritable(source))?;
        Ok(file
            .try_lock()
            .is_ok()
            .then_some(DeliveryLock { _file: file }))
    }

    /// Returns whether there are jobs, also those that an earlier delivery did not finish.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.has_waiting_jobs() || !list_files(&self.path.join(CLAIMED)).is_empty()
    }

    /// Returns whether jobs were added that no delivery has claimed.
    #[must_use]
    pub fn has_waiting_jobs(&self) -> bool {
        !list_files(&self.path.join(WAITING)).is_empty()
    }

    /// Claims all jobs, and returns them with those that an earlier delivery did not finish. Only the owner of the lock
    /// may call it.
    #[must_use]
    pub fn claim_jobs(&self, _lock: &DeliveryLock) -> Vec<Job> {
        let claimed = self.path.join(CLAIMED);
        for path in list_files(&self.path.join(WAITING)) {
            if let Some(name) = path.file_name() {
                // A job that cannot be moved waits for the next delivery.
                let _ = fs::rename(&path, claimed.join(name));
            }
        }
        let mut jobs = Vec::new();
        for path in list_files(&claimed) {
            match read_json::<Job>(&path) {
                Some(job) => jobs.push(job),
                // It is unreadable for good.
                None => drop(fs::remove_file(&path)),
            }
        }
        jobs
    }

    /// Removes a job whose turns are stored, and the turns that came with events.
    pub fn finish_job(&self, job: &Job, _lock: &DeliveryLock) {
        // If this fails, the next delivery finds nothing new to send.
        let _ = fs::remove_file(self.path.join(CLAIMED).join(job.file_name()));
    }

    /// Removes delivered turns that came with events, unless an event has added others meanwhile.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn trim_spool(&self, job: &Job, delivered: &Position) -> Result<(), StateError> {
        if job.transcript.parent() != Some(&self.path.join(SPOOL)) {
            return Ok(());
        }
        let _spool = self.lock_spool()?;
        let length = fs::metadata(&job.transcript).map_or(0, |metadata| metadata.len());
        if length > 0 && delivered.is_at(length) {
            self.write_position(job, &delivered.at_new_file())?;
            fs::remove_file(&job.transcript).map_err(|source| self.unwritable(source))?;
        }
        Ok(())
    }

    /// Keeps an event from adding turns to a file that is being removed.
    fn lock_spool(&self) -> Result<File, StateError> {
        let file =
            open_lock(&self.path.join(SPOOL_LOCK)).map_err(|source| self.unwritable(source))?;
        file.lock().map_err(|source| self.unwritable(source))?;
        Ok(file)
    }

    /// Reads the position in a transcript; its beginning if it is unknown.
    #[must_use]
    pub fn read_position(&self, job: &Job) -> Position {
        read_json(&self.path.join(POSITIONS).join(job.file_name())).unwrap_or_default()
    }

    /// Saves the position in a transcript.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write_position(&self, job: &Job, position: &Position) -> Result<(), StateError> {
        self.write_json(&self.path.join(POSITIONS).join(job.file_name()), position)
    }

    /// Records a failure. Does nothing if that fails, too.
    pub fn record_failure(&self, operation: Operation, message: &str) {
        let _ = self.prepare();
        let path = self.path.join(operation.failure_file());
        let earlier: Option<Failure> = read_json(&path);
        let failure = Failure {
            message: message.chars().take(500).collect(),
            count: earlier.map_or(1, |earlier| earlier.count + 1),
            at: seconds_now(),
        };
        let _ = self.write_json(&path, &failure);
    }

    /// Forgets the failure, because the same operation succeeded.
    pub fn clear_failure(&self, operation: Operation) {
        let _ = fs::remove_file(self.path.join(operation.failure_file()));
    }

    /// Returns the latest failure.
    #[must_use]
    pub fn read_failure(&self) -> Option<Failure> {
        Operation::ALL
            .iter()
            .filter_map(|operation| read_json(&self.path.join(operation.failure_file())))
            .max_by_key(|failure: &Failure| failure.at)
    }

    /// Records that all turns are delivered.
    pub fn record_delivery(&self) {
        let _ = self.write_json(&self.path.join(DELIVERED), &seconds_now());
    }

    /// Removes the state of sessions that ended long ago, and the oldest if there are too many. Returns the number of
    /// jobs that were given up.
    pub fn remove_old_state(&self) -> usize {
        let removed = PARTS.map(|part| remove_old_files(&self.path.join(part)));
        removed[1] + removed[2]
    }

    /// Returns an overview; `None` if no hook has run.
    #[must_use]
    pub fn summarize(&self) -> Option<Summary> {
        self.path.is_dir().then(|| {
            let count = |part: &str| list_files(&self.path.join(part)).len();
            Summary {
                sessions: count(SESSIONS),
                undelivered: count(WAITING) + count(CLAIMED),
                delivered_at: read_json(&self.path.join(DELIVERED)),
                failure: self.read_failure(),
            }
        })
    }

    fn session_file(&self, session: &str) -> PathBuf {
        self.path.join(SESSIONS).join(file_name(session))
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), StateError> {
        let json =
            serde_json::to_vec(value).map_err(|error| self.unwritable(io::Error::other(error)))?;
        replace_file(path, &json).map_err(|source| self.unwritable(source))
    }

    fn unwritable(&self, source: io::Error) -> StateError {
        StateError::Unwritable {
            path: self.path.display().to_string(),
            source,
        }
    }
}

impl Job {
    fn file_name(&self) -> String {
        let path = self.transcript.as_os_str().as_encoded_bytes();
        hash_parts(&[self.session.as_bytes(), path]) + ".json"
    }
}

fn file_name(session: &str) -> String {
    hash_parts(&[session.as_bytes()]) + ".json"
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_small_file(path, MAX_STATE_BYTES)?).ok()
}

/// Lists the finished files of a folder; temporary ones have another ending.
fn list_files(folder: &Path) -> Vec<PathBuf> {
    let is_finished = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "json" || extension == "jsonl")
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_finished)
        .collect();
    files.sort();
    files
}

fn remove_old_files(folder: &Path) -> usize {
    let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort_by(|one, other| other.cmp(one));
    let is_old = |time: &SystemTime| time.elapsed().is_ok_and(|age| age > LONGEST_REST);
    let surplus = files
        .into_iter()
        .enumerate()
        .filter(|(index, (time, _))| *index >= MOST_FILES || is_old(time));
    surplus
        .filter(|(_, (_, path))| fs::remove_file(path).is_ok())
        .count()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time is only shown; no decision depends on it"
)]
fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::transcript::Transcript;

    fn folder() -> (tempfile::TempDir, StateFolder) {
        let home = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::at(home.path().join("state/hooks"));
        folder.prepare().expect("prepared");
        (home, folder)
    }

    fn job(session: &str) -> Job {
        Job {
            session: session.to_owned(),
            transcript: PathBuf::from("/t.jsonl"),
            project: None,
        }
    }

    #[test]
    fn state_is_private() {
        let (_home, folder) = folder();
        folder
            .write_session("s", &SessionState::default())
            .expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path), 0o700);
        assert_eq!(mode(&folder.session_file("s")), 0o600);
    }

    #[test]
    fn sessions_are_separate_and_survive() {
        let (_home, folder) = folder();
        let mut state = folder.read_session("../../s");
        state.mark_seen("1");
        folder.write_session("../../s", &state).expect("written");
        assert!(folder.read_session("../../s").has_seen("1"));
        assert!(!folder.read_session("other").has_seen("1"));
        fs::write(folder.session_file("other"), "damaged").expect("written");
        assert_eq!(folder.read_session("other"), SessionState::default());
    }

    #[test]
    fn a_job_stays_until_it_is_finished() {
        let (_home, folder) = folder();
        folder.add_job(&job("a")).expect("added");
        folder.add_job(&job("a")).expect("added");
        folder.add_job(&job("b")).expect("added");
        let lock = folder.try_lock().expect("a file").expect("free");
        assert!(folder.try_lock().expect("a file").is_none());
        assert_eq!(folder.claim_jobs(&lock).len(), 2);
        assert!(!folder.has_waiting_jobs());
        folder.add_job(&job("a")).expect("added");
        folder.finish_job(&job("a"), &lock);
        assert!(folder.has_waiting_jobs());
        assert_eq!(folder.claim_jobs(&lock).len(), 2);
        drop(lock);
        assert!(folder.try_lock().expect("a file").is_some());
    }

    #[test]
    fn old_and_surplus_state_is_removed() {
        let (_home, folder) = folder();
        for number in 0..MOST_FILES + 3 {
            folder.add_job(&job(&number.to_string())).expect("added");
        }
        assert_eq!(folder.remove_old_state(), 3);
        let left = list_files(&folder.path.join(WAITING));
        assert_eq!(left.len(), MOST_FILES);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        File::options()
            .write(true)
            .open(&left[0])
            .expect("a file")
            .set_modified(old)
            .expect("set");
        assert_eq!(folder.remove_old_state(), 1);
    }

    #[test]
    fn turns_of_events_are_bounded() {
        let (_home, folder) = folder();
        let turn = Turn::from_parts(None, "user", &"x".repeat(1024 * 1024), None).expect("a turn");
        for _ in 0..3 {
            folder
                .add_turns("s", std::slice::from_ref(&turn), None)
                .expect("kept");
        }
        let full = folder
            .add_turns("s", std::slice::from_ref(&turn), None)
            .expect_err("full");
        assert!(full.to_string().ends_with("; turns lost: 1"), "{full}");
        folder.add_turns("t", &[turn], None).expect("kept");
    }

    #[test]
    fn delivered_turns_of_events_are_removed() {
        let (_home, folder) = folder();
        let turn = |text: &str| Turn::from_parts(None, "user", text, None).expect("a turn");
        folder.add_turns("s", &[turn("one")], None).expect("kept");
        let lock = folder.try_lock().expect("a file").expect("free");
        let job = folder.claim_jobs(&lock).remove(0);
        let mut transcript =
            Transcript::open(&job.transcript, folder.read_position(&job)).expect("a file");
        assert_eq!(
            transcript.read_batch(9).expect("a batch").turns,
            [turn("one")]
        );
        transcript.take_turn_number();
        let delivered = transcript.position().expect("a position");
        folder.add_turns("s", &[turn("two")], None).expect("kept");
        folder.trim_spool(&job, &delivered).expect("kept");
        assert_eq!(
            transcript.read_batch(9).expect("a batch").turns,
            [turn("two")]
        );
        transcript.take_turn_number();
        folder
            .trim_spool(&job, &transcript.position().expect("a position"))
            .expect("removed");
        assert!(!job.transcript.exists());
        folder.add_turns("s", &[turn("three")], None).expect("kept");
        let mut transcript =
            Transcript::open(&job.transcript, folder.read_position(&job)).expect("a file");
        assert_eq!(
            transcript.read_batch(9).expect("a batch").turns,
            [turn("three")]
        );
        assert_eq!(transcript.take_turn_number(), 2);
    }

    #[test]
    fn failures_are_counted_until_a_success() {
        let (_home, folder) = folder();
        folder.record_failure(Operation::Storing, "no service");
        folder.record_failure(Operation::Storing, "still no service");
        folder.clear_failure(Operation::Recalling);
        let failure = folder.read_failure().expect("a failure");
        assert_eq!(
            (failure.count, failure.message.as_str()),
            (2, "still no service")
        );
        folder.clear_failure(Operation::Storing);
        assert_eq!(folder.read_failure(), None);
        assert_eq!(StateFolder::at(PathBuf::from("/none")).summarize(), None);
    }
}
