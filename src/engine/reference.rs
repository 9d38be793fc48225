//! Resolves references of a caller to IDs: a full ID, its last digits, or a unique prefix.

use uuid::Uuid;

use super::{Call, Engine, EngineError};
use crate::domain::reference::first_line;
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{IdPart, IdReference};
use crate::store::{Referable, Referent};

/// Maximum number of candidates for an ambiguous reference.
const MOST_CANDIDATES: usize = 5;
/// Maximum number of partial IDs in one call, because each needs a lookup.
const MOST_PARTS: usize = 1_000;
/// Maximum number of characters of a candidate's text.
const CANDIDATE_CHARS: usize = 80;

/// Refuses every text that cannot be a reference.
///
/// # Errors
/// [`Invalid`] with all problems.
pub(super) fn check_ids(field: &str, ids: &[String]) -> Result<(), Invalid> {
    validate::count(field, ids.len(), validate::MAX_IDS)?;
    let mut problems = Problems::default();
    for (index, id) in ids.iter().enumerate() {
        problems.check(check_id(
            Referable::Memory,
            &format!("{field}[{index}]"),
            id,
        ));
    }
    problems.refuse_if_any()
}

/// Refuses a text that cannot be a reference.
///
/// # Errors
/// [`Invalid`] names the expected form.
pub(super) fn check_id(kind: Referable<'_>, field: &str, id: &str) -> Result<(), Invalid> {
    IdReference::parse(id)
        .map(drop)
        .ok_or_else(|| Invalid::new(field, id, expected(kind)))
}

/// A reference with its argument.
struct Named<'a> {
    field: String,
    text: &'a str,
}

impl Engine {
    /// Returns the memories to which `ids` refer, each once, in the requested order.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for texts that cannot be IDs, [`EngineError::UnknownReference`] and
    /// [`EngineError::AmbiguousReference`] for parts of IDs. The store checks whether full IDs exist.
    pub(super) async fn resolve_ids(
        &self,
        call: &Call,
        field: &str,
        ids: &[String],
    ) -> Result<Vec<Uuid>, EngineError> {
        let (found, unknown) = self.resolve_known(call, field, ids).await?;
        if unknown.is_empty() {
            return Ok(found);
        }
        Err(EngineError::UnknownReference {
            field: field.to_owned(),
            references: unknown,
        })
    }

    /// As [`Engine::resolve_ids`], but returns references that match no memory separately.
    pub(super) async fn resolve_known(
        &self,
        call: &Call,
        field: &str,
        ids: &[String],
    ) -> Result<(Vec<Uuid>, Vec<String>), EngineError> {
        validate::count(field, ids.len(), validate::MAX_IDS)?;
        let named = ids.iter().enumerate();
        let named = named
            .map(|(index, text)| Named {
                field: format!("{field}[{index}]"),
                text,
            })
            .collect();
        let resolved = self.look_up(call, Referable::Memory, named).await?;
        let (mut found, mut unknown) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, text) in resolved.into_iter().zip(ids) {
            match id {
                Some(id) if !found.contains(&id) => found.push(id),
                Some(_) => {}
                None => unknown.push(text.trim().to_owned()),
            }
        }
        Ok((found, unknown))
    }

    /// Returns the object to which `text` refers.
    ///
    /// # Errors
    /// As [`Engine::resolve_ids`].
    pub(super) async fn resolve_one(
        &self,
        call: &Call,
        kind: Referable<'_>,
        field: &str,
        text: &str,
    ) -> Result<Uuid, EngineError> {
        let named = vec![Named {
            field: field.to_owned(),
            text,
        }];
        let found = self.look_up(call, kind, named).await?.pop().flatten();
        let unknown = || EngineError::UnknownReference {
            field: field.to_owned(),
            references: vec![text.trim().to_owned()],
        };
        found.ok_or_else(unknown)
    }

    /// Returns the memories to which each of `lists` refers, each once per list. A list comes with its argument.
    ///
    /// # Errors
    /// As [`Engine::resolve_ids`]; also if there are too many parts of IDs.
    pub(super) async fn resolve_lists(
        &self,
        call: &Call,
        lists: &[(String, Vec<String>)],
    ) -> Result<Vec<Vec<Uuid>>, EngineError> {
        let all = || lists.iter().flat_map(|(_, ids)| ids);
        let parts = all()
            .filter(|text| matches!(IdReference::parse(text), Some(IdReference::Part(_))))
            .count();
        if parts > MOST_PARTS {
            let expected = format!(
                "at most {MOST_PARTS} short IDs in one call; use full IDs, or several calls"
            );
            return Err(Invalid::new("items", format!("{parts} short IDs"), expected).into());
        }
        let entry = |field: &str, (index, text): (usize, &'_ String)| {
            (format!("{field}[{index}]"), text.clone())
        };
        let named: Vec<(String, String)> = lists
            .iter()
            .flat_map(|(field, ids)| {
                ids.iter()
                    .enumerate()
                    .map(move |numbered| entry(field, numbered))
            })
            .collect();
        let wanted = named
            .iter()
            .map(|(field, text)| Named {
                field: field.clone(),
                text,
            })
            .collect();
        let mut resolved = self
            .look_up(call, Referable::Memory, wanted)
            .await?
            .into_iter()
            .zip(named);
        let mut found = Vec::with_capacity(lists.len());
        for (_, ids) in lists {
            let mut list = Vec::with_capacity(ids.len());
            for (id, (field, text)) in resolved.by_ref().take(ids.len()) {
                match id {
                    None => {
                        return Err(EngineError::UnknownReference {
                            field,
                            references: vec![text],
                        });
                    }
                    Some(id) if !list.contains(&id) => list.push(id),
                    Some(_) => {}
                }
            }
            found.push(list);
        }
        Ok(found)
    }

    /// Returns the ID for each reference; `None` if a part matches nothing.
    async fn look_up(
        &self,
        call: &Call,
        kind: Referable<'_>,
        named: Vec<Named<'_>>,
    ) -> Result<Vec<Option<Uuid>>, EngineError> {
        let mut parts: Vec<IdPart> = Vec::new();
        let mut references = Vec::with_capacity(named.len());
        for Named { field, text } in &named {
            let reference = IdReference::parse(text)
                .ok_or_else(|| Invalid::new(field, text, expected(kind)))?;
            if let IdReference::Part(part) = &reference {
                parts.push(part.clone());
            }
            references.push(reference);
        }
        parts.sort();
        parts.dedup();
        let found = if parts.is_empty() {
            Vec::new()
        } else {
            call.database(
                self.store
                    .referents(&call.scope, kind, &parts, MOST_CANDIDATES + 1),
            )
            .await?
        };
        let mut resolved = Vec::with_capacity(named.len());
        for (reference, Named { field, text }) in references.into_iter().zip(named) {
            resolved.push(match reference {
                IdReference::Full(id) => Some(id),
                IdReference::Part(part) => {
                    let matches = found.iter().filter(|referent| parts[referent.part] == part);
                    only_one(field, text, &matches.collect::<Vec<_>>())?
                }
            });
        }
        Ok(resolved)
    }
}

fn only_one(field: String, text: &str, matches: &[&Referent]) -> Result<Option<Uuid>, EngineError> {
    if matches.len() < 2 {
        return Ok(matches.first().map(|referent| referent.id));
    }
    let candidate = |referent: &&Referent| {
        format!(
            "{} ({})",
            referent.id,
            first_line(&referent.text, CANDIDATE_CHARS)
        )
    };
    let mut candidates: Vec<String> = matches
        .iter()
        .take(MOST_CANDIDATES)
        .map(candidate)
        .collect();
    if matches.len() > MOST_CANDIDATES {
        candidates.push("and others".to_owned());
    }
    Err(EngineError::AmbiguousReference {
        field,
        reference: text.trim().to_owned(),
        candidates,
    })
}

fn expected(kind: Referable<'_>) -> &'static str {
    match kind {
        Referable::Memory => {
            "the ID of a memory: all of it, its last 8 or more digits, or a prefix that only one has"
        }
        Referable::FocusItem { .. } => {
            "the ID of an item in the working memory, as focus prints it"
        }
        Referable::Review => "the ID of a review, as review list prints it",
    }
}
