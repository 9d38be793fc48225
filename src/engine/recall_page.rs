//! One page of an answer: hits that say the same become one, and the texts share the budget.

use std::collections::HashMap;

use super::recall::{AnswerPrinter, Request, Why, round};
use super::view::date_of;
use super::{Detail, Hit, MemoryView, RecallOutput};
use crate::domain::Memory;
use crate::domain::cursor::{self, Position};
use crate::domain::fold::fold_key;
use crate::domain::passage::passage;
use crate::domain::reference::first_line;

/// Characters of a text in an index.
const INDEX_CHARS: usize = 36;
/// Fewest characters of a shortened text; rather than less, the last hits go to the next page.
const LEAST_SHARE: usize = 80;
/// Attempts to use the budget well; the fewest characters of each text are known to fit.
const MOST_ATTEMPTS: usize = 6;
/// Smallest budget in which there is room for [`SHORTENED`].
const LEAST_NOTED: usize = 300;
/// Says how to read the rest of a text.
const SHORTENED: &str = "Texts with … are shortened: get returns them in full.";

/// A memory at its place among the hits.
pub(super) struct Found {
    /// A page that begins with it begins here.
    pub(super) start: Position,
    pub(super) memory: Memory,
    pub(super) why: Option<Why>,
    /// Terms of the query that it contains.
    pub(super) terms: Vec<String>,
}

/// Hits that say the same; the newest stands for all.
struct Group {
    found: Found,
    others: Vec<String>,
}

/// The hits of a page, best first.
pub(super) struct Page {
    limit: usize,
    groups: Vec<Group>,
    by_key: HashMap<String, usize>,
    /// Where the next page begins, if there is one.
    end: Option<Position>,
}

impl Page {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            groups: Vec::new(),
            by_key: HashMap::new(),
            end: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.groups.len() == self.limit
    }

    /// The next page begins here.
    pub(super) fn end_at(&mut self, position: Position) {
        self.end = Some(position);
    }

    /// Adds the next hit; `false` where it begins the next page.
    pub(super) fn add(&mut self, found: Found) -> bool {
        let key = fold_key(&found.memory);
        if let Some(place) = self.by_key.get(&key) {
            self.groups[*place].fold(found);
            return true;
        }
        if self.is_full() {
            self.end = Some(found.start);
            return false;
        }
        self.by_key.insert(key, self.groups.len());
        self.groups.push(Group {
            found,
            others: Vec::new(),
        });
        true
    }

    /// Writes the hits into `output`, as many and as much of them as the printed answer has room for.
    pub(super) fn fit_into(
        self,
        output: &mut RecallOutput,
        request: &Request,
        project: &str,
        print: &AnswerPrinter<'_>,
    ) {
        let entries: Vec<Entry> = self
            .groups
            .into_iter()
            .map(|group| group.entry(request, project))
            .collect();
        let fitting = Fitting {
            entries,
            end: self.end,
            notes: std::mem::take(&mut output.notes),
            request,
            print,
        };
        fitting.write(output);
    }
}

impl Group {
    fn fold(&mut self, mut found: Found) {
        let newest = |found: &Found| (found.memory.occurred_at, found.memory.seq);
        if newest(&found) > newest(&self.found) {
            // A page still begins where the first of the group is.
            found.start = self.found.start.clone();
            std::mem::swap(&mut self.found, &mut found);
        }
        self.others.push(found.memory.id.to_string());
    }

    fn entry(self, request: &Request, project: &str) -> Entry {
        let Group {
            found:
                Found {
                    start,
                    memory,
                    why,
                    terms,
                },
            others,
        } = self;
        let mut memory = MemoryView::new(memory, project);
        let length = memory.chars();
        let (mut confidence, mut size) = (None, None);
        match request.detail {
            Detail::Index => {
                confidence = why.as_ref().and_then(|why| why.confidence).map(round);
                size = Some(length);
                memory = MemoryView {
                    content: first_line(&memory.content, INDEX_CHARS),
                    occurred_at: date_of(&memory.occurred_at).to_owned(),
                    ..memory.bare()
                };
            }
            Detail::Text => memory.created_at.clear(),
            Detail::Full => {}
        }
        let length = memory.chars();
        let hit = Hit {
            memory,
            cut: false,
            similar: others.len(),
            similar_ids: if request.explain { others } else { Vec::new() },
            confidence,
            size,
            why: why.filter(|_| request.explain),
        };
        Entry {
            hit,
            terms,
            start,
            length,
        }
    }
}

/// A hit that may have to be shortened.
struct Entry {
    hit: Hit,
    terms: Vec<String>,
    start: Position,
    length: usize,
}

impl Entry {
    /// The hit with at most `room` characters of text.
    fn within(&self, room: usize) -> Hit {
        let mut hit = self.hit.clone();
        if self.length <= room {
            return hit;
        }
        hit.cut = true;
        // A term that was found for a misspelled one is written `asked~found`.
        let terms: Vec<&str> = self
            .terms
            .iter()
            .map(|term| term.rsplit('~').next().unwrap_or(term.as_str()))
            .collect();
        let mut left = room;
        // The lesson first: it is what an episode is kept for.
        for text in [&mut hit.memory.lesson, &mut hit.memory.situation]
            .into_iter()
            .flatten()
        {
            *text = passage(text, &terms, left / 2);
            left = left.saturating_sub(text.chars().count());
        }
        hit.memory.content = passage(&hit.memory.content, &terms, left);
        hit
    }
}

/// Looks for how many hits, and how much text of each, make an answer that fits.
struct Fitting<'a> {
    entries: Vec<Entry>,
    end: Option<Position>,
    notes: Vec<String>,
    request: &'a Request,
    print: &'a AnswerPrinter<'a>,
}

impl Fitting<'_> {
    fn write(self, output: &mut RecallOutput) {
        let (most, budget) = (self.entries.len(), self.request.max_chars);
        if self.try_with(output, most, budget) <= budget {
            return;
        }
        let mut kept = most;
        let mut printed = self.try_with(output, kept, LEAST_SHARE);
        while printed > budget && kept > 1 {
            // Each entry takes at least its share of what is printed.
            let share = (printed / kept).max(1);
            kept = kept
                .saturating_sub(((printed - budget) / (2 * share)).max(1))
                .max(1);
            printed = self.try_with(output, kept, LEAST_SHARE);
        }
        let lengths: Vec<usize> = self.entries[..kept]
            .iter()
            .map(|entry| entry.length)
            .collect();
        let shown: usize = lengths
            .iter()
            .map(|length| (*length).min(LEAST_SHARE))
            .sum();
        let mut room = (shown + budget).saturating_sub(printed);
        for _ in 0..MOST_ATTEMPTS {
            let share = even_share(&lengths, room);
            let printed = self.try_with(output, kept, share);
            if printed <= budget {
                return;
            }
            room = room.saturating_sub(printed - budget);
        }
        self.try_with(output, kept, if kept == 1 { 0 } else { LEAST_SHARE });
    }

    /// Makes the answer with the first `kept` hits, each with at most `share` characters of text, and says how long it
    /// is when printed.
    fn try_with(&self, output: &mut RecallOutput, kept: usize, share: usize) -> usize {
        output.hits = self.entries[..kept]
            .iter()
            .map(|entry| entry.within(share))
            .collect();
        let next = self
            .entries
            .get(kept)
            .map(|entry| &entry.start)
            .or(self.end.as_ref());
        output.next_cursor = next.map(|position| cursor::encode(position, &self.request.question));
        output.notes.clone_from(&self.notes);
        if output.hits.iter().any(|hit| hit.cut) && self.request.max_chars >= LEAST_NOTED {
            output.notes.push(SHORTENED.to_owned());
        }
        (self.print)(output).chars().count()
    }
}

/// The most characters that each text may have if all together have at most `room`: what short texts leave over goes to
/// the long ones.
fn even_share(lengths: &[usize], room: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut left = room;
    for (index, length) in sorted.iter().enumerate() {
        let share = left / (sorted.len() - index);
        if *length > share {
            return share;
        }
        left -= length;
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_short_texts_leave_goes_to_long_ones() {
        assert_eq!(even_share(&[10, 500, 20], 130), 100);
        assert_eq!(even_share(&[500, 500], 100), 50);
        assert_eq!(even_share(&[10, 20], 30), 30, "everything fits");
        assert_eq!(even_share(&[10, 20], 0), 0);
        assert_eq!(even_share(&[], 5), 5);
    }
}
