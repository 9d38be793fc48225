//! Finding memories: the one path that every recall takes.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rank::Ranked;
use super::recall_page::{Found, Page};
use super::recall_search::{MAX_RANKED, Ranking};
use super::view::timestamp;
use super::{Call, Engine, EngineError, MemoryView};
use crate::domain::cursor::{self, Position};
use crate::domain::fusion::{Channel, Place, Share};
use crate::domain::memory::Kind;
use crate::domain::validate::{self, Invalid, Problems};
use crate::domain::{AsOf, Factors, Filter, Memory};

/// Hits of a recall that names no limit.
const DEFAULT_LIMIT: usize = 10;
/// Hits of a first page that names no limit, where the question is about something else: whoever asked can see that it
/// is so, and the cursor leads to the rest.
const STRANGERS: usize = 5;
/// Characters of an answer that names no budget.
const DEFAULT_MAX_CHARS: usize = 12_000;
/// Range of the characters of an answer.
pub(super) const LEAST_MAX_CHARS: usize = 100;
pub(super) const MOST_MAX_CHARS: usize = 1_000_000;
/// Ranked hits that one page reads at most, for each hit of its limit: the others are folded into those before.
const MOST_FOLDED: usize = 5;
/// Ranked hits among which superseded memories are put behind their successors.
const ORDERED: usize = 100;

/// What to look for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecallParams {
    /// Question or words; empty: newest.
    #[schemars(extend("x-empty" = true, "x-aliases" = ["q", "question", "search", "search_query", "text", "queries", "keyword", "keywords", "topic"]))]
    pub query: Option<String>,
    /// 1 to 100, default 10.
    #[schemars(range(min = 1, max = 100), extend("x-aliases" = ["max_results", "top_k", "k", "n", "count"]))]
    pub limit: Option<usize>,
    /// Length of the whole answer, default 12000.
    #[schemars(range(min = 100, max = 1_000_000), extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
    /// index: first lines only; full: every field.
    #[schemars(extend("x-aliases" = ["format", "verbosity"]))]
    pub detail: Detail,
    /// Also why each hit was found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("x-plain" = true, "x-aliases" = ["explanation", "why"]))]
    pub explain: bool,
    /// next_cursor of the last page.
    #[schemars(extend("x-aliases" = ["next_cursor", "page_token"]))]
    pub cursor: Option<String>,
    /// Any of these kinds.
    #[schemars(extend("x-plain" = true, "x-aliases" = ["kind", "type", "types"]))]
    pub kinds: Vec<Kind>,
    /// All of these.
    #[schemars(extend("x-aliases" = ["tag", "labels"], "x-split" = true))]
    pub tags: Vec<String>,
    /// Only this conversation.
    #[schemars(extend("x-plain" = true))]
    pub session: Option<String>,
    /// Only this speaker.
    #[schemars(extend("x-plain" = true))]
    pub speaker: Option<String>,
    /// Happened at or after (RFC 3339 or date).
    #[schemars(extend("x-aliases" = ["after", "from", "start_date"], "x-time" = true))]
    pub since: Option<String>,
    /// Happened before.
    #[schemars(extend("x-aliases" = ["before", "end_date"], "x-time" = true))]
    pub until: Option<String>,
    /// Importance at least.
    #[schemars(range(min = 0, max = 1), extend("x-plain" = true, "x-aliases" = ["importance"]))]
    pub min_importance: Option<f64>,
    /// Also superseded and expired.
    pub include_outdated: bool,
    /// As it was known at this time.
    #[schemars(extend("x-aliases" = ["known_at"], "x-time" = true))]
    pub as_of: Option<String>,
    /// What was true at this time, as known today.
    #[schemars(extend("x-aliases" = ["true_at"], "x-time" = true))]
    pub valid_at: Option<String>,
}

impl RecallParams {
    /// The most characters that the printed answer may have.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_MAX_CHARS)
    }
}

/// How much of each hit an answer contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    extend("x-synonyms" = {"brief": "index", "short": "index", "summary": "index", "ids": "index", "low": "index",
                           "texts": "text", "content": "text", "normal": "text", "default": "text", "medium": "text",
                           "all": "full", "complete": "full", "verbose": "full", "high": "full"})
)]
pub enum Detail {
    /// ID, kind, date, first line, confidence and size.
    Index,
    /// The texts, with what distinguishes them.
    #[default]
    Text,
    /// Every field.
    Full,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct RecallOutput {
    /// Remarks on this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Best first; newest first without a query.
    pub hits: Vec<Hit>,
    /// Only if more memories qualify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How likely it is that something here answers, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
}

/// A memory that was found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Hit {
    /// The memory.
    #[serde(flatten)]
    pub memory: MemoryView,
    /// The text was shortened; get returns all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// How many older memories with nearly the same text it stands for.
    #[serde(skip_serializing_if = "is_zero")]
    pub similar: usize,
    /// Their IDs, with explain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub similar_ids: Vec<String>,
    /// How likely it is that this one answers, with detail index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// Characters of the whole text, with detail index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub size: Option<usize>,
    /// Why it was found, with explain; absent when browsing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The reasons of a hit.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Why {
    /// Place among all hits, from 1.
    pub rank: usize,
    /// Decides the order.
    pub score: f64,
    /// That it answers, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// What the score consists of, before bonus and factors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub shares: BTreeMap<Share, f64>,
    /// Stems in common with the query.
    pub terms: Vec<String>,
    /// The text is the query itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Rank and score in each channel; absent where words alone were searched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(skip)]
    pub channels: BTreeMap<Channel, Place>,
    /// Entities named in the query that it mentions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub entities: Vec<String>,
    /// What it gained by them, at most a quarter of the best score.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub entity_bonus: Option<f64>,
    /// What the score was multiplied by, where that is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub factors: Option<String>,
}

/// Prints an answer the way its reader gets it, so that the budget limits exactly that.
pub type AnswerPrinter<'p> = dyn Fn(&RecallOutput) -> String + Sync + 'p;

impl Engine {
    /// Finds memories by words and meaning, or lists the newest; `max_chars` limits the texts. See
    /// [`Engine::recall_printed`].
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for limits, times, tags and cursors that cannot be.
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

    /// Finds memories by words and meaning, or lists the newest; `max_chars` limits what `print` makes of the answer,
    /// as long as that leaves room for one hit. At most five statements, and a few more for looks back, folded hits and
    /// the reasons of an empty answer.
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
        request.max_chars = call.unreserved(request.max_chars);
        let mut output = RecallOutput {
            notes: request.notes.clone(),
            ..RecallOutput::default()
        };
        let page = match &request.query {
            None => self.browse(call, &request, &mut output).await?,
            Some(query) => self.search(call, query, &request, &mut output).await?,
        };
        if page.is_empty() && request.position.is_none() {
            output
                .notes
                .extend(self.explain_nothing(call, &request).await?);
        }
        page.fit_into(&mut output, &request, call.scope.project(), print);
        call.count_hits(output.hits.len());
        // A look back is no use of what is believed today.
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
        request: &Request,
        output: &mut RecallOutput,
    ) -> Result<Page, EngineError> {
        let before = match request.position {
            Some(Position::Before(seq)) => Some(seq),
            _ => None,
        };
        // Twice as many as needed, since some may be folded.
        let most = 2 * request.limit;
        let mut found = call
            .database(
                self.store
                    .browse(&call.scope, &request.filter, before, most + 1),
            )
            .await?;
        call.count_rows(found.len());
        let past = self.look_back(call, &request.filter, &[]).await?;
        output.notes.extend(past.notes());
        found.extend(
            past.memories
                .into_iter()
                .filter(|memory| before.is_none_or(|seq| memory.seq < seq)),
        );
        found.sort_by_key(|memory| std::cmp::Reverse(memory.seq));
        let mut page = Page::new(request.limit);
        for (place, memory) in found.into_iter().enumerate() {
            let start = Position::Before(memory.seq.saturating_add(1));
            if place == most {
                page.end_at(start);
                break;
            }
            if !page.add(Found {
                start,
                memory,
                why: None,
                terms: Vec::new(),
            }) {
                break;
            }
        }
        Ok(page)
    }

    async fn search(
        &self,
        call: &Call,
        query: &str,
        request: &Request,
        output: &mut RecallOutput,
    ) -> Result<Page, EngineError> {
        let offset = match request.position {
            Some(Position::Offset(offset)) => offset,
            _ => 0,
        };
        let mut wanted = offset + request.limit;
        loop {
            let ranking = self.find(call, query, &request.filter, wanted).await?;
            let (found, confidence) = (ranking.hits.len(), ranking.confidence);
            let notes = ranking.notes.clone();
            let (page, read) = self.read_page(call, ranking, request, offset).await?;
            // Where folding has used up what was found, there may be more behind it.
            let exhausted = !page.is_full() && read == found && found > wanted;
            if exhausted && wanted < MAX_RANKED {
                wanted = MAX_RANKED;
                continue;
            }
            output.notes.extend(notes);
            output.confidence = (!page.is_empty()).then(|| round(confidence));
            return Ok(page);
        }
    }

    /// The hits from `offset` on, and the place of the first one that was not read.
    async fn read_page(
        &self,
        call: &Call,
        ranking: Ranking,
        request: &Request,
        offset: usize,
    ) -> Result<(Page, usize), EngineError> {
        let Ranking {
            hits,
            terms,
            strange,
            past,
            ..
        } = ranking;
        let few = strange && offset == 0 && !request.limited;
        let limit = if few { STRANGERS } else { request.limit };
        let hits = if request.filter.include_outdated {
            self.behind_successors(call, hits).await?
        } else {
            hits
        };
        let mut by_id: HashMap<Uuid, Memory> =
            past.into_iter().map(|memory| (memory.id, memory)).collect();
        let last = (offset + MOST_FOLDED * limit).min(MAX_RANKED);
        let total = hits.len();
        let mut page = Page::new(limit);
        let mut places = hits.into_iter().enumerate().skip(offset).peekable();
        while let Some((at, _)) = places.peek() {
            let at = *at;
            if at >= last {
                if at < MAX_RANKED {
                    page.end_at(Position::Offset(at));
                }
                return Ok((page, at));
            }
            let part: Vec<(usize, Ranked)> = places.by_ref().take(limit + 1).collect();
            let ids = part
                .iter()
                .map(|(_, hit)| hit.candidate.id)
                .filter(|id| !by_id.contains_key(id))
                .collect::<Vec<_>>();
            let memories = call
                .database(self.store.get(&call.scope, &ids, false))
                .await?;
            call.count_rows(part.len());
            // What was changed between the two statements is not what was believed then.
            let as_it_was = |memory: &Memory| {
                request.filter.as_of != AsOf::KnownThen || memory.updated_at <= request.filter.now
            };
            by_id.extend(
                memories
                    .into_iter()
                    .filter(as_it_was)
                    .map(|memory| (memory.id, memory)),
            );
            for (place, hit) in part {
                // Whatever was deleted between the two statements is left out.
                let Some(memory) = by_id.remove(&hit.candidate.id) else {
                    continue;
                };
                let why = why(place, hit, &terms);
                let start = Position::Offset(place);
                let searched = why.terms.clone();
                if !page.add(Found {
                    start,
                    memory,
                    why: Some(why),
                    terms: searched,
                }) {
                    return Ok((page, place));
                }
            }
        }
        Ok((page, total))
    }

    /// The same hits, superseded memories behind what replaced them.
    async fn behind_successors(
        &self,
        call: &Call,
        hits: Vec<Ranked>,
    ) -> Result<Vec<Ranked>, EngineError> {
        let ids: Vec<Uuid> = hits
            .iter()
            .take(ORDERED)
            .map(|hit| hit.candidate.id)
            .collect();
        if ids.len() < 2 {
            return Ok(hits);
        }
        let links = call.database(self.store.chains(&call.scope, &ids)).await?;
        let successors: HashMap<Uuid, Uuid> =
            links.into_iter().map(|link| (link.old, link.by)).collect();
        Ok(after_successors(hits, |hit| hit.candidate.id, &successors))
    }

    /// Reports everything that [`Engine::recall`] would refuse, and reads nothing.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_recall(&self, params: &RecallParams) -> Result<(), Invalid> {
        self.accept_recall(params).map(drop)
    }

    fn accept_recall(&self, params: &RecallParams) -> Result<Request, Invalid> {
        let now = self.clock.now();
        let mut problems = Problems::default();
        let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
        let limit = problems.accept(validate::whole_number(
            "limit",
            limit,
            1,
            validate::MAX_LIMIT,
        ));
        let max_chars = problems.accept(validate::whole_number(
            "max_chars",
            params.budget(),
            LEAST_MAX_CHARS,
            MOST_MAX_CHARS,
        ));
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
        // A filter that is refused makes another question, for which every cursor is wrong.
        let position = match (&params.cursor, &filter) {
            (Some(text), Some(_)) => problems.accept(cursor::decode(text, &question).map(Some)),
            (Some(text), None) => problems.accept(cursor::check_form(text).map(|()| None)),
            (None, _) => None,
        };
        problems.refuse_if_any()?;
        Ok(Request {
            query,
            filter: filter.unwrap_or_else(|| Filter::at(now)),
            limit,
            limited: params.limit.is_some(),
            max_chars,
            detail: params.detail,
            explain: params.explain,
            question,
            position,
            notes,
        })
    }
}

/// The query without white space around it and of bounded length; none where the newest memories are asked for.
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

/// The time that the question is about.
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

/// Puts each entry right behind its successor, where that comes later in the list.
fn after_successors<T>(
    entries: Vec<T>,
    id_of: impl Fn(&T) -> Uuid,
    successors: &HashMap<Uuid, Uuid>,
) -> Vec<T> {
    let mut open: HashMap<Uuid, usize> = HashMap::new();
    for entry in &entries {
        *open.entry(id_of(entry)).or_default() += 1;
    }
    // The nearest one of the chain that is still to come.
    let waits_for = |id: Uuid, open: &HashMap<Uuid, usize>| {
        let mut next = successors.get(&id);
        for _ in 0..successors.len() {
            match next {
                Some(by) if open.contains_key(by) => return Some(*by),
                Some(by) => next = successors.get(by),
                None => return None,
            }
        }
        None
    };
    let mut waiting: HashMap<Uuid, Vec<T>> = HashMap::new();
    let mut ordered = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = id_of(&entry);
        if let Some(by) = waits_for(id, &open).filter(|by| *by != id) {
            waiting.entry(by).or_default().push(entry);
            continue;
        }
        let mut ready = vec![entry];
        while let Some(entry) = ready.pop() {
            let id = id_of(&entry);
            open.remove(&id);
            ordered.push(entry);
            ready.extend(waiting.remove(&id).into_iter().flatten().rev());
        }
    }
    // Only a circle of successors, which nothing writes, would leave some.
    ordered.extend(waiting.into_values().flatten());
    ordered
}

fn why(place: usize, hit: Ranked, terms: &[String]) -> Why {
    let Ranked {
        candidate,
        places,
        shares,
        confidence,
        bonus,
        entities,
        factors,
    } = hit;
    let mut found: Vec<String> = candidate
        .parts
        .iter()
        .filter_map(|part| terms.get(part.term).cloned())
        .collect();
    found.sort();
    Why {
        factors: factors.and_then(explain),
        rank: place + 1,
        score: round(candidate.score),
        confidence: confidence.map(round),
        shares: shares
            .into_iter()
            .map(|(share, part)| (share, round(part)))
            .collect(),
        terms: found,
        exact: candidate.exact,
        channels: places
            .into_iter()
            .map(|(channel, place)| (channel, rounded(place)))
            .collect(),
        entity_bonus: (!entities.is_empty()).then(|| round(bonus)),
        entities,
    }
}

/// A text that could be stored is searched for as a whole, so that it is found by itself.
fn is_storable(text: &str) -> bool {
    text.len() <= validate::MAX_CONTENT_BYTES
}

/// A recall whose arguments were accepted.
pub(super) struct Request {
    pub(super) query: Option<String>,
    pub(super) filter: Filter,
    limit: usize,
    /// Whether the caller named it.
    limited: bool,
    pub(super) max_chars: usize,
    pub(super) detail: Detail,
    pub(super) explain: bool,
    pub(super) question: String,
    position: Option<Position>,
    notes: Vec<String>,
}

fn explain(factors: Factors) -> Option<String> {
    let parts = factors.explain();
    (!parts.is_empty()).then(|| format!("×{:.2}: {}", factors.total, parts.join(", ")))
}

pub(super) fn round(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}

fn rounded(place: Place) -> Place {
    Place {
        score: round(place.score),
        ..place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_come_first() {
        let id = |n: u32| Uuid::from_u128(n.into());
        let order = |list: &[u32], links: &[(u32, u32)]| {
            let successors = links.iter().map(|(old, by)| (id(*old), id(*by))).collect();
            after_successors(list.to_vec(), |n| id(*n), &successors)
        };
        assert_eq!(order(&[1, 2, 3], &[]), [1, 2, 3]);
        assert_eq!(order(&[1, 2, 3, 4], &[(1, 3)]), [2, 3, 1, 4]);
        assert_eq!(order(&[1, 2, 3], &[(1, 2), (2, 3)]), [3, 2, 1]);
        assert_eq!(
            order(&[1, 4, 3], &[(1, 2), (2, 3)]),
            [4, 3, 1],
            "the successor between is not a hit"
        );
        assert_eq!(order(&[3, 1, 2], &[(1, 3)]), [3, 1, 2], "already behind");
        assert_eq!(
            order(&[1, 2, 9], &[(1, 3), (2, 3)]),
            [1, 2, 9],
            "the successor is no hit"
        );
        assert_eq!(order(&[1, 2, 3], &[(1, 3), (2, 3)]), [3, 1, 2]);
        assert_eq!(
            order(&[1, 2], &[(1, 2), (2, 1)]).len(),
            2,
            "a circle loses nothing"
        );
    }
}
