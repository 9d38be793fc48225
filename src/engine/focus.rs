//! Working memory: a short list of items for a session, and the archive of earlier items.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer_size::{
    DEFAULT_ANSWER_CHARS, Shorten, check_max_chars, fit_parts, measure, room_for_parts,
    shorten_text,
};
use super::link::{bare, list_schema, optional};
use super::reference::check_id;
use super::view::timestamp;
use super::{Call, Engine, EngineError, RememberItem, RememberParams};
use crate::domain::cursor::{self, Position};
use crate::domain::focus::{ArchivedItem, Eviction, FocusItem};
use crate::domain::validate::{self, Invalid, Problems};
use crate::store::Referable;
use crate::store::focus::{FocusLocation, Focused, NewFocus};

/// Number of archived items of a page.
const PAGE: usize = 20;
/// Characters that the cursor of the archive may take in an answer.
const CURSOR_ROOM: usize = 80;
/// Default importance of an item.
const DEFAULT_IMPORTANCE: f64 = 0.5;
/// Default reason for dropping an item.
const DROPPED: &str = "dropped";

/// The action and its arguments.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = bare)]
pub struct FocusParams {
    /// Default list, or add if content is given. restore: bring back an archived item; save: store it as a memory
    pub action: Option<FocusAction>,
    /// Session; default: the project's own working memory
    pub session: Option<String>,
    /// add: the text
    #[schemars(extend("x-plain" = true, "x-aliases" = ["text", "item", "note", "task", "goal", "message", "value"]))]
    pub content: Option<String>,
    /// 0 to 1; items above 0.8 are archived last
    #[schemars(range(min = 0, max = 1))]
    pub importance: Option<f64>,
    /// ID of the item
    #[schemars(extend("x-plain" = true, "x-aliases" = ["ids", "item_id"], "x-single" = true))]
    pub id: Option<String>,
    /// drop: why
    #[schemars(extend("x-plain" = true))]
    pub reason: Option<String>,
    /// Makes the former action `promote` mean `save`
    #[schemars(extend("x-hidden" = true))]
    pub memory: bool,
    /// list: the archive instead
    pub archived: bool,
    /// list: the next page of the archive
    #[schemars(extend("x-plain" = true, "x-aliases" = ["next_cursor", "page_token"]))]
    pub cursor: Option<String>,
    /// Length of the whole answer in characters, default 40000
    #[schemars(extend("x-aliases" = ["max_characters", "budget"]))]
    pub max_chars: Option<usize>,
}

/// An action on the working memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(
    inline,
    transform = bare,
    extend("x-synonyms" = {"push": "add", "set": "add", "create": "add", "remember": "add", "show": "list", "get": "list", "remove": "drop", "archive": "drop",
                           "promote": "promote"})
)]
pub enum FocusAction {
    /// Adds an item.
    Add,
    /// Lists the items.
    List,
    /// Marks an item as used now.
    Touch,
    /// Moves an item to the archive.
    Drop,
    /// Brings an item back from the archive.
    Restore,
    /// Stores an item as a memory and archives it.
    Save,
    /// The former name of `restore` and, with `memory`, of `save`.
    #[schemars(skip)]
    Promote,
}

impl FocusAction {
    /// Returns the name in calls.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::List => "list",
            Self::Touch => "touch",
            Self::Drop => "drop",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Promote => "promote",
        }
    }

    /// Returns the arguments that the action reads, besides session.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Add => &["content", "importance"],
            Self::List => &["archived", "cursor"],
            Self::Drop => &["id", "reason"],
            Self::Promote => &["id", "memory"],
            Self::Touch | Self::Restore | Self::Save => &["id"],
        }
    }
}

impl FocusParams {
    /// The most characters that the printed answer may have.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.max_chars.unwrap_or(DEFAULT_ANSWER_CHARS)
    }

    /// Returns the intended action: without an explicit action, a content means add.
    #[must_use]
    pub fn meant(&self) -> FocusAction {
        self.action.unwrap_or(if self.content.is_some() {
            FocusAction::Add
        } else {
            FocusAction::List
        })
    }

    /// Returns the given arguments, besides action and session.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("content", self.content.is_some()),
            ("importance", self.importance.is_some()),
            ("id", self.id.is_some()),
            ("reason", self.reason.is_some()),
            ("memory", self.memory),
            ("archived", self.archived),
            ("cursor", self.cursor.is_some()),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
    }

    /// Returns arguments that the action ignores.
    fn unread_arguments(&self, action: FocusAction) -> Vec<&'static str> {
        self.given()
            .filter(|name| !action.arguments().contains(name))
            .collect()
    }

    /// Refuses every error that is detectable without the database.
    fn check(&self) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        let action = self.meant();
        if action != FocusAction::Add {
            problems.check(validate::optional_text(
                "session",
                self.session.as_deref(),
                validate::MAX_NAME_BYTES,
            ));
        }
        problems.accept(check_max_chars(self.budget()));
        let unread = self.unread_arguments(action);
        // A given text is meant to be stored.
        if let Some(content) = self
            .content
            .as_ref()
            .filter(|_| unread.contains(&"content"))
        {
            let rule = format!(
                "`content` is not allowed with action `{}`; use action add to store it",
                action.as_str()
            );
            let refused = Invalid::new("content", content, "no content for this action");
            problems.note(refused.depending_on(&["action"]).explained_by(rule));
        }
        if self.action.is_none() && unread.contains(&"id") {
            let expected = "touch, drop, restore or save with an id";
            problems.note(Invalid::new("action", "", expected).depending_on(&["content"]));
        }
        problems.check(self.check_arguments_of(action));
        problems.refuse_if_any()
    }

    /// Refuses invalid values of the arguments that the action reads.
    fn check_arguments_of(&self, action: FocusAction) -> Result<(), Invalid> {
        let mut problems = Problems::default();
        match action {
            FocusAction::Add => {
                let content = self.content.as_deref().unwrap_or_default();
                let content = validate::new_text("content", content, validate::MAX_EPISODE_BYTES);
                problems.check(content.map_err(|invalid| invalid.depending_on(&["action"])));
                problems.check(validate::new_optional_name(
                    "session",
                    self.session.as_deref(),
                    validate::MAX_NAME_BYTES,
                ));
                problems.accept(validate::number(
                    "importance",
                    self.importance.unwrap_or(DEFAULT_IMPORTANCE),
                    0.0,
                    1.0,
                ));
            }
            FocusAction::List if self.archived => {
                problems.check(self.cursor.as_deref().map_or(Ok(()), cursor::check_form));
            }
            FocusAction::List => {}
            FocusAction::Touch
            | FocusAction::Drop
            | FocusAction::Restore
            | FocusAction::Save
            | FocusAction::Promote => {
                let session = self.session.as_deref().unwrap_or_default();
                let id = self.id.as_deref().unwrap_or_default();
                problems.check(check_id(Referable::FocusItem { session }, "id", id));
                let reason = self
                    .reason
                    .as_deref()
                    .filter(|_| action == FocusAction::Drop);
                problems.check(validate::optional_text(
                    "reason",
                    reason,
                    validate::MAX_REASON_BYTES,
                ));
            }
        }
        problems.refuse_if_any()
    }
}

/// The working memory after the call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = optional)]
pub struct FocusOutput {
    /// Most recently used first, or the item that was changed.
    #[schemars(schema_with = "list_schema")]
    pub items: Vec<FocusView>,
    /// Items that were archived to make room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub evicted: Vec<FocusView>,
    /// The memory that it was saved as.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub memory: Option<String>,
    /// Present when there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub next_cursor: Option<String>,
    /// Remarks on this answer.
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
    /// When it was archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub archived_at: Option<String>,
    /// Why it was archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub reason: Option<String>,
    /// The memory with the same text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub memory: Option<String>,
}

impl Shorten for FocusView {
    fn shorten(&mut self, room: usize) {
        shorten_text(&mut self.content, room);
    }
}

impl FocusOutput {
    /// Keeps as many items as fit into `max_chars` characters, and notes how to read the others.
    fn keep_within(&mut self, max_chars: usize) {
        let notes: usize = self.notes.iter().map(measure).sum();
        let room = room_for_parts(max_chars).saturating_sub(notes);
        let items = fit_parts(&mut self.items, room);
        let used: usize = self.items.iter().map(measure).sum();
        let evicted = fit_parts(&mut self.evicted, room.saturating_sub(used));
        let known = self.notes.len();
        for (fit, what) in [(items, "items"), (evicted, "archived items")] {
            self.notes.extend(fit.note_left_out(what, max_chars));
        }
        if self.notes.len() == known {
            let shortened = items.note_shortened().or(evicted.note_shortened());
            self.notes.extend(shortened);
        }
    }
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
    /// Reports everything that [`Engine::focus`] would refuse before it looks up the item.
    ///
    /// # Errors
    /// [`Invalid`] with all problems.
    pub fn check_focus(&self, params: &FocusParams) -> Result<(), Invalid> {
        params.check()
    }

    /// Adds, lists, touches, drops, restores or saves items of the working memory.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] names the missing or refused argument; an unknown ID is not found.
    pub async fn focus(
        &self,
        call: &Call,
        mut params: FocusParams,
    ) -> Result<FocusOutput, EngineError> {
        let mut notes = self.screen_secrets(&mut params)?;
        params.check()?;
        let action = params.meant();
        let unread = params.unread_arguments(action);
        if !unread.is_empty() {
            notes.push(format!(
                "Ignored: {} (not used by action {}).",
                unread.join(", "),
                action.as_str()
            ));
        }
        let action = match action {
            FocusAction::Promote => {
                let now = if params.memory {
                    FocusAction::Save
                } else {
                    FocusAction::Restore
                };
                notes.push(format!("Action promote is now called {}.", now.as_str()));
                now
            }
            action => action,
        };
        let mut output = self.change_focus(call, action, &params).await?;
        notes.append(&mut output.notes);
        output.notes = notes;
        // A page of the archive fits already, and its cursor leads to the rest.
        if !(action == FocusAction::List && params.archived) {
            output.keep_within(call.unreserved(params.budget()));
        }
        Ok(output)
    }

    async fn change_focus(
        &self,
        call: &Call,
        action: FocusAction,
        params: &FocusParams,
    ) -> Result<FocusOutput, EngineError> {
        let (session, now) = (
            params.session.as_deref().unwrap_or_default(),
            self.clock.now(),
        );
        let only = |view: FocusView| FocusOutput {
            items: vec![view],
            ..FocusOutput::default()
        };
        match action {
            FocusAction::Add => self.add_to_focus(call, session, params).await,
            FocusAction::List if params.archived => self.list_archive(call, session, params).await,
            FocusAction::List => {
                let items = call
                    .database(self.store.focus_list(&call.scope, session))
                    .await?;
                call.count_rows(items.len());
                Ok(FocusOutput {
                    items: items.into_iter().map(FocusView::new).collect(),
                    ..FocusOutput::default()
                })
            }
            FocusAction::Touch => {
                let id = self.item_id(call, session, params).await?;
                let item = call
                    .database(self.store.focus_touch(&call.scope, session, id, now))
                    .await?;
                Ok(only(FocusView::new(item)))
            }
            FocusAction::Drop => {
                let id = self.item_id(call, session, params).await?;
                let reason = params.reason.as_deref().unwrap_or(DROPPED);
                let dropped = self
                    .store
                    .focus_drop(&call.scope, session, id, reason, None, now);
                Ok(only(FocusView::archived(call.database(dropped).await?)))
            }
            FocusAction::Save => {
                let id = self.item_id(call, session, params).await?;
                self.save_as_memory(call, session, id).await
            }
            FocusAction::Restore | FocusAction::Promote => {
                let id = self.item_id(call, session, params).await?;
                let restored =
                    self.store
                        .focus_restore(&call.scope, session, id, self.focus_capacity, now);
                Ok(focused(
                    call.database(restored).await?,
                    "The item was not archived; it was marked as used.",
                ))
            }
        }
    }

    async fn item_id(
        &self,
        call: &Call,
        session: &str,
        params: &FocusParams,
    ) -> Result<Uuid, EngineError> {
        let id = params.id.as_deref().unwrap_or_default();
        self.resolve_one(call, Referable::FocusItem { session }, "id", id)
            .await
    }

    async fn add_to_focus(
        &self,
        call: &Call,
        session: &str,
        params: &FocusParams,
    ) -> Result<FocusOutput, EngineError> {
        let content = params.content.clone().unwrap_or_default();
        let importance = params.importance.unwrap_or(DEFAULT_IMPORTANCE);
        let new = NewFocus {
            id: self.clock.new_id(),
            content,
            importance,
            now: self.clock.now(),
        };
        let added = self
            .store
            .focus_add(&call.scope, session, new, self.focus_capacity);
        Ok(focused(
            call.database(added).await?,
            "The working memory already had this item; it was marked as used.",
        ))
    }

    async fn list_archive(
        &self,
        call: &Call,
        session: &str,
        params: &FocusParams,
    ) -> Result<FocusOutput, EngineError> {
        let question = cursor::question_hash(&("focus", session));
        let before = match params
            .cursor
            .as_ref()
            .map(|text| cursor::decode(text, &question))
            .transpose()?
        {
            Some(Position::Before(seq)) => Some(seq),
            _ => None,
        };
        let mut found = call
            .database(
                self.store
                    .focus_archived(&call.scope, session, before, PAGE + 1),
            )
            .await?;
        let more = found.len() > PAGE;
        found.truncate(PAGE);
        call.count_rows(found.len());
        let places: Vec<i64> = found.iter().map(|archived| archived.item.seq).collect();
        let mut items = found.into_iter().map(FocusView::archived).collect();
        let room = room_for_parts(call.unreserved(params.budget())).saturating_sub(CURSOR_ROOM);
        let fit = fit_parts(&mut items, room);
        let last = fit.kept.checked_sub(1).filter(|_| more || fit.is_cut());
        Ok(FocusOutput {
            next_cursor: last
                .map(|last| cursor::encode(&Position::Before(places[last]), &question)),
            items,
            notes: fit.note_shortened().into_iter().collect(),
            ..FocusOutput::default()
        })
    }

    /// Stores the memory first: after an interruption the item still exists, and saving it again finds the same
    /// memory.
    async fn save_as_memory(
        &self,
        call: &Call,
        session: &str,
        id: Uuid,
    ) -> Result<FocusOutput, EngineError> {
        let item = match call
            .database(self.store.focus_get(&call.scope, session, id))
            .await?
        {
            FocusLocation::Focus(item) => item,
            FocusLocation::Archive(archived) => archived.item,
        };
        let note = RememberItem {
            content: item.content,
            importance: Some(item.importance),
            session: Some(session.to_owned()).filter(|session| !session.is_empty()),
            ..RememberItem::default()
        };
        let stored = self
            .remember(
                call,
                RememberParams {
                    items: vec![note],
                    idempotency_key: None,
                },
            )
            .await?;
        let Some(memory) = stored
            .memories
            .first()
            .and_then(|stored| Uuid::parse_str(&stored.id).ok())
        else {
            return Ok(FocusOutput::default());
        };
        let now = self.clock.now();
        let dropped = self.store.focus_drop(
            &call.scope,
            session,
            id,
            "became a memory",
            Some(memory),
            now,
        );
        let view = FocusView::archived(call.database(dropped).await?);
        let memory = Some(memory.to_string());
        Ok(FocusOutput {
            items: vec![view],
            memory,
            notes: stored.notes,
            ..FocusOutput::default()
        })
    }
}

fn focused(focused: Focused, known: &str) -> FocusOutput {
    let mut output = FocusOutput {
        items: vec![FocusView::new(focused.item)],
        ..FocusOutput::default()
    };
    if !focused.added {
        output.notes.push(known.to_owned());
    }
    if focused
        .evicted
        .iter()
        .any(|(_, eviction)| *eviction == Eviction::AllProtected)
    {
        output
            .notes
            .push("All items had an importance above 0.8, so the oldest was archived.".to_owned());
    }
    output.evicted = focused
        .evicted
        .into_iter()
        .map(|(item, eviction)| FocusView {
            reason: Some(eviction.as_str().to_owned()),
            ..FocusView::new(item)
        })
        .collect();
    output
}
