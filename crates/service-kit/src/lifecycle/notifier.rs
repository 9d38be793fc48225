//! Notifications for systemd.
//!
//! Depends on sd-notify for the protocol and the limit of the watchdog. Sending is our own code: sd-notify 0.5 reads the
//! address from the environment at every call, takes an abstract address (`@name`) for a file name, and blocks without a
//! limit if the queue of the receiver is full.
//!
//! Invariant: sends only lines that conmon relays out of a container (`READY=1`, `STOPPING=1`,
//! `WATCHDOG=1`, `STATUS=`), a value cannot contain a second line, and after `STOPPING=1`
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

use super::heartbeat::lock_mutex;

/// A full queue (a stopped or busy receiver) must not block the service.
const SEND_TIMEOUT: Duration = Duration::from_millis(250);

/// systemd reads at most 4096 bytes per datagram.
const STATUS_MAX_BYTES: usize = 1024;

/// Sends notifications to systemd if it requested them. Clones share state.
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
    /// The last status. Locked while sending, so that statuses keep their order.
    status: Mutex<String>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of this process. A missing
    /// `WATCHDOG_PID` is accepted, because podman does not pass it on.
    pub fn from_env() -> Self {
        Self::to(
            env::var_os("NOTIFY_SOCKET").as_deref(),
            sd_notify::watchdog_enabled(),
        )
    }

    /// Sends to this address, which is a path or `@abstract`. An unusable address is logged and ignored.
    pub fn to(address: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let socket = address
            .filter(|address| !address.is_empty())
            .and_then(|address| match open_socket(address) {
                Ok(socket) => Some(socket),
                Err(error) => {
                    tracing::error!(?address, %error, "systemd cannot be notified");
                    None
                }
            });
        // Without a socket, no ping can be sent, so the limit has no effect.
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

    /// Returns the time after the last ping at which systemd kills the process. `None` without a watchdog.
    pub fn watchdog_limit(&self) -> Option<Duration> {
        self.inner.watchdog
    }

    /// Sends `READY=1` with a status sentence, unless the service is stopping. Call it after the listener is bound and
    /// a request went through the real router.
    pub fn ready(&self, sentence: &str) {
        let mut last = lock_mutex(&self.inner.status);
        if !self.inner.stopping.load(Ordering::Acquire) {
            *last = clean_sentence(sentence);
            self.send_states(&[NotifyState::Ready, NotifyState::Status(&last)]);
        }
    }

    /// Sends `STATUS=` if the sentence has changed and the service is not stopping.
    pub fn status(&self, sentence: &str) {
        let mut last = lock_mutex(&self.inner.status);
        let sentence = clean_sentence(sentence);
        if *last != sentence && !self.inner.stopping.load(Ordering::Acquire) {
            *last = sentence;
            self.send_states(&[NotifyState::Status(&last)]);
        }
    }

    /// Sends `WATCHDOG=1`. Only the watchdog may call it, because a ping claims that requests are served.
    pub(super) fn ping(&self) {
        self.send_states(&[NotifyState::Watchdog]);
    }

    /// Sends `STOPPING=1` with a status sentence, once. systemd kills the unit after `TimeoutStopSec`, so call it only if the
    /// process ends.
    pub(super) fn stopping(&self, sentence: &str) {
        let mut last = lock_mutex(&self.inner.status);
        if !self.inner.stopping.swap(true, Ordering::AcqRel) {
            *last = clean_sentence(sentence);
            self.send_states(&[NotifyState::Stopping, NotifyState::Status(&last)]);
        }
    }

    /// Sends a last `STATUS=` before the process ends itself, even while stopping.
    pub(super) fn last_words(&self, sentence: &str) {
        // Without the lock, which a blocked thread may hold. The order of statuses no longer matters.
        self.send_states(&[NotifyState::Status(&clean_sentence(sentence))]);
    }

    fn send_states(&self, states: &[NotifyState<'_>]) {
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

fn open_socket(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
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

/// Returns one line of bounded length, because error texts may contain anything.
fn clean_sentence(sentence: &str) -> String {
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
