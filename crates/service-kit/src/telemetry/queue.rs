//! A bounded queue of lines with a thread that writes them, so that logging never waits for an output.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::output::Output;

/// Maximum number of waiting bytes, in addition to the batch that is being written.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Handle of the queue. Its thread lives as long as the process.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    writing: bool,
}

impl Shared {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Starts the thread. `describe_loss` returns the line that reports dropped lines.
    pub(super) fn start<O: Output>(
        output: O,
        describe_loss: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            idle: Condvar::new(),
        });
        let queue = Self(Arc::clone(&shared));
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&shared, output, describe_loss))?;
        Ok(queue)
    }

    /// Adds a line, or drops it if the queue is full.
    pub(super) fn push_line(&self, line: Vec<u8>) {
        let mut state = self.0.lock_state();
        if state.bytes + line.len() > MAX_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits at most `longest` until everything is written. Returns whether it is.
    pub(super) fn flush_within(&self, longest: Duration) -> bool {
        let state = self.0.lock_state();
        let busy =
            |state: &mut State| state.writing || !state.lines.is_empty() || state.dropped > 0;
        match self.0.idle.wait_timeout_while(state, longest, busy) {
            Ok((_, result)) => !result.timed_out(),
            Err(_) => false,
        }
    }
}

fn write_lines(shared: &Shared, mut output: impl Output, describe_loss: impl Fn(u64) -> Vec<u8>) {
    loop {
        let mut state = shared.lock_state();
        while state.lines.is_empty() && state.dropped == 0 {
            state.writing = false;
            shared.idle.notify_all();
            state = shared
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let lines = std::mem::take(&mut state.lines);
        let dropped = std::mem::take(&mut state.dropped);
        state.bytes = 0;
        state.writing = true;
        drop(state);
        for line in lines {
            output.write_line(&line);
        }
        if dropped > 0 {
            output.write_line(&describe_loss(dropped));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    /// An output that accepts one line each time the test allows it.
    struct Gate {
        allowed: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Output for Gate {
        fn write_line(&mut self, line: &[u8]) {
            let _ = self.allowed.recv();
            let _ = self.written.send(line.to_vec());
        }
    }

    #[test]
    fn a_stuck_output_drops_lines_without_blocking() {
        let (allow, allowed) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        let queue = Queue::start(
            Gate {
                allowed,
                written: sender,
            },
            |count| format!("dropped {count}").into_bytes(),
        )
        .unwrap();
        let begin = Instant::now();
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..1000 {
            queue.push_line(line.clone());
        }
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(
            !queue.flush_within(Duration::from_millis(50)),
            "nothing was written yet"
        );
        // The output recovers.
        drop(allow);
        assert!(queue.flush_within(Duration::from_secs(10)));
        let lines: Vec<Vec<u8>> = written.try_iter().collect();
        let kept = lines.iter().filter(|written| **written == line).count();
        let dropped: usize = lines
            .iter()
            .filter_map(|line| {
                std::str::from_utf8(line)
                    .ok()?
                    .strip_prefix("dropped ")?
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        assert!(kept >= 64 && dropped > 0, "kept {kept}, dropped {dropped}");
        assert_eq!(kept + dropped, 1000);
    }

    #[test]
    fn lines_keep_their_order() {
        let (allow, allowed) = mpsc::channel();
        drop(allow);
        let (sender, written) = mpsc::channel();
        let queue = Queue::start(
            Gate {
                allowed,
                written: sender,
            },
            |_| Vec::new(),
        )
        .unwrap();
        for number in 0..1000_u32 {
            queue.push_line(number.to_le_bytes().to_vec());
        }
        assert!(queue.flush_within(Duration::from_secs(10)));
        assert!(
            written
                .try_iter()
                .eq((0..1000_u32).map(|number| number.to_le_bytes().to_vec()))
        );
    }
}
