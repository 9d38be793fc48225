//! What a session has seen, between two events.

use serde::{Deserialize, Serialize};

/// Maximum number of memories that are not shown again; older ones may be.
const MAX_SEEN: usize = 500;

/// The state of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionState {
    /// IDs of memories in the context, oldest first.
    seen: Vec<String>,
    /// Number of prompts since the model was last asked to store what matters.
    prompts: u64,
    /// Whether the context begins with a summary of the conversation instead of its turns.
    pub was_compacted: bool,
    /// Whether a failure was reported to the model.
    pub reported_failure: bool,
}

impl SessionState {
    /// Forgets what the context contained, because it begins again.
    pub fn begin_context(&mut self, was_compacted: bool) {
        self.seen.clear();
        self.was_compacted = was_compacted;
    }

    /// Returns whether a memory is in the context.
    #[must_use]
    pub fn has_seen(&self, id: &str) -> bool {
        self.seen.iter().any(|seen| seen == id)
    }

    /// Notes that a memory is in the context.
    pub fn mark_seen(&mut self, id: &str) {
        if !self.has_seen(id) {
            self.seen.push(id.to_owned());
        }
        let surplus = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..surplus);
    }

    /// Counts a prompt. Returns whether the model should now be asked to store what matters: once for every `turns`
    /// prompts, never if that is 0.
    pub fn count_prompt(&mut self, turns: u64) -> bool {
        self.prompts += 1;
        let is_due = turns > 0 && self.prompts > turns;
        if is_due {
            self.prompts = 1;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_asked_once_for_every_n_prompts() {
        let mut state = SessionState::default();
        let asked: Vec<bool> = (0..7).map(|_| state.count_prompt(3)).collect();
        assert_eq!(asked, [false, false, false, true, false, false, true]);
        assert!((0..10).all(|_| !SessionState::default().count_prompt(0)));
    }

    #[test]
    fn seen_memories_are_bounded_and_forgotten_with_the_context() {
        let mut state = SessionState::default();
        for number in 0..=MAX_SEEN {
            state.mark_seen(&number.to_string());
            state.mark_seen(&number.to_string());
        }
        assert_eq!(state.seen.len(), MAX_SEEN);
        assert!(!state.has_seen("0") && state.has_seen("1"));
        state.begin_context(true);
        assert!(!state.has_seen("1") && state.was_compacted);
    }
}
