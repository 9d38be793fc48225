//! The start of a conversation: the memories that it most likely needs, before the first query.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    Call, Engine, EngineError, EntityDetail, FocusParams, FocusView, GetParams, MemoryView,
    RecallParams, ReviewView,
};
use crate::domain::fold::fold_key;
use crate::domain::passage::shorten_to_passage;
use crate::domain::reference::first_line;
use crate::domain::{Kind, validate};
use crate::store::ReviewQuery;

/// Maximum number of characters of text in each part.
const MAX_CHARS: usize = 2_000;
/// Maximum number of characters of a memory in a part that no search has shortened.
const MEMORY_CHARS: usize = 400;
/// Maximum number of characters of a memory in a review.
const REVIEW_CHARS: usize = 120;
const MAX_IMPORTANT: usize = 10;
const MAX_LESSONS: usize = 5;
const MAX_FITTING: usize = 5;
const MAX_RECENT: usize = 10;
const MAX_REVIEWS: usize = 5;

/// The topic of the conversation.
#[derive(Debug, Clone, Default)]
pub struct SessionStartParams {
    /// The task; without it the newest lessons are returned.
    pub task: Option<String>,
    /// Only memories with this tag.
    pub tag: Option<String>,
    /// Session whose working memory is returned; without it that of the project.
    pub session: Option<String>,
    /// An entity that the conversation concerns.
    pub entity: Option<String>,
}

/// Useful memories for the start of a session, by topic. A topic may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionStart {
    /// Project of the caller.
    pub project: String,
    /// Protected and important memories, most important first.
    pub important: Vec<MemoryView>,
    /// The working memory.
    pub focus: Vec<FocusView>,
    /// Details of the entity.
    pub entities: Vec<EntityDetail>,
    /// The newest memories that mention it.
    pub mentioning: Vec<MemoryView>,
    /// Episodes in situations similar to the task, or the newest ones.
    pub lessons: Vec<MemoryView>,
    /// Notes and insights about the task.
    pub fitting: Vec<MemoryView>,
    /// The newest other notes and insights.
    pub recent: Vec<MemoryView>,
    /// The newest open reviews.
    pub reviews: Vec<OpenReview>,
    /// The number of all open reviews.
    pub open_reviews: u64,
}

/// A description of an open review.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenReview {
    pub review: ReviewView,
    /// The proposed change.
    pub proposal: String,
}

impl Engine {
    /// Collects the memories for the start of a conversation.
    ///
    /// # Errors
    /// Fails if the tag is invalid, or if the database does not respond.
    pub async fn session_start(
        &self,
        call: &Call,
        params: SessionStartParams,
    ) -> Result<SessionStart, EngineError> {
        let task = params
            .task
            .map(|task| task.trim().to_owned())
            .filter(|task| !task.is_empty());
        let tags = validate::tags("tags", &params.tag.into_iter().collect::<Vec<String>>())?;
        let important = self
            .important(call, tags.first().map(String::as_str))
            .await?;
        let facts = vec![Kind::Note, Kind::Insight];
        let ask = |query: Option<String>, kinds: Vec<Kind>, limit: usize| RecallParams {
            query,
            kinds,
            tags: tags.clone(),
            limit: Some(limit),
            max_chars: Some(MAX_CHARS),
            ..RecallParams::default()
        };
        let mut lessons = self
            .views(call, ask(task.clone(), vec![Kind::Episode], MAX_LESSONS))
            .await?;
        let (entities, mut mentioning) = self.read_mentions(call, params.entity).await?;
        let mut fitting = match task {
            Some(task) => {
                self.views(call, ask(Some(task), facts.clone(), MAX_FITTING))
                    .await?
            }
            None => Vec::new(),
        };
        let mut recent = self.views(call, ask(None, facts, MAX_RECENT)).await?;
        let mut seen: HashSet<String> = important.iter().map(|memory| memory.id.clone()).collect();
        for part in [&mut mentioning, &mut lessons, &mut fitting, &mut recent] {
            part.retain(|memory| seen.insert(memory.id.clone()));
        }
        let focus = FocusParams {
            session: params.session,
            ..FocusParams::default()
        };
        let focus = self.focus(call, focus).await?.items;
        let (open_reviews, reviews) = self.read_open_reviews(call).await?;
        let project = call.scope.project().to_owned();
        let start = SessionStart {
            project,
            important,
            focus,
            entities,
            mentioning,
            lessons,
            fitting,
            recent,
            reviews,
            open_reviews,
        };
        Ok(start)
    }

    /// Reads an entity and the newest memories that mention it.
    async fn read_mentions(
        &self,
        call: &Call,
        entity: Option<String>,
    ) -> Result<(Vec<EntityDetail>, Vec<MemoryView>), EngineError> {
        let Some(name) = entity else {
            return Ok((Vec::new(), Vec::new()));
        };
        let params = GetParams {
            entities: vec![name],
            ..GetParams::default()
        };
        let mut about = self.get(call, params).await?;
        about.memories.truncate(MAX_FITTING);
        Ok((about.entities, about.memories))
    }

    /// Reads the number of open reviews, and describes the first of them.
    async fn read_open_reviews(&self, call: &Call) -> Result<(u64, Vec<OpenReview>), EngineError> {
        let open_reviews = call
            .database(self.store.open_reviews(&call.scope, self.clock.now()))
            .await?;
        if open_reviews == 0 {
            return Ok((0, Vec::new()));
        }
        let waiting = ReviewQuery::Open(self.clock.now());
        let open = self.list_reviews(call, &waiting, MAX_REVIEWS).await?;
        Ok((open_reviews, self.in_words(call, open).await?))
    }

    /// Reads protected and important memories, each once.
    async fn important(
        &self,
        call: &Call,
        tag: Option<&str>,
    ) -> Result<Vec<MemoryView>, EngineError> {
        // Twice as many as are shown, because some may be equivalent.
        let most = 2 * MAX_IMPORTANT;
        let found = call
            .database(
                self.store
                    .outstanding(&call.scope, tag, self.clock.now(), most),
            )
            .await?;
        call.count_rows(found.len());
        let mut seen = HashSet::new();
        let distinct = found
            .into_iter()
            .filter(|memory| seen.insert(fold_key(memory)));
        let mut views: Vec<MemoryView> = distinct
            .take(MAX_IMPORTANT)
            .map(|memory| MemoryView::new(memory, call.scope.project()))
            .collect();
        for view in &mut views {
            for text in [
                Some(&mut view.content),
                view.situation.as_mut(),
                view.lesson.as_mut(),
            ]
            .into_iter()
            .flatten()
            {
                *text = shorten_to_passage(text, &[], None, MEMORY_CHARS);
            }
        }
        Ok(views)
    }

    /// Describes the effect of each review, with the texts of its memories.
    async fn in_words(
        &self,
        call: &Call,
        reviews: Vec<ReviewView>,
    ) -> Result<Vec<OpenReview>, EngineError> {
        let named = reviews
            .iter()
            .flat_map(|review| [Some(review.memory.as_str()), review.change["by"].as_str()]);
        let ids: Vec<Uuid> = named
            .flatten()
            .filter_map(|id| Uuid::parse_str(id).ok())
            .collect();
        let memories = call
            .database(self.store.get(&call.scope, &ids, true))
            .await?;
        let texts: HashMap<String, String> = memories
            .into_iter()
            .map(|memory| {
                (
                    memory.id.to_string(),
                    first_line(&memory.content, REVIEW_CHARS),
                )
            })
            .collect();
        let text = |id: &str| {
            texts
                .get(id)
                .map_or_else(|| format!("memory {id}"), |text| format!("{text:?}"))
        };
        let words = |review: &ReviewView| {
            let memory = text(&review.memory);
            match (review.action.as_str(), review.change["by"].as_str()) {
                ("supersede", Some(by)) => format!("replace {memory} with {}", text(by)),
                ("update", _) => {
                    let fields: Vec<&str> = review
                        .change
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(field, _)| field.as_str())
                        .collect();
                    format!("change {} of {memory}", fields.join(", "))
                }
                (action, _) => format!("{action} {memory}"),
            }
        };
        Ok(reviews
            .into_iter()
            .map(|review| OpenReview {
                proposal: words(&review),
                review,
            })
            .collect())
    }

    async fn views(
        &self,
        call: &Call,
        params: RecallParams,
    ) -> Result<Vec<MemoryView>, EngineError> {
        Ok(self
            .recall(call, params)
            .await?
            .hits
            .into_iter()
            .map(|hit| hit.memory)
            .collect())
    }
}
