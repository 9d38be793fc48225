//! Puts the current version of a fact first among the hits.

use std::collections::HashMap;

use uuid::Uuid;

use super::answer_size::PORTION;
use super::recall::RecallRequest;
use super::recall_search::Ranking;
use super::{Call, Engine, EngineError};
use crate::domain::ranking::{StatedFact, count_compared, order_versions};
use crate::domain::{Hit, Memory};

impl Engine {
    /// Orders the versions of facts among the best hits. Reads the memories of these hits and of the page from `offset`
    /// on in one statement, into `by_id`.
    pub(super) async fn order_by_version(
        &self,
        call: &Call,
        ranking: Ranking,
        request: &RecallRequest,
        offset: usize,
        by_id: &mut HashMap<Uuid, Memory>,
    ) -> Result<Vec<Hit>, EngineError> {
        let compared = count_compared(&ranking.hits);
        // Later pages begin behind these hits, and a single hit has no versions.
        if compared < 2 || offset >= compared {
            return Ok(ranking.hits);
        }
        let page = offset..offset + request.page_size();
        let read: Vec<Uuid> = (ranking.hits.iter().enumerate())
            .filter(|(place, _)| *place < compared || page.contains(place))
            .map(|(_, hit)| hit.id)
            .take(PORTION)
            .collect();
        self.load_hits(call, &read, request, by_id).await?;
        let facts = read[..compared].iter().filter_map(|id| {
            let fact = StatedFact::read_memory(by_id.get(id)?, &self.analyzer)?;
            Some((*id, fact))
        });
        Ok(order_versions(
            ranking.hits,
            &facts.collect(),
            &ranking.versions,
        ))
    }
}
