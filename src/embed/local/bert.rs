//! The forward pass of BERT and its relatives.
//!
//! The texts of a batch are laid end to end, without padding: the large products run over all of their tokens at once,
//! attention over each text alone. Weights are packed for the matrix kernel when they are loaded; query, key and value
//! are one product. Products and element-wise functions are those of `rten`, which chooses its instructions at run
//! time.

use std::io;
use std::path::Path;

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::SimdOp;
use rten_tensor::Matrix;
use rten_vecmath::{Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::architecture::{Activation, Config, Distances, Names};
use super::weights::{Rows, Weights};

/// Rows of a matrix that one task of an element-wise function takes.
const ROWS: usize = 16;

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
    qkv: Linear,
    attended: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
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
        let linear = |names: &[String], rows: usize, columns: usize| {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                weight.extend(weights.tensor(&format!("{name}.weight"), &[rows, columns])?);
                bias.extend(weights.tensor(&format!("{name}.bias"), &[rows])?);
            }
            // Stored as output by input, used as input by output.
            let matrix = view(&weight, [columns, bias.len()], [1, columns])?;
            io::Result::Ok(Linear { weight: executor.prepack_b(matrix), bias })
        };
        let norm = |name: String| {
            io::Result::Ok(Norm {
                scale: weights.tensor(&format!("{name}.weight"), &[hidden])?,
                bias: weights.tensor(&format!("{name}.bias"), &[hidden])?,
            })
        };
        let names = Names::of(&config);
        let layers = (0..config.num_hidden_layers).map(|number| {
            let name = |part: &str| format!("{}.{number}.{part}", names.layer);
            io::Result::Ok(Layer {
                qkv: linear(&names.attention.map(name), hidden, hidden)?,
                attended: linear(&[name(names.attended)], hidden, hidden)?,
                attention_norm: norm(name(names.attention_norm))?,
                up: linear(&[name(names.up)], inner, hidden)?,
                down: linear(&[name(names.down)], hidden, inner)?,
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
        let mut qkv = vec![0.0; tokens * 3 * hidden];
        let mut context = vec![0.0; tokens * hidden];
        let mut inner = vec![0.0; tokens * self.config.intermediate_size];
        for layer in &self.layers {
            layer.qkv.apply(&executor, &states, &mut qkv, 0.0)?;
            self.attend(&executor, texts, &qkv, &mut context)?;
            // On top of what is there: the residual connection.
            layer.attended.apply(&executor, &context, &mut states, 1.0)?;
            self.normalise(&layer.attention_norm, &mut states);
            layer.up.apply(&executor, &states, &mut inner, 0.0)?;
            inner.par_chunks_mut(ROWS * self.config.intermediate_size).for_each(|part| self.activation.apply(part));
            layer.down.apply(&executor, &inner, &mut states, 1.0)?;
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
        qkv: &[f32],
        context: &mut [f32],
    ) -> io::Result<()> {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let width = hidden / heads;
        let mut first = 0;
        let mut work = Vec::with_capacity(texts.len() * heads);
        for text in texts {
            work.extend((0..heads).map(|head| (first, text.len(), head)));
            first += text.len();
        }
        let attended: Vec<Vec<f32>> = work
            .par_iter()
            .map(|&(first, length, head)| {
                let part = |which: usize| &qkv[first * 3 * hidden + which * hidden + head * width..];
                let query = view(part(0), [length, width], [3 * hidden, 1])?;
                let key = view(part(1), [width, length], [1, 3 * hidden])?;
                let value = view(part(2), [length, width], [3 * hidden, 1])?;
                let mut scores = Vec::with_capacity(length * length);
                match &self.distances {
                    Some(distances) => {
                        (0..length).for_each(|place| scores.extend(distances.row(head, place, length)));
                    }
                    None => scores.resize(length * length, 0.0),
                }
                let kept = if self.distances.is_some() { 1.0 } else { 0.0 };
                let scaled = GemmOptions { alpha: 1.0 / (width as f32).sqrt(), beta: kept, ..GemmOptions::default() };
                multiply(executor, query, GemmInputB::Unpacked(key), &mut scores, scaled)?;
                for row in scores.chunks_exact_mut(length) {
                    Softmax::new_mut(row).dispatch();
                }
                let mut out = vec![0.0; length * width];
                let scores = view(&scores, [length, length], [length, 1])?;
                multiply(executor, scores, GemmInputB::Unpacked(value), &mut out, GemmOptions::default())?;
                Ok(out)
            })
            .collect::<io::Result<_>>()?;
        for (&(first, _, head), out) in work.iter().zip(&attended) {
            let rows = context[first * hidden..].chunks_exact_mut(hidden);
            for (row, part) in rows.zip(out.chunks_exact(width)) {
                row[head * width..][..width].copy_from_slice(part);
            }
        }
        Ok(())
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
    /// `to = from * weight + bias + kept * to`
    fn apply(&self, executor: &GemmExecutor<f32>, from: &[f32], to: &mut [f32], kept: f32) -> io::Result<()> {
        let columns = self.weight.rows();
        let from = view(from, [from.len() / columns, columns], [columns, 1])?;
        let options = GemmOptions { beta: kept, bias: Some(BiasVector::Row(&self.bias)), ..GemmOptions::default() };
        multiply(executor, from, GemmInputB::Packed(&self.weight), to, options)
    }
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
