//! What we tell systemd.
//!
//! Depends on sd-notify for the wording of the protocol and for reading the watchdog's limit.
//! Sending is ours: sd-notify 0.5 reads the address from the environment at every call, takes an
//! abstract address (`@name`) for a file name, and waits without a bound when the receiver's
//! queue is full.
//!
//! Invariant: only lines leave which conmon relays out of a container (`READY=1`, `STOPPING=1`,
//! `WATCHDOG=1`, `STATUS=`), one value cannot smuggle in a second line, and after `STOPPING=1`
//! nothing overwrites the status with "serving".

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sd_notify::NotifyState;

use super::heartbeat::lock;

/// A full queue (a stopped or very busy receiver) must not stop us.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

/// systemd reads at most 4096 bytes a datagram; a sentence for people is shorter anyway.
const STATUS_MAX_BYTES: usize = 1024;

/// Sends notifications to systemd, or nowhere when it did not ask for them. Clones share state.
#[derive(Clone, Debug)]
pub struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    stopping: AtomicBool,
    failed: AtomicBool,
    /// The last status that was sent; held while sending, so that statuses keep their order.
    status: Mutex<String>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of this process. A missing
    /// `WATCHDOG_PID` is fine: podman passes none on.
    pub fn from_env() -> Self {
        Self::to(
            env::var_os("NOTIFY_SOCKET").as_deref(),
            sd_notify::watchdog_enabled(),
        )
    }

    /// Sends to the given address, a path or `@abstract`. An address that cannot be used is
    /// logged and then ignored: the service is worth more than its notifications.
    pub fn to(address: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let socket =
            address
                .filter(|address| !address.is_empty())
                .and_then(|address| match connect(address) {
                    Ok(socket) => Some(socket),
                    Err(error) => {
                        tracing::error!(?address, %error, "systemd cannot be notified");
                        None
                    }
                });
        // A limit without a socket is nobody's limit: there is no way to ping.
        let watchdog = watchdog.filter(|limit| !limit.is_zero() && socket.is_some());
        Self {
            inner: Arc::new(Inner {
                socket,
                watchdog,
                stopping: AtomicBool::new(false),
                failed: AtomicBool::new(false),
                status: Mutex::default(),
            }),
        }
    }

    /// The time after the last ping at which systemd kills us; `None` without a watchdog.
    pub fn watchdog_limit(&self) -> Option<Duration> {
        self.inner.watchdog
    }

    /// `READY=1` with a status sentence. Call it after the listener is bound and a request went
    /// through the real router. Nothing is sent once the service stops.
    pub fn ready(&self, sentence: &str) {
        let mut last = lock(&self.inner.status);
        if !self.inner.stopping.load(Ordering::Acquire) {
            *last = clean(sentence);
            self.send(&[NotifyState::Ready, NotifyState::Status(&last)]);
        }
    }

    /// `STATUS=`, when the sentence changed and the service does not stop.
    pub fn status(&self, sentence: &str) {
        let mut last = lock(&self.inner.status);
        let sentence = clean(sentence);
        if *last != sentence && !self.inner.stopping.load(Ordering::Acquire) {
            *last = sentence;
            self.send(&[NotifyState::Status(&last)]);
        }
    }

    /// `WATCHDOG=1`. Only the watchdog may call it: a ping is a claim that requests are served.
    pub(super) fn ping(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// `STOPPING=1` with a status sentence, once. systemd kills the unit after
    /// `TimeoutStopSec`, so call it only when the process really ends.
    pub(super) fn stopping(&self, sentence: &str) {
        let mut last = lock(&self.inner.status);
        if !self.inner.stopping.swap(true, Ordering::AcqRel) {
            *last = clean(sentence);
            self.send(&[NotifyState::Stopping, NotifyState::Status(&last)]);
        }
    }

    /// `STATUS=` with the last words before the process ends itself, also while stopping.
    pub(super) fn last_words(&self, sentence: &str) {
        // A blocked thread may hold the lock for as long as a send takes; the order of
        // statuses does not matter any more, the words do.
        self.send(&[NotifyState::Status(&clean(sentence))]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.inner.socket else {
            return;
        };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => self.inner.failed.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.inner.failed.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "a notification did not reach systemd");
                }
            }
        }
    }
}

fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "NOTIFY_SOCKET must start with / or @",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

/// One line of bounded length: error texts from elsewhere may contain anything.
fn clean(sentence: &str) -> String {
    let mut line: String = sentence
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() > STATUS_MAX_BYTES {
        line.truncate(line.floor_char_boundary(STATUS_MAX_BYTES - '…'.len_utf8()));
        line.push('…');
    }
    line
}
