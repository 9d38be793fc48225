//! Time and identity are given to whoever needs them, so that tests decide both.

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// Source of the current time and of new ids.
pub trait Clock: Send + Sync + 'static {
    /// The current time, at microsecond precision (what PostgreSQL keeps).
    fn now(&self) -> DateTime<Utc>;
    /// A new UUIDv7: ids sort by creation time.
    fn new_id(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that draws ids"
    )]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
