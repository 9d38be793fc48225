//! Keeps an answer of explore within `max_chars`.

use super::answer_size::{Fit, Shorten, fit_parts, measure, room_for_parts};
use super::{EntityView, ExploreMode, ExploreOutput};
use crate::domain::graph::name_key;

impl ExploreOutput {
    /// Keeps the first entities and relations that fit into `max_chars` characters, and notes how to read the others.
    pub(super) fn keep_within(&mut self, max_chars: usize, mode: ExploreMode) {
        let notes: usize = self.notes.iter().map(measure).sum();
        let room = room_for_parts(max_chars).saturating_sub(notes);
        if mode == ExploreMode::List {
            self.keep_page_within(room);
            return;
        }
        let of_relations: usize = self.relations.iter().map(measure).sum();
        // Relations that do not fit beside the entities get at least a quarter.
        let entities = fit_parts(&mut self.entities, room - of_relations.min(room / 4));
        let of_entities: usize = self.entities.iter().map(measure).sum();
        let relations = fit_parts(&mut self.relations, room.saturating_sub(of_entities));
        self.partial |= entities.is_cut() || relations.is_cut();
        for (fit, what) in [(entities, "entities"), (relations, "relations")] {
            self.notes.extend(fit.note_left_out(what, max_chars));
        }
        self.note_missing_properties(&[entities, relations]);
    }

    /// Keeps the first entities of a list, and names the one after which the next page begins.
    fn keep_page_within(&mut self, room: usize) {
        let mut fitting = self.entities.clone();
        let fit = fit_parts(&mut fitting, room);
        if fit.is_cut() {
            let end = end_of_page(&self.entities, fit.kept);
            if end > fit.kept {
                // The entities of one name, without their properties, are small.
                fitting = self.entities[..end].to_vec();
                fitting.iter_mut().for_each(|entity| entity.shorten(0));
            }
            fitting.truncate(end);
            self.partial = true;
        }
        self.entities = fitting;
        if let Some(last) = self.entities.last().filter(|_| self.partial) {
            self.notes.push(format!(
                "There are more entities; continue with after {:?}.",
                last.name
            ));
        }
        self.note_missing_properties(&[fit]);
    }

    fn note_missing_properties(&mut self, fits: &[Fit]) {
        if fits.iter().any(|fit| fit.shortened) {
            self.notes.push(
                "Large properties are left out; call again with a larger max_chars.".to_owned(),
            );
        }
    }
}

/// Returns the end of a page of at least one and about `kept` entities. Entities of one name, of which each project has one, stay
/// on one page, because the next page begins after a name.
fn end_of_page(entities: &[EntityView], kept: usize) -> usize {
    let key = |index: usize| name_key(&entities[index].name);
    let is_end = |end: &usize| *end == entities.len() || key(end - 1) != key(*end);
    (1..=kept)
        .rev()
        .find(is_end)
        .or_else(|| (kept + 1..=entities.len()).find(is_end))
        .unwrap_or(entities.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(name: &str) -> EntityView {
        EntityView {
            name: name.to_owned(),
            kind: "person".to_owned(),
            project: None,
            properties: crate::domain::ObjectText::default(),
            distance: None,
            score: None,
            why: None,
        }
    }

    #[test]
    fn entities_of_one_name_stay_on_one_page() {
        let entities: Vec<EntityView> = ["Ada", "Bo", "BO", "bo", "Cy"].map(entity).into();
        let ends: Vec<usize> = (1..=5).map(|kept| end_of_page(&entities, kept)).collect();
        assert_eq!(ends, [1, 1, 1, 4, 5]);
        assert_eq!(end_of_page(&entities[1..], 2), 3, "a page is never empty");
    }
}
