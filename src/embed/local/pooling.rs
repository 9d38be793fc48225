//! One vector of the states of all tokens, as `modules.json` and the file of its pooling module say.
//!
//! To add a way: a variant of [`Pooling`], its two names in [`Pooling::named`], and a model in
//! `tests/data/models/make.py`.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::{Vector, named, optional};

/// How the states of the tokens become one vector, whose length does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean; other divisors give the same direction.
    Mean,
    First,
    Last,
    /// The largest of each number.
    Max,
    /// Their mean, later tokens counting more.
    Weighted,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Older files switch ways on one by one, newer ones name one or several, which are put beside each other.
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
    fn ways(&self) -> Vec<&str> {
        match &self.pooling_mode {
            Some(OneOrMore::One(way)) => vec![way],
            Some(OneOrMore::More(ways)) => ways.iter().map(String::as_str).collect(),
            None => {
                let on = self.other.iter().filter(|(_, value)| **value == true);
                on.filter_map(|(name, _)| name.strip_prefix("pooling_mode_")).collect()
            }
        }
    }
}

impl Pooling {
    /// Reads the files. `prompted`: something stands before the texts.
    pub(super) fn read(folder: &Path, prompted: bool) -> io::Result<Self> {
        let modules: Option<Vec<Module>> = optional(folder, "modules.json")?;
        let refused = |what: String| Err(named("modules.json", what));
        // Without the file it is a bare model, of which the reference takes the mean.
        let Some(modules) = modules else { return Ok(Self::Mean) };
        let mut place = None;
        for module in &modules {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if !module.path.is_empty() => {
                    return refused(format!("a model in a folder of its own ({}) is not known", module.path));
                }
                "Transformer" | "Normalize" => {}
                "Pooling" => place = Some(&module.path),
                other => return refused(format!("a module of type {other} is not known")),
            }
        }
        let Some(place) = place else { return refused("there is no module of type Pooling".to_owned()) };
        let name = format!("{place}/config.json");
        let Some(file) = optional::<PoolingFile>(folder, &name)? else {
            return Err(named(&name, "it is missing"));
        };
        if prompted && file.include_prompt == Some(false) {
            return Err(named(&name, "pooling without the tokens of the prompt is not known"));
        }
        match file.ways()[..] {
            [way] => Self::named(way).ok_or_else(|| named(&name, format!("pooling by {way} is not known"))),
            ref ways => Err(named(&name, format!("one way of pooling is expected, not {}", ways.len()))),
        }
    }

    fn named(way: &str) -> Option<Self> {
        Some(match way {
            "mean" | "mean_tokens" | "mean_sqrt_len_tokens" => Self::Mean,
            "cls" | "cls_token" => Self::First,
            "lasttoken" => Self::Last,
            "max" | "max_tokens" => Self::Max,
            "weightedmean" | "weightedmean_tokens" => Self::Weighted,
            _ => return None,
        })
    }

    /// The vector of a text from the states of its tokens.
    pub(super) fn pool(self, states: &[f32], hidden: usize) -> Vector {
        let mut rows = states.chunks_exact(hidden);
        match self {
            Self::First => states[..hidden].to_vec(),
            Self::Last => states[states.len() - hidden..].to_vec(),
            Self::Mean | Self::Weighted => {
                // The direction is all that counts, so there is no need to divide.
                let mut sum = vec![0.0; hidden];
                for (row, place) in rows.zip(1_u16..) {
                    let weight = if self == Self::Weighted { f32::from(place) } else { 1.0 };
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * weight);
                }
                sum
            }
            Self::Max => {
                let mut most = rows.next().unwrap_or_default().to_vec();
                rows.for_each(|row| most.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(*x)));
                most
            }
        }
    }
}
