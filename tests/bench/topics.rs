//! Generated memories with topics, and vectors derived from the text, so that a million of them need no model. Each
//! word has a direction, words of a topic have similar directions, and a text has the weighted sum of its words, the
//! rare ones first, with some noise.

use std::collections::HashMap;

use async_trait::async_trait;
use cognitive_memory_mcp::embed::{EmbedError, Embedder, Model, Vector};
use rayon::prelude::*;

use super::corpus::{Random, VOCABULARY, any_rank, word};

pub(crate) const DIMENSION: usize = 384;
const TOPICS: usize = 2_000;
/// Topics of a field are similar.
const FIELDS: usize = 60;
/// More common words belong to no topic.
const COMMON: usize = 200;
/// Number of memories of a conversation, and of a run of notes.
const SESSION: usize = 20;
const SPEAKERS: [&str; 12] = [
    "Ada", "Bruno", "Chiara", "David", "Emre", "Fatima", "Greta", "Hugo", "Ines", "Jonas", "Kemal",
    "Lea",
];
/// Length of the noise beside a direction of length 1.
const NOISE: f32 = 0.35;

/// The text of a generated memory.
#[derive(Debug, Clone)]
pub(crate) struct Saying {
    pub(crate) content: String,
    /// Session, turn and speaker; notes have none.
    pub(crate) turn: Option<(String, i64, &'static str)>,
}

/// All words with their topics and directions.
#[derive(Debug)]
pub(crate) struct World {
    model: Model,
    words: Vec<String>,
    ranks: HashMap<String, usize>,
    directions: Vec<f32>,
    topics: Vec<Vec<usize>>,
}

fn random(seed: usize, purpose: u64) -> Random {
    let mut random = Random::new((seed as u64).wrapping_mul(31) + purpose * 0x1000_0000_0001);
    for _ in 0..4 {
        random.next();
    }
    random
}

/// Returns a random direction. As in real models, few components have most of the weight.
fn direction(seed: usize, purpose: u64) -> Vec<f32> {
    let mut random = random(seed, purpose);
    let mut bell = || ((0..4).map(|_| random.unit()).sum::<f64>() - 2.0) as f32;
    normal(
        (0..DIMENSION)
            .map(|place| bell() / (1.0 + place as f32 / 96.0))
            .collect(),
    )
}

fn normal(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

fn add(sum: &mut [f32], weight: f32, part: &[f32]) {
    sum.iter_mut()
        .zip(part)
        .for_each(|(sum, x)| *sum += weight * x);
}

fn mixed(parts: &[(f32, &[f32])]) -> Vec<f32> {
    let mut sum = vec![0.0; DIMENSION];
    parts
        .iter()
        .for_each(|(weight, part)| add(&mut sum, *weight, part));
    normal(sum)
}

fn topic_of(rank: usize) -> Option<usize> {
    (rank >= COMMON).then(|| random(rank, 1).below(TOPICS))
}

impl World {
    pub(crate) fn new() -> Self {
        let words: Vec<String> = (0..VOCABULARY as usize).map(word).collect();
        let ranks = words
            .iter()
            .enumerate()
            .map(|(rank, word)| (word.clone(), rank))
            .collect();
        let fields: Vec<Vec<f32>> = (0..FIELDS).map(|field| direction(field, 2)).collect();
        let centres: Vec<Vec<f32>> = (0..TOPICS)
            .map(|topic| {
                mixed(&[
                    (0.6, &fields[topic % FIELDS][..]),
                    (0.8, &direction(topic, 3)[..]),
                ])
            })
            .collect();
        let mut topics = vec![Vec::new(); TOPICS];
        (0..words.len()).for_each(|rank| {
            if let Some(topic) = topic_of(rank) {
                topics[topic].push(rank);
            }
        });
        let directions = (0..words.len())
            .into_par_iter()
            .flat_map_iter(|rank| {
                let own = direction(rank, 4);
                match topic_of(rank) {
                    Some(topic) => mixed(&[(0.7, &centres[topic][..]), (0.7, &own[..])]),
                    None => own,
                }
            })
            .collect();
        let model = Model {
            id: "generated".to_owned(),
            dimension: DIMENSION,
        };
        Self {
            model,
            words,
            ranks,
            directions,
            topics,
        }
    }

    fn topic(random: &mut Random) -> usize {
        // Some topics are more frequent than others.
        (TOPICS as f64 * random.unit() * random.unit()) as usize
    }

    /// Returns the memory with this number.
    pub(crate) fn saying(&self, number: usize) -> Saying {
        let (block, turn) = (number / SESSION, number % SESSION);
        let mut shared = random(block, 5);
        let (talk, of_session) = (shared.unit() < 0.7, Self::topic(&mut shared));
        let pair = [shared.below(SPEAKERS.len()), shared.below(SPEAKERS.len())];
        let mut own = random(number, 6);
        let topic = if talk {
            of_session
        } else {
            Self::topic(&mut own)
        };
        let content = self.text(&mut own, topic);
        let turn = talk.then(|| {
            (
                format!("session {block}"),
                turn as i64,
                SPEAKERS[pair[turn % 2]],
            )
        });
        Saying { content, turn }
    }

    fn text(&self, random: &mut Random, topic: usize) -> String {
        let count = 6 + random.below(35);
        let words: Vec<&str> = (0..count).map(|_| self.any(random, topic)).collect();
        words.join(" ")
    }

    /// Draws a word of the topic or of the language.
    fn any(&self, random: &mut Random, topic: usize) -> &str {
        let own = &self.topics[topic];
        let rank = if random.unit() < 0.45 && !own.is_empty() {
            own[(own.len() as f64).powf(random.unit()) as usize - 1]
        } else {
            any_rank(random)
        };
        &self.words[rank]
    }

    /// Returns a question about a memory: some of its less common words, and one that it may not contain.
    pub(crate) fn question(&self, number: usize) -> String {
        let content = self.saying(number).content;
        let mut own = random(number, 7);
        let mut telling: Vec<&str> = content
            .split(' ')
            .filter(|word| self.ranks[*word] >= COMMON)
            .collect();
        telling.dedup();
        let mut words: Vec<&str> = Vec::new();
        while words.len() < 4 && !telling.is_empty() {
            words.push(telling.swap_remove(own.below(telling.len())));
        }
        let topic = words.first().and_then(|word| topic_of(self.ranks[*word]));
        words.push(self.any(&mut own, topic.unwrap_or_default()));
        words.join(" ")
    }

    pub(crate) fn vector(&self, text: &str) -> Vec<f32> {
        let mut sum = vec![0.0; DIMENSION];
        let mut seed = 0_usize;
        for word in text.split(' ') {
            if let Some(rank) = self.ranks.get(word) {
                let weight = (1.0 + *rank as f32 / 50.0).ln() + 0.05;
                add(
                    &mut sum,
                    weight,
                    &self.directions[rank * DIMENSION..(rank + 1) * DIMENSION],
                );
                seed = seed.wrapping_mul(1_000_003).wrapping_add(*rank);
            }
        }
        mixed(&[(1.0, &normal(sum)[..]), (NOISE, &direction(seed, 8)[..])])
    }
}

#[async_trait]
impl Embedder for World {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<Vector>>, EmbedError> {
        Ok(texts.iter().map(|text| vec![self.vector(text)]).collect())
    }

    async fn query(&self, text: String) -> Result<Vector, EmbedError> {
        Ok(self.vector(&text))
    }
}

/// The nearest memories to each question, found by comparing all.
#[derive(Debug)]
pub(crate) struct Exact {
    questions: Vec<Vec<f32>>,
    best: Vec<Vec<(f32, usize)>>,
}

impl Exact {
    pub(crate) const COUNT: usize = 10;

    pub(crate) fn new(questions: Vec<Vec<f32>>) -> Self {
        let best = vec![Vec::new(); questions.len()];
        Self { questions, best }
    }

    /// Adds memories, numbered from `first` on.
    pub(crate) fn add(&mut self, first: usize, vectors: &[Vec<f32>]) {
        self.questions
            .par_iter()
            .zip(&mut self.best)
            .for_each(|(question, best)| {
                best.extend(
                    vectors
                        .iter()
                        .enumerate()
                        .map(|(place, vector)| (dot(question, vector), first + place)),
                );
                best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
                best.truncate(Self::COUNT);
            });
    }

    /// Returns the share of the nearest memories to a question that were found.
    pub(crate) fn share(&self, question: usize, found: &[usize]) -> f64 {
        let best = &self.best[question];
        best.iter()
            .filter(|(_, number)| found.contains(number))
            .count() as f64
            / best.len().max(1) as f64
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
