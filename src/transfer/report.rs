//! The result of an import: counts of the stored records, and the problems.

use std::collections::BTreeMap;

use super::Problems;
use crate::store::port::Record;

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of stored records.
    pub created: u64,
    /// Stored records by kind: `memories`, `entities` and so on.
    pub created_by_kind: BTreeMap<&'static str, u64>,
    /// Number of records that were stored before.
    pub present: u64,
    /// Records that were not stored, with the reasons.
    pub problems: Problems,
    /// Records that were stored in a changed form.
    pub warnings: Problems,
}

impl Report {
    /// Counts a record that was stored.
    pub(super) fn count_created(&mut self, record: &Record) {
        self.created += 1;
        let kind = match record {
            Record::Memory(_) => "memories",
            Record::Entity(_) => "entities",
            Record::Relation(_) => "relations",
            Record::Mention(_) => "mentions",
            Record::Focus(_) => "items of working memory",
            Record::Review(_) => "reviews",
        };
        *self.created_by_kind.entry(kind).or_default() += 1;
    }
}
