//! Explains why a recall found nothing, and what would find something.

use super::recall::RecallRequest;
use super::{Call, Engine, EngineError};
use crate::domain::count::verb_for;
use crate::domain::spelling::rate_likeness;
use crate::domain::{AsOf, Filter, Memory};
use crate::store::Facet;

/// Maximum number of values from which a suggestion is chosen.
const MOST_VALUES: usize = 1_000;
/// Maximum number of values that are listed if none is similar.
const MOST_LISTED: usize = 5;
/// Maximum number of outdated memories that are read.
const MOST_OUTDATED: usize = 20;
/// Minimum similarity of a value that is suggested.
const ALIKE: f64 = 0.6;

impl Engine {
    /// Returns the reasons of an empty first page.
    pub(super) async fn explain_nothing(
        &self,
        call: &Call,
        request: &RecallRequest,
    ) -> Result<Vec<String>, EngineError> {
        let counts = call
            .database(self.store.counts(&call.scope, request.filter.now))
            .await?;
        let total: u64 = counts.by_kind.values().sum();
        if total == 0 {
            return Ok(vec!["Nothing is stored in this project yet.".to_owned()]);
        }
        if request.filter.as_of == AsOf::KnownThen {
            let note = format!(
                "No matching memory was known at {}, or it was purged later.",
                request.filter.now
            );
            return Ok(vec![note]);
        }
        let unknown = self
            .unknown_values(call, &request.filter, &counts.by_kind)
            .await?;
        if !unknown.is_empty() {
            return Ok(unknown);
        }
        if let Some(outdated) = self.outdated(call, request).await? {
            return Ok(vec![outdated]);
        }
        let filtered = request.filter != Filter::at(request.filter.now);
        Ok(vec![match (filtered, request.query.is_some()) {
            (true, _) => format!(
                "No memory passes all filters; {total} {} stored. Call again with fewer filters.",
                verb_for(total, "is", "are")
            ),
            (false, true) if total == 1 => {
                "The only stored memory contains no word of the query. Try other words or \
                                            names, or an empty query to browse."
                    .to_owned()
            }
            (false, true) => format!(
                "None of the {total} stored memories contains a word of the query. Try other words or names, or an \
                 empty query to browse."
            ),
            (false, false) => {
                format!(
                    "All stored memories ({total}) are superseded or expired; include_outdated lists them."
                )
            }
        }])
    }

    /// Returns a note for each value in the filter that no memory has.
    async fn unknown_values(
        &self,
        call: &Call,
        filter: &Filter,
        by_kind: &std::collections::BTreeMap<String, u64>,
    ) -> Result<Vec<String>, EngineError> {
        let mut notes = Vec::new();
        let anything = Filter {
            include_outdated: true,
            ..Filter::at(filter.now)
        };
        for tag in &filter.tags {
            let only = Filter {
                tags: vec![tag.clone()],
                ..anything.clone()
            };
            if let Some(note) = self
                .unknown_value(call, only, ("tag", tag), Facet::Tag)
                .await?
            {
                notes.push(note);
            }
        }
        if let Some(session) = &filter.session {
            let only = Filter {
                session: Some(session.clone()),
                ..anything.clone()
            };
            notes.extend(
                self.unknown_value(call, only, ("session", session), Facet::Session)
                    .await?,
            );
        }
        if let Some(speaker) = &filter.speaker {
            let only = Filter {
                speaker: Some(speaker.clone()),
                ..anything
            };
            notes.extend(
                self.unknown_value(call, only, ("speaker", speaker), Facet::Speaker)
                    .await?,
            );
        }
        if !filter.kinds.is_empty()
            && filter
                .kinds
                .iter()
                .all(|kind| !by_kind.contains_key(kind.as_str()))
        {
            let wanted: Vec<&str> = filter.kinds.iter().map(|kind| kind.as_str()).collect();
            let there: Vec<String> = by_kind
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            notes.push(format!(
                "No memory is of kind {}; stored are {}.",
                wanted.join(" or "),
                there.join(", ")
            ));
        }
        Ok(notes)
    }

    async fn unknown_value(
        &self,
        call: &Call,
        only: Filter,
        (what, value): (&str, &str),
        facet: Facet,
    ) -> Result<Option<String>, EngineError> {
        if !call
            .database(self.store.browse(&call.scope, &only, None, 1))
            .await?
            .is_empty()
        {
            return Ok(None);
        }
        let values = call
            .database(self.store.facet(&call.scope, facet, MOST_VALUES))
            .await?
            .values;
        let values: Vec<String> = values.into_iter().map(|(value, _)| value).collect();
        let hint = match most_alike(value, &values) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if values.is_empty() => format!("no memory has any {what}."),
            None => {
                let listed: Vec<String> = values
                    .iter()
                    .take(MOST_LISTED)
                    .map(|value| format!("{value:?}"))
                    .collect();
                format!("most frequent: {}.", listed.join(", "))
            }
        };
        Ok(Some(format!("No memory has the {what} {value:?}; {hint}")))
    }

    /// Describes the hits of the same query among outdated memories.
    async fn outdated(
        &self,
        call: &Call,
        request: &RecallRequest,
    ) -> Result<Option<String>, EngineError> {
        if request.filter.include_outdated {
            return Ok(None);
        }
        let filter = Filter {
            include_outdated: true,
            ..request.filter.clone()
        };
        let memories = match &request.query {
            None => {
                call.database(self.store.browse(&call.scope, &filter, None, MOST_OUTDATED))
                    .await?
            }
            Some(query) => {
                let found = self
                    .find_hits(call, query, &filter, MOST_OUTDATED)
                    .await?
                    .hits;
                // By meaning, some memory is always near.
                let matching = found
                    .iter()
                    .filter(|hit| hit.exact || !hit.terms.is_empty());
                let ids: Vec<_> = matching.take(MOST_OUTDATED).map(|hit| hit.id).collect();
                call.database(self.store.get(&call.scope, &ids, false))
                    .await?
            }
        };
        Ok(count_outdated(&memories, request))
    }
}

fn count_outdated(memories: &[Memory], request: &RecallRequest) -> Option<String> {
    let now = request.filter.now;
    let superseded = memories
        .iter()
        .filter(|memory| memory.superseded_by.is_some())
        .count();
    let current = |memory: &&Memory| memory.superseded_by.is_none();
    let expired = |memory: &&Memory| memory.valid_until.is_some_and(|until| until <= now);
    let expired = memories.iter().filter(current).filter(expired).count();
    let counts = [(expired, "expired"), (superseded, "superseded")];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if parts.is_empty() {
        return None;
    }
    let least = if memories.len() == MOST_OUTDATED {
        "At least "
    } else {
        ""
    };
    let (noun, verb) = if expired + superseded == 1 {
        ("memory", "matches")
    } else {
        ("memories", "match")
    };
    Some(format!(
        "{least}{} {noun} {verb}; use include_outdated.",
        parts.join(" and ")
    ))
}

/// Returns the value that was probably meant.
fn most_alike(value: &str, values: &[String]) -> Option<String> {
    let folded = value.to_lowercase();
    let score = |other: &String| {
        let other = other.to_lowercase();
        if other == folded {
            return 1.0;
        }
        let within = folded.len() >= 3
            && other.len() >= 3
            && (other.contains(&folded) || folded.contains(&other));
        let either = |a: &str, b: &str| rate_likeness(a, b).unwrap_or_default();
        let alike = either(&folded, &other).max(either(&other, &folded));
        if within { alike.max(ALIKE) } else { alike }
    };
    let scored = values
        .iter()
        .map(|other| (score(other), other))
        .filter(|(score, _)| *score >= ALIKE);
    scored
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, other)| other.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_meant_is_found() {
        let values = ["decision", "deployment", "Marta Lindqvist", "infra"].map(str::to_owned);
        for (given, meant) in [
            ("Decision", Some("decision")),
            ("decisions", Some("decision")),
            ("deploymnet", Some("deployment")),
            ("marta", Some("Marta Lindqvist")),
            ("cooking", None),
        ] {
            assert_eq!(most_alike(given, &values).as_deref(), meant, "{given}");
        }
    }
}
