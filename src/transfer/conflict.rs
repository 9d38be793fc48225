//! Handles memories whose ID is already stored with another text, and turns of a dialogue whose number is taken. They
//! are not duplicates: they are either stored as well, or reported.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::TransferError;
use super::report::Report;
use crate::domain::{Memory, Scope};
use crate::store::port::{Imported, MemoryRecord, MentionRecord, Record};
use crate::store::{HistoryQuery, Store};

/// Number of history entries that are read at once,
const PAGE_ENTRIES: usize = 100;
/// and their approximate size in bytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// Handling of a memory whose ID is stored with another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// The stored one is kept, and the other one is reported as left out.
    Report,
    /// Both are kept, the new one under another ID, unless the stored one was edited here.
    KeepBoth,
}

/// The new IDs of conflicting memories, by their IDs in the file.
pub(super) type Renamed = HashMap<Uuid, Uuid>;

/// The decision about a conflicting record.
pub(super) enum Settlement {
    /// Store this record instead, with a warning.
    Store(Box<MemoryRecord>, String),
    /// Report that it was left out, and the reason.
    LeaveOut(String),
}

/// Records that were passed to the store.
pub(super) struct Batch<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) scope: &'a Scope,
    pub(super) records: &'a [Record],
    pub(super) places: &'a [String],
}

impl Batch<'_> {
    /// Decides about the records, by their index, that conflict with stored ones.
    pub(super) async fn find_contested(
        &self,
        answers: &[Imported],
        conflicts: Conflicts,
    ) -> Result<BTreeMap<usize, Settlement>, TransferError> {
        let mut contested = BTreeMap::new();
        let mut present = Vec::new();
        for (index, (record, answer)) in self.records.iter().zip(answers).enumerate() {
            match (record, answer) {
                (Record::Memory(record), Imported::Present) => present.push((index, &**record)),
                (Record::Memory(record), Imported::Refused(why))
                    if conflicts == Conflicts::KeepBoth && record.memory.turn.is_some() =>
                {
                    let unnumbered = without_turn(record.clone(), record.memory.id);
                    let warning = format!("stored without its turn number: {why}");
                    contested.insert(index, Settlement::Store(unnumbered, warning));
                }
                _ => {}
            }
        }
        let ids: Vec<Uuid> = present.iter().map(|(_, record)| record.memory.id).collect();
        if ids.is_empty() {
            return Ok(contested);
        }
        let stored = self.store.get(self.scope, &ids, true).await?;
        let stored: HashMap<Uuid, Memory> = stored
            .into_iter()
            .map(|memory| (memory.id, memory))
            .collect();
        for (index, record) in present {
            let Some(stored) = stored.get(&record.memory.id) else {
                continue;
            };
            if stored.content != record.memory.content
                && !self.was_text_of(stored, &record.memory.content).await?
            {
                contested.insert(index, settle_conflict(record, stored, conflicts));
            }
        }
        Ok(contested)
    }

    /// Returns whether a memory had a text before it was edited.
    async fn was_text_of(&self, stored: &Memory, text: &str) -> Result<bool, TransferError> {
        if stored.version == 1 {
            return Ok(false);
        }
        let mut from = None;
        loop {
            let query = HistoryQuery {
                memory: stored.id,
                from,
                entries: PAGE_ENTRIES,
                bytes: PAGE_BYTES,
            };
            let page = self.store.history_page(self.scope, &query).await?;
            let mut earlier = page.iter().filter_map(|entry| entry.history.old.as_ref());
            if earlier.any(|old| old["content"] == text) {
                return Ok(true);
            }
            // A page begins with the last entry of the previous one.
            match page.last() {
                Some(last) if from != Some(last.place) => from = Some(last.place),
                _ => return Ok(false),
            }
        }
    }

    /// Executes the decisions, and adds mentions to memories that are stored under another ID.
    pub(super) async fn store_settlements(
        &self,
        contested: BTreeMap<usize, Settlement>,
        renamed: &mut Renamed,
        report: &mut Report,
    ) -> Result<(), TransferError> {
        let mut records = Vec::new();
        let mut places = Vec::new();
        let mut warnings = Vec::new();
        for (index, settlement) in contested {
            match settlement {
                Settlement::LeaveOut(why) => report.problems.add(self.places[index].clone(), why),
                Settlement::Store(record, warning) => {
                    if let Record::Memory(original) = &self.records[index]
                        && original.memory.id != record.memory.id
                    {
                        renamed.insert(original.memory.id, record.memory.id);
                    }
                    records.push(Record::Memory(record));
                    places.push(self.places[index].clone());
                    warnings.push(Some(warning));
                }
            }
        }
        for (index, record) in self.records.iter().enumerate() {
            if let Record::Mention(mention) = record
                && let Some(memory) = renamed.get(&mention.memory)
            {
                records.push(Record::Mention(MentionRecord {
                    memory: *memory,
                    ..mention.clone()
                }));
                places.push(self.places[index].clone());
                warnings.push(None);
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let answers = self.store.import(self.scope, &records).await?;
        for (((record, place), warning), answer) in
            records.iter().zip(places).zip(warnings).zip(answers)
        {
            match (answer, warning) {
                (Imported::Created, warning) => {
                    report.count_created(record);
                    if let Some(warning) = warning {
                        report.warnings.add(place, warning);
                    }
                }
                // An earlier import stored it.
                (Imported::Present, Some(_)) => report.present += 1,
                (Imported::Present, None) => {}
                (Imported::Refused(why), _) => report.problems.add(place, why),
            }
        }
        Ok(())
    }
}

fn settle_conflict(record: &MemoryRecord, stored: &Memory, conflicts: Conflicts) -> Settlement {
    let id = stored.id;
    if conflicts == Conflicts::KeepBoth && stored.version == 1 {
        let digest = Sha256::digest(format!("{id}\n{}", record.memory.content));
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let own = uuid::Builder::from_unix_timestamp_millis(millis_of(id), &random).into_uuid();
        let warning =
            format!("memory {id} is stored with another text: both are kept, this one as {own}");
        return Settlement::Store(without_turn(Box::new(record.clone()), own), warning);
    }
    Settlement::LeaveOut(format!(
        "memory {id} is stored with another text (version {} here, version {} in the file): the stored one is kept",
        stored.version, record.memory.version
    ))
}

/// Returns the time in the first 48 bits of an ID of version 7.
fn millis_of(id: Uuid) -> u64 {
    id.as_bytes()[..6]
        .iter()
        .fold(0, |millis, byte| millis << 8 | u64::from(*byte))
}

/// Removes the turn number, because a dialogue has one memory per turn number.
fn without_turn(mut record: Box<MemoryRecord>, id: Uuid) -> Box<MemoryRecord> {
    record.memory.id = id;
    record.memory.turn = None;
    for entry in &mut record.history {
        entry.memory_id = id;
    }
    record
}
