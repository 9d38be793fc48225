//! Notes on entities: those that a call creates, similar existing names, and known entities in a stored text.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Call, Engine, EngineError};
use crate::domain::graph::{
    Entity, Links, NewEntity, PossibleName, are_similar_names, list_keys, name_key, name_words,
    parts_of_name, possible_names,
};
use crate::domain::memory::NewMemory;
use crate::domain::validate::MAX_MENTIONS;
use crate::domain::{Analyzer, Scope};
use crate::store::graph::EntityQuery;

/// Maximum number of names in a note; the others are counted.
const MOST_LISTED: usize = 10;
/// Number of newest entities that are compared with a new name.
const NEWEST_COMPARED: usize = 1_000;
/// Number of entities that begin with a new name and are compared with it.
const LONGER_COMPARED: usize = 10;
/// Maximum number of similar names of a new one.
const MOST_SIMILAR: usize = 3;
/// Maximum number of word sequences that are looked up as possible names for all memories of a call.
const MOST_POSSIBLE_NAMES: usize = 10_000;

/// The names of a call before it is executed.
#[derive(Debug, Default)]
pub(super) struct NamesBefore {
    /// Names of entities that do not exist yet, as the caller writes them.
    new: Vec<String>,
    new_keys: BTreeSet<String>,
    /// Names that are written differently: as given, as stored.
    spelled: Vec<(String, String)>,
}

impl Engine {
    /// Looks up the names in `links` before they are stored.
    pub(super) async fn look_up_names(
        &self,
        call: &Call,
        links: &[&Links],
    ) -> Result<NamesBefore, EngineError> {
        let keys = list_keys(links);
        if keys.is_empty() {
            return Ok(NamesBefore::default());
        }
        let found = call
            .database(self.store.entities(&own(call), &EntityQuery::Keys(keys)))
            .await?;
        let known: HashMap<String, String> = found
            .into_iter()
            .map(|entity| (name_key(&entity.name), entity.name))
            .collect();
        let mut names = NamesBefore::default();
        let mut seen = BTreeSet::new();
        for name in links
            .iter()
            .flat_map(|links| links.created_names())
            .filter(|name| seen.insert(*name))
        {
            match known.get(&name_key(name)) {
                None => names.add_new(name),
                Some(stored) if stored != name => {
                    names.spelled.push((name.to_owned(), stored.clone()))
                }
                Some(_) => {}
            }
        }
        Ok(names)
    }

    /// Describes which entities a call created and which existing ones may be the same. The call is done, so that a
    /// failure here only omits the notes.
    pub(super) async fn note_names(&self, call: &Call, names: NamesBefore) -> Vec<String> {
        let mut notes = Vec::new();
        let spelled = names
            .spelled
            .iter()
            .map(|(given, stored)| format!("{given:?} is the existing entity {stored:?}."));
        notes.extend(spelled.take(MOST_LISTED));
        if names.new.is_empty() {
            return notes;
        }
        notes.push(format!(
            "New entities: {}.",
            listed(names.new.iter().map(String::as_str))
        ));
        for name in names.new.iter().take(MOST_LISTED) {
            let similar = self
                .similar_entities(call, name, &names.new)
                .await
                .unwrap_or_default();
            if !similar.is_empty() {
                notes.push(format!(
                    "{name:?} is similar to the existing {}. If they are the same, use the existing name and erase {name:?} \
                     with link.",
                    listed(similar.iter().map(String::as_str))
                ));
            }
        }
        notes
    }

    /// Returns existing entities whose names are similar to a new one.
    async fn similar_entities(
        &self,
        call: &Call,
        name: &str,
        new: &[String],
    ) -> Result<Vec<String>, EngineError> {
        let longer = format!("{} ", name_key(name));
        let queries = [
            EntityQuery::Keys(parts_of_name(name)),
            EntityQuery::List {
                kind: None,
                prefix: longer,
                after: String::new(),
                limit: LONGER_COMPARED,
            },
            EntityQuery::Newest(NEWEST_COMPARED),
        ];
        let new: BTreeSet<String> = new.iter().map(|name| name_key(name)).collect();
        let mut similar: Vec<String> = Vec::new();
        for query in queries {
            for entity in call
                .database(self.store.entities(&own(call), &query))
                .await?
            {
                let known = new.contains(&name_key(&entity.name)) || similar.contains(&entity.name);
                if !known && are_similar_names(name, &entity.name) {
                    similar.push(entity.name);
                }
            }
        }
        similar.truncate(MOST_SIMILAR);
        Ok(similar)
    }

    /// Adds a mention of every known entity whose name is in the text of a memory. Returns the names.
    pub(super) async fn recognise_entities(
        &self,
        call: &Call,
        items: &mut [NewMemory],
    ) -> Result<BTreeSet<String>, EngineError> {
        let possible = possible_in_all(
            items.iter().map(|item| item.content.as_str()),
            &self.analyzer,
        );
        let known = self.known_among(call, &possible).await?;
        let mut recognised = BTreeSet::new();
        for (item, possible) in items.iter_mut().zip(possible) {
            let present: BTreeSet<String> = item.links.list_keys().into_iter().collect();
            for name in mentioned(possible, &known) {
                if !present.contains(&name_key(&name)) && item.links.entities.len() < MAX_MENTIONS {
                    recognised.insert(name.clone());
                    item.links.entities.push(NewEntity {
                        name,
                        ..NewEntity::default()
                    });
                }
            }
        }
        Ok(recognised)
    }

    /// Returns known entities whose names are in the new text of a memory, and those of them that its earlier text did
    /// not name.
    pub(super) async fn recognise_in_change(
        &self,
        call: &Call,
        before: &str,
        after: &str,
    ) -> Result<(Vec<String>, BTreeSet<String>), EngineError> {
        let mut possible = possible_in_all([after, before].into_iter(), &self.analyzer);
        let known = self.known_among(call, &possible).await?;
        let earlier = possible
            .pop()
            .map(|names| mentioned(names, &known))
            .unwrap_or_default();
        let mut names = possible
            .pop()
            .map(|names| mentioned(names, &known))
            .unwrap_or_default();
        names.truncate(MAX_MENTIONS);
        let new = names
            .iter()
            .filter(|name| !earlier.contains(name))
            .cloned()
            .collect();
        Ok((names, new))
    }

    /// Returns known entities by the words of their names.
    async fn known_among(
        &self,
        call: &Call,
        possible: &[Vec<PossibleName>],
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let words: BTreeSet<&str> = possible
            .iter()
            .flatten()
            .map(|name| name.words.as_str())
            .collect();
        if words.is_empty() {
            return Ok(BTreeMap::new());
        }
        let query = EntityQuery::Words(words.into_iter().map(str::to_owned).collect());
        Ok(distinctive(
            call.database(self.store.entities(&own(call), &query))
                .await?,
        ))
    }
}

impl NamesBefore {
    fn add_new(&mut self, name: &str) {
        if self.new_keys.insert(name_key(name)) {
            self.new.push(name.to_owned());
        }
    }
}

/// Returns a note about the recognized entities, if any.
pub(super) fn note_recognised(names: &BTreeSet<String>) -> Option<String> {
    let listed = listed(names.iter().map(String::as_str));
    (!names.is_empty()).then(|| format!("Recognised and linked as mentioned: {listed}."))
}

/// Formats names in quotes; of many, only the first ones.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MOST_LISTED);
    let shown: Vec<String> = names
        .take(MOST_LISTED)
        .map(|name| format!("{name:?}"))
        .collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a scope with the caller's own project alone, which is the one that is written to.
fn own(call: &Call) -> Scope {
    Scope::new(call.scope.project(), call.scope.actor())
}

/// Returns possible names in all texts, until there are too many to look up.
fn possible_in_all<'t>(
    texts: impl Iterator<Item = &'t str>,
    analyzer: &Analyzer,
) -> Vec<Vec<PossibleName>> {
    let mut left = MOST_POSSIBLE_NAMES;
    let common = |word: &str| analyzer.is_stop_word(word);
    let take = |text: &str| {
        if left == 0 {
            return Vec::new();
        }
        let mut names = possible_names(text, &common);
        names.truncate(left);
        left -= names.len();
        names
    };
    texts.map(take).collect()
}

/// Returns entities by the words of their names. A name of one word must itself look like a name.
fn distinctive(entities: Vec<Entity>) -> BTreeMap<String, String> {
    let never = |_: &str| false;
    let is_name = |entity: &Entity| !possible_names(&entity.name, &never).is_empty();
    entities
        .into_iter()
        .filter(is_name)
        .map(|entity| (name_words(&entity.name), entity.name))
        .collect()
}

/// Returns the entities that a text mentions; of overlapping names, the longest.
fn mentioned(mut possible: Vec<PossibleName>, known: &BTreeMap<String, String>) -> Vec<String> {
    possible.sort_by_key(|name| (std::cmp::Reverse(name.length), name.start));
    let mut covered: BTreeSet<usize> = BTreeSet::new();
    let mut names = Vec::new();
    for possible in possible {
        let places = possible.start..possible.start + possible.length;
        if let Some(name) = known.get(&possible.words)
            && places.clone().all(|place| !covered.contains(&place))
        {
            covered.extend(places);
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    names
}
