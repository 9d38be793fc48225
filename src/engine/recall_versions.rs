//! Puts the current version of a fact first among the hits.

use std::collections::HashMap;

use chrono::{Datelike as _, NaiveDate};
use uuid::Uuid;

use super::answer_size::PORTION;
use super::recall::RecallRequest;
use super::recall_search::Ranking;
use super::{Call, Engine, EngineError};
use crate::domain::ranking::{
    VersionQuestion, count_compared, find_versions, list_comparable, order_versions,
};
use crate::domain::{Analyzer, Hit, Memory};

impl Engine {
    /// Orders the versions of facts among the best hits. Reads the memories of these hits and of the page from `offset`
    /// on in one statement, into `by_id`.
    pub(super) async fn order_by_version(
        &self,
        call: &Call,
        ranking: Ranking<'_>,
        request: &RecallRequest,
        offset: usize,
        by_id: &mut HashMap<Uuid, Memory>,
    ) -> Result<Vec<Hit>, EngineError> {
        let comparable = list_comparable(&ranking.hits);
        // Later pages begin behind the compared hits, and a single hit has no versions.
        if comparable.len() < 2 || offset >= count_compared(&ranking.hits) {
            return Ok(ranking.hits);
        }
        let page = offset..offset + request.page_size();
        let read: Vec<Uuid> = (ranking.hits.iter().enumerate())
            .filter(|(place, _)| comparable.contains(place) || page.contains(place))
            .map(|(_, hit)| hit.id)
            .take(PORTION)
            .collect();
        self.load_hits(call, &read, request, by_id).await?;
        let compared = comparable.iter().map(|place| &ranking.hits[*place].id);
        let memories: Vec<&Memory> = compared.filter_map(|id| by_id.get(id)).collect();
        let facts = find_versions(&memories, &self.analyzer);
        if facts.is_empty() {
            return Ok(ranking.hits);
        }
        let today = request.filter.now.date_naive();
        let question = ranking.read_question(&self.analyzer, today);
        Ok(order_versions(ranking.hits, &facts, &question))
    }
}

impl Ranking<'_> {
    /// Reads which versions of a fact the query asks for.
    fn read_question(&self, analyzer: &Analyzer, today: NaiveDate) -> VersionQuestion {
        let years = self.hits.iter().map(|hit| hit.context.occurred_at.year());
        let spans = self.times.list_spans(&years.collect());
        VersionQuestion::new(self.words, analyzer, &spans, today)
    }
}
