//! `modules.json`: what a sentence model does one after the other, and in which files that is said.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::dense::Dense;
use super::pooling::Pooling;
use super::{Vector, named, normalised, optional};

const FILE: &str = "modules.json";

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Module {
    /// Older and newer files have it in different packages.
    fn kind(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    /// What it has in its folder.
    fn files(&self) -> &'static [&'static str] {
        match self.kind() {
            "Pooling" => &["config.json"],
            "Dense" => &["config.json", super::WEIGHTS],
            _ => &[],
        }
    }

    /// `modules.json` comes from somewhere else, and what it names is read and written. Only what has no files may have
    /// no folder.
    fn lies_inside(&self) -> bool {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
        match self.path.as_str() {
            "" => self.files().is_empty(),
            path => path
                .split('/')
                .all(|part| inside(part) && part.chars().all(plain)),
        }
    }
}

fn modules(folder: &Path) -> io::Result<Option<Vec<Module>>> {
    let modules: Option<Vec<Module>> = optional(folder, FILE)?;
    match modules
        .iter()
        .flatten()
        .find(|module| !module.lies_inside())
    {
        Some(module) => Err(named(
            FILE,
            format!("{:?} is no path inside of the model", module.path),
        )),
        None => Ok(modules),
    }
}

/// The files of the modules behind the transformer. Nothing where `modules.json` is missing or damaged.
pub(in crate::embed) fn files(folder: &Path) -> Option<Vec<String>> {
    let of = |module: &Module| {
        module
            .files()
            .iter()
            .map(|file| format!("{}/{file}", module.path))
            .collect::<Vec<_>>()
    };
    Some(modules(folder).ok()??.iter().flat_map(of).collect())
}

/// From the states of a text's tokens to its vector.
pub(super) struct Head {
    hidden: usize,
    pooling: Pooling,
    steps: Vec<Step>,
    /// Numbers in a vector.
    pub(super) dimension: usize,
}

/// What is done with the pooled vector.
enum Step {
    Normalize,
    Dense(Dense),
}

impl Head {
    /// Reads the files, for states of `hidden` numbers. `prompted`: something stands before the texts.
    pub(super) fn read(folder: &Path, hidden: usize, prompted: bool) -> io::Result<Self> {
        let refused = |what: String| Err(named(FILE, what));
        let Some(modules) = modules(folder)? else {
            // A bare model, of which the reference takes the mean.
            return Ok(Self {
                hidden,
                pooling: Pooling::Mean,
                steps: Vec::new(),
                dimension: hidden,
            });
        };
        let (mut pooling, mut steps, mut dimension) = (None, Vec::new(), hidden);
        for (module, number) in modules.iter().zip(0..) {
            match (module.kind(), &pooling) {
                ("Transformer", _) if number == 0 && module.path.is_empty() => {}
                ("Transformer", _) if number == 0 => {
                    return refused(format!(
                        "a model in a folder of its own ({}) is not known",
                        module.path
                    ));
                }
                ("Pooling", None) => pooling = Some(Pooling::read(folder, &module.path, prompted)?),
                ("Normalize", Some(_)) => steps.push(Step::Normalize),
                ("Dense", Some(_)) => {
                    let dense = Dense::read(folder, &module.path, dimension)?;
                    dimension = dense.dimension();
                    steps.push(Step::Dense(dense));
                }
                (kind @ ("Transformer" | "Pooling" | "Normalize" | "Dense"), _) => {
                    return refused(format!(
                        "a module of type {kind} is not known in place {number}"
                    ));
                }
                (other, _) => return refused(format!("a module of type {other} is not known")),
            }
        }
        match pooling {
            Some(pooling) => Ok(Self {
                hidden,
                pooling,
                steps,
                dimension,
            }),
            None => refused("there is no module of type Pooling".to_owned()),
        }
    }

    /// The vector of a text, of length 1.
    pub(super) fn vector(&self, states: &[f32]) -> io::Result<Vector> {
        let mut vector = self.pooling.pool(states, self.hidden);
        for step in &self.steps {
            vector = match step {
                Step::Normalize => unit(vector)?,
                Step::Dense(dense) => dense.apply(&vector),
            };
        }
        unit(vector)
    }
}

fn unit(vector: Vector) -> io::Result<Vector> {
    let dimension = vector.len();
    normalised(vector, dimension).map_err(io::Error::other)
}
