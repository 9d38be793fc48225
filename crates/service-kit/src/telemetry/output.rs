//! The standard streams as outputs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::Stream;

/// Writes lines. Errors are ignored, because there is nowhere to report them.
pub(super) trait Output: Send + 'static {
    /// Writes one line, which includes its line end.
    fn write_line(&mut self, line: &[u8]);
}

/// Pause before the next attempt to write to a full pipe.
const PAUSE: Duration = Duration::from_millis(20);

/// A standard stream with its own descriptor. A blocked write to the stream of the standard library would hold its lock
/// and block every thread that prints.
#[derive(Debug)]
pub(super) struct Standard(Option<File>);

impl Standard {
    /// Opens the stream. If it is closed, all lines are discarded.
    pub(super) fn open(stream: Stream) -> Self {
        let descriptor = match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        Self(descriptor.ok().map(File::from))
    }

    #[cfg(test)]
    pub(super) fn from_file(file: File) -> Self {
        Self(Some(file))
    }
}

impl Output for Standard {
    fn write_line(&mut self, mut line: &[u8]) {
        let Some(file) = &mut self.0 else { return };
        while !line.is_empty() {
            match file.write(line) {
                Ok(0) => return,
                Ok(count) => line = &line[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process with this pipe may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(PAUSE)
                }
                // The reader is gone, but may return, like a restarting journal.
                Err(_) => return,
            }
        }
    }
}
