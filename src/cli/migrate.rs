//! `migrate`: the schema, for those who want it changed before the service starts.

use super::{Failure, local, runtime, say};
use crate::config::Sources;

pub(super) fn run(check: bool, sources: &Sources) -> Result<u8, Failure> {
    let settings = super::settings(sources)?;
    let local = local::store(&settings)?;
    runtime()?.block_on(async {
        let pending = local.store.pending_migrations().await?;
        if check {
            for name in &pending {
                say(&format!("pending: {name}\n"))?;
            }
            if pending.is_empty() {
                say("The schema is up to date.\n")?;
            }
            return Ok(u8::from(!pending.is_empty()));
        }
        local.store.prepare().await?;
        for name in &pending {
            say(&format!("applied: {name}\n"))?;
        }
        let info = local.store.info().await?;
        say(&format!(
            "{} is at schema {}.\n",
            info.name, info.schema_version
        ))?;
        local.store.close().await;
        Ok(0)
    })
}
