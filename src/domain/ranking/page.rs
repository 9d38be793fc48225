//! One page of hits: successors come before the memories that they replaced, and equivalent hits are folded into one.

use std::collections::HashMap;

use uuid::Uuid;

use super::hit::Hit;
use crate::domain::Memory;
use crate::domain::cursor::Position;
use crate::domain::fold::fold_key;
use crate::domain::memory::content_hash;

/// A memory and its position among the hits.
#[derive(Debug)]
pub struct PageEntry {
    /// The start of a page that begins with this memory.
    pub start: Position,
    /// Rank among all hits, from 1.
    pub rank: usize,
    pub memory: Memory,
    /// How the memory was found; absent when browsing.
    pub hit: Option<Hit>,
}

/// Equivalent hits, represented by the newest.
#[derive(Debug)]
pub struct PageGroup {
    pub newest: PageEntry,
    /// IDs of the others.
    pub others: Vec<Uuid>,
}

/// The hits of a page, best first.
#[derive(Debug)]
pub struct Page {
    limit: usize,
    /// Number of objects and arrays that the metadata of further groups may have.
    containers: usize,
    pub groups: Vec<PageGroup>,
    /// Groups by the hash of their key.
    by_key: HashMap<[u8; 32], usize>,
    /// Where the next page begins, if there is one.
    pub end: Option<Position>,
}

impl Page {
    /// Creates an empty page for at most `limit` groups.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            containers: usize::MAX,
            groups: Vec::new(),
            by_key: HashMap::new(),
            end: None,
        }
    }

    /// Limits the total number of objects and arrays in the metadata of the groups. The first group always fits.
    #[must_use]
    pub fn with_container_limit(self, containers: usize) -> Self {
        Self { containers, ..self }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.groups.len() == self.limit
    }

    /// Sets where the next page begins.
    pub fn end_at(&mut self, position: Position) {
        self.end = Some(position);
    }

    /// Adds the next hit; returns `false` if it begins the next page.
    pub fn add_entry(&mut self, entry: PageEntry) -> bool {
        let key = content_hash(&fold_key(&entry.memory));
        if let Some(place) = self.by_key.get(&key) {
            self.groups[*place].fold_entry(entry);
            return true;
        }
        let containers = entry.memory.metadata.count_containers();
        let has_room = containers <= self.containers || self.is_empty();
        if self.is_full() || !has_room {
            self.end = Some(entry.start);
            return false;
        }
        self.containers = self.containers.saturating_sub(containers);
        self.by_key.insert(key, self.groups.len());
        self.groups.push(PageGroup {
            newest: entry,
            others: Vec::new(),
        });
        true
    }
}

impl PageGroup {
    fn fold_entry(&mut self, mut entry: PageEntry) {
        let time = |entry: &PageEntry| (entry.memory.occurred_at, entry.memory.seq);
        if time(&entry) > time(&self.newest) {
            // A page still begins with the first of the group.
            entry.start = self.newest.start.clone();
            std::mem::swap(&mut self.newest, &mut entry);
        }
        self.others.push(entry.memory.id);
    }
}

/// Puts each superseded entry directly after its successor if that comes later in the list.
#[must_use]
pub fn order_after_successors<T>(
    entries: Vec<T>,
    id_of: impl Fn(&T) -> Uuid,
    successors: &HashMap<Uuid, Uuid>,
) -> Vec<T> {
    let mut open: HashMap<Uuid, usize> = HashMap::new();
    for entry in &entries {
        *open.entry(id_of(entry)).or_default() += 1;
    }
    // The nearest successor in the chain that comes later in the list.
    let waits_for = |id: Uuid, open: &HashMap<Uuid, usize>| {
        let mut next = successors.get(&id);
        for _ in 0..successors.len() {
            match next {
                Some(by) if open.contains_key(by) => return Some(*by),
                Some(by) => next = successors.get(by),
                None => return None,
            }
        }
        None
    };
    let mut waiting: HashMap<Uuid, Vec<T>> = HashMap::new();
    let mut ordered = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = id_of(&entry);
        if let Some(by) = waits_for(id, &open).filter(|by| *by != id) {
            waiting.entry(by).or_default().push(entry);
            continue;
        }
        let mut ready = vec![entry];
        while let Some(entry) = ready.pop() {
            let id = id_of(&entry);
            open.remove(&id);
            ordered.push(entry);
            ready.extend(waiting.remove(&id).into_iter().flatten().rev());
        }
    }
    // Only a cycle of successors, which is never written, would leave some.
    ordered.extend(waiting.into_values().flatten());
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_come_first() {
        let id = |n: u32| Uuid::from_u128(n.into());
        let order = |list: &[u32], links: &[(u32, u32)]| {
            let successors = links.iter().map(|(old, by)| (id(*old), id(*by))).collect();
            order_after_successors(list.to_vec(), |n| id(*n), &successors)
        };
        assert_eq!(order(&[1, 2, 3], &[]), [1, 2, 3]);
        assert_eq!(order(&[1, 2, 3, 4], &[(1, 3)]), [2, 3, 1, 4]);
        assert_eq!(order(&[1, 2, 3], &[(1, 2), (2, 3)]), [3, 2, 1]);
        assert_eq!(
            order(&[1, 4, 3], &[(1, 2), (2, 3)]),
            [4, 3, 1],
            "the successor between is not a hit"
        );
        assert_eq!(order(&[3, 1, 2], &[(1, 3)]), [3, 1, 2], "already behind");
        assert_eq!(
            order(&[1, 2, 9], &[(1, 3), (2, 3)]),
            [1, 2, 9],
            "the successor is no hit"
        );
        assert_eq!(order(&[1, 2, 3], &[(1, 3), (2, 3)]), [3, 1, 2]);
        assert_eq!(
            order(&[1, 2], &[(1, 2), (2, 1)]).len(),
            2,
            "a circle loses nothing"
        );
    }
}
