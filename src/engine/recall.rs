//! Finds memories: the single path of every recall.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer_size::{MOST_CONTAINERS, PORTION, check_max_chars};
use super::recall_page::{AnswerForm, ExplainedPage};
use super::recall_search::{MAX_RANKED, Ranking};
use super::recall_view::{AnswerPrinter, Detail, RecallOutput, round_score};
use super::view::timestamp;
use super::{Call, Engine, EngineError};
use crate::domain::cursor::{self, Position};
use crate::domain::memory::Kind;
use crate::domain::ranking::{Page, PageEntry, order_after_successors};
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{AsOf, Filter, Hit, Memory};

/// Default number of hits.
const DEFAULT_LIMIT: usize = 10;
/// Number of hits on a first page without an explicit limit if the query is about something else. They show that it is,
/// and the cursor leads to the rest.
const OFF_TOPIC_LIMIT: usize = 5;
/// Default maximum of characters of an answer.
const DEFAULT_MAX_CHARS: usize = 12_000;
/// Maximum number of ranked hits that one page reads for each hit of its limit: the others are folded into earlier
/// ones.
const MOST_FOLDED: usize = 5;
/// Number of ranked hits among which superseded memories are moved behind their successors.
const ORDERED: usize = 100;

/// The query and its filters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecallParams {
    /// Question or keywords; empty: newest memories
    #[schemars(extend("x-empty" = true, "x-aliases" = ["q", "question", "search", "search_query", "text", "queries", "keyword", "keywords", "topic"]))]
    pub query: Option<String>,
    /// 1 to 100, default 10
    #[schemars(range(min = 1, max = 100), extend("x-aliases" = ["max_results", "top_k", "k", "n", "count"]))]
    pub limit: Option<usize>,
    /// Length of the whole answer in characters, default 12000
    #[schemars(range(min = 100, max = 1_000_000), extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
    /// index: first lines only; full: every field
    #[schemars(extend("x-aliases" = ["format", "verbosity"]))]
    pub detail: Detail,
    /// Include why each hit was found
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["explanation", "why"]))]
    pub explain: bool,
    /// next_cursor of the previous page
    #[schemars(extend("x-aliases" = ["next_cursor", "page_token"]))]
    pub cursor: Option<String>,
    /// Memories of any of these kinds
    #[schemars(extend("x-plain" = true, "x-aliases" = ["kind", "type", "types"]))]
    pub kinds: Vec<Kind>,
    /// Memories with all of these tags
    #[schemars(extend("x-aliases" = ["tag", "labels"], "x-split" = true))]
    pub tags: Vec<String>,
    /// Conversation ID
    #[schemars(extend("x-plain" = true))]
    pub session: Option<String>,
    /// Who said it
    #[schemars(extend("x-plain" = true))]
    pub speaker: Option<String>,
    /// Happened at or after this time (RFC 3339 or date)
    #[schemars(extend("x-aliases" = ["after", "from", "start_date"], "x-time" = true))]
    pub since: Option<String>,
    /// Happened before this time
    #[schemars(extend("x-aliases" = ["before", "end_date"], "x-time" = true))]
    pub until: Option<String>,
    /// Lowest importance
    #[schemars(range(min = 0, max = 1), extend("x-plain" = true, "x-aliases" = ["importance"]))]
    pub min_importance: Option<f64>,
    /// Include superseded and expired memories
    pub include_outdated: bool,
    /// Search what was known at this time
    #[schemars(extend("x-aliases" = ["known_at"], "x-time" = true))]
    pub as_of: Option<String>,
    /// Search what was true at this time, as known today
    #[schemars(extend("x-aliases" = ["true_at"], "x-time" = true))]
    pub valid_at: Option<String>,
}

impl RecallParams {
    /// Returns the maximum number of characters of the printed answer.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_MAX_CHARS)
    }
}

impl Engine {
    /// Finds memories by words and meaning, or lists the newest; `max_chars` limits the texts. See
    /// [`Engine::recall_printed`].
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for invalid limits, times, tags and cursors.
    pub async fn recall(
        &self,
        call: &Call,
        params: RecallParams,
    ) -> Result<RecallOutput, EngineError> {
        let texts = |output: &RecallOutput| {
            output
                .hits
                .iter()
                .map(|hit| hit.memory.text())
                .collect::<String>()
        };
        self.recall_printed(call, params, &texts).await
    }

    /// Finds memories by words and meaning, or lists the newest; `max_chars` limits the output of `print`, as long as
    /// there is room for one hit. Needs at most five statements, and a few more for earlier points in time, folded hits
    /// and the reasons of an empty answer.
    ///
    /// # Errors
    /// As [`Engine::recall`].
    pub async fn recall_printed(
        &self,
        call: &Call,
        params: RecallParams,
        print: &AnswerPrinter<'_>,
    ) -> Result<RecallOutput, EngineError> {
        let mut request = self.accept_recall(&params)?;
        request.form.max_chars = call.unreserved(request.form.max_chars);
        let mut output = RecallOutput {
            notes: request.notes.clone(),
            ..RecallOutput::default()
        };
        let (page, terms) = match &request.query {
            None => (self.browse(call, &request, &mut output).await?, Vec::new()),
            Some(query) => self.search(call, query, &request, &mut output).await?,
        };
        if page.is_empty() && request.position.is_none() {
            output
                .notes
                .extend(self.explain_nothing(call, &request).await?);
        }
        let explained = ExplainedPage {
            page,
            terms,
            project: call.scope.project(),
        };
        explained.fit_into(&mut output, &request.form, print);
        call.count_hits(output.hits.len());
        // A query of an earlier state does not count as use of current memories.
        if request.query.is_some() && request.filter.as_of == AsOf::Present {
            let recalled = output
                .hits
                .iter()
                .filter_map(|hit| Uuid::parse_str(&hit.memory.id).ok());
            self.notes.add(&call.scope, recalled);
        }
        Ok(output)
    }

    async fn browse(
        &self,
        call: &Call,
        request: &RecallRequest,
        output: &mut RecallOutput,
    ) -> Result<Page, EngineError> {
        let before = match request.position {
            Some(Position::Before(seq)) => Some(seq),
            _ => None,
        };
        let past = self.load_as_of(call, &request.filter, &[]).await?;
        output.notes.extend(past.list_notes());
        let mut past = past.memories;
        past.retain(|memory| before.is_none_or(|seq| memory.seq < seq));
        past.sort_by_key(|memory| memory.seq);
        // Twice as many as needed, because some may be folded.
        let most = 2 * request.limit;
        let mut page = new_page(request, request.limit);
        let (mut place, mut before) = (0, before);
        loop {
            let wanted = PORTION.min(most + 1 - place);
            let mut found = call
                .database(
                    self.store
                        .browse(&call.scope, &request.filter, before, wanted),
                )
                .await?;
            call.count_rows(found.len());
            before = found
                .last()
                .map(|memory| memory.seq)
                .filter(|_| found.len() == wanted);
            let behind = past.partition_point(|memory| before.is_some_and(|seq| memory.seq < seq));
            found.extend(past.split_off(behind));
            found.sort_by_key(|memory| std::cmp::Reverse(memory.seq));
            for memory in found {
                let start = Position::Before(memory.seq.saturating_add(1));
                if place == most {
                    page.end_at(start);
                    return Ok(page);
                }
                let entry = PageEntry {
                    start,
                    rank: place + 1,
                    memory,
                    hit: None,
                };
                if !page.add_entry(entry) {
                    return Ok(page);
                }
                place += 1;
            }
            if before.is_none() {
                return Ok(page);
            }
        }
    }

    async fn search(
        &self,
        call: &Call,
        query: &str,
        request: &RecallRequest,
        output: &mut RecallOutput,
    ) -> Result<(Page, Vec<String>), EngineError> {
        let offset = match request.position {
            Some(Position::Offset(offset)) => offset,
            _ => 0,
        };
        let mut wanted = offset + request.limit;
        loop {
            let ranking = self.find_hits(call, query, &request.filter, wanted).await?;
            let (found, confidence) = (ranking.hits.len(), ranking.confidence);
            let (notes, terms) = (ranking.notes.clone(), ranking.terms.clone());
            let (page, read) = self.read_page(call, ranking, request, offset).await?;
            // If folding has used up the hits, there may be more after them.
            let exhausted = !page.is_full() && read == found && found > wanted;
            if exhausted && wanted < MAX_RANKED {
                wanted = MAX_RANKED;
                continue;
            }
            output.notes.extend(notes);
            output.confidence = (!page.is_empty()).then(|| round_score(confidence));
            return Ok((page, terms));
        }
    }

    /// Reads the page from `offset` on, and returns the position of the first hit that was not read.
    async fn read_page(
        &self,
        call: &Call,
        mut ranking: Ranking<'_>,
        request: &RecallRequest,
        offset: usize,
    ) -> Result<(Page, usize), EngineError> {
        let few = ranking.off_topic && offset == 0 && !request.limited;
        let limit = if few { OFF_TOPIC_LIMIT } else { request.limit };
        let past = std::mem::take(&mut ranking.past).into_iter();
        let mut by_id: HashMap<Uuid, Memory> = past.map(|memory| (memory.id, memory)).collect();
        let mut hits = self
            .order_by_version(call, ranking, request, offset, &mut by_id)
            .await?;
        if request.filter.include_outdated {
            hits = self.order_by_successor(call, hits).await?;
        }
        let last = (offset + MOST_FOLDED * limit).min(MAX_RANKED);
        let total = hits.len();
        let mut page = new_page(request, limit);
        let mut places = hits.into_iter().enumerate().skip(offset).peekable();
        while let Some((at, _)) = places.peek() {
            let at = *at;
            if at >= last {
                if at < MAX_RANKED {
                    page.end_at(Position::Offset(at));
                }
                return Ok((page, at));
            }
            let part: Vec<(usize, Hit)> = places.by_ref().take(PORTION.min(limit + 1)).collect();
            let ids: Vec<Uuid> = part.iter().map(|(_, hit)| hit.id).collect();
            self.load_hits(call, &ids, request, &mut by_id).await?;
            for (place, hit) in part {
                // A memory that was deleted between the two statements is left out.
                let Some(memory) = by_id.remove(&hit.id) else {
                    continue;
                };
                let start = Position::Offset(place);
                let entry = PageEntry {
                    start,
                    rank: place + 1,
                    memory,
                    hit: Some(hit),
                };
                if !page.add_entry(entry) {
                    return Ok((page, place));
                }
            }
        }
        Ok((page, total))
    }

    /// Reads the memories that are not loaded yet.
    pub(super) async fn load_hits(
        &self,
        call: &Call,
        ids: &[Uuid],
        request: &RecallRequest,
        by_id: &mut HashMap<Uuid, Memory>,
    ) -> Result<(), EngineError> {
        let unread = ids.iter().copied().filter(|id| !by_id.contains_key(id));
        let ids: Vec<Uuid> = unread.collect();
        if ids.is_empty() {
            return Ok(());
        }
        let memories = call
            .database(self.store.get(&call.scope, &ids, false))
            .await?;
        call.count_rows(ids.len());
        // A memory that changed between the two statements no longer has its earlier state.
        let as_it_was = |memory: &Memory| {
            request.filter.as_of != AsOf::KnownThen || memory.updated_at <= request.filter.now
        };
        let memories = memories.into_iter().filter(as_it_was);
        by_id.extend(memories.map(|memory| (memory.id, memory)));
        Ok(())
    }

    /// Moves superseded memories behind their successors.
    async fn order_by_successor(
        &self,
        call: &Call,
        hits: Vec<Hit>,
    ) -> Result<Vec<Hit>, EngineError> {
        let ids: Vec<Uuid> = hits.iter().take(ORDERED).map(|hit| hit.id).collect();
        if ids.len() < 2 {
            return Ok(hits);
        }
        let links = call.database(self.store.chains(&call.scope, &ids)).await?;
        let successors: HashMap<Uuid, Uuid> =
            links.into_iter().map(|link| (link.old, link.by)).collect();
        Ok(order_after_successors(hits, |hit| hit.id, &successors))
    }

    /// Reports everything that [`Engine::recall`] would refuse, and reads nothing.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_recall(&self, params: &RecallParams) -> Result<(), Invalid> {
        self.accept_recall(params).map(drop)
    }

    fn accept_recall(&self, params: &RecallParams) -> Result<RecallRequest, Invalid> {
        let now = self.clock.now();
        let mut problems = Problems::default();
        let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
        let limit = problems.accept(validate::whole_number(
            "limit",
            limit,
            1,
            validate::MAX_LIMIT,
        ));
        let max_chars = problems.accept(check_max_chars(params.budget()));
        problems.check(validate::optional_text(
            "session",
            params.session.as_deref(),
            validate::MAX_NAME_BYTES,
        ));
        problems.check(validate::optional_text(
            "speaker",
            params.speaker.as_deref(),
            validate::MAX_NAME_BYTES,
        ));
        let mut notes = Vec::new();
        let query = problems.accept(accept_query(params.query.as_deref(), &mut notes));
        let filter = problems.accept(accept_filter(params, now).map(Some));
        let unpaged = RecallParams {
            cursor: None,
            limit: None,
            max_chars: None,
            detail: Detail::default(),
            explain: false,
            ..params.clone()
        };
        let question = cursor::question_hash(&unpaged);
        // If the filter is refused, the query is another one, for which every cursor is wrong.
        let position = match (&params.cursor, &filter) {
            (Some(text), Some(_)) => problems.accept(cursor::decode(text, &question).map(Some)),
            (Some(text), None) => problems.accept(cursor::check_form(text).map(|()| None)),
            (None, _) => None,
        };
        problems.refuse_if_any()?;
        Ok(RecallRequest {
            query,
            filter: filter.unwrap_or_else(|| Filter::at(now)),
            limit,
            limited: params.limit.is_some(),
            form: AnswerForm {
                max_chars,
                detail: params.detail,
                explain: params.explain,
                question,
            },
            position,
            notes,
        })
    }
}

/// Returns the query without white space around it and limited in length; none if the newest memories are requested.
fn accept_query(query: Option<&str>, notes: &mut Vec<String>) -> Result<Option<String>, Invalid> {
    let Some(query) = query else { return Ok(None) };
    let mut text = query.trim().to_owned();
    if text.is_empty() {
        notes.push("The query is empty: these are the newest memories.".to_owned());
        return Ok(None);
    }
    if text.contains('\0') {
        return Err(Invalid::new("query", text, "text without NUL characters"));
    }
    if let Some((cut, _)) = text
        .char_indices()
        .nth(validate::MAX_QUERY_CHARS)
        .filter(|_| !is_storable(&text))
    {
        text.truncate(cut);
        notes.push(format!(
            "Only the first {} characters of the query were used.",
            validate::MAX_QUERY_CHARS
        ));
    }
    Ok(Some(text))
}

fn accept_filter(params: &RecallParams, now: DateTime<Utc>) -> Result<Filter, Invalid> {
    let mut problems = Problems::default();
    let mut time = |field: &str, value: Option<&String>| {
        problems.accept(value.map(|value| validate::time(field, value)).transpose())
    };
    let (since, until) = (
        time("since", params.since.as_ref()),
        time("until", params.until.as_ref()),
    );
    if let (Some(from), Some(to)) = (since, until)
        && from >= to
    {
        let expected = format!("a time after since, which is {}", timestamp(from));
        let until = params.until.as_deref().unwrap_or_default();
        problems.note(Invalid::new("until", until, expected).depending_on(&["since"]));
    }
    let time = problems.accept(accept_time(params, now).map(Some));
    let least = params
        .min_importance
        .map(|least| validate::number("min_importance", least, 0.0, 1.0));
    let (tags, min_importance) = (
        problems.accept(validate::tags("tags", &params.tags)),
        problems.accept(least.transpose()),
    );
    problems.refuse_if_any()?;
    let (moment, as_of) = time.unwrap_or((now, AsOf::Present));
    Ok(Filter {
        kinds: params.kinds.clone(),
        tags,
        session: params.session.clone(),
        speaker: params.speaker.clone(),
        since,
        until,
        min_importance,
        include_outdated: params.include_outdated,
        now: moment,
        as_of,
    })
}

/// Returns the time to which the query refers.
fn accept_time(
    params: &RecallParams,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, AsOf), Invalid> {
    match (&params.as_of, &params.valid_at) {
        (None, None) => Ok((now, AsOf::Present)),
        (Some(at), None) => Ok((validate::moment("as_of", at, now)?, AsOf::KnownThen)),
        (None, Some(at)) => Ok((validate::time("valid_at", at)?, AsOf::TrueThen)),
        (Some(_), Some(at)) => {
            let expected =
                "either as_of (what was known then) or valid_at (what was true then), not both";
            Err(Invalid::new("valid_at", at, expected).depending_on(&["as_of"]))
        }
    }
}

/// Creates an empty page. An index shows no metadata, which therefore does not limit its hits.
fn new_page(request: &RecallRequest, limit: usize) -> Page {
    match request.form.detail {
        Detail::Index => Page::new(limit),
        Detail::Text | Detail::Full => Page::new(limit).with_container_limit(MOST_CONTAINERS),
    }
}

/// Returns whether a text could be stored and is therefore searched for as a whole, so that every memory is found by
/// its own text.
fn is_storable(text: &str) -> bool {
    text.len() <= validate::MAX_CONTENT_BYTES
}

/// The validated arguments of a recall.
pub(super) struct RecallRequest {
    pub(super) query: Option<String>,
    pub(super) filter: Filter,
    limit: usize,
    /// Whether the caller set the limit.
    limited: bool,
    form: AnswerForm,
    position: Option<Position>,
    notes: Vec<String>,
}

impl RecallRequest {
    /// Number of hits that a page reads at once: one more than it shows, to find out where the next page begins.
    pub(super) fn page_size(&self) -> usize {
        PORTION.min(self.limit + 1)
    }
}
