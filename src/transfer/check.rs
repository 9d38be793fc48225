//! Checks data that only a file can contain: each record like the tool that creates it, and the numbers, times and
//! history that no tool accepts.

use chrono::{DateTime, Datelike, Utc};
use serde_json::Value;

use crate::domain::name::{name_key, type_key};
use crate::domain::validate::{self, Invalid};
use crate::domain::{Change, History, Kind, Memory, Patch, Proposal, Review, ReviewState};
use crate::store::port::{
    EntityRecord, FocusRecord, FocusState, MemoryRecord, Record, RelationRecord,
};

/// Checks a record and normalizes its names and times as they are stored.
///
/// # Errors
/// [`Invalid`] names the field.
pub(super) fn check_record(record: &mut Record) -> Result<(), Invalid> {
    match record {
        Record::Memory(record) => check_memory(record)?,
        Record::Entity(entity) => check_entity(entity)?,
        Record::Relation(relation) => check_relation(relation)?,
        Record::Mention(_) => {}
        Record::Focus(item) => check_focus(item)?,
        Record::Review(record) => check_review(&mut record.review)?,
    }
    validate::text("project", record.project(), validate::MAX_NAME_BYTES)
}

/// Checks a memory like `remember`, and its history.
///
/// # Errors
/// [`Invalid`] names the field.
pub(super) fn check_memory(record: &mut MemoryRecord) -> Result<(), Invalid> {
    let memory = &mut record.memory;
    validate::text("content", &memory.content, validate::MAX_CONTENT_BYTES)?;
    validate::metadata("metadata", &memory.metadata.to_map())?;
    memory.tags = validate::tags("tags", &memory.tags)?;
    validate::number("importance", memory.importance, 0.0, 1.0)?;
    for (field, name) in [("session", &memory.session), ("speaker", &memory.speaker)] {
        if let Some(name) = name {
            validate::text(field, name, validate::MAX_NAME_BYTES)?;
        }
    }
    check_fields_of_kind(memory)?;
    validate::count("sources", memory.sources.len(), validate::MAX_IDS)?;
    for (field, count, least) in [
        ("version", memory.version, 1),
        ("recall_count", memory.recall_count, 0),
        ("helpful", memory.helpful, 0),
        ("not_helpful", memory.not_helpful, 0),
    ] {
        check_count(field, count, least)?;
    }
    accept_times([
        ("occurred_at", Some(&mut memory.occurred_at)),
        ("created_at", Some(&mut memory.created_at)),
        ("updated_at", Some(&mut memory.updated_at)),
        ("valid_until", memory.valid_until.as_mut()),
        ("deleted_at", memory.deleted_at.as_mut()),
        ("last_recalled_at", memory.last_recalled_at.as_mut()),
    ])?;
    check_history(record)
}

fn check_fields_of_kind(memory: &Memory) -> Result<(), Invalid> {
    if let Some(turn) = memory.turn.filter(|_| memory.kind != Kind::Dialogue) {
        let turn = turn.to_string();
        return Err(Invalid::only_for(
            Kind::Dialogue,
            memory.kind,
            "turn",
            &turn,
        ));
    }
    let Some(episode) = &memory.episode else {
        if memory.kind == Kind::Episode {
            let expected = "situation, outcome and lesson with kind episode";
            return Err(Invalid::new("kind", memory.kind.as_str(), expected));
        }
        return Ok(());
    };
    if memory.kind != Kind::Episode {
        let (field, value) = ("situation", &episode.situation);
        return Err(Invalid::only_for(Kind::Episode, memory.kind, field, value));
    }
    validate::text("situation", &episode.situation, validate::MAX_EPISODE_BYTES)?;
    validate::text("lesson", &episode.lesson, validate::MAX_EPISODE_BYTES)?;
    validate::number("outcome", episode.outcome, -1.0, 1.0).map(drop)
}

/// Checks that the memory was created once, by its first entry, and has no change beyond its version.
fn check_history(record: &mut MemoryRecord) -> Result<(), Invalid> {
    let is_creation = |entry: &History| entry.change == Change::Created;
    let created = record
        .history
        .iter()
        .filter(|entry| is_creation(entry))
        .count();
    if created != 1 || !record.history.first().is_some_and(is_creation) {
        let found = format!("{created} of {}", record.history.len());
        let expected = "one entry with change `created`, as the first";
        return Err(Invalid::new("history", found, expected));
    }
    for (index, entry) in record.history.iter_mut().enumerate() {
        check_history_entry(entry, index > 0, record.memory.version)
            .map_err(|invalid| invalid.within(format!("history[{index}]")))?;
    }
    let first = &mut record.history[0];
    (first.version, first.at, first.reason) = (1, record.memory.created_at, None);
    Ok(())
}

fn check_history_entry(entry: &mut History, is_change: bool, latest: i64) -> Result<(), Invalid> {
    accept_times([("at", Some(&mut entry.at))])?;
    refuse_nul("actor", Some(&entry.actor))?;
    refuse_nul("reason", entry.reason.as_ref())?;
    let old = entry.old.as_ref().map(Value::to_string).unwrap_or_default();
    if old.contains("\\u0000") || is_change != entry.old.is_some() {
        let expected = "the fields before the change, for every entry but the creation";
        return Err(Invalid::new("old", old, expected));
    }
    if !(1..=latest).contains(&entry.version) {
        let expected = format!("a version from 1 to {latest}");
        return Err(Invalid::new("version", entry.version.to_string(), expected));
    }
    Ok(())
}

fn check_entity(entity: &mut EntityRecord) -> Result<(), Invalid> {
    entity.name = accept_name("name", &entity.name)?;
    entity.kind = accept_type(&entity.kind)?;
    validate::metadata("properties", &entity.properties)?;
    check_count("use_count", entity.use_count, 0)?;
    accept_times([
        ("last_used_at", entity.last_used_at.as_mut()),
        ("created_at", Some(&mut entity.created_at)),
        ("updated_at", Some(&mut entity.updated_at)),
    ])
}

fn check_relation(relation: &mut RelationRecord) -> Result<(), Invalid> {
    relation.kind = accept_type(&relation.kind)?;
    if name_key(&relation.source.name) == name_key(&relation.target.name) {
        let expected = "the name of another entity than source";
        return Err(Invalid::new("target", &relation.target.name, expected));
    }
    validate::metadata("properties", &relation.properties)?;
    validate::number("weight", relation.weight, 0.0, 1.0)?;
    check_count("use_count", relation.use_count, 0)?;
    accept_times([
        ("last_used_at", relation.last_used_at.as_mut()),
        ("valid_from", relation.valid_from.as_mut()),
        ("valid_to", relation.valid_to.as_mut()),
        ("created_at", Some(&mut relation.created_at)),
        ("updated_at", Some(&mut relation.updated_at)),
    ])?;
    match (relation.valid_from, relation.valid_to) {
        (Some(begin), Some(end)) if begin >= end => {
            let expected = format!("a time after valid_from, which is {}", begin.to_rfc3339());
            Err(Invalid::new("valid_to", end.to_rfc3339(), expected))
        }
        _ => Ok(()),
    }
}

fn check_focus(item: &mut FocusRecord) -> Result<(), Invalid> {
    validate::text("content", &item.content, validate::MAX_CONTENT_BYTES)?;
    validate::number("importance", item.importance, 0.0, 1.0)?;
    refuse_nul("session", Some(&item.session))?;
    let archived_at = match &mut item.state {
        FocusState::Held => None,
        FocusState::Archived {
            archived_at,
            reason,
        } => {
            refuse_nul("reason", Some(reason))?;
            Some(archived_at)
        }
    };
    accept_times([
        ("archived_at", archived_at),
        ("created_at", Some(&mut item.created_at)),
        ("touched_at", Some(&mut item.touched_at)),
    ])
}

fn check_review(review: &mut Review) -> Result<(), Invalid> {
    if review.state == ReviewState::Expired {
        let expected = "open; expires_at says whether the review has expired";
        return Err(Invalid::new("state", review.state.as_str(), expected));
    }
    for (field, text) in [
        ("actor", Some(&review.actor)),
        ("reason", review.reason.as_ref()),
        ("decided_by", review.decided_by.as_ref()),
        ("decision_reason", review.decision_reason.as_ref()),
    ] {
        refuse_nul(field, text)?;
    }
    accept_times([
        ("created_at", Some(&mut review.created_at)),
        ("expires_at", Some(&mut review.expires_at)),
        ("decided_at", review.decided_at.as_mut()),
    ])?;
    if let Proposal::Update { patch } = &review.proposal {
        check_patch(patch).map_err(|invalid| invalid.within("proposal.patch"))?;
    }
    Ok(())
}

/// Checks the change of a review like `update`.
fn check_patch(patch: &Patch) -> Result<(), Invalid> {
    for (field, text, most) in [
        ("content", &patch.content, validate::MAX_CONTENT_BYTES),
        ("situation", &patch.situation, validate::MAX_EPISODE_BYTES),
        ("lesson", &patch.lesson, validate::MAX_EPISODE_BYTES),
    ] {
        if let Some(text) = text {
            validate::text(field, text, most)?;
        }
    }
    for (field, number, least) in [
        ("importance", patch.importance, 0.0),
        ("outcome", patch.outcome, -1.0),
    ] {
        if let Some(number) = number {
            validate::number(field, number, least, 1.0)?;
        }
    }
    if let Some(tags) = &patch.tags {
        validate::tags("tags", tags)?;
    }
    if let Some(metadata) = &patch.metadata {
        validate::metadata("metadata", metadata)?;
    }
    let (mut occurred_at, mut valid_until) = (patch.occurred_at, patch.valid_until.flatten());
    accept_times([
        ("occurred_at", occurred_at.as_mut()),
        ("valid_until", valid_until.as_mut()),
    ])
}

/// Accepts every time since 1970 that RFC 3339 can express, because a clock that was wrong when a memory was stored
/// must not prevent the import of its export. The precision is reduced to that of the databases.
fn accept_times<const N: usize>(
    times: [(&str, Option<&mut DateTime<Utc>>); N],
) -> Result<(), Invalid> {
    for (field, at) in times {
        let Some(at) = at else { continue };
        if !(1970..10_000).contains(&at.year()) {
            let expected = "a time between 1970 and 9999";
            return Err(Invalid::new(field, at.to_rfc3339(), expected));
        }
        *at = truncate_time(*at);
    }
    Ok(())
}

/// Truncates a time to microseconds, the precision of both databases.
#[must_use]
pub(super) fn truncate_time(at: DateTime<Utc>) -> DateTime<Utc> {
    chrono::SubsecRound::trunc_subsecs(at, 6)
}

fn check_count(field: &str, count: i64, least: i64) -> Result<(), Invalid> {
    if count >= least {
        return Ok(());
    }
    let expected = format!("an integer of at least {least}");
    Err(Invalid::new(field, count.to_string(), expected))
}

/// Returns a name as `link` stores it.
pub(super) fn accept_name(field: &str, name: &str) -> Result<String, Invalid> {
    validate::text(field, name, validate::MAX_NAME_BYTES)?;
    if name_key(name).is_empty() {
        let expected = "a name with at least one visible character";
        return Err(Invalid::new(field, name, expected));
    }
    Ok(name.trim().to_owned())
}

/// Returns a type as `link` stores it.
pub(super) fn accept_type(kind: &str) -> Result<String, Invalid> {
    validate::text("kind", kind, validate::MAX_TAG_BYTES)?;
    Ok(type_key(kind))
}

fn refuse_nul(field: &str, text: Option<&String>) -> Result<(), Invalid> {
    match text {
        Some(text) if text.contains('\0') => {
            Err(Invalid::new(field, text, "text without NUL characters"))
        }
        _ => Ok(()),
    }
}
