//! Progress of a download: a bar for people, lines for logs.

use std::sync::Mutex;
use std::sync::PoisonError;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Number of log lines per file.
const STEPS: u64 = 5;

/// Shows progress.
#[derive(Debug)]
pub struct Meter {
    terminal: bool,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    name: String,
    total: u64,
    done: u64,
    said: u64,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// Shows a bar on the standard error stream, or logs lines.
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            current: Mutex::default(),
        }
    }

    pub(super) fn begin_file(&self, name: &str, done: u64, total: u64) {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(name.to_owned());
            bar.set_position(done);
            bar
        });
        let current = Current {
            name: name.to_owned(),
            total,
            done,
            said: 0,
            bar,
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    pub(super) fn advance_by(&self, bytes: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = current.as_mut() else {
            return;
        };
        current.done += bytes;
        if let Some(bar) = &current.bar {
            bar.set_position(current.done);
            return;
        }
        let step = (current.done * STEPS)
            .checked_div(current.total)
            .unwrap_or(0);
        // No lines for small files.
        if step > current.said && current.total > 1 << 20 {
            current.said = step;
            tracing::info!(
                file = current.name,
                percent = step * 100 / STEPS,
                "fetching the model"
            );
        }
    }

    pub(super) fn end_file(&self) {
        if let Some(Current { bar: Some(bar), .. }) = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish();
        }
    }
}
