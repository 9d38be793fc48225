//! Merges a batch of links into the existing graph: the rules for merging, ending and erasing.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::graph::{
    DEFAULT_TYPE, DEFAULT_WEIGHT, Entity, Linked, Links, NewEntity, NewRelation, NotBegun,
    Relation, Unlink,
};
use super::json::merge_patch;
use super::name::name_key;
use super::object_text::ObjectText;
use super::validate::{self, Invalid};

/// An entity to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedEntity {
    /// The normalized form of its name.
    pub key: String,
    /// The complete entity; `seq` is 0 for a new one.
    pub entity: Entity,
}

/// A relation to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRelation {
    /// Normalized name of the entity at its start.
    pub from: String,
    /// Normalized name of the entity at its end.
    pub to: String,
    /// The complete relation; `seq`, `from` and `to` are 0 if unknown.
    pub relation: Relation,
}

/// The changes to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// New and used entities.
    pub entities: Vec<PlannedEntity>,
    /// New and used relations.
    pub relations: Vec<PlannedRelation>,
    /// Numbers of entities to be removed.
    pub erased_entities: Vec<i64>,
    /// Numbers of relations to be removed.
    pub erased_relations: Vec<i64>,
    pub linked: Linked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MergeState {
    Untouched,
    Used,
    Changed,
    Erased,
}

struct Draft<T> {
    item: T,
    state: MergeState,
}

impl<T> Draft<T> {
    fn touch(&mut self, changed: bool) {
        self.state = if changed || self.state == MergeState::Changed {
            MergeState::Changed
        } else {
            MergeState::Used
        };
    }

    fn is_written(&self) -> bool {
        matches!(self.state, MergeState::Used | MergeState::Changed)
    }
}

impl Links {
    /// Plans the changes of this batch alone, see [`plan_links`].
    ///
    /// # Errors
    /// As [`plan_links`].
    pub fn plan_changes(
        &self,
        project: &str,
        entities: Vec<Entity>,
        relations: Vec<Relation>,
        now: DateTime<Utc>,
    ) -> Result<Plan, Invalid> {
        let mut planner = Planner::new(project, entities, relations, now);
        planner.batch(self)?;
        Ok(planner.finish())
    }
}

/// Plans the changes for the links of the items of a `remember`, given the project's entities of
/// [`super::graph::list_keys`] and relations of [`super::graph::list_known_pairs`].
///
/// # Errors
/// Fails if an object to be unlinked or erased does not exist, or if properties or times contradict the existing
/// ones.
pub fn plan_links(
    items: &[&Links],
    project: &str,
    entities: Vec<Entity>,
    relations: Vec<Relation>,
    now: DateTime<Utc>,
) -> Result<Plan, Invalid> {
    let mut planner = Planner::new(project, entities, relations, now);
    for (index, links) in items.iter().enumerate() {
        planner
            .batch(links)
            .map_err(|invalid| invalid.within(format!("items[{index}]")))?;
    }
    Ok(planner.finish())
}

struct Planner<'a> {
    project: &'a str,
    now: DateTime<Utc>,
    entities: Vec<(String, Draft<Entity>)>,
    by_key: HashMap<String, usize>,
    relations: Vec<(usize, usize, Draft<Relation>)>,
    by_ends: HashMap<(usize, usize), Vec<usize>>,
    same: Vec<(String, String)>,
    told: HashSet<(String, String)>,
    not_begun: Vec<NotBegun>,
}

impl<'a> Planner<'a> {
    fn new(
        project: &'a str,
        entities: Vec<Entity>,
        relations: Vec<Relation>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut planner = Self {
            project,
            now,
            entities: Vec::new(),
            by_key: HashMap::new(),
            relations: Vec::new(),
            by_ends: HashMap::new(),
            same: Vec::new(),
            told: HashSet::new(),
            not_begun: Vec::new(),
        };
        let mut by_seq = HashMap::new();
        for item in entities {
            let key = name_key(&item.name);
            by_seq.insert(item.seq, planner.entities.len());
            planner.by_key.insert(key.clone(), planner.entities.len());
            planner.entities.push((
                key,
                Draft {
                    item,
                    state: MergeState::Untouched,
                },
            ));
        }
        for item in relations {
            if let (Some(from), Some(to)) = (by_seq.get(&item.from), by_seq.get(&item.to)) {
                planner.add(
                    *from,
                    *to,
                    Draft {
                        item,
                        state: MergeState::Untouched,
                    },
                );
            }
        }
        planner
    }

    fn batch(&mut self, links: &Links) -> Result<(), Invalid> {
        for (index, entity) in links.entities.iter().enumerate() {
            self.entity(entity)
                .map_err(|invalid| invalid.within(format!("entities[{index}]")))?;
        }
        for (index, relation) in links.relations.iter().enumerate() {
            self.relation(relation)
                .map_err(|invalid| invalid.within(format!("relations[{index}]")))?;
        }
        Ok(())
    }

    fn add(&mut self, from: usize, to: usize, draft: Draft<Relation>) {
        self.by_ends
            .entry((from, to))
            .or_default()
            .push(self.relations.len());
        self.relations.push((from, to, draft));
    }

    /// Returns the index of an entity, and adds it if it is missing.
    fn place(&mut self, name: &str) -> usize {
        let key = name_key(name);
        if let Some(place) = self.by_key.get(&key).copied() {
            let known = &self.entities[place].1.item.name;
            if known.trim() != name.trim() {
                let pair = (name.trim().to_owned(), known.clone());
                if self.told.insert(pair.clone()) {
                    self.same.push(pair);
                }
            }
            return place;
        }
        let item = Entity {
            seq: 0,
            project: self.project.to_owned(),
            name: name.trim().to_owned(),
            kind: DEFAULT_TYPE.to_owned(),
            properties: ObjectText::default(),
            use_count: 0,
            last_used_at: None,
            created_at: self.now,
            updated_at: self.now,
        };
        self.by_key.insert(key.clone(), self.entities.len());
        self.entities.push((
            key,
            Draft {
                item,
                state: MergeState::Changed,
            },
        ));
        self.entities.len() - 1
    }

    fn entity(&mut self, new: &NewEntity) -> Result<(), Invalid> {
        if new.erase {
            let place = self.by_key.get(&name_key(&new.name)).copied();
            let place = place.filter(|place| self.entities[*place].1.item.seq > 0);
            let place = place.ok_or_else(|| unknown("name", &new.name))?;
            self.entities[place].1.state = MergeState::Erased;
            return Ok(());
        }
        let place = self.place(&new.name);
        let draft = &mut self.entities[place].1;
        if draft.state == MergeState::Erased {
            return Err(erased("name", &new.name));
        }
        let before = draft.item.clone();
        if let Some(kind) = &new.kind {
            draft.item.kind.clone_from(kind);
        }
        draft.item.properties = merged(&draft.item.properties, &new.properties)?;
        let changed = draft.item != before;
        draft.touch(changed);
        Ok(())
    }

    fn relation(&mut self, new: &NewRelation) -> Result<(), Invalid> {
        if let Some(how) = new.unlink {
            return self.unlink(new, how);
        }
        let (from, to) = (self.place(&new.from), self.place(&new.to));
        for (field, name, place) in [("from", &new.from, from), ("to", &new.to, to)] {
            if self.entities[place].1.state == MergeState::Erased {
                return Err(erased(field, name));
            }
            self.entities[place].1.touch(false);
        }
        let kind = new
            .kind
            .clone()
            .ok_or_else(|| Invalid::new("type", "", "the type of the relation, such as uses"))?;
        let Some(place) = self.target(from, to, &kind, new) else {
            // The relation was valid before and ended, so this is another period, which begins now by default.
            let again = self.of_kind(from, to, Some(&kind)).next().is_some();
            let item = Relation {
                seq: 0,
                from: self.entities[from].1.item.seq,
                to: self.entities[to].1.item.seq,
                kind,
                weight: new.weight.unwrap_or(DEFAULT_WEIGHT),
                properties: merged(&ObjectText::default(), &new.properties)?,
                valid_from: new.valid_from.or(again.then_some(self.now)),
                valid_to: new.valid_to,
                use_count: 0,
                created_at: self.now,
                updated_at: self.now,
            };
            require_order(&item, new)?;
            self.add(
                from,
                to,
                Draft {
                    item,
                    state: MergeState::Changed,
                },
            );
            return Ok(());
        };
        let draft = &mut self.relations[place].2;
        let before = draft.item.clone();
        draft.item.weight = new.weight.unwrap_or(before.weight);
        draft.item.valid_from = new.valid_from.or(before.valid_from);
        draft.item.valid_to = new.valid_to.or(before.valid_to).filter(|_| !new.never_ends);
        draft.item.properties = merged(&draft.item.properties, &new.properties)?;
        require_order(&draft.item, new)?;
        let changed = draft.item != before;
        draft.touch(changed);
        Ok(())
    }

    fn of_kind(&self, from: usize, to: usize, kind: Option<&str>) -> impl Iterator<Item = usize> {
        let places = self.by_ends.get(&(from, to)).map_or(&[][..], Vec::as_slice);
        places.iter().copied().filter(move |place| {
            let draft = &self.relations[*place].2;
            draft.state != MergeState::Erased && kind.is_none_or(|kind| draft.item.kind == kind)
        })
    }

    /// Selects the period of a relation that is meant: the one that overlaps the given times; without times the one
    /// that has not ended; with an end alone, if all have ended, the last one.
    fn target(&self, from: usize, to: usize, kind: &str, new: &NewRelation) -> Option<usize> {
        let item = |place: usize| &self.relations[place].2.item;
        let same: Vec<usize> = self.of_kind(from, to, Some(kind)).collect();
        if let Some(begin) = new.valid_from {
            return same.into_iter().find(|place| {
                let known = item(*place);
                known.valid_to.is_none_or(|end| end > begin)
                    && new
                        .valid_to
                        .is_none_or(|end| known.valid_from.is_none_or(|known| known < end))
            });
        }
        let open = same
            .iter()
            .copied()
            .find(|place| item(*place).valid_to.is_none_or(|end| end > self.now));
        let last = || {
            same.iter()
                .copied()
                .max_by_key(|place| item(*place).valid_to)
        };
        open.or_else(|| new.valid_to.and_then(|_| last()))
    }

    fn unlink(&mut self, new: &NewRelation, how: Unlink) -> Result<(), Invalid> {
        let known = |name: &str| self.by_key.get(&name_key(name)).copied();
        let from = known(&new.from).ok_or_else(|| unknown("from", &new.from))?;
        let to = known(&new.to).ok_or_else(|| unknown("to", &new.to))?;
        let end = new.valid_to.unwrap_or(self.now);
        let ends = |relation: &Relation| {
            how == Unlink::Erase || relation.valid_to.is_none_or(|known| known > end)
        };
        let all: Vec<usize> = self.of_kind(from, to, new.kind.as_deref()).collect();
        let meant: Vec<usize> = all
            .iter()
            .copied()
            .filter(|place| ends(&self.relations[*place].2.item))
            .collect();
        if all.is_empty() {
            let value = new.kind.as_deref().unwrap_or("any");
            let expected = format!(
                "a relation that {:?} has to {:?}; explore shows them",
                new.from, new.to
            );
            return Err(Invalid::new("type", value, expected));
        }
        let begins = |place: usize| {
            self.relations[place]
                .2
                .item
                .valid_from
                .filter(|from| *from >= end)
        };
        let later: Vec<NotBegun> = meant
            .iter()
            .filter(|_| how == Unlink::End)
            .filter_map(|place| {
                let (from, to, kind) = (
                    new.from.clone(),
                    new.to.clone(),
                    self.relations[*place].2.item.kind.clone(),
                );
                Some(NotBegun {
                    from,
                    to,
                    kind,
                    valid_from: begins(*place)?,
                })
            })
            .collect();
        if let Some(first) = later.first().filter(|_| later.len() == meant.len()) {
            let begin = first.valid_from.to_rfc3339();
            let expected = format!(
                "a time after the relation begins, which is {begin}; unlink erase removes it"
            );
            return Err(Invalid::new("valid_to", end.to_rfc3339(), expected));
        }
        self.not_begun.extend(later);
        for place in meant {
            let draft = &mut self.relations[place].2;
            if how == Unlink::Erase {
                draft.state = MergeState::Erased;
            } else if draft.item.valid_from.is_none_or(|from| from < end) {
                draft.item.valid_to = Some(end);
                draft.touch(true);
            }
        }
        Ok(())
    }

    fn finish(self) -> Plan {
        let mut plan = Plan::default();
        plan.linked.same = self.same;
        plan.linked.not_begun = self.not_begun;
        for (key, Draft { mut item, state }) in
            self.entities.iter().map(|(key, draft)| (key, draft.copy()))
        {
            match state {
                MergeState::Untouched => continue,
                MergeState::Erased => {
                    plan.linked.erased += 1;
                    plan.erased_entities.push(item.seq);
                    continue;
                }
                MergeState::Changed if item.seq == 0 => plan.linked.entities_created += 1,
                MergeState::Changed => {
                    plan.linked.entities_changed += 1;
                    item.updated_at = self.now;
                }
                MergeState::Used => {}
            }
            item.use_count += 1;
            item.last_used_at = Some(self.now);
            plan.entities.push(PlannedEntity {
                key: key.clone(),
                entity: item,
            });
        }
        for (from, to, draft) in self.relations {
            let (from, to) = (&self.entities[from], &self.entities[to]);
            let gone = [from, to]
                .iter()
                .any(|(_, end)| end.state == MergeState::Erased);
            let Draft { mut item, state } = draft;
            if state == MergeState::Erased && item.seq > 0 && !gone {
                plan.linked.erased += 1;
                plan.erased_relations.push(item.seq);
            }
            if gone || !(Draft { item: (), state }).is_written() {
                continue;
            }
            if state == MergeState::Changed {
                if item.seq == 0 {
                    plan.linked.relations_created += 1;
                } else {
                    plan.linked.relations_changed += 1;
                    item.updated_at = self.now;
                }
            }
            item.use_count += 1;
            plan.relations.push(PlannedRelation {
                from: from.0.clone(),
                to: to.0.clone(),
                relation: item,
            });
        }
        plan
    }
}

impl Draft<Entity> {
    fn copy(&self) -> Self {
        Self {
            item: self.item.clone(),
            state: self.state,
        }
    }
}

fn unknown(field: &str, name: &str) -> Invalid {
    Invalid::new(
        field,
        name,
        "the name of an existing entity; explore with mode list shows them",
    )
}

fn erased(field: &str, name: &str) -> Invalid {
    Invalid::new(field, name, "an entity that the same call does not erase")
}

/// Returns the properties after a change, in which null removes a key.
fn merged(known: &ObjectText, change: &Map<String, Value>) -> Result<ObjectText, Invalid> {
    let mut properties = known.to_map();
    merge_patch(&mut properties, change);
    validate::metadata("properties", &properties)?;
    Ok(properties.into())
}

fn require_order(relation: &Relation, new: &NewRelation) -> Result<(), Invalid> {
    let (Some(from), Some(to)) = (relation.valid_from, relation.valid_to) else {
        return Ok(());
    };
    if from < to {
        return Ok(());
    }
    if new.valid_to.is_some() {
        let expected = format!("a time after valid_from, which is {}", from.to_rfc3339());
        return Err(Invalid::new("valid_to", to.to_rfc3339(), expected));
    }
    let expected = format!("a time before valid_to, which is {}", to.to_rfc3339());
    Err(Invalid::new("valid_from", from.to_rfc3339(), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn relation(from: &str, to: &str) -> NewRelation {
        NewRelation {
            from: from.to_owned(),
            to: to.to_owned(),
            kind: Some("knows".to_owned()),
            weight: None,
            properties: Map::new(),
            valid_from: None,
            valid_to: None,
            never_ends: false,
            unlink: None,
        }
    }

    fn known(seq: i64, name: &str) -> Entity {
        let planned = Links {
            entities: vec![NewEntity {
                name: name.to_owned(),
                ..NewEntity::default()
            }],
            ..Links::default()
        };
        let mut entity = planned
            .plan_changes("p", Vec::new(), Vec::new(), at(0))
            .unwrap()
            .entities
            .remove(0)
            .entity;
        entity.seq = seq;
        entity
    }

    fn stored(seq: i64, valid_from: Option<i64>, valid_to: Option<i64>) -> Relation {
        Relation {
            seq,
            from: 1,
            to: 2,
            kind: "knows".to_owned(),
            weight: 0.5,
            properties: ObjectText::default(),
            valid_from: valid_from.map(at),
            valid_to: valid_to.map(at),
            use_count: 1,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    #[test]
    fn a_relation_that_ended_begins_anew() {
        let links = |new: NewRelation| Links {
            relations: vec![new],
            ..Links::default()
        };
        let plan = |new: NewRelation, stored: Vec<Relation>| {
            let plan = links(new)
                .plan_changes("p", vec![known(1, "a"), known(2, "b")], stored, at(100))
                .unwrap();
            let only = plan.relations[0].relation.clone();
            (only.seq, only.valid_from, only.valid_to)
        };
        let ended = stored(7, Some(0), Some(10));
        assert_eq!(
            plan(relation("a", "b"), vec![ended.clone()]),
            (0, Some(at(100)), None)
        );
        assert_eq!(
            plan(
                relation("a", "b"),
                vec![ended.clone(), stored(8, Some(50), None)]
            ),
            (8, Some(at(50)), None)
        );
        let from = NewRelation {
            valid_from: Some(at(5)),
            ..relation("a", "b")
        };
        assert_eq!(
            plan(from, vec![ended.clone()]),
            (7, Some(at(5)), Some(at(10)))
        );
        let to = NewRelation {
            valid_to: Some(at(12)),
            ..relation("a", "b")
        };
        assert_eq!(plan(to, vec![ended]), (7, Some(at(0)), Some(at(12))));
    }

    #[test]
    fn ends_are_made_and_spellings_are_told() {
        let links = Links {
            relations: vec![relation("A", "b"), relation("B", "c")],
            ..Links::default()
        };
        let plan = links
            .plan_changes("p", vec![known(1, "a")], Vec::new(), at(1))
            .unwrap();
        assert_eq!(
            (plan.linked.entities_created, plan.linked.relations_created),
            (2, 2)
        );
        let same = [
            ("A".to_owned(), "a".to_owned()),
            ("B".to_owned(), "b".to_owned()),
        ];
        assert_eq!(plan.linked.same, same);
    }

    #[test]
    fn what_is_not_there_cannot_be_unlinked() {
        let end = |from: &str, to: &str| NewRelation {
            unlink: Some(Unlink::End),
            ..relation(from, to)
        };
        for (new, field) in [
            (end("a", "nobody"), "relations[0].to"),
            (end("b", "a"), "relations[0].type"),
        ] {
            let links = Links {
                relations: vec![new],
                ..Links::default()
            };
            let error = links
                .plan_changes(
                    "p",
                    vec![known(1, "a"), known(2, "b")],
                    vec![stored(7, None, None)],
                    at(1),
                )
                .unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
