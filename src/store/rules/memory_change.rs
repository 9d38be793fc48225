//! A memory before and after a change, and the consequences for its index entries.

use chrono::{DateTime, Utc};

use crate::domain::memory::indexed_text;
use crate::domain::text::Terms;
use crate::domain::{Analyzer, Change, Memory};

/// The data that the history records about a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChangeRecord<'a> {
    pub(crate) change: Change,
    pub(crate) reason: Option<&'a str>,
    pub(crate) now: DateTime<Utc>,
}

/// A memory before and after a change, and the consequences for its index entries.
#[derive(Debug)]
pub(crate) struct MemoryChange {
    pub(crate) before: Memory,
    pub(crate) after: Memory,
    /// The terms before and after the change, if the index entry changes.
    terms: Option<(Terms, Terms)>,
}

impl MemoryChange {
    pub(crate) fn new(before: Memory, after: Memory, analyzer: &Analyzer) -> Self {
        let texts = (searchable_text(&before), searchable_text(&after));
        let stays_live = before.deleted_at.is_none() == after.deleted_at.is_none();
        let terms = if stays_live && texts.0 == texts.1 {
            None
        } else {
            let terms = (analyzer.terms(&texts.0), analyzer.terms(&texts.1));
            Some(terms).filter(|(old, new)| !stays_live || old != new)
        };
        Self {
            before,
            after,
            terms,
        }
    }

    /// Returns the terms to remove from the index.
    pub(crate) fn leaving_terms(&self) -> Option<&Terms> {
        let terms = self.terms.as_ref().map(|(old, _)| old);
        terms.filter(|_| self.before.deleted_at.is_none())
    }

    /// Returns the terms to add to the index.
    pub(crate) fn entering_terms(&self) -> Option<&Terms> {
        let terms = self.terms.as_ref().map(|(_, new)| new);
        terms.filter(|_| self.is_live())
    }

    /// Returns the new length in terms, if it changes.
    pub(crate) fn new_length(&self) -> Option<u32> {
        self.terms.as_ref().map(|(_, new)| new.length)
    }

    /// Returns whether the change invalidates the vectors because the embedded text differs.
    pub(crate) fn is_reworded(&self) -> bool {
        self.before.embedded_text() != self.after.embedded_text()
    }

    pub(crate) fn needs_embedding(&self) -> bool {
        self.is_live() && (self.before.deleted_at.is_some() || self.is_reworded())
    }

    pub(crate) fn is_live(&self) -> bool {
        self.after.deleted_at.is_none()
    }
}

/// Returns the text whose words find a memory.
fn searchable_text(memory: &Memory) -> String {
    indexed_text(
        &memory.content,
        memory.speaker.as_deref(),
        &memory.tags,
        memory.episode.as_ref(),
    )
}

/// Returns the terms that find a memory.
pub(crate) fn memory_terms(memory: &Memory, analyzer: &Analyzer) -> Terms {
    analyzer.terms(&searchable_text(memory))
}
