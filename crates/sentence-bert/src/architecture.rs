//! The supported architectures, their `config.json`, and the names of their tensors.
//!
//! To add a relative of BERT: add its type to [`check_kind`], its names to [`Names::of_model`], and a model to
//! `tests/data/models/make.py`. A model that differs in any other way is refused, because a wrong embedding would go
//! unnoticed.

use std::path::Path;

use rten_simd::SimdUnaryOp;
use rten_vecmath::{ApproxGelu, Gelu};
use serde::Deserialize;

/// The fields of `config.json` that are used. DistilBERT has other names for some.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    #[serde(default = "default_type")]
    pub(crate) model_type: String,
    #[serde(alias = "dim")]
    pub(crate) hidden_size: usize,
    #[serde(alias = "hidden_dim")]
    pub(crate) intermediate_size: usize,
    #[serde(alias = "n_heads")]
    pub(crate) num_attention_heads: usize,
    #[serde(alias = "n_layers")]
    pub(crate) num_hidden_layers: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) vocab_size: usize,
    #[serde(default)]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "default_activation", alias = "activation")]
    hidden_act: String,
    #[serde(default = "default_epsilon")]
    pub(crate) layer_norm_eps: f32,
    pad_token_id: Option<usize>,
    #[serde(default = "default_positions")]
    position_embedding_type: String,
    #[serde(default = "default_buckets")]
    pub(crate) relative_attention_num_buckets: usize,
    #[serde(default)]
    is_decoder: bool,
}

fn default_type() -> String {
    "bert".to_owned()
}

fn default_activation() -> String {
    "gelu".to_owned()
}

fn default_positions() -> String {
    "absolute".to_owned()
}

fn default_epsilon() -> f32 {
    1e-12
}

fn default_buckets() -> usize {
    32
}

impl Config {
    /// Reads and checks the file.
    pub(crate) fn read_file(folder: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(folder.join("config.json")).map_err(|error| error.to_string())?;
        // Checked first, because another kind of model may lack the sizes.
        let kind: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if let Some(kind) = kind["model_type"].as_str() {
            check_kind(kind)?;
        }
        let config: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        config.check_values()?;
        Ok(config)
    }

    /// First position. The relatives of RoBERTa count from the padding token.
    pub(crate) fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            "bert" | "distilbert" => 0,
            _ => self.pad_token_id.unwrap_or(1) + 1,
        }
    }

    /// Maximum number of tokens for which there are positions.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    pub(crate) fn activation(&self) -> Result<Activation, String> {
        match self.hidden_act.as_str() {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::ApproxGelu),
            "relu" => Ok(Activation::Relu),
            other => Err(format!("the activation {other:?} is not known")),
        }
    }

    /// MPNet adds a value for the distance of the tokens to each score.
    pub(crate) fn has_distances(&self) -> bool {
        self.model_type == "mpnet"
    }

    fn check_values(&self) -> Result<(), String> {
        check_kind(&self.model_type)?;
        if self.is_decoder {
            return Err(
                "a decoder is not known: each token may look only at those before it".to_owned(),
            );
        }
        if self.position_embedding_type != "absolute" {
            return Err(format!(
                "positions of type {:?} are not known",
                self.position_embedding_type
            ));
        }
        let sizes = [
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads,
            self.num_hidden_layers,
        ];
        let whole = self.num_attention_heads > 0
            && self.hidden_size.is_multiple_of(self.num_attention_heads);
        if sizes.contains(&0) || !whole || self.max_position_embeddings <= self.first_position() + 2
        {
            return Err("the sizes do not fit together".to_owned());
        }
        self.activation().map(drop)
    }
}

fn check_kind(kind: &str) -> Result<(), String> {
    const KNOWN: [&str; 6] = [
        "bert",
        "roberta",
        "xlm-roberta",
        "camembert",
        "distilbert",
        "mpnet",
    ];
    if KNOWN.contains(&kind) {
        return Ok(());
    }
    Err(format!(
        "a model of type {kind:?} is not known, only {}",
        KNOWN.join(", ")
    ))
}

/// The function between the two products of the feed-forward network.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Activation {
    Gelu,
    ApproxGelu,
    Relu,
}

impl Activation {
    pub(crate) fn apply_to(self, numbers: &mut [f32]) {
        match self {
            Self::Gelu => Gelu {}.map_mut(numbers),
            Self::ApproxGelu => ApproxGelu {}.map_mut(numbers),
            Self::Relu => numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
    }
}

/// Names of the tensors of a layer.
pub(crate) struct Names {
    pub(crate) layer: &'static str,
    /// Query, key, value.
    pub(crate) attention: [&'static str; 3],
    pub(crate) attended: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) norm: &'static str,
}

impl Names {
    pub(crate) fn of_model(config: &Config) -> Self {
        const BERT: Names = Names {
            layer: "encoder.layer",
            attention: [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
            ],
            attended: "attention.output.dense",
            attention_norm: "attention.output.LayerNorm",
            up: "intermediate.dense",
            down: "output.dense",
            norm: "output.LayerNorm",
        };
        match config.model_type.as_str() {
            "distilbert" => Self {
                layer: "transformer.layer",
                attention: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
                attended: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                up: "ffn.lin1",
                down: "ffn.lin2",
                norm: "output_layer_norm",
            },
            "mpnet" => Self {
                attention: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
                attended: "attention.attn.o",
                attention_norm: "attention.LayerNorm",
                ..BERT
            },
            _ => BERT,
        }
    }
}

/// The values that MPNet adds to the attention score of two tokens, by head and distance.
pub(crate) struct Distances {
    /// For each head, the values from the farthest token before to the farthest after.
    values: Vec<f32>,
    farthest: usize,
}

impl Distances {
    /// Expands the learnt table, which has a row per range of distances and a column per head.
    pub(crate) fn new(table: &[f32], buckets: usize, heads: usize, farthest: usize) -> Self {
        let mut values = Vec::with_capacity(heads * (2 * farthest + 1));
        for head in 0..heads {
            for step in 0..=2 * farthest {
                values.push(table[bucket_of(step, farthest, buckets) * heads + head]);
            }
        }
        Self { values, farthest }
    }

    /// Returns the values of the token at `place` for all tokens of a text.
    pub(crate) fn row_of(&self, head: usize, place: usize, length: usize) -> &[f32] {
        &self.values[head * (2 * self.farthest + 1) + self.farthest - place..][..length]
    }
}

/// Returns the bucket of a distance. Half of the buckets belong to each side; near distances have one each, and farther ones
/// are divided by their logarithm.
fn bucket_of(step: usize, farthest: usize, buckets: usize) -> usize {
    const LONGEST: f32 = 128.0;
    let (side, exact) = (buckets / 2, buckets / 4);
    let behind = step > farthest;
    let distance = step.abs_diff(farthest);
    let within = if distance < exact {
        distance
    } else {
        let far = (distance as f32 / exact as f32).ln() / (LONGEST / exact as f32).ln()
            * (side - exact) as f32;
        (exact + far as usize).min(side - 1)
    };
    within + if behind { side } else { 0 }
}
