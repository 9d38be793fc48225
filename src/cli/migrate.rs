//! `migrate`: updates the schema before the service starts.

use super::open_store::create_store;
use super::output::print_result;
use super::{Failure, load_settings, start_runtime};
use crate::config::Sources;

pub(super) fn run(check: bool, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let local = create_store(&settings)?;
    start_runtime()?.block_on(async {
        let pending = local.store.pending_migrations().await?;
        if check {
            for name in &pending {
                print_result(&format!("pending: {name}\n"))?;
            }
            if pending.is_empty() {
                print_result("The schema is up to date.\n")?;
            }
            return Ok(u8::from(!pending.is_empty()));
        }
        local.store.prepare().await?;
        for name in &pending {
            print_result(&format!("applied: {name}\n"))?;
        }
        let info = local.store.info().await?;
        print_result(&format!(
            "{} is at schema {}.\n",
            info.name, info.schema_version
        ))?;
        local.store.close().await;
        Ok(0)
    })
}
