//! Finds the request in a long prompt without a question, by comparing sentences with the memories.

use super::{Call, Engine};
use crate::domain::Filter;
use crate::domain::prompt::{SearchedPrompt, find_question};
use crate::domain::ranking::confidence::Nearness;
use crate::store::VectorQuery;

/// Minimum cosine at which a sentence is the request, so that the other words of the prompt do not count.
const LEAST_COSINE: f64 = 0.3;
/// Number of memories that show how near a sentence is: an answer stands out from the third nearest.
const COMPARED: usize = 3;

impl Engine {
    /// Finds the part of a prompt to search for. Without a question, that is the sentence whose nearest memory stands out
    /// more. Needs two further statements in that case.
    pub(super) async fn find_request<'t>(
        &self,
        call: &Call,
        prompt: &'t str,
        filter: &Filter,
    ) -> SearchedPrompt<'t> {
        let asked = find_question(prompt, &self.analyzer);
        let Some(other) = asked.other_request else {
            return asked;
        };
        let (last, first) = tokio::join!(
            self.find_nearness(call, asked.meaning, filter),
            self.find_nearness(call, other, filter)
        );
        let (Some(last), Some(first)) = (last, first) else {
            return asked;
        };
        let (request, nearness) = if first.weigh_meaning() > last.weigh_meaning() {
            (other, first)
        } else {
            (asked.meaning, last)
        };
        if nearness.cosine < LEAST_COSINE {
            return asked;
        }
        SearchedPrompt::of_text(request)
    }

    /// Returns how near the nearest memory is to a sentence. Returns nothing without a calibrated embedder, and if one does
    /// not answer: then recall reports the reason itself.
    async fn find_nearness(
        &self,
        call: &Call,
        sentence: &str,
        filter: &Filter,
    ) -> Option<Nearness> {
        let query = self.desk.query(sentence).await.ok()??;
        let calibration = query.calibration?;
        let nearest = VectorQuery {
            model: query.model.id,
            vector: query.vector,
            filter: filter.clone(),
            limit: COMPARED,
        };
        let search = self.store.search_vectors(&call.scope, &nearest);
        let hits = call.database(search).await.ok()?;
        let cosines = hits.iter().filter_map(|hit| hit.cosine);
        let cosines: Vec<f64> = cosines
            .map(|cosine| calibration.translate(cosine))
            .collect();
        Some(Nearness {
            cosine: *cosines.first()?,
            third: *cosines.last()?,
        })
    }
}
