//! The texts of each use case that are stored, for the filter of credentials. A new parameter that is stored must be
//! listed here.

use super::link::{EntityItem, RelationItem};
use super::{
    Engine, EngineError, FocusParams, ForgetParams, LinkParams, RememberItem, RememberParams,
    ReviewParams, UpdateParams, run_blocking,
};
use crate::domain::Invalid;
use crate::domain::secrets::{SecretGate, SecretPolicy};

/// Minimum bytes of text whose scan would block other tasks.
const MUCH_TEXT: usize = 64 * 1024;

/// Parameters with text that is stored.
pub(super) trait StoredTexts {
    /// Passes each text through the gate.
    fn pass_texts(&mut self, gate: &mut SecretGate);
}

impl Engine {
    /// Masks or refuses credentials in the parameters of a call. Returns notes on what was masked.
    ///
    /// # Errors
    /// [`Invalid`] names the fields and the rules, never the credentials.
    pub(super) fn screen_secrets<P: StoredTexts>(
        &self,
        params: &mut P,
    ) -> Result<Vec<String>, Invalid> {
        screen(self.secrets, params)
    }

    /// Masks or refuses credentials in the reason of a person.
    ///
    /// # Errors
    /// As [`Engine::screen_secrets`].
    pub(super) fn screen_reason(&self, reason: &mut Option<String>) -> Result<(), Invalid> {
        self.screen_secrets(&mut ReasonText(reason)).map(drop)
    }

    /// Masks or refuses credentials in items, in a large amount of text on a separate thread.
    pub(super) async fn screen_items(
        &self,
        mut params: RememberParams,
    ) -> Result<(RememberParams, Vec<String>), EngineError> {
        let policy = self.secrets;
        let size: usize = params.items.iter().map(|item| item.content.len()).sum();
        let work = move || screen(policy, &mut params).map(|notes| (params, notes));
        if size <= MUCH_TEXT {
            return Ok(work()?);
        }
        Ok(run_blocking(work).await??)
    }
}

fn screen<P: StoredTexts>(policy: SecretPolicy, params: &mut P) -> Result<Vec<String>, Invalid> {
    let mut gate = SecretGate::new(policy);
    params.pass_texts(&mut gate);
    gate.finish()
}

impl StoredTexts for RememberParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("idempotency_key", &mut self.idempotency_key);
        for (index, item) in self.items.iter_mut().enumerate() {
            pass_item(&format!("items[{index}]."), item, gate);
        }
    }
}

impl StoredTexts for RememberItem {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        pass_item("", self, gate);
    }
}

fn pass_item(outer: &str, item: &mut RememberItem, gate: &mut SecretGate) {
    let field = |name: &str| format!("{outer}{name}");
    gate.text(&field("content"), &mut item.content);
    gate.list(&field("tags"), &mut item.tags);
    gate.object(&field("metadata"), &mut item.metadata);
    gate.optional(&field("session"), &mut item.session);
    gate.optional(&field("speaker"), &mut item.speaker);
    gate.optional(&field("situation"), &mut item.situation);
    gate.optional(&field("lesson"), &mut item.lesson);
    for (index, mention) in item.entities.iter_mut().enumerate() {
        pass_entity(
            &field(&format!("entities[{index}]")),
            mention.entity_mut(),
            gate,
        );
    }
    for (index, relation) in item.relations.iter_mut().enumerate() {
        pass_relation(&field(&format!("relations[{index}]")), relation, gate);
    }
}

/// Names of what is removed are looked up, not stored.
fn pass_entity(outer: &str, entity: &mut EntityItem, gate: &mut SecretGate) {
    if entity.erase {
        return;
    }
    gate.text(&format!("{outer}.name"), &mut entity.name);
    gate.optional(&format!("{outer}.type"), &mut entity.kind);
    gate.object(&format!("{outer}.properties"), &mut entity.properties);
}

fn pass_relation(outer: &str, relation: &mut RelationItem, gate: &mut SecretGate) {
    if relation.unlink.is_some() {
        return;
    }
    gate.text(&format!("{outer}.from"), &mut relation.from);
    gate.text(&format!("{outer}.to"), &mut relation.to);
    gate.optional(&format!("{outer}.type"), &mut relation.kind);
    gate.object(&format!("{outer}.properties"), &mut relation.properties);
}

impl StoredTexts for LinkParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        for (index, entity) in self.entities.iter_mut().enumerate() {
            pass_entity(&format!("entities[{index}]"), entity, gate);
        }
        for (index, relation) in self.relations.iter_mut().enumerate() {
            pass_relation(&format!("relations[{index}]"), relation, gate);
        }
    }
}

impl StoredTexts for UpdateParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("content", &mut self.content);
        gate.list("tags", self.tags.as_deref_mut().unwrap_or_default());
        if let Some(metadata) = &mut self.metadata {
            gate.object("metadata", metadata);
        }
        gate.optional("situation", &mut self.situation);
        gate.optional("lesson", &mut self.lesson);
        gate.optional("reason", &mut self.reason);
    }
}

impl StoredTexts for ForgetParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("reason", &mut self.reason);
    }
}

impl StoredTexts for ReviewParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("reason", &mut self.reason);
    }
}

impl StoredTexts for FocusParams {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("content", &mut self.content);
        gate.optional("reason", &mut self.reason);
        // A session is stored with a new item and looked up by the other actions.
        if self.content.is_some() {
            gate.optional("session", &mut self.session);
        }
    }
}

/// A reason that a person gives.
struct ReasonText<'a>(&'a mut Option<String>);

impl StoredTexts for ReasonText<'_> {
    fn pass_texts(&mut self, gate: &mut SecretGate) {
        gate.optional("reason", self.0);
    }
}
