//! Tests with a notify socket that accepts the same lines as conmon. Clocks are paused, except
//! where real processes get real signals.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand outside of the service: they play systemd and whole processes"
)]

mod notifier;
mod process;
mod readiness;
mod supervisor;
mod watchdog;

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::Notifier;
use super::heartbeat::lock_mutex;

/// Returns whether conmon 2.1 relays the line; it drops all others.
fn relayed(line: &str) -> bool {
    const WHOLE: [&str; 5] = [
        "READY=1",
        "STOPPING=1",
        "RELOADING=1",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
    ];
    const PREFIX: [&str; 4] = ["STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC="];
    WHOLE.contains(&line) || PREFIX.iter().any(|prefix| line.starts_with(prefix))
}

#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    text: String,
}

/// Replaces conmon and systemd: collects the received lines with their times.
struct Systemd {
    dir: TempDir,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Systemd {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    fn bind() -> (Self, UnixDatagram) {
        let this = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            lines: Arc::default(),
        };
        let socket = UnixDatagram::bind(this.socket()).expect("a notify socket");
        (this, socket)
    }

    /// Reads in a task, so that the times come from the paused clock.
    fn paused() -> Self {
        let (this, socket) = Self::bind();
        socket.set_nonblocking(true).expect("non-blocking");
        let socket = tokio::net::UnixDatagram::from_std(socket).expect("a socket for tokio");
        let lines = Arc::clone(&this.lines);
        tokio::spawn(async move {
            let mut buffer = [0; 8192];
            while let Ok(length) = socket.recv(&mut buffer).await {
                take(&lines, &buffer[..length]);
            }
        });
        this
    }

    /// Reads in a thread, for other processes.
    fn real() -> Self {
        let (this, socket) = Self::bind();
        let lines = Arc::clone(&this.lines);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length) = socket.recv(&mut buffer) {
                take(&lines, &buffer[..length]);
            }
        });
        this
    }

    fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
        Notifier::to(Some(self.socket().as_os_str()), watchdog)
    }

    fn lines(&self) -> Vec<Line> {
        let lines = lock_mutex(&self.lines).clone();
        for line in &lines {
            assert!(relayed(&line.text), "conmon drops {:?}", line.text);
        }
        lines
    }

    fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.text).collect()
    }

    fn times(&self, text: &str) -> Vec<Instant> {
        self.lines()
            .into_iter()
            .filter(|line| line.text == text)
            .map(|line| line.at)
            .collect()
    }

    fn pings(&self) -> Vec<Instant> {
        self.times("WATCHDOG=1")
    }

    fn status(&self) -> String {
        self.texts()
            .into_iter()
            .rev()
            .find_map(|text| text.strip_prefix("STATUS=").map(str::to_owned))
            .unwrap_or_default()
    }
}

fn take(lines: &Mutex<Vec<Line>>, datagram: &[u8]) {
    let at = Instant::now();
    let text = std::str::from_utf8(datagram).expect("UTF-8");
    lock_mutex(lines).extend(text.lines().map(|text| Line {
        at,
        text: text.to_owned(),
    }));
}

/// Waits on the (paused) clock until a condition is true.
async fn until(what: &str, within: Duration, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
