//! A copy of all vectors of one model in memory, one byte per component, for the search: comparing 100,000 of them
//! takes some milliseconds. The best ones are compared again with the exact numbers in the database, so a byte is
//! precise enough.
//!
//! One process owns the file, so the copy can be kept current: saved vectors are added here, too. Deleted or changed
//! vectors may remain until then, because every hit is checked against the database. A search during a save compares the
//! current passages of the memories that it misses.

use std::collections::{BTreeMap, HashSet};

use rten_simd::{Isa, SimdOp};

/// All vectors of one model.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) model: String,
    pub(super) dimension: usize,
    /// Rows by project, because a project is the usual scope of a search.
    projects: BTreeMap<i64, Rows>,
    present: HashSet<i64>,
}

#[derive(Debug, Default)]
struct Rows {
    /// The memory of each row. The rows of a memory are next to each other.
    memories: Vec<i64>,
    /// The number of the passage of each row.
    passages: Vec<u16>,
    scales: Vec<f32>,
    numbers: Vec<i8>,
}

/// Returns a vector as bytes, and the value of one step.
fn quantised(vector: &[f32]) -> (f32, impl Iterator<Item = i8>) {
    let most = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let step = if most > 0.0 { most / 127.0 } else { 1.0 };
    (step, vector.iter().map(move |x| (x / step).round() as i8))
}

impl Matrix {
    pub(super) fn new(model: &str, dimension: usize) -> Self {
        Self {
            model: model.to_owned(),
            dimension,
            projects: BTreeMap::new(),
            present: HashSet::new(),
        }
    }

    /// Returns the number of vectors.
    pub(super) fn len(&self) -> usize {
        self.projects.values().map(|rows| rows.memories.len()).sum()
    }

    /// Adds the vector of a passage behind those of the same memory.
    pub(super) fn push(&mut self, project: i64, memory: i64, passage: u32, vector: &[f32]) {
        let rows = self.projects.entry(project).or_default();
        let (step, numbers) = quantised(vector);
        rows.memories.push(memory);
        rows.passages
            .push(u16::try_from(passage).unwrap_or(u16::MAX));
        rows.scales.push(step);
        rows.numbers.extend(numbers);
        self.present.insert(memory);
    }

    /// Removes the vectors of memories, if any.
    pub(super) fn remove(&mut self, memories: &[i64]) {
        let gone: HashSet<i64> = memories
            .iter()
            .copied()
            .filter(|memory| self.present.remove(memory))
            .collect();
        if gone.is_empty() {
            return;
        }
        let dimension = self.dimension;
        for rows in self.projects.values_mut() {
            let old = std::mem::take(rows);
            if !old.memories.iter().any(|memory| gone.contains(memory)) {
                *rows = old;
                continue;
            }
            for (row, memory) in old
                .memories
                .iter()
                .enumerate()
                .filter(|(_, memory)| !gone.contains(memory))
            {
                rows.memories.push(*memory);
                rows.passages.push(old.passages[row]);
                rows.scales.push(old.scales[row]);
                rows.numbers
                    .extend_from_slice(&old.numbers[row * dimension..][..dimension]);
            }
        }
    }

    /// Returns all memories of `projects` by their similarity.
    pub(super) fn ranked(&self, projects: &[i64], vector: &[f32]) -> Ranked {
        let (_, query) = quantised(vector);
        let query: Vec<i16> = query.map(i16::from).collect();
        let mut scored: Vec<Nearest> = Vec::new();
        for rows in projects
            .iter()
            .filter_map(|project| self.projects.get(project))
        {
            Scoring {
                rows,
                query: &query,
                scored: &mut scored,
            }
            .dispatch();
        }
        Ranked { scored, done: 0 }
    }
}

/// The nearest passage of a memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Nearest {
    cosine: f32,
    pub(super) memory: i64,
    pub(super) passage: u16,
}

impl Nearest {
    /// Returns the memory and the number of its passage.
    pub(super) fn passage_key(&self) -> (i64, u16) {
        (self.memory, self.passage)
    }
}

/// Memories by the cosine of their nearest passage. Only the requested part is sorted, because most searches want a few of
/// many.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    scored: Vec<Nearest>,
    done: usize,
}

impl Ranked {
    /// The next `count` memories, nearest first; `None` at the end.
    pub(super) fn next(&mut self, count: usize) -> Option<&[Nearest]> {
        let rest = &mut self.scored[self.done..];
        if rest.is_empty() {
            return None;
        }
        let order = |a: &Nearest, b: &Nearest| {
            let nearer = b.cosine.total_cmp(&a.cosine);
            nearer.then_with(|| b.memory.cmp(&a.memory))
        };
        let count = count.clamp(1, rest.len());
        if count < rest.len() {
            rest.select_nth_unstable_by(count - 1, order);
        }
        rest[..count].sort_unstable_by(order);
        self.done += count;
        Some(&rest[..count])
    }
}

/// The comparison of a query with all rows. Plain loops are compiled once for each instruction set, and the variant
/// for the processor takes less than half of the time.
struct Scoring<'a> {
    rows: &'a Rows,
    query: &'a [i16],
    scored: &'a mut Vec<Nearest>,
}

impl SimdOp for Scoring<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        let Rows {
            memories,
            passages,
            scales,
            numbers,
        } = self.rows;
        let vectors = numbers.chunks_exact(self.query.len()).zip(scales);
        let mut best: Option<Nearest> = None;
        for ((row, step), (memory, passage)) in vectors.zip(memories.iter().zip(passages)) {
            let product: i32 = row
                .iter()
                .zip(self.query)
                .map(|(a, b)| i32::from(*a) * i32::from(*b))
                .sum();
            let next = Nearest {
                cosine: product as f32 * step,
                memory: *memory,
                passage: *passage,
            };
            match &mut best {
                Some(known) if known.memory == next.memory => {
                    if known.cosine < next.cosine {
                        *known = next;
                    }
                }
                _ => self.scored.extend(best.replace(next)),
            }
        }
        self.scored.extend(best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_ordered_by_their_nearest_passage() {
        let mut matrix = Matrix::new("m", 2);
        matrix.push(1, 10, 0, &[1.0, 0.0]);
        matrix.push(1, 11, 1, &[0.0, 1.0]);
        matrix.push(1, 11, 2, &[0.9, 0.1]);
        matrix.push(2, 12, 0, &[1.0, 0.0]);
        let all = |matrix: &Matrix, projects: &[i64]| {
            let mut ranked = matrix.ranked(projects, &[1.0, 0.0]);
            let mut memories = Vec::new();
            while let Some(next) = ranked.next(1) {
                memories.extend(next.iter().map(|nearest| nearest.memory));
            }
            memories
        };
        assert_eq!(all(&matrix, &[1]), [10, 11]);
        assert_eq!(all(&matrix, &[1, 2]), [12, 10, 11]);
        assert!(all(&matrix, &[3]).is_empty());
        let mut ranked = matrix.ranked(&[1, 2], &[1.0, 0.0]);
        let together = ranked.next(100).unwrap().iter();
        let passages: Vec<(i64, u16)> = together
            .map(|nearest| (nearest.memory, nearest.passage))
            .collect();
        assert_eq!(passages, [(12, 0), (10, 0), (11, 2)]);
        matrix.remove(&[10, 99]);
        assert_eq!(all(&matrix, &[1]), [11]);
        assert_eq!(matrix.len(), 3);
        matrix.remove(&[11]);
        assert!(all(&matrix, &[1]).is_empty());
    }
}
