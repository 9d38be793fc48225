//! `compact`: returns the space of purged memories to the disk.

use super::open_store::open_writable;
use super::output::print_result;
use super::{Failure, fail, load_settings, start_runtime};
use crate::config::{Database, Sources};

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let Database::Sqlite { path } = &settings.database else {
        fail!(
            USAGE,
            "PostgreSQL reuses the space of purged memories itself (autovacuum); to shrink its files, run VACUUM FULL in psql, \
             which locks the tables"
        );
    };
    let size = || {
        std::fs::metadata(path)
            .map(|data| data.len())
            .unwrap_or_default()
    };
    start_runtime()?.block_on(async {
        let local = open_writable(&settings, "compact").await?;
        let before = size();
        if let Some(embedded) = &local.embedded {
            embedded.compact().await?;
        }
        local.store.close().await;
        let (before, after) = (indicatif::HumanBytes(before), indicatif::HumanBytes(size()));
        print_result(&format!(
            "{}: {before} before, {after} now\n",
            path.display()
        ))?;
        Ok(0)
    })
}
