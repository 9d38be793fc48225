//! The forward pass of BERT and its relatives.
//!
//! The texts of a batch are laid end to end, without padding: the large products run over all of their tokens at once,
//! attention over each text alone. Both halves of a layer are made of parts, each with its way in and its way back:
//! some heads of the attention, a slice of the wide part. What a part makes is used while it is in the cache, and parts
//! are what the threads share where there is one text only; they meet twice a layer. Weights are packed for the matrix
//! kernel when they are loaded. Products and element-wise functions are those of `rten`, which chooses its instructions
//! at run time.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::Matrix;
use rten_vecmath::{Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::architecture::{Activation, Config, Distances, Names};
use super::team::{Share, Turns, beside};
use super::weights::{Rows, WORDS, Weights};
use super::{WEIGHTS, named};

/// Tokens that go through a part at once.
const PORTION: usize = 512;
/// Columns of the wide part that are worked on at once. With these a slice's weights, its input and its output fit into
/// the second cache of a core.
const SLICE: usize = 384;
/// Parts of the attention, where the heads can be divided by it.
const PARTS: usize = 4;
/// Tokens of short texts whose attention is one product: no more than the kernel's tile is wide, so that it costs
/// nothing to compute what is thrown away.
const TILE: usize = 32;

/// A model, ready to run.
pub(super) struct Bert {
    pub(super) config: Config,
    activation: Activation,
    weights: Weights,
    words: Rows,
    /// With the embedding of the one token type that is used already added.
    positions: Vec<f32>,
    distances: Option<Distances>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    heads: Vec<Heads>,
    attended_bias: Vec<f32>,
    attention_norm: Norm,
    slices: Vec<Slice>,
    down_bias: Vec<f32>,
    norm: Norm,
}

/// Some heads of the attention.
struct Heads {
    first: usize,
    /// To the queries of all of them, then their keys, then their values.
    input: Linear,
    output: PackedBMatrix<f32>,
}

/// A slice of the wide part.
struct Slice {
    up: Linear,
    down: PackedBMatrix<f32>,
}

struct Linear {
    weight: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// What a thread works in.
#[derive(Default)]
struct Room {
    /// What comes out of the way into a part.
    wide: Vec<f32>,
    context: Vec<f32>,
    scores: Vec<f32>,
    attended: Vec<f32>,
}

struct Norm {
    scale: Vec<f32>,
    bias: Vec<f32>,
}

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

impl Bert {
    /// Reads `config.json` and `model.safetensors`.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let config =
            Config::read(folder).map_err(|error| damaged(format!("config.json: {error}")))?;
        let weights = Weights::open(&folder.join(WEIGHTS))
            .and_then(|weights| weights.behind_prefix_of(WORDS))
            .map_err(|error| named(WEIGHTS, error))?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut positions = weights.tensor(
            "embeddings.position_embeddings.weight",
            &[config.max_position_embeddings, hidden],
        )?;
        if config.type_vocab_size > 0 {
            let types = weights.tensor(
                "embeddings.token_type_embeddings.weight",
                &[config.type_vocab_size, hidden],
            )?;
            for row in positions.chunks_exact_mut(hidden) {
                add(row, &types[..hidden]);
            }
        }
        let distances = if config.has_distances() {
            let (buckets, heads) = (
                config.relative_attention_num_buckets,
                config.num_attention_heads,
            );
            let table =
                weights.tensor("encoder.relative_attention_bias.weight", &[buckets, heads])?;
            Some(Distances::new(
                &table,
                buckets,
                heads,
                config.max_position_embeddings,
            ))
        } else {
            None
        };
        let executor = GemmExecutor::<f32>::new();
        // Stored as output by input, used as input by output.
        let pack = |weight: &[f32], rows: usize, columns: usize, step: usize| {
            io::Result::Ok(executor.prepack_b(view(weight, [columns, rows], [1, step])?))
        };
        let heads = config.num_attention_heads;
        let parts = (1..=PARTS.min(heads))
            .rev()
            .find(|parts| heads % parts == 0)
            .unwrap_or(1);
        let attention = |inputs: [String; 3], output: String| {
            let read = |name: &String| {
                let weight = weights.tensor(&format!("{name}.weight"), &[hidden, hidden])?;
                io::Result::Ok((weight, weights.tensor(&format!("{name}.bias"), &[hidden])?))
            };
            let inputs = inputs.iter().map(read).collect::<io::Result<Vec<_>>>()?;
            let output = weights.tensor(&format!("{output}.weight"), &[hidden, hidden])?;
            let columns = hidden / parts;
            let part = |part: usize| {
                let first = part * columns;
                let of_part: Vec<f32> = inputs
                    .iter()
                    .flat_map(|(weight, _)| &weight[first * hidden..][..columns * hidden])
                    .copied()
                    .collect();
                let bias = inputs
                    .iter()
                    .flat_map(|(_, bias)| &bias[first..][..columns])
                    .copied()
                    .collect();
                let input = Linear {
                    weight: pack(&of_part, 3 * columns, hidden, hidden)?,
                    bias,
                };
                Ok(Heads {
                    first: part * heads / parts,
                    input,
                    output: pack(&output[first..], hidden, columns, hidden)?,
                })
            };
            (0..parts).map(part).collect::<io::Result<Vec<_>>>()
        };
        let slices = |up: &str, down: &str| {
            let up_bias = weights.tensor(&format!("{up}.bias"), &[inner])?;
            let up = weights.tensor(&format!("{up}.weight"), &[inner, hidden])?;
            let down = weights.tensor(&format!("{down}.weight"), &[hidden, inner])?;
            let slice = |first: usize| {
                let rows = SLICE.min(inner - first);
                let bias = up_bias[first..first + rows].to_vec();
                let up = Linear {
                    weight: pack(&up[first * hidden..], rows, hidden, hidden)?,
                    bias,
                };
                Ok(Slice {
                    up,
                    down: pack(&down[first..], hidden, rows, inner)?,
                })
            };
            (0..inner)
                .step_by(SLICE)
                .map(slice)
                .collect::<io::Result<Vec<_>>>()
        };
        let norm = |name: String| {
            io::Result::Ok(Norm {
                scale: weights.tensor(&format!("{name}.weight"), &[hidden])?,
                bias: weights.tensor(&format!("{name}.bias"), &[hidden])?,
            })
        };
        let names = Names::of(&config);
        let [query, key, value] = names.attention;
        let layers = (0..config.num_hidden_layers).map(|number| {
            let name = |part: &str| format!("{}.{number}.{part}", names.layer);
            io::Result::Ok(Layer {
                heads: attention([query, key, value].map(name), name(names.attended))?,
                attended_bias: weights
                    .tensor(&format!("{}.bias", name(names.attended)), &[hidden])?,
                attention_norm: norm(name(names.attention_norm))?,
                slices: slices(&name(names.up), &name(names.down))?,
                down_bias: weights.tensor(&format!("{}.bias", name(names.down)), &[hidden])?,
                norm: norm(name(names.norm))?,
            })
        });
        let layers = layers.collect::<io::Result<_>>()?;
        let norm = norm("embeddings.LayerNorm".to_owned())?;
        Ok(Self {
            layers,
            norm,
            words: weights.rows(WORDS, config.vocab_size, hidden)?,
            activation: config.activation().map_err(damaged)?,
            positions,
            distances,
            weights,
            config,
        })
    }

    /// The last hidden states of all tokens of `texts`, one row a token. The parts of each layer are worked on in so
    /// many `shares`, with as many of `helpers` as there are.
    pub(super) fn forward(
        &self,
        texts: &[&[u32]],
        shares: usize,
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<f32>> {
        let executor = GemmExecutor::<f32>::new();
        let rooms: Vec<Mutex<Room>> = (0..shares).map(|_| Mutex::default()).collect();
        let work = |share: Share<'_>| {
            let mut room = rooms[share.number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let layer = &self.layers[share.turn / 2];
            if share.turn.is_multiple_of(2) {
                let mut parts = layer.heads[of_share(&share, layer.heads.len(), shares)].iter();
                parts.try_for_each(|heads| {
                    self.attend(&executor, heads, texts, share.from, &mut room, share.to)
                })
            } else {
                let mut parts = layer.slices[of_share(&share, layer.slices.len(), shares)].iter();
                parts.try_for_each(|slice| {
                    self.widen(&executor, slice, share.from, &mut room, share.to)
                })
            }
        };
        let turns = Turns::new(shares, &work);
        beside(helpers, &|| turns.help(), &mut || {
            let _helping = turns.until_the_end();
            let mut states = self.embedded(texts)?;
            let mut next = vec![0.0; states.len()];
            for (layer, number) in self.layers.iter().zip(0..) {
                // On top of what is there: the residual connection.
                add_to_rows(&states, &layer.attended_bias, &mut next);
                turns.lead(2 * number, &mut states, &mut next)?;
                self.normalise(&layer.attention_norm, &mut next);
                add_to_rows(&next, &layer.down_bias, &mut states);
                turns.lead(2 * number + 1, &mut next, &mut states)?;
                self.normalise(&layer.norm, &mut states);
            }
            Ok(states)
        })
    }

    fn embedded(&self, texts: &[&[u32]]) -> io::Result<Vec<f32>> {
        let hidden = self.config.hidden_size;
        let mut states =
            Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() * hidden);
        for text in texts {
            for (position, token) in (self.config.first_position()..).zip(*text) {
                let token = *token as usize;
                if token >= self.words.count || position >= self.config.max_position_embeddings {
                    return Err(damaged(
                        "tokenizer.json and config.json do not belong together",
                    ));
                }
                self.weights.row(&self.words, token, &mut states)?;
                let row = states.len() - hidden;
                add(
                    &mut states[row..],
                    &self.positions[position * hidden..][..hidden],
                );
            }
        }
        self.normalise(&self.norm, &mut states);
        Ok(states)
    }

    /// Adds to `to` what some heads make of `states`.
    fn attend(
        &self,
        executor: &GemmExecutor<f32>,
        heads: &Heads,
        texts: &[&[u32]],
        states: &[f32],
        room: &mut Room,
        to: &mut [f32],
    ) -> io::Result<()> {
        let hidden = self.config.hidden_size;
        let width = heads.output.rows();
        let mut first = 0;
        for texts in grouped(texts, PORTION) {
            let tokens: usize = texts.iter().map(|text| text.len()).sum();
            let inputs = sized(&mut room.wide, tokens * 3 * width);
            heads.input.apply(
                executor,
                &states[first * hidden..][..tokens * hidden],
                inputs,
            )?;
            let context = sized(&mut room.context, tokens * width);
            let mut token = 0;
            for texts in grouped(texts, TILE) {
                let length: usize = texts.iter().map(|text| text.len()).sum();
                let inputs = &inputs[token * 3 * width..][..length * 3 * width];
                let context = &mut context[token * width..][..length * width];
                self.attend_to(
                    executor,
                    heads,
                    texts,
                    inputs,
                    context,
                    &mut room.scores,
                    &mut room.attended,
                )?;
                token += length;
            }
            multiply_packed(
                executor,
                context,
                &heads.output,
                &mut to[first * hidden..][..tokens * hidden],
            )?;
            first += tokens;
        }
        Ok(())
    }

    /// Attention of some heads over each of `texts`; `inputs` holds their queries, keys and values.
    #[expect(
        clippy::too_many_arguments,
        reason = "the memory that is worked in comes from outside"
    )]
    fn attend_to(
        &self,
        executor: &GemmExecutor<f32>,
        heads: &Heads,
        texts: &[&[u32]],
        inputs: &[f32],
        context: &mut [f32],
        scores: &mut Vec<f32>,
        attended: &mut Vec<f32>,
    ) -> io::Result<()> {
        let width = self.config.hidden_size / self.config.num_attention_heads;
        let (all, length) = (
            heads.output.rows(),
            inputs.len() / (3 * heads.output.rows()),
        );
        let scores = sized(scores, length * length);
        let attended = sized(attended, length * width);
        for head in 0..all / width {
            let [query, key, value] = [0, 1, 2].map(|part| &inputs[part * all + head * width..]);
            let query = view(query, [length, width], [3 * all, 1])?;
            let key = view(key, [width, length], [1, 3 * all])?;
            let value = view(value, [length, width], [3 * all, 1])?;
            let mut scaled = GemmOptions {
                alpha: 1.0 / (width as f32).sqrt(),
                ..GemmOptions::default()
            };
            if let Some(distances) = &self.distances {
                scaled.beta = 1.0;
                each_own(texts, scores, |place, own, _| {
                    own.copy_from_slice(distances.row(heads.first + head, place, own.len()));
                });
            }
            multiply(executor, query, GemmInputB::Unpacked(key), scores, scaled)?;
            each_own(texts, scores, |_, own, others| {
                Softmax::new_mut(own).dispatch();
                others.into_iter().for_each(|others| others.fill(0.0));
            });
            let scores = view(scores, [length, length], [length, 1])?;
            multiply(
                executor,
                scores,
                GemmInputB::Unpacked(value),
                attended,
                GemmOptions::default(),
            )?;
            for (row, of_head) in context
                .chunks_exact_mut(all)
                .zip(attended.chunks_exact(width))
            {
                row[head * width..][..width].copy_from_slice(of_head);
            }
        }
        Ok(())
    }

    /// Adds to `to` what a slice of the wide part makes of `states`.
    fn widen(
        &self,
        executor: &GemmExecutor<f32>,
        slice: &Slice,
        states: &[f32],
        room: &mut Room,
        to: &mut [f32],
    ) -> io::Result<()> {
        let portion = PORTION * self.config.hidden_size;
        for (from, to) in states.chunks(portion).zip(to.chunks_mut(portion)) {
            let wide = sized(
                &mut room.wide,
                from.len() / self.config.hidden_size * slice.up.bias.len(),
            );
            slice.up.apply(executor, from, wide)?;
            self.activation.apply(wide);
            multiply_packed(executor, wide, &slice.down, to)?;
        }
        Ok(())
    }

    fn normalise(&self, norm: &Norm, states: &mut [f32]) {
        let hidden = self.config.hidden_size;
        for row in states.chunks_exact_mut(hidden) {
            let mean = Sum::new(row).dispatch() / hidden as f32;
            let variance = SumSquareSub::new(row, mean).dispatch() / hidden as f32;
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: 1.0 / (variance + self.config.layer_norm_eps).sqrt(),
                element_scale: Some(&norm.scale),
                element_bias: Some(&norm.bias),
                bias: 0.0,
            };
            Normalize::new_mut(row, options).dispatch();
        }
    }
}

/// Which of some parts a share is.
fn of_share(share: &Share<'_>, parts: usize, shares: usize) -> Range<usize> {
    share.number * parts / shares..(share.number + 1) * parts / shares
}

/// Consecutive texts with so many tokens at most together, or one text.
fn grouped<'a, 'b>(texts: &'b [&'a [u32]], most: usize) -> impl Iterator<Item = &'b [&'a [u32]]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fitting = rest.iter().take_while(|text| {
            tokens += text.len();
            tokens <= most
        });
        let (group, others) = rest.split_at_checked(fitting.count().max(1))?;
        rest = others;
        Some(group)
    })
}

/// Rows of scores of texts that lie end to end: for each token its place in its text, its scores for that text, and those
/// for the texts before and behind.
fn each_own(
    texts: &[&[u32]],
    scores: &mut [f32],
    mut work: impl FnMut(usize, &mut [f32], [&mut [f32]; 2]),
) {
    let length: usize = texts.iter().map(|text| text.len()).sum();
    let mut rows = scores.chunks_exact_mut(length);
    let mut first = 0;
    for text in texts {
        for (place, row) in rows.by_ref().take(text.len()).enumerate() {
            let (before, row) = row.split_at_mut(first);
            let (own, behind) = row.split_at_mut(text.len());
            work(place, own, [before, behind]);
        }
        first += text.len();
    }
}

/// So much of a buffer, whatever is in it.
fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Linear {
    /// `to = from * weight + bias`
    fn apply(&self, executor: &GemmExecutor<f32>, from: &[f32], to: &mut [f32]) -> io::Result<()> {
        // The product on top of the bias: the kernel adds to what is there as quickly as it writes.
        to.chunks_exact_mut(self.bias.len())
            .for_each(|row| row.copy_from_slice(&self.bias));
        multiply_packed(executor, from, &self.weight, to)
    }
}

/// `to = rows + bias`
fn add_to_rows(rows: &[f32], bias: &[f32], to: &mut [f32]) {
    for (row, to) in rows
        .chunks_exact(bias.len())
        .zip(to.chunks_exact_mut(bias.len()))
    {
        to.iter_mut()
            .zip(row.iter().zip(bias))
            .for_each(|(to, (x, bias))| *to = x + bias);
    }
}

/// `to += from * weight`
fn multiply_packed(
    executor: &GemmExecutor<f32>,
    from: &[f32],
    weight: &PackedBMatrix<f32>,
    to: &mut [f32],
) -> io::Result<()> {
    let columns = weight.rows();
    let from = view(from, [from.len() / columns, columns], [columns, 1])?;
    let options = GemmOptions {
        beta: 1.0,
        ..GemmOptions::default()
    };
    multiply(executor, from, GemmInputB::Packed(weight), to, options)
}

fn multiply(
    executor: &GemmExecutor<f32>,
    a: Matrix<'_, f32>,
    b: GemmInputB<'_, f32>,
    to: &mut [f32],
    options: GemmOptions<'_, f32, f32, f32>,
) -> io::Result<()> {
    executor
        .gemm(to, GemmInputA::Unpacked(a), b, options)
        .map_err(io::Error::other)
}

/// A matrix inside of `data`, with steps from row to row and from column to column.
fn view(data: &[f32], shape: [usize; 2], steps: [usize; 2]) -> io::Result<Matrix<'_, f32>> {
    Matrix::from_data_with_strides(shape, data, steps)
        .map_err(|error| io::Error::other(format!("{error:?}")))
}

fn add(to: &mut [f32], more: &[f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}
