//! One page of an answer, whose texts share the budget of characters.

use std::ops::Range;

use super::answer_size::{LEAST_NOTED, LEAST_SHARE, even_share};
use super::recall_view::{AnswerPrinter, Why};
use super::view::date_of;
use super::{Detail, HitView, MemoryView, RecallOutput};
use crate::domain::cursor::{self, Position};
use crate::domain::passage::{find_passage, shorten_to_passage};
use crate::domain::ranking::{Page, PageEntry, PageGroup};
use crate::domain::reference::first_line;
use crate::domain::{Episode, Memory};

/// Number of characters of a text in an index.
const INDEX_CHARS: usize = 36;
/// Maximum number of attempts to use the budget well, once a number of characters is known to fit.
const MOST_ATTEMPTS: usize = 6;
/// Explains how to read the rest of a text.
const SHORTENED: &str = "Texts with … are shortened: get returns them in full.";

/// The form of the answer.
pub(super) struct AnswerForm {
    /// Maximum number of characters of the printed answer.
    pub(super) max_chars: usize,
    pub(super) detail: Detail,
    /// Whether to show why hits were found.
    pub(super) explain: bool,
    /// Hash of the question, for the cursor.
    pub(super) question: String,
}

/// A page with the data to explain and print it.
pub(super) struct ExplainedPage<'a> {
    pub(super) page: Page,
    /// The terms that hits refer to by index.
    pub(super) terms: Vec<String>,
    /// The caller's own project.
    pub(super) project: &'a str,
}

impl ExplainedPage<'_> {
    /// Writes as many hits, and as much of each, as fit into the printed answer into `output`.
    pub(super) fn fit_into(
        self,
        output: &mut RecallOutput,
        form: &AnswerForm,
        print: &AnswerPrinter<'_>,
    ) {
        let groups = self.page.groups.into_iter();
        let entries = groups.map(|group| describe_group(group, &self.terms, form, self.project));
        let fitting = Fitting {
            entries: entries.collect(),
            end: self.page.end,
            notes: std::mem::take(&mut output.notes),
            form,
            print,
        };
        fitting.write(output);
    }
}

fn describe_group(
    PageGroup { newest, others }: PageGroup,
    terms: &[String],
    form: &AnswerForm,
    project: &str,
) -> Entry {
    let PageEntry {
        start,
        rank,
        memory,
        hit,
    } = newest;
    let number = hit.as_ref().map_or(0, |hit| hit.passage);
    let mut nearest = NearestPassage::find(&memory, number);
    let newer_version = hit
        .as_ref()
        .and_then(|hit| hit.newer_version)
        .filter(|_| memory.superseded_by.is_none());
    let why = hit.map(|hit| Why::new(hit, rank, nearest.text(&memory), terms));
    let mut memory = MemoryView::new(memory, project);
    let size = memory.chars();
    let is_index = form.detail == Detail::Index;
    match form.detail {
        Detail::Index => {
            nearest = NearestPassage::default();
            memory = MemoryView {
                content: first_line(&memory.content, INDEX_CHARS),
                occurred_at: date_of(&memory.occurred_at).to_owned(),
                ..memory.bare()
            };
        }
        Detail::Text => memory.created_at.clear(),
        Detail::Full => {}
    }
    let similar_ids = others.iter().filter(|_| form.explain);
    Entry {
        length: memory.chars(),
        terms: why
            .as_ref()
            .map(|why| why.terms.clone())
            .unwrap_or_default(),
        start,
        nearest,
        hit: HitView {
            memory,
            cut: false,
            similar: others.len(),
            similar_ids: similar_ids.map(ToString::to_string).collect(),
            newer_version: newer_version.map(|id| id.to_string()),
            confidence: why
                .as_ref()
                .filter(|_| is_index)
                .and_then(|why| why.confidence),
            size: is_index.then_some(size),
            why: why.filter(|_| form.explain),
        },
    }
}

/// A hit that may need to be shortened.
struct Entry {
    hit: HitView,
    terms: Vec<String>,
    nearest: NearestPassage,
    start: Position,
    length: usize,
}

/// Position of the passage nearest to the query in the text that has it.
#[derive(Debug, Default)]
struct NearestPassage {
    content: Option<Range<usize>>,
    situation: Option<Range<usize>>,
    lesson: Option<Range<usize>>,
}

impl NearestPassage {
    /// Finds the passage with a stored number.
    fn find(memory: &Memory, number: u32) -> Self {
        let Some(range) = find_passage(&memory.embedded_text(), number) else {
            return Self::default();
        };
        // The texts in the order of `embedded_text`, with a line break between them.
        let mut start = 0;
        let mut within = |text: &str| {
            let (from, to) = (start, start + text.len());
            start = to + 1;
            let overlaps = range.start < to && range.end > from;
            overlaps.then(|| range.start.max(from) - from..range.end.min(to) - from)
        };
        let content = within(&memory.content);
        let mut of_episode = |text: fn(&Episode) -> &str| {
            let episode = memory.episode.as_ref()?;
            within(text(episode))
        };
        Self {
            content,
            situation: of_episode(|episode| &episode.situation),
            lesson: of_episode(|episode| &episode.lesson),
        }
    }

    /// The text of the passage; of one that crosses texts, the first part.
    fn text<'m>(&self, memory: &'m Memory) -> Option<&'m str> {
        let episode = memory.episode.as_ref();
        let texts = [
            (Some(&memory.content), &self.content),
            (episode.map(|one| &one.situation), &self.situation),
            (episode.map(|one| &one.lesson), &self.lesson),
        ];
        let found = texts
            .into_iter()
            .find_map(|(text, range)| text?.get(range.clone()?));
        found.map(str::trim)
    }
}

impl Entry {
    /// Returns the hit with at most `room` characters of text.
    fn within(&self, room: usize) -> HitView {
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
        // The lesson comes first, because it is the purpose of an episode.
        for (text, nearest) in [
            (&mut hit.memory.lesson, &self.nearest.lesson),
            (&mut hit.memory.situation, &self.nearest.situation),
        ] {
            let Some(text) = text else { continue };
            *text = shorten_to_passage(text, &terms, nearest.as_ref(), left / 2);
            left = left.saturating_sub(text.chars().count());
        }
        let nearest = self.nearest.content.as_ref();
        hit.memory.content = shorten_to_passage(&hit.memory.content, &terms, nearest, left);
        hit
    }
}

/// Searches for the number of hits and the length of texts with which an answer fits.
struct Fitting<'a> {
    entries: Vec<Entry>,
    end: Option<Position>,
    notes: Vec<String>,
    form: &'a AnswerForm,
    print: &'a AnswerPrinter<'a>,
}

impl Fitting<'_> {
    fn write(self, output: &mut RecallOutput) {
        let (most, budget) = (self.entries.len(), self.form.max_chars);
        // If the texts are far too long, the full answer is not printed at all.
        let length: usize = self.entries.iter().map(|entry| entry.length).sum();
        if length <= 2 * budget && self.try_with(output, most, budget) <= budget {
            return;
        }
        let mut kept = most;
        let mut printed = self.try_with(output, kept, LEAST_SHARE);
        while printed > budget && kept > 1 {
            // Each entry gets at least its share of the printed characters.
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

    /// Builds the answer with the first `kept` hits and at most `share` characters of text each, and returns its
    /// printed length.
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
        output.next_cursor = next.map(|position| cursor::encode(position, &self.form.question));
        output.notes.clone_from(&self.notes);
        if output.hits.iter().any(|hit| hit.cut) && self.form.max_chars >= LEAST_NOTED {
            output.notes.push(SHORTENED.to_owned());
        }
        (self.print)(output).chars().count()
    }
}
