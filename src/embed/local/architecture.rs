//! Which models are known, what `config.json` says of them, and what their tensors are called.
//!
//! To add a relative of BERT: its type in [`Config::check`], its names in [`Names::of`], and a model of it in
//! `tests/data/models/make.py`. What differs in any other way is refused: a wrong vector would be told by nobody.

use std::path::Path;

use rten_simd::SimdUnaryOp;
use rten_vecmath::{ApproxGelu, Gelu};
use serde::Deserialize;

/// `config.json`, as far as it matters. DistilBERT has names of its own.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Config {
    #[serde(default = "bert")]
    pub(super) model_type: String,
    #[serde(alias = "dim")]
    pub(super) hidden_size: usize,
    #[serde(alias = "hidden_dim")]
    pub(super) intermediate_size: usize,
    #[serde(alias = "n_heads")]
    pub(super) num_attention_heads: usize,
    #[serde(alias = "n_layers")]
    pub(super) num_hidden_layers: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) vocab_size: usize,
    #[serde(default)]
    pub(super) type_vocab_size: usize,
    #[serde(default = "gelu", alias = "activation")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    pub(super) layer_norm_eps: f32,
    pad_token_id: Option<usize>,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default = "buckets")]
    pub(super) relative_attention_num_buckets: usize,
    #[serde(default)]
    is_decoder: bool,
}

fn bert() -> String {
    "bert".to_owned()
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn epsilon() -> f32 {
    1e-12
}

fn buckets() -> usize {
    32
}

impl Config {
    /// Reads and checks the file.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(folder.join("config.json")).map_err(|error| error.to_string())?;
        // Asked first: what is of another kind may not even have the sizes.
        let kind: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if let Some(kind) = kind["model_type"].as_str() {
            known(kind)?;
        }
        let config: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// Where positions begin: the relatives of RoBERTa count on from the padding token.
    pub(super) fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            "bert" | "distilbert" => 0,
            _ => self.pad_token_id.unwrap_or(1) + 1,
        }
    }

    /// Tokens that the positions suffice for.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    pub(super) fn activation(&self) -> Result<Activation, String> {
        match self.hidden_act.as_str() {
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::ApproxGelu),
            "relu" => Ok(Activation::Relu),
            other => Err(format!("the activation {other:?} is not known")),
        }
    }

    /// MPNet adds to each score how far the tokens are from each other.
    pub(super) fn has_distances(&self) -> bool {
        self.model_type == "mpnet"
    }

    fn check(&self) -> Result<(), String> {
        known(&self.model_type)?;
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

fn known(kind: &str) -> Result<(), String> {
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

/// Between the two products of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Activation {
    Gelu,
    ApproxGelu,
    Relu,
}

impl Activation {
    pub(super) fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Gelu => Gelu {}.map_mut(numbers),
            Self::ApproxGelu => ApproxGelu {}.map_mut(numbers),
            Self::Relu => numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
    }
}

/// What the parts of a layer are called.
pub(super) struct Names {
    pub(super) layer: &'static str,
    /// Query, key, value.
    pub(super) attention: [&'static str; 3],
    pub(super) attended: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) norm: &'static str,
}

impl Names {
    pub(super) fn of(config: &Config) -> Self {
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

/// What MPNet adds to the scores of two tokens, by head and distance.
pub(super) struct Distances {
    /// For each head the values from the farthest before to the farthest behind.
    values: Vec<f32>,
    farthest: usize,
}

impl Distances {
    /// From the learnt table, a row for each range of distances and a column for each head.
    pub(super) fn new(table: &[f32], buckets: usize, heads: usize, farthest: usize) -> Self {
        let mut values = Vec::with_capacity(heads * (2 * farthest + 1));
        for head in 0..heads {
            for step in 0..=2 * farthest {
                values.push(table[bucket(step, farthest, buckets) * heads + head]);
            }
        }
        Self { values, farthest }
    }

    /// For the token at `place` and all from the first to the last of a text.
    pub(super) fn row(&self, head: usize, place: usize, length: usize) -> &[f32] {
        &self.values[head * (2 * self.farthest + 1) + self.farthest - place..][..length]
    }
}

/// The range of a distance, `farthest + step` behind the token that looks: some for single steps, beyond those by the
/// logarithm, half of them for each side.
fn bucket(step: usize, farthest: usize, buckets: usize) -> usize {
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
