//! The forward pass of BERT and its relatives.
//!
//! The texts of a batch are laid end to end, without padding: the large products run over all of their tokens at once,
//! attention over each text alone. Weights are packed for the matrix kernel when they are loaded; query, key and value
//! are one product. Products and element-wise functions are those of `rten`, which chooses its instructions at run
//! time.

use std::io;
use std::path::Path;

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::Matrix;
use rten_vecmath::{Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::architecture::{Activation, Config, Distances, Names};
use super::weights::{Rows, Weights};

/// Rows of a matrix that one task of an element-wise function takes.
const ROWS: usize = 16;
/// Tokens that go through the wide part of a layer at once.
const PORTION: usize = 512;
/// Columns of the wide part that are worked on at once. With these a slice's weights, its input and its output fit into
/// the second cache of a core.
const SLICE: usize = 384;

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
    /// Query, key, value.
    attention: [Linear; 3],
    attended: Linear,
    attention_norm: Norm,
    /// The wide part in slices, each with its way up and down: what a slice makes is used while it is in the cache.
    slices: Vec<(Linear, PackedBMatrix<f32>)>,
    down_bias: Vec<f32>,
    norm: Norm,
}

struct Linear {
    weight: PackedBMatrix<f32>,
    bias: Vec<f32>,
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
        let config = Config::read(folder).map_err(|error| damaged(format!("config.json: {error}")))?;
        let weights = Weights::open(&folder.join("model.safetensors"))
            .map_err(|error| damaged(format!("model.safetensors: {error}")))?;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut positions =
            weights.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        if config.type_vocab_size > 0 {
            let types = weights.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden])?;
            for row in positions.chunks_exact_mut(hidden) {
                add(row, &types[..hidden]);
            }
        }
        let distances = if config.has_distances() {
            let (buckets, heads) = (config.relative_attention_num_buckets, config.num_attention_heads);
            let table = weights.tensor("encoder.relative_attention_bias.weight", &[buckets, heads])?;
            Some(Distances::new(&table, buckets, heads, config.max_position_embeddings))
        } else {
            None
        };
        let executor = GemmExecutor::<f32>::new();
        // Stored as output by input, used as input by output.
        let pack = |weight: &[f32], rows: usize, columns: usize, step: usize| {
            io::Result::Ok(executor.prepack_b(view(weight, [columns, rows], [1, step])?))
        };
        let linear = |name: &str| {
            let weight = weights.tensor(&format!("{name}.weight"), &[hidden, hidden])?;
            let bias = weights.tensor(&format!("{name}.bias"), &[hidden])?;
            io::Result::Ok(Linear { weight: pack(&weight, hidden, hidden, hidden)?, bias })
        };
        let slices = |up: &str, down: &str| {
            let up_bias = weights.tensor(&format!("{up}.bias"), &[inner])?;
            let up = weights.tensor(&format!("{up}.weight"), &[inner, hidden])?;
            let down = weights.tensor(&format!("{down}.weight"), &[hidden, inner])?;
            let slice = |first: usize| {
                let rows = SLICE.min(inner - first);
                let bias = up_bias[first..first + rows].to_vec();
                let up = Linear { weight: pack(&up[first * hidden..], rows, hidden, hidden)?, bias };
                Ok((up, pack(&down[first..], hidden, rows, inner)?))
            };
            (0..inner).step_by(SLICE).map(slice).collect::<io::Result<Vec<_>>>()
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
                attention: [linear(&name(query))?, linear(&name(key))?, linear(&name(value))?],
                attended: linear(&name(names.attended))?,
                attention_norm: norm(name(names.attention_norm))?,
                slices: slices(&name(names.up), &name(names.down))?,
                down_bias: weights.tensor(&format!("{}.bias", name(names.down)), &[hidden])?,
                norm: norm(name(names.norm))?,
            })
        });
        Ok(Self {
            layers: layers.collect::<io::Result<_>>()?,
            norm: norm("embeddings.LayerNorm".to_owned())?,
            words: weights.rows("embeddings.word_embeddings.weight", config.vocab_size, hidden)?,
            activation: config.activation().map_err(damaged)?,
            positions,
            distances,
            weights,
            config,
        })
    }

    /// The last hidden states of all tokens of `texts`, one row a token.
    pub(super) fn forward(&self, texts: &[&[u32]]) -> io::Result<Vec<f32>> {
        let executor = GemmExecutor::<f32>::new();
        let hidden = self.config.hidden_size;
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        let mut states = self.embedded(texts, tokens)?;
        let mut attention = [(); 3].map(|()| vec![0.0; tokens * hidden]);
        let mut context = vec![0.0; tokens * hidden];
        let mut next = vec![0.0; tokens * hidden];
        let mut inner = vec![0.0; tokens.min(PORTION) * SLICE];
        for layer in &self.layers {
            for (linear, to) in layer.attention.iter().zip(&mut attention) {
                linear.apply(&executor, &states, to)?;
            }
            self.attend(&executor, texts, &attention, &mut context)?;
            // On top of what is there: the residual connection.
            add_to_rows(&mut states, &layer.attended.bias);
            multiply_packed(&executor, &context, &layer.attended.weight, &mut states)?;
            self.normalise(&layer.attention_norm, &mut states);
            next.copy_from_slice(&states);
            add_to_rows(&mut next, &layer.down_bias);
            for (from, to) in states.chunks(PORTION * hidden).zip(next.chunks_mut(PORTION * hidden)) {
                for (up, down) in &layer.slices {
                    let width = up.bias.len();
                    let inner = &mut inner[..from.len() / hidden * width];
                    up.apply(&executor, from, inner)?;
                    inner.par_chunks_mut(ROWS * width).for_each(|rows| self.activation.apply(rows));
                    multiply_packed(&executor, inner, down, to)?;
                }
            }
            std::mem::swap(&mut states, &mut next);
            self.normalise(&layer.norm, &mut states);
        }
        Ok(states)
    }

    fn embedded(&self, texts: &[&[u32]], tokens: usize) -> io::Result<Vec<f32>> {
        let hidden = self.config.hidden_size;
        let mut states = Vec::with_capacity(tokens * hidden);
        for text in texts {
            for (position, token) in (self.config.first_position()..).zip(*text) {
                let token = *token as usize;
                if token >= self.words.count || position >= self.config.max_position_embeddings {
                    return Err(damaged("tokenizer.json and config.json do not belong together"));
                }
                self.weights.row(&self.words, token, &mut states)?;
                let row = states.len() - hidden;
                add(&mut states[row..], &self.positions[position * hidden..][..hidden]);
            }
        }
        self.normalise(&self.norm, &mut states);
        Ok(states)
    }

    /// Attention of each text and head over itself.
    fn attend(
        &self,
        executor: &GemmExecutor<f32>,
        texts: &[&[u32]],
        attention: &[Vec<f32>; 3],
        context: &mut [f32],
    ) -> io::Result<()> {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let width = hidden / heads;
        // A text is a piece of work; where there are few, each of its heads.
        let at_once = if texts.len() < 2 * rayon::current_num_threads() { 1 } else { heads };
        let mut first = 0;
        let mut work = Vec::with_capacity(texts.len() * heads / at_once);
        for text in texts {
            work.extend((0..heads).step_by(at_once).map(|head| (first, text.len(), head)));
            first += text.len();
        }
        let wide = at_once * width;
        let attended: Vec<Vec<f32>> = work
            .par_iter()
            .map(|&(first, length, head)| {
                let mut attended = vec![0.0; length * wide];
                let (mut scores, mut out) = (vec![0.0; length * length], vec![0.0; length * width]);
                for step in 0..at_once {
                    let of_head = attention.each_ref().map(|all| &all[first * hidden + (head + step) * width..]);
                    self.attend_by(executor, head + step, of_head, length, &mut scores, &mut out)?;
                    for (row, part) in attended.chunks_exact_mut(wide).zip(out.chunks_exact(width)) {
                        row[step * width..][..width].copy_from_slice(part);
                    }
                }
                Ok(attended)
            })
            .collect::<io::Result<_>>()?;
        for (&(first, _, head), attended) in work.iter().zip(&attended) {
            let rows = context[first * hidden..].chunks_exact_mut(hidden);
            for (row, part) in rows.zip(attended.chunks_exact(wide)) {
                row[head * width..][..wide].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// Attention of one head over one text.
    fn attend_by(
        &self,
        executor: &GemmExecutor<f32>,
        head: usize,
        [query, key, value]: [&[f32]; 3],
        length: usize,
        scores: &mut [f32],
        out: &mut [f32],
    ) -> io::Result<()> {
        let hidden = self.config.hidden_size;
        let width = hidden / self.config.num_attention_heads;
        let query = view(query, [length, width], [hidden, 1])?;
        let key = view(key, [width, length], [1, hidden])?;
        let value = view(value, [length, width], [hidden, 1])?;
        let mut scaled = GemmOptions { alpha: 1.0 / (width as f32).sqrt(), ..GemmOptions::default() };
        if let Some(distances) = &self.distances {
            for (place, row) in scores.chunks_exact_mut(length).enumerate() {
                row.copy_from_slice(distances.row(head, place, length));
            }
            scaled.beta = 1.0;
        }
        multiply(executor, query, GemmInputB::Unpacked(key), scores, scaled)?;
        for row in scores.chunks_exact_mut(length) {
            Softmax::new_mut(row).dispatch();
        }
        let scores = view(scores, [length, length], [length, 1])?;
        multiply(executor, scores, GemmInputB::Unpacked(value), out, GemmOptions::default())
    }

    fn normalise(&self, norm: &Norm, states: &mut [f32]) {
        let hidden = self.config.hidden_size;
        states.par_chunks_mut(ROWS * hidden).for_each(|part| {
            for row in part.chunks_exact_mut(hidden) {
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
        });
    }
}

impl Linear {
    /// `to = from * weight + bias`
    fn apply(&self, executor: &GemmExecutor<f32>, from: &[f32], to: &mut [f32]) -> io::Result<()> {
        // The product on top of the bias: the kernel adds to what is there as quickly as it writes.
        to.chunks_exact_mut(self.bias.len()).for_each(|row| row.copy_from_slice(&self.bias));
        multiply_packed(executor, from, &self.weight, to)
    }
}

fn add_to_rows(rows: &mut [f32], bias: &[f32]) {
    rows.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
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
    let options = GemmOptions { beta: 1.0, ..GemmOptions::default() };
    multiply(executor, from, GemmInputB::Packed(weight), to, options)
}

fn multiply(
    executor: &GemmExecutor<f32>,
    a: Matrix<'_, f32>,
    b: GemmInputB<'_, f32>,
    to: &mut [f32],
    options: GemmOptions<'_, f32, f32, f32>,
) -> io::Result<()> {
    executor.gemm(to, GemmInputA::Unpacked(a), b, options).map_err(io::Error::other)
}

/// A matrix inside of `data`, with steps from row to row and from column to column.
fn view(data: &[f32], shape: [usize; 2], steps: [usize; 2]) -> io::Result<Matrix<'_, f32>> {
    Matrix::from_data_with_strides(shape, data, steps).map_err(|error| io::Error::other(format!("{error:?}")))
}

fn add(to: &mut [f32], more: &[f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}
