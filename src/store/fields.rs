//! Conversion of rows to domain types, written once for both databases. A backend defines how a row stores each type;
//! the functions here read columns by name, and both databases use the same names.

use sqlx::Error;

use super::StoredToken;
use super::memory_columns::read_memory;
use super::port::{
    EntityName, EntityRecord, FocusRecord, FocusState, MemoryRecord, MentionRecord, Record,
    RelationRecord, ReviewRecord, Section,
};
use super::row_reader::{Fields, decoding_error};
use crate::domain::conversation::Turn;
use crate::domain::focus::{ArchivedItem, FocusItem};
use crate::domain::graph::{Entity, Relation};
use crate::domain::token::Token;
use crate::domain::{History, Hit, HitContext, Review, UsageStats};

type Result<T> = std::result::Result<T, Error>;

/// Reads a memory with the data that ranking needs.
pub(super) fn hit(row: &impl Fields) -> Result<Hit> {
    let usage = UsageStats {
        importance: row.real("importance")?,
        created_at: row.time("created_at")?,
        last_recalled_at: row.optional_time("last_recalled_at")?,
        recall_count: row.integer("recall_count")?,
        helpful: row.integer("helpful")?,
        not_helpful: row.integer("not_helpful")?,
    };
    let (session, number) = (row.optional_text("session")?, row.optional_integer("turn")?);
    let project = row.optional_text("project")?;
    let context = HitContext::new(
        project.and_then(|project| Turn::new(project, session, number)),
        row.optional_text("speaker")?,
        u32::try_from(row.integer("length")?).unwrap_or(u32::MAX),
        row.flag("asks")?,
        row.time("occurred_at")?,
    );
    let (id, seq) = (row.uuid("id")?, row.integer("seq")?);
    Ok(Hit::new(id, seq, usage, context))
}

pub(super) fn history(row: &impl Fields) -> Result<History> {
    Ok(History {
        memory_id: row.uuid("id")?,
        version: row.integer("version")?,
        change: row.word("change")?,
        old: row.optional_json("old")?,
        actor: row.text("actor")?,
        reason: row.optional_text("reason")?,
        at: row.time("at")?,
    })
}

pub(super) fn review(row: &impl Fields) -> Result<Review> {
    let proposal = serde_json::from_value(row.json("proposal")?)
        .map_err(|error| decoding_error("proposal", &error.to_string()))?;
    Ok(Review {
        id: row.uuid("id")?,
        memory: row.uuid("memory")?,
        proposal,
        state: row.word("state")?,
        actor: row.text("actor")?,
        reason: row.optional_text("reason")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        decided_by: row.optional_text("decided_by")?,
        decided_at: row.optional_time("decided_at")?,
        decision_reason: row.optional_text("decision_reason")?,
        applied_version: row.optional_integer("applied_version")?,
    })
}

pub(super) fn focus_item(row: &impl Fields) -> Result<FocusItem> {
    Ok(FocusItem {
        seq: row.integer("seq")?,
        id: row.uuid("id")?,
        content: row.text("content")?,
        importance: row.real("importance")?,
        created_at: row.time("created_at")?,
        touched_at: row.time("touched_at")?,
        memory: row.optional_uuid("memory_id")?,
    })
}

pub(super) fn archived_item(row: &impl Fields) -> Result<ArchivedItem> {
    Ok(ArchivedItem {
        item: focus_item(row)?,
        archived_at: row.time("archived_at")?,
        reason: row.text("reason")?,
    })
}

pub(super) fn entity(row: &impl Fields) -> Result<Entity> {
    Ok(Entity {
        seq: row.integer("seq")?,
        project: row.text("project")?,
        name: row.text("name")?,
        kind: row.text("type")?,
        properties: row.object("properties")?,
        use_count: row.integer("use_count")?,
        last_used_at: row.optional_time("last_used_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(super) fn relation(row: &impl Fields) -> Result<Relation> {
    Ok(Relation {
        seq: row.integer("seq")?,
        from: row.integer("from_seq")?,
        to: row.integer("to_seq")?,
        kind: row.text("type")?,
        weight: row.real("weight")?,
        properties: row.object("properties")?,
        valid_from: row.optional_time("valid_from")?,
        valid_to: row.optional_time("valid_to")?,
        use_count: row.integer("use_count")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(super) fn token(row: &impl Fields) -> Result<StoredToken> {
    let hash = row.bytes("sha256")?;
    Ok(StoredToken {
        token: Token {
            name: row.text("name")?,
            project: row.text("project")?,
            reads: row.texts("reads")?,
            prefix: row.text("prefix")?,
            created_at: row.time("created_at")?,
            expires_at: row.optional_time("expires_at")?,
            revoked_at: row.optional_time("revoked_at")?,
        },
        sha256: hash
            .try_into()
            .map_err(|_| decoding_error("sha256", "a hash has 32 bytes"))?,
    })
}

/// Reads a record of an export that occupies one row. Memories are read together with their history instead.
pub(super) fn record(section: Section, row: &impl Fields) -> Result<Record> {
    Ok(match section {
        Section::Entity => Record::Entity(entity_record(row)?),
        Section::Relation => Record::Relation(Box::new(relation_record(row)?)),
        Section::Memory => Record::Memory(Box::new(MemoryRecord {
            memory: read_memory(row)?,
            history: Vec::new(),
        })),
        Section::Mention => Record::Mention(mention_record(row)?),
        Section::Focus | Section::Archive => Record::Focus(focus_record(row)?),
        Section::Review => Record::Review(Box::new(review_record(row)?)),
    })
}

fn entity_record(row: &impl Fields) -> Result<EntityRecord> {
    let entity = entity(row)?;
    Ok(EntityRecord {
        project: entity.project,
        name: entity.name,
        kind: entity.kind,
        properties: entity.properties.to_map(),
        use_count: entity.use_count,
        last_used_at: entity.last_used_at,
        created_at: entity.created_at,
        updated_at: entity.updated_at,
    })
}

fn relation_record(row: &impl Fields) -> Result<RelationRecord> {
    let relation = relation(row)?;
    Ok(RelationRecord {
        project: row.text("project")?,
        source: entity_name(row, "source", "source_type")?,
        target: entity_name(row, "target", "target_type")?,
        kind: relation.kind,
        weight: relation.weight,
        properties: relation.properties.to_map(),
        use_count: relation.use_count,
        last_used_at: row.optional_time("last_used_at")?,
        valid_from: relation.valid_from,
        valid_to: relation.valid_to,
        created_at: relation.created_at,
        updated_at: relation.updated_at,
    })
}

fn mention_record(row: &impl Fields) -> Result<MentionRecord> {
    Ok(MentionRecord {
        project: row.text("project")?,
        memory: row.uuid("memory")?,
        entity: entity_name(row, "name", "type")?,
    })
}

fn entity_name(row: &impl Fields, name: &str, kind: &str) -> Result<EntityName> {
    Ok(EntityName {
        name: row.text(name)?,
        kind: row.text(kind)?,
    })
}

fn focus_record(row: &impl Fields) -> Result<FocusRecord> {
    let item = focus_item(row)?;
    Ok(FocusRecord {
        project: row.text("project")?,
        id: item.id,
        session: row.text("session")?,
        content: item.content,
        importance: item.importance,
        created_at: item.created_at,
        touched_at: item.touched_at,
        memory: item.memory,
        state: match row.optional_time("archived_at")? {
            None => FocusState::Held,
            Some(archived_at) => FocusState::Archived {
                archived_at,
                reason: row.text("reason")?,
            },
        },
    })
}

fn review_record(row: &impl Fields) -> Result<ReviewRecord> {
    Ok(ReviewRecord {
        project: row.text("project")?,
        review: review(row)?,
    })
}
