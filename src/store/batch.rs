//! A batch of new memories whose texts are analysed, which is done before anybody waits for the database.

use super::{Remember, Result};
use crate::domain::memory::{content_hash, indexed_text};
use crate::domain::repeat::merge_repeats;
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Invalid, NewMemory, Repeat};

/// Why the history has a new version of a memory whose text was stored again.
pub(super) const STORED_AGAIN: &str = "stored again";

/// See the module.
#[derive(Debug)]
pub(super) struct AnalyzedBatch {
    pub(super) command: Remember,
    /// One for each item of the command.
    pub(super) items: Vec<AnalyzedItem>,
    /// What each item added to an earlier one with the same text.
    pub(super) repeats: Vec<Repeat>,
}

/// What the databases need to know of a text.
#[derive(Debug)]
pub(super) struct AnalyzedItem {
    pub(super) hash: [u8; 32],
    pub(super) terms: Terms,
}

impl AnalyzedBatch {
    /// Takes a while for large texts.
    pub(super) fn new(mut command: Remember, analyzer: &Analyzer) -> Result<Self> {
        command.items.iter().try_for_each(refuse_nul)?;
        let repeats = merge_repeats(&mut command.items);
        let items = command
            .items
            .iter()
            .map(|item| AnalyzedItem {
                hash: content_hash(&item.content),
                terms: analyzer.terms(&indexed_text(
                    &item.content,
                    item.speaker.as_deref(),
                    &item.tags,
                    item.episode.as_ref(),
                )),
            })
            .collect();
        Ok(Self {
            command,
            items,
            repeats,
        })
    }
}

/// Refuses NUL characters. SQLite would store one and not see the rest of the text; PostgreSQL refuses it in words that
/// help nobody.
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
