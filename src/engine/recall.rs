//! Finding memories: the one path that every recall takes.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rank::Ranked;
use super::recall_search::{MAX_RANKED, Ranking};
use super::{Call, Engine, EngineError, MemoryView};
use crate::domain::cursor::{self, Position};
use crate::domain::fusion::{Channel, Place, Share};
use crate::domain::memory::Kind;
use crate::domain::validate::{self, Invalid};
use crate::domain::{Factors, Filter, Memory};

/// Hits of a recall that names no limit.
const DEFAULT_LIMIT: usize = 10;
/// Hits of a first page that names no limit, where the question is about something else: whoever asked can see that it
/// is so, and the cursor leads to the rest.
const STRANGERS: usize = 5;
/// Characters of text in an answer that names no budget.
const DEFAULT_MAX_CHARS: usize = 12_000;

/// What to look for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecallParams {
    /// Question or words; empty: newest.
    pub query: Option<String>,
    /// 1 to 100, default 10.
    pub limit: Option<usize>,
    /// For all texts, default 12000.
    pub max_chars: Option<usize>,
    /// next_cursor of the last page.
    pub cursor: Option<String>,
    /// Any of these kinds.
    #[schemars(extend("x-plain" = true))]
    pub kinds: Vec<Kind>,
    /// All of these.
    pub tags: Vec<String>,
    /// Only this conversation.
    #[schemars(extend("x-plain" = true))]
    pub session: Option<String>,
    /// Only this speaker.
    #[schemars(extend("x-plain" = true))]
    pub speaker: Option<String>,
    /// Happened at or after (RFC 3339 or date).
    pub since: Option<String>,
    /// Happened before.
    pub until: Option<String>,
    /// Importance at least.
    #[schemars(extend("x-plain" = true))]
    pub min_importance: Option<f64>,
    /// Also superseded and expired.
    pub include_outdated: bool,
    /// What was believed at this time in the past.
    pub as_of: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RecallOutput {
    /// Best first; newest first without a query.
    pub hits: Vec<Hit>,
    /// Present when there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How sure it is that something here answers, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub confidence: Option<f64>,
    /// What one should know about this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A memory and why it was found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Hit {
    /// The memory.
    #[serde(flatten)]
    pub memory: MemoryView,
    /// The text was cut to fit max_chars; get has all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Why it is here; absent when browsing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
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

impl Engine {
    /// Finds memories by words and meaning, or lists the newest. At most five statements, and one or two more for a look
    /// back.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for limits, times, tags and cursors that cannot be.
    pub async fn recall(&self, call: &Call, params: RecallParams) -> Result<RecallOutput, EngineError> {
        let request = self.accept_recall(&params)?;
        let mut output = match &request.query {
            None => self.browse(call, &request).await?,
            Some(query) => self.search(call, query, &request).await?,
        };
        if output.hits.is_empty() && request.position.is_none() {
            output.notes.push(self.explain_nothing(call, &request).await?);
        }
        output.notes.extend(request.notes);
        call.count_hits(output.hits.len());
        // A look back is no use of what is believed today.
        let recalled = output.hits.iter().filter(|hit| hit.why.is_some() && !request.filter.unchanged);
        self.notes.add(&call.scope, recalled.filter_map(|hit| Uuid::parse_str(&hit.memory.id).ok()));
        Ok(output)
    }

    async fn browse(&self, call: &Call, request: &Request) -> Result<RecallOutput, EngineError> {
        let before = match request.position {
            Some(Position::Before(seq)) => Some(seq),
            _ => None,
        };
        let mut found =
            call.database(self.store.browse(&call.scope, &request.filter, before, request.limit + 1)).await?;
        call.count_rows(found.len());
        let past = self.look_back(call, &request.filter, &[]).await?;
        let notes = past.notes();
        found.extend(past.memories.into_iter().filter(|memory| before.is_none_or(|seq| memory.seq < seq)));
        found.sort_by_key(|memory| std::cmp::Reverse(memory.seq));
        let more = found.len() > request.limit;
        let hits = found.into_iter().take(request.limit).map(|memory| (memory, None)).collect();
        let (page, last) = fit(hits, request.max_chars, call.scope.project());
        let all_fit = last.as_ref().is_none_or(|l| l.all);
        let next_cursor = (more || !all_fit)
            .then(|| last.map(|l| cursor::encode(Position::Before(l.seq), request.question.clone())))
            .flatten();
        Ok(RecallOutput { hits: page, next_cursor, confidence: None, notes })
    }

    async fn search(&self, call: &Call, query: &str, request: &Request) -> Result<RecallOutput, EngineError> {
        let offset = match request.position {
            Some(Position::Offset(offset)) => offset,
            _ => 0,
        };
        let Ranking { hits: ranked, terms, confidence, strange, past, notes } =
            self.find(call, query, &request.filter, offset + request.limit).await?;
        let few = strange && offset == 0 && !request.limited;
        let limit = if few { STRANGERS } else { request.limit };
        let wanted = offset + limit;
        let more = ranked.len() > wanted && wanted < MAX_RANKED;
        let page: Vec<(usize, Ranked)> = ranked.into_iter().enumerate().skip(offset).take(limit).collect();
        let mut by_id: HashMap<Uuid, Memory> = past.into_iter().map(|memory| (memory.id, memory)).collect();
        let ids: Vec<Uuid> =
            page.iter().map(|(_, hit)| hit.candidate.id).filter(|id| !by_id.contains_key(id)).collect();
        let memories = call.database(self.store.get(&call.scope, &ids, false)).await?;
        call.count_rows(page.len());
        // What was changed between the two statements is not what was believed then.
        let unchanged = |memory: &Memory| !request.filter.unchanged || memory.updated_at <= request.filter.now;
        by_id.extend(memories.into_iter().filter(unchanged).map(|memory| (memory.id, memory)));
        // Whatever was deleted between the two statements is left out.
        let hits: Vec<(Memory, Option<Why>)> = page
            .into_iter()
            .filter_map(|(index, Ranked { candidate, places, shares, confidence, bonus, entities, factors })| {
                let mut found: Vec<String> =
                    candidate.parts.iter().filter_map(|part| terms.get(part.term).cloned()).collect();
                found.sort();
                let why = Why {
                    factors: factors.and_then(explain),
                    rank: index + 1,
                    score: round(candidate.score),
                    confidence: confidence.map(round),
                    shares: shares.into_iter().map(|(share, part)| (share, round(part))).collect(),
                    terms: found,
                    exact: candidate.exact,
                    channels: places.into_iter().map(|(channel, place)| (channel, rounded(place))).collect(),
                    entity_bonus: (!entities.is_empty()).then(|| round(bonus)),
                    entities,
                };
                by_id.remove(&candidate.id).map(|memory| (memory, Some(why)))
            })
            .collect();
        let (page, last) = fit(hits, request.max_chars, call.scope.project());
        let all_fit = last.as_ref().is_none_or(|l| l.all);
        let next = if all_fit { wanted } else { offset + page.len() };
        let next_cursor = (more || !all_fit).then(|| cursor::encode(Position::Offset(next), request.question.clone()));
        let confidence = (!page.is_empty()).then(|| round(confidence));
        Ok(RecallOutput { hits: page, next_cursor, confidence, notes })
    }

    /// An empty answer says why it is empty.
    async fn explain_nothing(&self, call: &Call, request: &Request) -> Result<String, EngineError> {
        let counts = call.database(self.store.counts(&call.scope, request.filter.now)).await?;
        let total: u64 = counts.by_kind.values().sum();
        let filtered = request.filter != Filter::at(request.filter.now);
        if request.filter.unchanged && total > 0 {
            return Ok(format!("Nothing of this was known at {}, or it was purged since.", request.filter.now));
        }
        Ok(match (total, filtered, request.query.is_some()) {
            (0, ..) => "Nothing is stored in this project yet.".to_owned(),
            (n, true, _) => {
                format!("Nothing passes these filters; {n} memories are stored. Try again with fewer of them.")
            }
            (n, false, true) => {
                format!(
                    "None of the {n} stored memories has a word of the query. Try other words or names, or an empty query to browse."
                )
            }
            (n, false, false) => {
                format!("All {n} stored memories are superseded or expired; include_outdated lists them.")
            }
        })
    }

    fn accept_recall(&self, params: &RecallParams) -> Result<Request, Invalid> {
        let now = self.clock.now();
        let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=validate::MAX_LIMIT).contains(&limit) {
            return Err(Invalid::new(
                "limit",
                limit.to_string(),
                format!("a number from 1 to {}", validate::MAX_LIMIT),
            ));
        }
        let max_chars = params.max_chars.unwrap_or(DEFAULT_MAX_CHARS);
        if !(100..=1_000_000).contains(&max_chars) {
            return Err(Invalid::new("max_chars", max_chars.to_string(), "a number from 100 to 1000000"));
        }
        for (field, name) in [("session", &params.session), ("speaker", &params.speaker)] {
            if let Some(name) = name {
                validate::text(field, name, validate::MAX_NAME_BYTES)?;
            }
        }
        let mut notes = Vec::new();
        let mut query = params.query.as_deref().map(str::trim).filter(|query| !query.is_empty()).map(str::to_owned);
        if let Some(text) = &mut query {
            if text.contains('\0') {
                return Err(Invalid::new("query", text, "text without NUL characters"));
            }
            if let Some((cut, _)) = text.char_indices().nth(validate::MAX_QUERY_CHARS).filter(|_| !is_storable(text)) {
                text.truncate(cut);
                notes.push(format!("Only the first {} characters of the query were used.", validate::MAX_QUERY_CHARS));
            }
        } else if params.query.is_some() {
            notes.push("The query is empty: these are the newest memories.".to_owned());
        }
        let time = |field: &str, value: &Option<String>| value.as_ref().map(|v| validate::time(field, v)).transpose();
        let (since, until) = (time("since", &params.since)?, time("until", &params.until)?);
        if let (Some(from), Some(to)) = (since, until)
            && from >= to
        {
            let expected = format!("a time after since, which is {from}");
            return Err(Invalid::new("until", params.until.as_deref().unwrap_or_default(), expected));
        }
        let as_of = params.as_of.as_ref().map(|at| validate::moment("as_of", at, now)).transpose()?;
        let filter = Filter {
            kinds: params.kinds.clone(),
            tags: validate::tags("tags", &params.tags)?,
            session: params.session.clone(),
            speaker: params.speaker.clone(),
            since,
            until,
            min_importance: params
                .min_importance
                .map(|least| validate::number("min_importance", least, 0.0, 1.0))
                .transpose()?,
            include_outdated: params.include_outdated,
            now: as_of.unwrap_or(now),
            unchanged: as_of.is_some(),
        };
        let unpaged = RecallParams { cursor: None, limit: None, max_chars: None, ..params.clone() };
        let question = cursor::question_hash(&unpaged);
        let position = params.cursor.as_ref().map(|text| cursor::decode(text, &question)).transpose()?;
        let limited = params.limit.is_some();
        Ok(Request { query, filter, limit, limited, max_chars, question, position, notes })
    }
}

/// A text that could be stored is searched for as a whole, so that it is found by itself.
fn is_storable(text: &str) -> bool {
    text.len() <= validate::MAX_CONTENT_BYTES
}

struct Request {
    query: Option<String>,
    filter: Filter,
    limit: usize,
    /// Whether the caller named it.
    limited: bool,
    max_chars: usize,
    question: String,
    position: Option<Position>,
    notes: Vec<String>,
}

/// The last hit of a page that was fitted.
struct Last {
    seq: i64,
    /// Whether nothing was left out behind it.
    all: bool,
}

/// As many hits as the budget holds, at least one, whose text is cut when it alone is too long.
fn fit(found: Vec<(Memory, Option<Why>)>, max_chars: usize, project: &str) -> (Vec<Hit>, Option<Last>) {
    let total = found.len();
    let (mut hits, mut used, mut seq) = (Vec::with_capacity(total), 0, None);
    for (memory, why) in found {
        let at = memory.seq;
        let mut memory = MemoryView::new(memory, project);
        let chars = memory.chars();
        if used + chars > max_chars && !hits.is_empty() {
            break;
        }
        let cut = chars > max_chars;
        if cut {
            // The lesson stays whole: it is what an episode is kept for.
            if let Some(situation) = &mut memory.situation {
                *situation = situation.chars().take(max_chars).collect();
            }
            let beside = memory.chars() - memory.content.chars().count();
            memory.content = memory.content.chars().take(max_chars.saturating_sub(beside).max(100)).collect();
        }
        used += chars;
        seq = Some(at);
        hits.push(Hit { memory, cut, why });
    }
    let all = hits.len() == total;
    (hits, seq.map(|seq| Last { seq, all }))
}

fn explain(factors: Factors) -> Option<String> {
    let parts = factors.explain();
    (!parts.is_empty()).then(|| format!("×{:.2}: {}", factors.total, parts.join(", ")))
}

fn round(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}

fn rounded(place: Place) -> Place {
    Place { score: round(place.score), ..place }
}
