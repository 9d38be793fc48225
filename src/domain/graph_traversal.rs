//! Traversals of the graph, level by level. A store returns the relations that start or end at the entities of a
//! level; this module decides how to continue, so that both backends behave alike.
//!
//! Relations are followed in both directions. Every entity is visited once, so that cycles end.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A relation as seen from one of its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The entity at this end.
    pub at: i64,
    pub relation: i64,
    /// The entity at the other end.
    pub other: i64,
    pub weight: f64,
}

/// Sorts the strongest first, and the oldest first among equals.
fn order(steps: &mut [Step]) {
    steps.sort_by(|a, b| {
        b.weight
            .total_cmp(&a.weight)
            .then_with(|| a.relation.cmp(&b.relation))
    });
}

/// Returns the entities at the other ends, each once, those of the strongest relations first.
#[must_use]
pub fn strongest(steps: &[Step]) -> Vec<i64> {
    let mut sorted = steps.to_vec();
    order(&mut sorted);
    let mut seen = HashSet::new();
    sorted
        .iter()
        .map(|step| step.other)
        .filter(|other| seen.insert(*other))
        .collect()
}

/// Returns whether an entity may have more relations than the maximum `most` that was requested for each entity and
/// direction.
#[must_use]
pub fn may_be_cut(steps: &[Step], most: usize) -> bool {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    steps.iter().any(|step| {
        let count = counts.entry(step.at).or_default();
        *count += 1;
        *count >= most
    })
}

/// A breadth-first traversal from some entities, up to a number of entities.
#[derive(Debug)]
pub struct Walk {
    limit: usize,
    depth: u32,
    visited: HashMap<i64, u32>,
    order: Vec<i64>,
    frontier: Vec<i64>,
    next: Vec<i64>,
    relations: Vec<i64>,
    seen: HashSet<i64>,
    partial: bool,
    full: bool,
}

impl Walk {
    /// Starts a traversal from `starts` that returns at most `limit` entities, including the starts.
    #[must_use]
    pub fn new(starts: &[i64], limit: usize) -> Self {
        Self {
            limit: limit.max(starts.len()),
            depth: 0,
            visited: starts.iter().map(|start| (*start, 0)).collect(),
            order: starts.to_vec(),
            frontier: starts.to_vec(),
            next: Vec::new(),
            relations: Vec::new(),
            seen: HashSet::new(),
            partial: false,
            full: false,
        }
    }

    /// Returns the entities whose relations are needed next, those of the strongest relations first; empty at the
    /// end.
    #[must_use]
    pub fn frontier(&self) -> &[i64] {
        &self.frontier
    }

    /// Adds all relations of the frontier; `most` is the maximum that the store returned per entity and direction.
    pub fn absorb(&mut self, steps: Vec<Step>, most: usize) {
        self.absorb_part(steps, most);
        self.advance();
    }

    /// Adds all relations of some entities of the frontier.
    pub fn absorb_part(&mut self, mut steps: Vec<Step>, most: usize) {
        order(&mut steps);
        let mut counts: HashMap<i64, usize> = HashMap::new();
        for step in &steps {
            let count = counts.entry(step.at).or_default();
            *count += 1;
            self.partial |= *count >= most;
            if !self.visited.contains_key(&step.other) {
                if self.order.len() >= self.limit {
                    self.partial = true;
                    self.full = true;
                    continue;
                }
                self.visited.insert(step.other, self.depth + 1);
                self.order.push(step.other);
                self.next.push(step.other);
            }
        }
        for step in steps {
            if self.visited.contains_key(&step.other) && self.seen.insert(step.relation) {
                self.relations.push(step.relation);
            }
        }
    }

    /// Continues with the next level.
    pub fn advance(&mut self) {
        self.depth += 1;
        self.frontier = std::mem::take(&mut self.next);
    }

    /// Returns whether the limit was reached, so that no further entity is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Ends the traversal early.
    pub fn interrupt(&mut self) {
        self.partial |= !self.frontier.is_empty();
        self.frontier.clear();
    }

    /// Returns whether something was left out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Returns the entities in the order in which they were reached, with their distance from the start.
    pub fn entities(&self) -> impl Iterator<Item = (i64, u32)> {
        self.order.iter().map(|seq| (*seq, self.visited[seq]))
    }

    /// Returns the relations that were followed, strongest of a level first.
    #[must_use]
    pub fn relations(&self) -> &[i64] {
        &self.relations
    }
}

/// A search for a shortest path, from both of its ends.
#[derive(Debug)]
pub struct PathSearch {
    sides: [Side; 2],
    /// The side of the current frontier.
    turn: usize,
    most: u32,
    partial: bool,
    found: Option<Vec<Hop>>,
}

#[derive(Debug)]
struct Side {
    /// The previous entity and the relation to it, for each reached entity; `None` for the starts.
    from: HashMap<i64, Option<(i64, i64)>>,
    frontier: Vec<i64>,
    depth: u32,
}

/// An entity on a path, and the relation to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    pub entity: i64,
    /// Relation to the next entity; none at the end.
    pub relation: Option<i64>,
}

impl PathSearch {
    /// Starts a search for a path of at most `most` relations.
    #[must_use]
    pub fn new(from: &[i64], to: &[i64], most: u32) -> Self {
        let side = |starts: &[i64]| Side {
            from: starts.iter().map(|start| (*start, None)).collect(),
            frontier: starts.to_vec(),
            depth: 0,
        };
        let found = from.iter().find(|start| to.contains(start)).map(|both| {
            vec![Hop {
                entity: *both,
                relation: None,
            }]
        });
        let mut search = Self {
            sides: [side(from), side(to)],
            turn: 0,
            most,
            partial: false,
            found,
        };
        search.choose();
        search
    }

    /// Selects the side with fewer entities at its edge for the next level.
    fn choose(&mut self) {
        self.turn = usize::from(self.sides[1].frontier.len() < self.sides[0].frontier.len());
        let exhausted = self.sides.iter().any(|side| side.frontier.is_empty());
        let [one, other] = &self.sides;
        if self.found.is_some() || exhausted || one.depth + other.depth >= self.most {
            self.sides[self.turn].frontier.clear();
        }
    }

    /// Returns the entities whose relations are needed next; empty at the end.
    #[must_use]
    pub fn frontier(&self) -> &[i64] {
        &self.sides[self.turn].frontier
    }

    /// Adds all relations of the frontier; `most` as in [`Walk::absorb`].
    pub fn absorb(&mut self, mut steps: Vec<Step>, most: usize) {
        order(&mut steps);
        let mut counts: HashMap<i64, usize> = HashMap::new();
        let (mut next, mut meeting) = (Vec::new(), None);
        let [one, other] = &mut self.sides;
        let (side, opposite) = if self.turn == 0 {
            (one, other)
        } else {
            (other, one)
        };
        for step in steps {
            let count = counts.entry(step.at).or_default();
            *count += 1;
            self.partial |= *count >= most;
            if let std::collections::hash_map::Entry::Vacant(slot) = side.from.entry(step.other) {
                slot.insert(Some((step.at, step.relation)));
                next.push(step.other);
                if meeting.is_none() && opposite.from.contains_key(&step.other) {
                    meeting = Some(step.other);
                }
            }
        }
        side.frontier = next;
        side.depth += 1;
        if let Some(meeting) = meeting {
            self.found = Some(self.path(meeting));
        }
        self.choose();
    }

    fn path(&self, meeting: i64) -> Vec<Hop> {
        let mut hops = vec![];
        let mut entity = meeting;
        while let Some(Some((before, relation))) = self.sides[0].from.get(&entity) {
            hops.push(Hop {
                entity: *before,
                relation: Some(*relation),
            });
            entity = *before;
        }
        hops.reverse();
        let mut entity = meeting;
        while let Some(Some((after, relation))) = self.sides[1].from.get(&entity) {
            hops.push(Hop {
                entity,
                relation: Some(*relation),
            });
            entity = *after;
        }
        hops.push(Hop {
            entity,
            relation: None,
        });
        hops
    }

    /// Ends the search early.
    pub fn interrupt(&mut self) {
        self.partial = true;
        self.sides[self.turn].frontier.clear();
    }

    /// Returns whether a shorter path may exist, or any path if none was found.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Returns the path, beginning with the first start.
    #[must_use]
    pub fn found(self) -> Option<Vec<Hop>> {
        self.found
    }
}

/// An entity that could be linked to another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    pub entity: i64,
    /// Higher is more likely.
    pub score: f64,
    /// Number of common neighbors.
    pub neighbours: usize,
    /// Number of memories that mention both.
    pub memories: u64,
}

/// Returns the entities that have most in common with `starts` but no relation to them. The weight of a neighbor
/// decreases with its number of relations (Adamic and Adar, 2003); memories count by the logarithm of their number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
pub fn suggest(
    starts: &[i64],
    near: &[Step],
    far: &[Step],
    together: &[(i64, u64)],
    limit: usize,
) -> Vec<Suggestion> {
    let linked: HashSet<i64> = near
        .iter()
        .map(|step| step.other)
        .chain(starts.iter().copied())
        .collect();
    let mut around: BTreeMap<i64, HashSet<i64>> = BTreeMap::new();
    for step in far {
        around.entry(step.at).or_default().insert(step.other);
    }
    let mut found: BTreeMap<i64, Suggestion> = BTreeMap::new();
    let blank = |entity| Suggestion {
        entity,
        score: 0.0,
        neighbours: 0,
        memories: 0,
    };
    for others in around.values() {
        let share = 1.0 / (1.0 + others.len() as f64).ln();
        for other in others.iter().filter(|other| !linked.contains(other)) {
            let suggestion = found.entry(*other).or_insert_with(|| blank(*other));
            suggestion.score += share;
            suggestion.neighbours += 1;
        }
    }
    for (other, count) in together.iter().filter(|(other, _)| !linked.contains(other)) {
        let suggestion = found.entry(*other).or_insert_with(|| blank(*other));
        suggestion.score += (1.0 + *count as f64).ln();
        suggestion.memories += count;
    }
    let mut suggestions: Vec<Suggestion> = found.into_values().collect();
    suggestions.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.entity.cmp(&b.entity))
    });
    suggestions.truncate(limit);
    suggestions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the steps along relations `(from, to)`, which are numbered from 100.
    fn steps(frontier: &[i64], graph: &[(i64, i64)]) -> Vec<Step> {
        let mut steps = Vec::new();
        for at in frontier {
            for (number, (from, to)) in graph.iter().enumerate() {
                let relation = 100 + i64::try_from(number).unwrap();
                for (one, other) in [(from, to), (to, from)] {
                    if one == at {
                        steps.push(Step {
                            at: *at,
                            relation,
                            other: *other,
                            weight: 1.0,
                        });
                    }
                }
            }
        }
        steps
    }

    fn walk(start: i64, limit: usize, depth: u32, graph: &[(i64, i64)]) -> Walk {
        let mut walk = Walk::new(&[start], limit);
        for _ in 0..depth {
            let found = steps(walk.frontier(), graph);
            walk.absorb(found, 1_000);
        }
        walk
    }

    #[test]
    fn circles_end_and_directions_do_not_matter() {
        let graph = [(1, 2), (3, 2), (3, 1), (3, 4)];
        let around = walk(1, 10, 5, &graph);
        assert_eq!(
            around.entities().collect::<Vec<_>>(),
            [(1, 0), (2, 1), (3, 1), (4, 2)]
        );
        assert_eq!(around.relations(), [100, 102, 101, 103]);
        assert!(!around.is_partial() && around.frontier().is_empty());
        let short = walk(1, 2, 5, &graph);
        assert_eq!((short.entities().count(), short.is_partial()), (2, true));
    }

    fn path(from: i64, to: i64, most: u32, graph: &[(i64, i64)]) -> Option<Vec<i64>> {
        let mut search = PathSearch::new(&[from], &[to], most);
        while !search.frontier().is_empty() {
            let found = steps(search.frontier(), graph);
            search.absorb(found, 1_000);
        }
        search
            .found()
            .map(|hops| hops.into_iter().map(|hop| hop.entity).collect())
    }

    #[test]
    fn the_shortest_path_is_found_from_both_ends() {
        let line: Vec<(i64, i64)> = (1..12)
            .map(|n| if n % 2 == 0 { (n, n + 1) } else { (n + 1, n) })
            .collect();
        assert_eq!(path(1, 11, 10, &line), Some((1..12).collect()));
        assert_eq!(path(1, 12, 10, &line), None);
        assert_eq!(path(1, 1, 10, &line), Some(vec![1]));
        let shortcut: Vec<(i64, i64)> = line.iter().copied().chain([(3, 9)]).collect();
        assert_eq!(path(11, 1, 10, &shortcut), Some(vec![11, 10, 9, 3, 2, 1]));
        assert_eq!(path(1, 99, 10, &line), None);
    }

    #[test]
    fn suggestions_count_what_is_shared() {
        let near = [Step {
            at: 1,
            relation: 1,
            other: 2,
            weight: 1.0,
        }];
        let far = steps(&[2], &[(1, 2), (2, 3), (2, 4)]);
        let found = suggest(&[1], &near, &far, &[(4, 3), (2, 9)], 10);
        assert_eq!(
            found
                .iter()
                .map(|s| (s.entity, s.neighbours, s.memories))
                .collect::<Vec<_>>(),
            [(4, 1, 3), (3, 1, 0)]
        );
    }
}
