//! Pooling: one vector from the states of all tokens.
//!
//! To add a mode: a variant of [`Pooling`], its two names in [`Pooling::from_name`], and a model in
//! `tests/data/models/make.py`.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::file::{read_optional, with_file_name};

/// How the states of the tokens become one vector. The length of the vector matters if a dense
/// module follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Mean,
    /// Sum divided by the square root of the number of tokens.
    Root,
    First,
    Last,
    /// Maximum of each component.
    Max,
    /// Mean that gives later tokens more weight.
    Weighted,
}

/// Older files enable modes one by one; newer ones name one or several modes, whose results are
/// concatenated.
#[derive(Default, Deserialize)]
struct PoolingFile {
    pooling_mode: Option<OneOrMore>,
    include_prompt: Option<bool>,
    #[serde(flatten)]
    other: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl PoolingFile {
    fn list_modes(&self) -> Vec<&str> {
        match &self.pooling_mode {
            Some(OneOrMore::One(way)) => vec![way],
            Some(OneOrMore::More(ways)) => ways.iter().map(String::as_str).collect(),
            None => {
                let on = self.other.iter().filter(|(_, value)| **value == true);
                on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
                    .collect()
            }
        }
    }
}

impl Pooling {
    /// Reads the file of the module in `place`. `has_prompt`: texts are preceded by a prompt.
    pub(crate) fn read_file(folder: &Path, place: &str, has_prompt: bool) -> io::Result<Self> {
        let name = format!("{place}/config.json");
        let Some(file) = read_optional::<PoolingFile>(folder, &name)? else {
            return Err(with_file_name(&name, "it is missing"));
        };
        if has_prompt && file.include_prompt == Some(false) {
            return Err(with_file_name(
                &name,
                "pooling without the tokens of the prompt is not known",
            ));
        }
        match file.list_modes()[..] {
            [way] => Self::from_name(way)
                .ok_or_else(|| with_file_name(&name, format!("pooling by {way} is not known"))),
            ref ways => Err(with_file_name(
                &name,
                format!("one way of pooling is expected, not {}", ways.len()),
            )),
        }
    }

    fn from_name(way: &str) -> Option<Self> {
        Some(match way {
            "mean" | "mean_tokens" => Self::Mean,
            "mean_sqrt_len_tokens" => Self::Root,
            "cls" | "cls_token" => Self::First,
            "lasttoken" => Self::Last,
            "max" | "max_tokens" => Self::Max,
            "weightedmean" | "weightedmean_tokens" => Self::Weighted,
            _ => return None,
        })
    }

    /// Computes the vector of a text from the states of its tokens.
    pub(crate) fn pool_states(self, states: &[f32], hidden: usize) -> Vec<f32> {
        let mut rows = states.chunks_exact(hidden);
        match self {
            Self::First => states[..hidden].to_vec(),
            Self::Last => states[states.len() - hidden..].to_vec(),
            Self::Mean | Self::Root | Self::Weighted => {
                let (mut sum, mut weights) = (vec![0.0; hidden], 0.0_f32);
                for (row, place) in rows.zip(1_u16..) {
                    let weight = if self == Self::Weighted {
                        f32::from(place)
                    } else {
                        1.0
                    };
                    sum.iter_mut()
                        .zip(row)
                        .for_each(|(sum, x)| *sum += x * weight);
                    weights += weight;
                }
                let divisor = if self == Self::Root {
                    weights.sqrt()
                } else {
                    weights
                };
                sum.iter_mut().for_each(|sum| *sum /= divisor);
                sum
            }
            Self::Max => {
                let mut most = rows.next().unwrap_or_default().to_vec();
                rows.for_each(|row| {
                    most.iter_mut()
                        .zip(row)
                        .for_each(|(most, x)| *most = most.max(*x))
                });
                most
            }
        }
    }
}
