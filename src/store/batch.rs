//! A batch of analyzed memories in which items with the same text are merged.

use super::{Remember, Result};
use crate::domain::repeat::merge_repeats;
use crate::domain::text::PackedTerms;
use crate::domain::{AnalyzedMemory, Analyzer, Invalid, NewMemory, Repeat};

/// The reason recorded in the history if the text of a memory is stored again.
pub(super) const STORED_AGAIN: &str = "stored again";

/// A batch without duplicate texts; see the module.
#[derive(Debug)]
pub(super) struct AnalyzedBatch {
    pub(super) command: Remember<NewMemory>,
    /// One item for each item of the command.
    pub(super) items: Vec<AnalyzedItem>,
    /// The additions of each item to an earlier item with the same text.
    pub(super) repeats: Vec<Repeat>,
}

/// Values computed from the texts of an item.
#[derive(Debug)]
pub(super) struct AnalyzedItem {
    pub(super) hash: [u8; 32],
    pub(super) terms: PackedTerms,
    pub(super) bytes: u64,
}

impl AnalyzedBatch {
    /// Merges items with the same text. Uses the analyzer only for merged items.
    pub(super) fn new(command: Remember, analyzer: &Analyzer) -> Result<Self> {
        let Remember {
            items: mut analyzed,
            idempotency,
            now,
        } = command;
        analyzed
            .iter()
            .try_for_each(|item| refuse_nul(&item.memory))?;
        let repeats = merge_repeats(&mut analyzed, analyzer);
        let split = |item: AnalyzedMemory| {
            let AnalyzedMemory {
                memory,
                hash,
                terms,
                bytes,
            } = item;
            (memory, AnalyzedItem { hash, terms, bytes })
        };
        let (memories, items) = analyzed.into_iter().map(split).unzip();
        Ok(Self {
            command: Remember {
                items: memories,
                idempotency,
                now,
            },
            items,
            repeats,
        })
    }
}

/// Refuses NUL characters. SQLite would store one and ignore the text after it; PostgreSQL refuses it with an unhelpful
/// message.
fn refuse_nul(item: &NewMemory) -> Result<()> {
    let episode = item
        .episode
        .iter()
        .flat_map(|episode| [&episode.situation, &episode.lesson]);
    let mut texts = [&item.content]
        .into_iter()
        .chain(&item.tags)
        .chain(&item.session)
        .chain(&item.speaker)
        .chain(episode);
    match texts.find(|text| text.contains('\0')) {
        Some(text) => Err(Invalid::new("items", text, "text without NUL characters").into()),
        None => Ok(()),
    }
}
