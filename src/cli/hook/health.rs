//! The state of hooks, for `doctor`.

use chrono::{DateTime, Utc};

use super::open_folder;
use crate::config::Sources;
use crate::domain::count::count_of;

/// The state of hooks.
pub(in crate::cli) struct HookHealth {
    pub(in crate::cli) detail: String,
    pub(in crate::cli) has_failed: bool,
}

/// Describes the state of hooks; `None` if none has run.
pub(in crate::cli) fn describe_health(sources: &Sources) -> Option<HookHealth> {
    let summary = open_folder(sources).summarize()?;
    let mut detail = count_of(summary.sessions as u64, "session");
    if let Some(time) = summary.delivered_at.and_then(describe_time) {
        detail.push_str(&format!(", turns stored at {time}"));
    }
    if summary.undelivered > 0 {
        let transcripts = count_of(summary.undelivered as u64, "transcript");
        detail.push_str(&format!(", {transcripts} with turns that wait"));
    }
    if let Some(failure) = &summary.failure {
        let time = describe_time(failure.at).unwrap_or_default();
        let times = count_of(failure.count, "failure");
        detail.push_str(&format!(
            "; {times} in a row, the latest at {time}: {}",
            failure.message
        ));
    }
    Some(HookHealth {
        detail,
        has_failed: summary.failure.is_some(),
    })
}

fn describe_time(seconds: u64) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
