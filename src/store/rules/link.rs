//! The rule for links. `domain::graph` decides how they are merged.

use chrono::{DateTime, Utc};

use super::quota;
use super::rule::{Effect, Rule};
use super::tx::{LinkTx, Tx};
use crate::domain::graph::{Linked, Links};
use crate::domain::graph_merge::{self, Plan};
use crate::store::{Result, StoreError};

/// Links entities.
pub(crate) struct Link<'a> {
    pub(crate) links: &'a Links,
    pub(crate) now: DateTime<Utc>,
}

impl Rule for Link<'_> {
    type Output = Linked;
    const PURPOSE: &'static str = "link entities";
    const EFFECT: Effect = Effect::Once;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Linked, T::Error> {
        tx.ensure_project().await?;
        let (entities, relations) = tx.named_graph(&[self.links]).await?;
        let plan = self
            .links
            .plan_changes(tx.scope().project(), entities, relations, self.now)
            .map_err(StoreError::from)?;
        quota::check_graph(tx, &plan).await?;
        tx.write_plan(&plan, self.now).await?;
        Ok(plan.linked)
    }
}

/// Stores which existing entities the new text of a memory mentions. Only the owner's consent changes a protected
/// memory, so no mention is left out here.
pub(super) async fn mention_existing<T: LinkTx>(
    tx: &mut T,
    memory: i64,
    names: &[String],
) -> Result<(), T::Error> {
    if names.is_empty() {
        return Ok(());
    }
    let (entities, _) = tx.named_graph(&[&Links::of_names(names)]).await?;
    for entity in entities {
        tx.insert_mention(memory, entity.seq).await?;
    }
    Ok(())
}

/// Plans the links of the items of a `remember` within the quotas of the project. Returns an empty plan if there
/// are none.
pub(crate) async fn plan_links<T: LinkTx>(
    tx: &mut T,
    batches: &[&Links],
    now: DateTime<Utc>,
) -> Result<Plan, T::Error> {
    if batches.iter().all(|links| links.is_empty()) {
        return Ok(Plan::default());
    }
    let (entities, relations) = tx.named_graph(batches).await?;
    let plan = graph_merge::plan_links(batches, tx.scope().project(), entities, relations, now)
        .map_err(StoreError::from)?;
    quota::check_graph(tx, &plan).await?;
    Ok(plan)
}
