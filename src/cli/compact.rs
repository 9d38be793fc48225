//! `compact`: gives the space of purged memories back to the disk.

use anyhow::anyhow;

use super::port::writable;
use super::{Failure, USAGE, runtime, say};
use crate::config::{Database, Sources};

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    let Database::Sqlite { path } = &settings.database else {
        let error = anyhow!(
            "PostgreSQL reuses the space of purged memories by itself (autovacuum); to shrink its files run VACUUM FULL in \
             psql, which locks the tables meanwhile"
        );
        return Err(Failure { code: USAGE, error });
    };
    let size = || {
        std::fs::metadata(path)
            .map(|data| data.len())
            .unwrap_or_default()
    };
    runtime()?.block_on(async {
        let local = writable(&settings, "compact").await?;
        let before = size();
        if let Some(embedded) = &local.embedded {
            embedded.compact().await?;
        }
        local.store.close().await;
        let (before, after) = (indicatif::HumanBytes(before), indicatif::HumanBytes(size()));
        say(&format!(
            "{}: {before} before, {after} now\n",
            path.display()
        ))?;
        Ok(0)
    })
}
