//! Where lines end up.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::Stream;

/// Takes lines. There is nobody to tell about an error, so it has none.
pub(super) trait Output: Send + 'static {
    /// Writes one line with its end.
    fn write(&mut self, line: &[u8]);
}

/// Pause before a pipe that takes nothing is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// The standard output or error, by a descriptor of our own: the standard library's lock, held by a write that does not
/// come back, would stop whoever prints.
#[derive(Debug)]
pub(super) struct Standard(Option<File>);

impl Standard {
    /// A closed stream gives an output which swallows everything.
    pub(super) fn new(stream: Stream) -> Self {
        let descriptor = match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        Self(descriptor.ok().map(File::from))
    }

    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self(Some(file))
    }
}

impl Output for Standard {
    fn write(&mut self, mut line: &[u8]) {
        let Some(file) = &mut self.0 else { return };
        while !line.is_empty() {
            match file.write(line) {
                Ok(0) => return,
                Ok(count) => line = &line[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another holder of the pipe may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(PAUSE)
                }
                // The reader is gone; it may come back (a journal that restarts).
                Err(_) => return,
            }
        }
    }
}
