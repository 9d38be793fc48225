//! What a conversation begins with: the memories that it most likely needs, before anybody asked.

use super::{
    Call, Engine, EngineError, EntityDetail, FocusParams, FocusView, GetParams, MemoryView, RecallParams, ReviewAction,
    ReviewParams, ReviewView,
};
use crate::domain::Kind;

/// Characters of text in each part.
const MAX_CHARS: usize = 4_000;
const MAX_LESSONS: usize = 5;
const MAX_FITTING: usize = 5;
const MAX_RECENT: usize = 10;
const MAX_REVIEWS: usize = 5;

/// What the conversation is about.
#[derive(Debug, Clone, Default)]
pub struct SessionStartParams {
    /// What is to be done; without it the newest lessons come.
    pub task: Option<String>,
    /// Only memories with this tag.
    pub tag: Option<String>,
    /// Whose working memory is brought; without it that of the project.
    pub session: Option<String>,
    /// Somebody or something that it is about.
    pub entity: Option<String>,
}

/// What is worth knowing at the beginning. A part for each question; a part may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionStart {
    /// Project of the caller.
    pub project: String,
    /// What is in mind.
    pub focus: Vec<FocusView>,
    /// What is known of the entity.
    pub entities: Vec<EntityDetail>,
    /// The newest memories that mention it.
    pub mentioning: Vec<MemoryView>,
    /// Episodes from situations like the task, or the newest.
    pub lessons: Vec<MemoryView>,
    /// Notes and insights on the task.
    pub fitting: Vec<MemoryView>,
    /// The newest notes and insights beside those.
    pub recent: Vec<MemoryView>,
    /// The newest changes that wait for the owner.
    pub reviews: Vec<ReviewView>,
    /// How many wait in all.
    pub open_reviews: u64,
}

impl Engine {
    /// Collects what a conversation begins with.
    ///
    /// # Errors
    /// When the tag cannot be one, or the database does not answer.
    pub async fn session_start(&self, call: &Call, params: SessionStartParams) -> Result<SessionStart, EngineError> {
        let task = params.task.map(|task| task.trim().to_owned()).filter(|task| !task.is_empty());
        let tags: Vec<String> = params.tag.into_iter().collect();
        let facts = vec![Kind::Note, Kind::Insight];
        let ask = |query: Option<String>, kinds: Vec<Kind>, limit: usize| RecallParams {
            query,
            kinds,
            tags: tags.clone(),
            limit: Some(limit),
            max_chars: Some(MAX_CHARS),
            ..RecallParams::default()
        };
        let lessons = self.views(call, ask(task.clone(), vec![Kind::Episode], MAX_LESSONS)).await?;
        let (entities, mentioning) = match params.entity {
            Some(name) => {
                let about = self.get(call, GetParams { entities: vec![name], ..GetParams::default() }).await?;
                (about.entities, about.memories.into_iter().take(MAX_FITTING).collect())
            }
            None => (Vec::new(), Vec::new()),
        };
        let mut fitting = match task {
            Some(task) => self.views(call, ask(Some(task), facts.clone(), MAX_FITTING)).await?,
            None => Vec::new(),
        };
        let mut recent = self.views(call, ask(None, facts, MAX_RECENT)).await?;
        fitting.retain(|memory| mentioning.iter().all(|known: &MemoryView| known.id != memory.id));
        recent.retain(|memory| fitting.iter().chain(&mentioning).all(|known| known.id != memory.id));
        let focus = self.focus(call, FocusParams { session: params.session, ..FocusParams::default() }).await?.items;
        let open_reviews = call.database(self.store.open_reviews(&call.scope, self.clock.now())).await?;
        let mut reviews = Vec::new();
        if open_reviews > 0 {
            reviews = self.review(call, ReviewParams::new(ReviewAction::List)).await?.reviews;
            reviews.truncate(MAX_REVIEWS);
        }
        let project = call.scope.project().to_owned();
        let start =
            SessionStart { project, focus, entities, mentioning, lessons, fitting, recent, reviews, open_reviews };
        Ok(start)
    }

    async fn views(&self, call: &Call, params: RecallParams) -> Result<Vec<MemoryView>, EngineError> {
        Ok(self.recall(call, params).await?.hits.into_iter().map(|hit| hit.memory).collect())
    }
}
