//! Sources of time and IDs. They are passed as values, so that tests control both.

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// Source of the current time and of new IDs.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time with microsecond precision, which is that of PostgreSQL.
    fn now(&self) -> DateTime<Utc>;
    /// Returns a new UUIDv7: IDs sort by creation time.
    fn new_id(&self) -> Uuid;
}

/// The clock of the machine.
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
