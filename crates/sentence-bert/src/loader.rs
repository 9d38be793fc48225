//! Loading of a model: reads its tensors and packs them for the matrix kernel.

use std::io;
use std::path::Path;

use super::architecture::{Config, Distances, Names};
use super::bert::{Bert, Heads, Layer, Linear, Norm, Slice, add_row};
use super::file::{WEIGHTS_FILE, invalid_data, with_file_name};
use super::matrix::{Arithmetic, Kernels, PackedMatrix};
use super::weights::{WORDS, Weights};

/// Columns of a slice of the feed-forward network. The weights of a slice, its input and its output fit into the
/// level-2 cache of a core.
const SLICE: usize = 384;
/// Number of parts of the attention if it divides the number of heads.
const PARTS: usize = 4;

impl Bert {
    /// Reads `config.json` and `model.safetensors`.
    pub(crate) fn load(folder: &Path, arithmetic: Arithmetic) -> io::Result<Self> {
        let config =
            Config::read_file(folder).map_err(|error| with_file_name("config.json", error))?;
        let weights = Weights::open(&folder.join(WEIGHTS_FILE))
            .and_then(|weights| weights.with_prefix_of(WORDS))
            .map_err(|error| with_file_name(WEIGHTS_FILE, error))?;
        let kernels = Kernels::default();
        let loader = Loader {
            arithmetic: kernels.choose_arithmetic(arithmetic),
            kernels,
            names: Names::of_model(&config),
            config: &config,
            weights: &weights,
        };
        Ok(Self {
            layers: (0..config.num_hidden_layers)
                .map(|number| loader.load_layer(number))
                .collect::<io::Result<_>>()?,
            norm: loader.load_norm("embeddings.LayerNorm")?,
            words: weights.find_rows(WORDS, config.vocab_size, config.hidden_size)?,
            activation: config.activation().map_err(invalid_data)?,
            positions: loader.load_positions()?,
            distances: loader.load_distances()?,
            weights,
            config,
        })
    }
}

struct Loader<'a> {
    kernels: Kernels,
    arithmetic: Arithmetic,
    names: Names,
    config: &'a Config,
    weights: &'a Weights,
}

impl Loader<'_> {
    fn load_layer(&self, number: usize) -> io::Result<Layer> {
        let names = &self.names;
        let name = |part: &str| format!("{}.{number}.{part}", names.layer);
        Ok(Layer {
            heads: self.load_attention(names.attention.map(name), &name(names.attended))?,
            attended_bias: self.load_bias(&name(names.attended))?,
            attention_norm: self.load_norm(&name(names.attention_norm))?,
            slices: self.load_slices(&name(names.up), &name(names.down))?,
            down_bias: self.load_bias(&name(names.down))?,
            norm: self.load_norm(&name(names.norm))?,
        })
    }

    /// Reads the matrices of query, key and value, joined for each part of the attention.
    fn load_attention(&self, inputs: [String; 3], output: &str) -> io::Result<Vec<Heads>> {
        let (hidden, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let parts = (1..=PARTS.min(heads))
            .rev()
            .find(|parts| heads % parts == 0)
            .unwrap_or(1);
        let columns = hidden / parts;
        let mut inputs_of_heads = Vec::new();
        for name in &inputs {
            inputs_of_heads.push((
                self.load_matrix(name, hidden, hidden)?,
                self.load_bias(name)?,
            ));
        }
        let output = self.load_matrix(output, hidden, hidden)?;
        let load_part = |part: usize| {
            let first = part * columns;
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for (all_weights, all_biases) in &inputs_of_heads {
                weight.extend_from_slice(&all_weights[first * hidden..][..columns * hidden]);
                bias.extend_from_slice(&all_biases[first..][..columns]);
            }
            Ok(Heads {
                first: part * heads / parts,
                input: Linear {
                    weight: self.pack_matrix(&weight, 3 * columns, hidden, hidden)?,
                    bias,
                },
                output: self.pack_matrix(&output[first..], hidden, columns, hidden)?,
            })
        };
        (0..parts).map(load_part).collect()
    }

    fn load_slices(&self, up: &str, down: &str) -> io::Result<Vec<Slice>> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let up_bias = self.weights.read_tensor(&format!("{up}.bias"), &[inner])?;
        let up = self.load_matrix(up, inner, hidden)?;
        let down = self.load_matrix(down, hidden, inner)?;
        let load_slice = |first: usize| {
            let rows = SLICE.min(inner - first);
            Ok(Slice {
                up: Linear {
                    weight: self.pack_matrix(&up[first * hidden..], rows, hidden, hidden)?,
                    bias: up_bias[first..first + rows].to_vec(),
                },
                down: self.pack_matrix(&down[first..], hidden, rows, inner)?,
            })
        };
        (0..inner).step_by(SLICE).map(load_slice).collect()
    }

    fn load_norm(&self, name: &str) -> io::Result<Norm> {
        let scale = format!("{name}.weight");
        Ok(Norm {
            scale: self
                .weights
                .read_tensor(&scale, &[self.config.hidden_size])?,
            bias: self.load_bias(name)?,
        })
    }

    fn load_matrix(&self, name: &str, rows: usize, columns: usize) -> io::Result<Vec<f32>> {
        self.weights
            .read_tensor(&format!("{name}.weight"), &[rows, columns])
    }

    fn load_bias(&self, name: &str) -> io::Result<Vec<f32>> {
        self.weights
            .read_tensor(&format!("{name}.bias"), &[self.config.hidden_size])
    }

    /// Packs a matrix, which is stored as output by input and used as input by output.
    fn pack_matrix(
        &self,
        weight: &[f32],
        rows: usize,
        columns: usize,
        step: usize,
    ) -> io::Result<PackedMatrix> {
        self.kernels
            .pack_matrix(self.arithmetic, weight, [columns, rows], step)
    }

    /// Reads the position embeddings and adds the embedding of the single token type.
    fn load_positions(&self) -> io::Result<Vec<f32>> {
        let (config, hidden) = (self.config, self.config.hidden_size);
        let mut positions = self.load_matrix(
            "embeddings.position_embeddings",
            config.max_position_embeddings,
            hidden,
        )?;
        if config.type_vocab_size > 0 {
            let types = self.load_matrix(
                "embeddings.token_type_embeddings",
                config.type_vocab_size,
                hidden,
            )?;
            for row in positions.chunks_exact_mut(hidden) {
                add_row(row, &types[..hidden]);
            }
        }
        Ok(positions)
    }

    fn load_distances(&self) -> io::Result<Option<Distances>> {
        if !self.config.has_distances() {
            return Ok(None);
        }
        let (buckets, heads) = (
            self.config.relative_attention_num_buckets,
            self.config.num_attention_heads,
        );
        let table = self.load_matrix("encoder.relative_attention_bias", buckets, heads)?;
        let farthest = self.config.max_position_embeddings;
        Ok(Some(Distances::new(&table, buckets, heads, farthest)))
    }
}
