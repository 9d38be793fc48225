//! The rules of an import. Existing records are left unchanged, so that an import can be repeated.

use uuid::Uuid;

use super::memory_change::memory_terms;
use super::rule::{Effect, Rule};
use super::tx::Tx;
use crate::domain::name::name_key;
use crate::domain::text::Terms;
use crate::domain::{Kind, Memory};
use crate::store::Result;
use crate::store::port::{EntityName, Imported, MemoryRecord, Record, RelationRecord};

/// Stores records in the own project and returns one result per record.
pub(crate) struct Import<'a> {
    pub(crate) records: &'a [Record],
}

impl Rule for Import<'_> {
    type Output = Vec<Imported>;
    const PURPOSE: &'static str = "import";
    const EFFECT: Effect = Effect::Repeatable;

    async fn apply<T: Tx>(&self, tx: &mut T) -> Result<Vec<Imported>, T::Error> {
        tx.ensure_project().await?;
        let is_graph = |record: &Record| matches!(record, Record::Entity(_) | Record::Relation(_));
        if self.records.iter().any(is_graph) {
            // No key prevents equal relations, because a relation that ended and began again has a row for each period.
            // A query checks instead.
            tx.lock_graph().await?;
        }
        let mut entering = Vec::new();
        let mut answers = Vec::with_capacity(self.records.len());
        for record in self.records {
            answers.push(import_record(tx, record, &mut entering).await?);
        }
        tx.index_records(&entering).await?;
        Ok(answers)
    }
}

async fn import_record<T: Tx>(
    tx: &mut T,
    record: &Record,
    entering: &mut Vec<(i64, Terms)>,
) -> Result<Imported, T::Error> {
    match record {
        Record::Memory(record) => import_memory(tx, record, entering).await,
        Record::Entity(record) => {
            if tx.find_entity(&name_key(&record.name)).await?.is_some() {
                return Ok(Imported::Present);
            }
            tx.insert_entity(record).await?;
            Ok(Imported::Created)
        }
        Record::Relation(record) => import_relation(tx, record).await,
        Record::Mention(record) => {
            let Some(memory) = own_memory(tx, record.memory).await? else {
                return Ok(unknown_memory(record.memory));
            };
            match tx.find_entity(&name_key(&record.entity.name)).await? {
                Some(entity) => Ok(created(tx.insert_mention(memory, entity).await?)),
                None => Ok(unknown_entity(&record.entity)),
            }
        }
        Record::Focus(record) => Ok(created(tx.insert_focus(record).await?)),
        Record::Review(record) => match own_memory(tx, record.review.memory).await? {
            Some(memory) => Ok(created(
                tx.insert_decided_review(&record.review, memory).await?,
            )),
            None => Ok(unknown_memory(record.review.memory)),
        },
    }
}

async fn import_memory<T: Tx>(
    tx: &mut T,
    record: &MemoryRecord,
    entering: &mut Vec<(i64, Terms)>,
) -> Result<Imported, T::Error> {
    let memory = &record.memory;
    if let Some(location) = tx.locate_memory(memory.id).await? {
        return Ok(if location.is_own {
            Imported::Present
        } else {
            let id = memory.id;
            Imported::Refused(format!("memory {id} already exists in another project"))
        });
    }
    if let Some((session, turn)) = claimed_turn(memory)
        && let Some((_, _, other)) = tx.turn_owners(&[(session, turn)]).await?.pop()
    {
        return Ok(Imported::Refused(format!(
            "turn {turn} of session {session:?} already exists, as memory {other}"
        )));
    }
    let terms = memory_terms(memory, tx.analyzer());
    let seq = tx.insert_record(record, &terms).await?;
    if memory.deleted_at.is_none() {
        entering.push((seq, terms));
    }
    Ok(Imported::Created)
}

/// Returns the turn of a conversation, which no other memory may have.
fn claimed_turn(memory: &Memory) -> Option<(&str, i64)> {
    let is_current = memory.deleted_at.is_none() && memory.superseded_by.is_none();
    if !is_current || memory.kind != Kind::Dialogue {
        return None;
    }
    Some((memory.session.as_deref()?, memory.turn?))
}

async fn import_relation<T: Tx>(tx: &mut T, record: &RelationRecord) -> Result<Imported, T::Error> {
    let Some(from) = tx.find_entity(&name_key(&record.source.name)).await? else {
        return Ok(unknown_entity(&record.source));
    };
    let Some(to) = tx.find_entity(&name_key(&record.target.name)).await? else {
        return Ok(unknown_entity(&record.target));
    };
    Ok(created(tx.insert_relation(record, from, to).await?))
}

/// Returns the number of a memory if it belongs to the project.
async fn own_memory<T: Tx>(tx: &mut T, id: Uuid) -> Result<Option<i64>, T::Error> {
    let location = tx.locate_memory(id).await?;
    Ok(location
        .filter(|location| location.is_own)
        .map(|location| location.seq))
}

fn created(is_new: bool) -> Imported {
    if is_new {
        Imported::Created
    } else {
        Imported::Present
    }
}

fn unknown_memory(id: Uuid) -> Imported {
    Imported::Refused(format!("there is no memory {id}"))
}

fn unknown_entity(entity: &EntityName) -> Imported {
    Imported::Refused(format!("there is no entity {:?}", entity.name))
}
