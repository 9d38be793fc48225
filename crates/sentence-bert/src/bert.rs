//! The forward pass of BERT and its relatives.
//!
//! The texts of a batch are concatenated without padding: the large products cover all of their tokens at once,
//! attention covers each text alone. Both halves of a layer consist of parts, each with an input and an output matrix:
//! some heads of the attention, or a slice of the feed-forward network. The result of a part is used while it is in the
//! cache. If there is only one text, the threads share its parts and synchronize twice per layer. `loader` packs the
//! weights for the matrix kernel. Matrix products and element-wise functions come from `rten`, which selects its
//! instructions at run time.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;
use rten_gemm::{GemmExecutor, GemmInputB, GemmOptions};
use rten_simd::SimdOp;
use rten_vecmath::{Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::architecture::{Activation, Config, Distances};
use super::file::invalid_data;
use super::matrix::{Kernels, PackedMatrix, Scratch, multiply, view_matrix};
use super::team::{Share, Turns, run_beside};
use super::weights::{Rows, Weights};

/// Number of tokens that a part processes at once.
const PORTION: usize = 512;
/// Maximum length in tokens of short texts whose attention is one product. At most the width of the kernel's tile, so
/// that unused scores cost nothing.
const TILE: usize = 32;

/// A loaded model.
pub(crate) struct Bert {
    pub(crate) config: Config,
    pub(crate) activation: Activation,
    pub(crate) weights: Weights,
    pub(crate) words: Rows,
    /// Position embeddings, to which the embedding of the single token type is already added.
    pub(crate) positions: Vec<f32>,
    pub(crate) distances: Option<Distances>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

pub(crate) struct Layer {
    pub(crate) heads: Vec<Heads>,
    pub(crate) attended_bias: Vec<f32>,
    pub(crate) attention_norm: Norm,
    pub(crate) slices: Vec<Slice>,
    pub(crate) down_bias: Vec<f32>,
    pub(crate) norm: Norm,
}

/// Some heads of the attention.
pub(crate) struct Heads {
    pub(crate) first: usize,
    /// Input matrix: the queries of all heads, then their keys, then their values.
    pub(crate) input: Linear,
    pub(crate) output: PackedMatrix,
}

/// A slice of the feed-forward network.
pub(crate) struct Slice {
    pub(crate) up: Linear,
    pub(crate) down: PackedMatrix,
}

pub(crate) struct Linear {
    pub(crate) weight: PackedMatrix,
    pub(crate) bias: Vec<f32>,
}

pub(crate) struct Norm {
    pub(crate) scale: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The buffers of one thread.
#[derive(Default)]
struct Buffers {
    /// Output of the input matrix of a part.
    wide: Vec<f32>,
    context: Vec<f32>,
    scores: Vec<f32>,
    attended: Vec<f32>,
    scratch: Scratch,
}

impl Bert {
    /// Returns the last hidden states of all tokens of `texts`, one row per token. The parts of each layer are divided into
    /// `shares`, which `helpers` and the caller process.
    pub(crate) fn run_forward(
        &self,
        texts: &[&[u32]],
        shares: usize,
        helpers: &[Arc<ThreadPool>],
    ) -> io::Result<Vec<f32>> {
        let kernels = Kernels::default();
        let all_buffers: Vec<Mutex<Buffers>> = (0..shares).map(|_| Mutex::default()).collect();
        let work = |share: Share<'_>| {
            let mut buffers = all_buffers[share.number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let layer = &self.layers[share.turn / 2];
            if share.turn.is_multiple_of(2) {
                let mut parts =
                    layer.heads[range_of_share(&share, layer.heads.len(), shares)].iter();
                parts.try_for_each(|heads| {
                    self.add_attention(&kernels, heads, texts, share.from, &mut buffers, share.to)
                })
            } else {
                let mut parts =
                    layer.slices[range_of_share(&share, layer.slices.len(), shares)].iter();
                parts.try_for_each(|slice| {
                    self.add_feed_forward(&kernels, slice, share.from, &mut buffers, share.to)
                })
            }
        };
        let turns = Turns::new(shares, &work);
        run_beside(helpers, &|| turns.take_shares(), &mut || {
            let _helping = turns.end_on_drop();
            let mut states = self.embed_tokens(texts)?;
            let mut next = vec![0.0; states.len()];
            for (layer, number) in self.layers.iter().zip(0..) {
                // The residual connection: each half adds to its input.
                add_to_rows(&states, &layer.attended_bias, &mut next);
                turns.run_turn(2 * number, &mut states, &mut next)?;
                self.normalize_rows(&layer.attention_norm, &mut next);
                add_to_rows(&next, &layer.down_bias, &mut states);
                turns.run_turn(2 * number + 1, &mut next, &mut states)?;
                self.normalize_rows(&layer.norm, &mut states);
            }
            Ok(states)
        })
    }

    fn embed_tokens(&self, texts: &[&[u32]]) -> io::Result<Vec<f32>> {
        let hidden = self.config.hidden_size;
        let mut states =
            Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() * hidden);
        for text in texts {
            for (position, token) in (self.config.first_position()..).zip(*text) {
                let token = *token as usize;
                if token >= self.words.count || position >= self.config.max_position_embeddings {
                    return Err(invalid_data(
                        "tokenizer.json and config.json do not belong together",
                    ));
                }
                self.weights.append_row(&self.words, token, &mut states)?;
                let row = states.len() - hidden;
                add_row(
                    &mut states[row..],
                    &self.positions[position * hidden..][..hidden],
                );
            }
        }
        self.normalize_rows(&self.norm, &mut states);
        Ok(states)
    }

    /// Adds the output of some heads for `states` to `to`.
    fn add_attention(
        &self,
        kernels: &Kernels,
        heads: &Heads,
        texts: &[&[u32]],
        states: &[f32],
        buffers: &mut Buffers,
        to: &mut [f32],
    ) -> io::Result<()> {
        let hidden = self.config.hidden_size;
        let width = heads.output.rows();
        let mut first = 0;
        for texts in group_texts(texts, PORTION) {
            let tokens: usize = texts.iter().map(|text| text.len()).sum();
            let inputs = resize_buffer(&mut buffers.wide, tokens * 3 * width);
            heads.input.apply_to(
                kernels,
                &states[first * hidden..][..tokens * hidden],
                &mut buffers.scratch,
                inputs,
            )?;
            let context = resize_buffer(&mut buffers.context, tokens * width);
            let mut token = 0;
            for texts in group_texts(texts, TILE) {
                let length: usize = texts.iter().map(|text| text.len()).sum();
                let inputs = &inputs[token * 3 * width..][..length * 3 * width];
                let context = &mut context[token * width..][..length * width];
                self.attend_group(
                    &kernels.float,
                    heads,
                    texts,
                    inputs,
                    context,
                    &mut buffers.scores,
                    &mut buffers.attended,
                )?;
                token += length;
            }
            heads.output.add_product(
                kernels,
                context,
                &mut buffers.scratch,
                &mut to[first * hidden..][..tokens * hidden],
            )?;
            first += tokens;
        }
        Ok(())
    }

    /// Computes the attention of some heads over each of `texts`; `inputs` contains their queries, keys and values.
    #[expect(
        clippy::too_many_arguments,
        reason = "the buffers come from the caller"
    )]
    fn attend_group(
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
        let scores = resize_buffer(scores, length * length);
        let attended = resize_buffer(attended, length * width);
        for head in 0..all / width {
            let [query, key, value] = [0, 1, 2].map(|part| &inputs[part * all + head * width..]);
            let query = view_matrix(query, [length, width], [3 * all, 1])?;
            let key = view_matrix(key, [width, length], [1, 3 * all])?;
            let value = view_matrix(value, [length, width], [3 * all, 1])?;
            let mut scaled = GemmOptions {
                alpha: 1.0 / (width as f32).sqrt(),
                ..GemmOptions::default()
            };
            if let Some(distances) = &self.distances {
                scaled.beta = 1.0;
                visit_score_rows(texts, scores, |place, own, _| {
                    own.copy_from_slice(distances.row_of(heads.first + head, place, own.len()));
                });
            }
            multiply(executor, query, GemmInputB::Unpacked(key), scores, scaled)?;
            visit_score_rows(texts, scores, |_, own, others| {
                Softmax::new_mut(own).dispatch();
                others.into_iter().for_each(|others| others.fill(0.0));
            });
            let scores = view_matrix(scores, [length, length], [length, 1])?;
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

    /// Adds the output of a slice for `states` to `to`.
    fn add_feed_forward(
        &self,
        kernels: &Kernels,
        slice: &Slice,
        states: &[f32],
        buffers: &mut Buffers,
        to: &mut [f32],
    ) -> io::Result<()> {
        let portion = PORTION * self.config.hidden_size;
        for (from, to) in states.chunks(portion).zip(to.chunks_mut(portion)) {
            let wide = resize_buffer(
                &mut buffers.wide,
                from.len() / self.config.hidden_size * slice.up.bias.len(),
            );
            slice
                .up
                .apply_to(kernels, from, &mut buffers.scratch, wide)?;
            self.activation.apply_to(wide);
            slice
                .down
                .add_product(kernels, wide, &mut buffers.scratch, to)?;
        }
        Ok(())
    }

    fn normalize_rows(&self, norm: &Norm, states: &mut [f32]) {
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

/// Returns the parts that belong to a share.
fn range_of_share(share: &Share<'_>, parts: usize, shares: usize) -> Range<usize> {
    share.number * parts / shares..(share.number + 1) * parts / shares
}

/// Groups consecutive texts of at most `most` tokens together. A longer text is a group of its own.
fn group_texts<'a, 'b>(
    texts: &'b [&'a [u32]],
    most: usize,
) -> impl Iterator<Item = &'b [&'a [u32]]> {
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

/// Calls `work` for each token of concatenated texts, with its position in its text, its scores for that text, and its
/// scores for the texts before and after.
fn visit_score_rows(
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

/// Returns a buffer of `length` elements with arbitrary content.
fn resize_buffer(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Linear {
    /// `to = from * weight + bias`
    fn apply_to(
        &self,
        kernels: &Kernels,
        from: &[f32],
        scratch: &mut Scratch,
        to: &mut [f32],
    ) -> io::Result<()> {
        // The product is added to the bias, because the kernel adds as fast as it writes.
        to.chunks_exact_mut(self.bias.len())
            .for_each(|row| row.copy_from_slice(&self.bias));
        self.weight.add_product(kernels, from, scratch, to)
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

pub(crate) fn add_row(to: &mut [f32], more: &[f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}
