//! Notes on repaired arguments. Equal repairs share a note, so that many repairs stay brief.

use super::MAX_LISTED;
use crate::domain::count::{count_of, verb_for};

/// Maximum number of names in one list.
const MAX_NAMES: usize = 10;

/// Collects repairs of a call.
#[derive(Debug, Default)]
pub(super) struct Notes {
    repairs: Vec<Repair>,
    further: usize,
    ignored: Names,
    empty: Names,
    zone_assumed: bool,
}

#[derive(Debug)]
struct Repair {
    what: String,
    first: String,
    more: usize,
}

#[derive(Debug, Default)]
struct Names {
    shown: Vec<String>,
    more: usize,
}

impl Names {
    fn add(&mut self, name: String) {
        if self.shown.contains(&name) {
            return;
        }
        if self.shown.len() < MAX_NAMES {
            self.shown.push(name);
        } else {
            self.more += 1;
        }
    }

    fn list(&self) -> Option<String> {
        if self.shown.is_empty() {
            return None;
        }
        let mut text = self.shown.join(", ");
        if self.more > 0 {
            text.push_str(&format!(" and {} more", self.more));
        }
        Some(text)
    }
}

impl Notes {
    /// Adds a repair of the argument at `path`, for example `"5" read as 5`.
    pub(super) fn repaired(&mut self, path: &dyn std::fmt::Display, what: String) {
        if let Some(known) = self.repairs.iter_mut().find(|known| known.what == what) {
            known.more += 1;
        } else if self.repairs.len() < MAX_LISTED {
            self.repairs.push(Repair {
                what,
                first: path.to_string(),
                more: 0,
            });
        } else {
            self.further += 1;
        }
    }

    /// Adds an unknown argument.
    pub(super) fn ignored(&mut self, path: String) {
        self.ignored.add(path);
    }

    /// Adds an empty text in place of an optional value.
    pub(super) fn empty(&mut self, path: &dyn std::fmt::Display) {
        self.empty.add(path.to_string());
    }

    /// Adds a time without a zone.
    pub(super) fn zone_assumed(&mut self) {
        self.zone_assumed = true;
    }

    /// Returns the notes for the caller.
    pub(super) fn finish(self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .repairs
            .iter()
            .map(|repair| match repair.more {
                0 => format!("{}: {}.", repair.first, repair.what),
                more => format!("{} and {more} more: {}.", repair.first, repair.what),
            })
            .collect();
        if self.further > 0 {
            notes.push(format!(
                "{} {} repaired.",
                count_of(self.further as u64, "further argument"),
                verb_for(self.further as u64, "was", "were")
            ));
        }
        if self.zone_assumed {
            notes.push("Times without a time zone were read as UTC.".to_owned());
        }
        if let Some(list) = self.empty.list() {
            notes.push(format!("Empty, treated as not set: {list}."));
        }
        if let Some(list) = self.ignored.list() {
            notes.push(format!("Unknown arguments were ignored: {list}."));
        }
        notes
    }
}
