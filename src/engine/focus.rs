//! Working memory: what a session has in mind, and the archive of what it had.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::link::{bare, list_schema, optional};
use super::view::timestamp;
use super::{Call, Engine, EngineError, RememberItem, RememberParams};
use crate::domain::cursor::{self, Position};
use crate::domain::focus::{ArchivedItem, Eviction, FocusItem};
use crate::domain::validate;
use crate::store::Referable;
use crate::store::focus::{Focused, NewFocus, Place};

/// Archived items of a page.
const PAGE: usize = 20;
/// Why an item left, where nobody says.
const DROPPED: &str = "dropped";

/// What to do.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = bare)]
pub struct FocusParams {
    #[expect(missing_docs, reason = "says itself")]
    pub action: FocusAction,
    #[expect(missing_docs, reason = "says itself")]
    pub session: Option<String>,
    #[expect(missing_docs, reason = "says itself")]
    #[schemars(extend("x-aliases" = ["text", "item"]))]
    pub content: Option<String>,
    /// 0 to 1; above 0.8 stays longest
    #[schemars(range(min = 0, max = 1))]
    pub importance: Option<f64>,
    #[expect(missing_docs, reason = "says itself")]
    #[schemars(extend("x-aliases" = ["ids", "item_id"], "x-single" = true))]
    pub id: Option<String>,
    #[expect(missing_docs, reason = "says itself")]
    pub reason: Option<String>,
    /// promote: into a memory
    pub memory: bool,
    /// list: the archive
    pub archived: bool,
    #[expect(missing_docs, reason = "says itself")]
    pub cursor: Option<String>,
}

/// What to do with the working memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    transform = bare,
    extend("x-synonyms" = {"push": "add", "show": "list", "get": "list", "remove": "drop", "archive": "drop"})
)]
pub enum FocusAction {
    /// Have something in mind.
    Add,
    /// What is there.
    #[default]
    List,
    /// It was used.
    Touch,
    /// To the archive.
    Drop,
    /// Back from the archive, or into a memory.
    Promote,
}

/// What is in mind now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = optional)]
pub struct FocusOutput {
    /// Most recently touched first; the item that was changed.
    #[schemars(schema_with = "list_schema")]
    pub items: Vec<FocusView>,
    /// What had to make room, now in the archive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub evicted: Vec<FocusView>,
    /// The memory that it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub memory: Option<String>,
    /// Present when there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub next_cursor: Option<String>,
    /// What one should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// An item. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct FocusView {
    /// Id.
    pub id: String,
    /// Text.
    pub content: String,
    /// 0 to 1.
    #[schemars(skip)]
    pub importance: f64,
    /// When it was added.
    #[schemars(skip)]
    pub created_at: String,
    /// When it was last used.
    #[schemars(skip)]
    pub touched_at: String,
    /// When it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub archived_at: Option<String>,
    /// Why it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub reason: Option<String>,
    /// The memory that it became, or repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub memory: Option<String>,
}

impl FocusView {
    fn new(item: FocusItem) -> Self {
        Self {
            id: item.id.to_string(),
            content: item.content,
            importance: item.importance,
            created_at: timestamp(item.created_at),
            touched_at: timestamp(item.touched_at),
            archived_at: None,
            reason: None,
            memory: item.memory.map(|id| id.to_string()),
        }
    }

    fn archived(archived: ArchivedItem) -> Self {
        Self {
            archived_at: Some(timestamp(archived.archived_at)),
            reason: Some(archived.reason),
            ..Self::new(archived.item)
        }
    }
}

impl Engine {
    /// Adds, lists, touches, drops or promotes items of the working memory.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] names what is missing; an unknown id is not found.
    pub async fn focus(&self, call: &Call, params: FocusParams) -> Result<FocusOutput, EngineError> {
        let session = match &params.session {
            Some(session) => {
                validate::text("session", session, validate::MAX_NAME_BYTES)?;
                session.as_str()
            }
            None => "",
        };
        let now = self.clock.now();
        match params.action {
            FocusAction::Add => {
                let content = params.content.clone().unwrap_or_default();
                validate::text("content", &content, validate::MAX_EPISODE_BYTES)?;
                let importance = validate::number("importance", params.importance.unwrap_or(0.5), 0.0, 1.0)?;
                let new = NewFocus { id: self.clock.new_id(), content, importance, now };
                let added = self.store.focus_add(&call.scope, session, new, self.focus_capacity);
                Ok(told(call.database(added).await?, "It was in mind already, and was touched."))
            }
            FocusAction::List if params.archived => self.list_archive(call, session, &params).await,
            FocusAction::List => {
                let items = call.database(self.store.focus_list(&call.scope, session)).await?;
                call.count_rows(items.len());
                Ok(FocusOutput { items: items.into_iter().map(FocusView::new).collect(), ..FocusOutput::default() })
            }
            FocusAction::Touch => {
                let id = self.item_id(call, session, &params).await?;
                let item = call.database(self.store.focus_touch(&call.scope, session, id, now)).await?;
                Ok(FocusOutput { items: vec![FocusView::new(item)], ..FocusOutput::default() })
            }
            FocusAction::Drop => {
                let id = self.item_id(call, session, &params).await?;
                let reason = params.reason.as_deref().unwrap_or(DROPPED);
                validate::text("reason", reason, validate::MAX_REASON_BYTES)?;
                let dropped = self.store.focus_drop(&call.scope, session, id, reason, None, now);
                let view = FocusView::archived(call.database(dropped).await?);
                Ok(FocusOutput { items: vec![view], ..FocusOutput::default() })
            }
            FocusAction::Promote if params.memory => {
                let id = self.item_id(call, session, &params).await?;
                self.become_memory(call, session, id).await
            }
            FocusAction::Promote => {
                let id = self.item_id(call, session, &params).await?;
                let restored = self.store.focus_restore(&call.scope, session, id, self.focus_capacity, now);
                Ok(told(call.database(restored).await?, "It was in mind still, and was touched."))
            }
        }
    }

    async fn item_id(&self, call: &Call, session: &str, params: &FocusParams) -> Result<Uuid, EngineError> {
        let id = params.id.as_deref().unwrap_or_default();
        self.resolve_one(call, Referable::FocusItem { session }, "id", id).await
    }

    async fn list_archive(&self, call: &Call, session: &str, params: &FocusParams) -> Result<FocusOutput, EngineError> {
        let question = cursor::question_hash(&("focus", session));
        let before = match params.cursor.as_ref().map(|text| cursor::decode(text, &question)).transpose()? {
            Some(Position::Before(seq)) => Some(seq),
            _ => None,
        };
        let mut found = call.database(self.store.focus_archived(&call.scope, session, before, PAGE + 1)).await?;
        let more = found.len() > PAGE;
        found.truncate(PAGE);
        call.count_rows(found.len());
        let last = found.last().filter(|_| more).map(|archived| archived.item.seq);
        Ok(FocusOutput {
            next_cursor: last.map(|seq| cursor::encode(Position::Before(seq), question)),
            items: found.into_iter().map(FocusView::archived).collect(),
            ..FocusOutput::default()
        })
    }

    /// The memory comes first: an interruption leaves the item where it is, and doing it again finds the same memory.
    async fn become_memory(&self, call: &Call, session: &str, id: Uuid) -> Result<FocusOutput, EngineError> {
        let item = match call.database(self.store.focus_get(&call.scope, session, id)).await? {
            Place::Focus(item) => item,
            Place::Archive(archived) => archived.item,
        };
        let note = RememberItem {
            content: item.content,
            importance: Some(item.importance),
            session: Some(session.to_owned()).filter(|session| !session.is_empty()),
            ..RememberItem::default()
        };
        let stored = self.remember(call, RememberParams { items: vec![note], idempotency_key: None }).await?;
        let Some(memory) = stored.memories.first().and_then(|stored| Uuid::parse_str(&stored.id).ok()) else {
            return Ok(FocusOutput::default());
        };
        let now = self.clock.now();
        let dropped = self.store.focus_drop(&call.scope, session, id, "became a memory", Some(memory), now);
        let view = FocusView::archived(call.database(dropped).await?);
        Ok(FocusOutput { items: vec![view], memory: Some(memory.to_string()), ..FocusOutput::default() })
    }
}

fn told(focused: Focused, known: &str) -> FocusOutput {
    let mut output = FocusOutput { items: vec![FocusView::new(focused.item)], ..FocusOutput::default() };
    if !focused.added {
        output.notes.push(known.to_owned());
    }
    if focused.evicted.iter().any(|(_, eviction)| *eviction == Eviction::AllProtected) {
        output.notes.push("All items were above importance 0.8: the oldest had to go.".to_owned());
    }
    output.evicted = focused
        .evicted
        .into_iter()
        .map(|(item, eviction)| FocusView { reason: Some(eviction.as_str().to_owned()), ..FocusView::new(item) })
        .collect();
    output
}
