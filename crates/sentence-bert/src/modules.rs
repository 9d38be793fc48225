//! `modules.json`: the steps of a sentence model and their files.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::dense::Dense;
use super::file::{WEIGHTS_FILE, read_optional, with_file_name};
use super::pooling::Pooling;
use super::scale_to_unit;

const FILE: &str = "modules.json";

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Module {
    /// Returns the class without its package, which differs between versions.
    fn class_name(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    /// Returns the names of the files in the folder of the module.
    fn file_names(&self) -> &'static [&'static str] {
        match self.class_name() {
            "Pooling" => &["config.json"],
            "Dense" => &["config.json", WEIGHTS_FILE],
            _ => &[],
        }
    }

    /// Returns whether the path is safe: `modules.json` is downloaded, and the files that it names are read and
    /// written. Only a module without files may have no folder.
    fn has_safe_path(&self) -> bool {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
        let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
        match self.path.as_str() {
            "" => self.file_names().is_empty(),
            path => path
                .split('/')
                .all(|part| inside(part) && part.chars().all(plain)),
        }
    }
}

fn read_modules(folder: &Path) -> io::Result<Option<Vec<Module>>> {
    let modules: Option<Vec<Module>> = read_optional(folder, FILE)?;
    match modules
        .iter()
        .flatten()
        .find(|module| !module.has_safe_path())
    {
        Some(module) => Err(with_file_name(
            FILE,
            format!("{:?} is not a path inside the model", module.path),
        )),
        None => Ok(modules),
    }
}

/// Lists the files of the modules after the transformer. Returns `None` if `modules.json` is missing or damaged.
pub fn list_module_files(folder: &Path) -> Option<Vec<String>> {
    let mut files = Vec::new();
    for module in read_modules(folder).ok()?? {
        let names = module.file_names().iter();
        files.extend(names.map(|name| format!("{}/{name}", module.path)));
    }
    Some(files)
}

/// Computes the embedding of a text from the states of its tokens.
pub(crate) struct Head {
    hidden: usize,
    pooling: Pooling,
    steps: Vec<Step>,
    /// Dimension of an embedding.
    pub(crate) dimension: usize,
}

/// A step after the pooling.
enum Step {
    Normalize,
    Dense(Dense),
}

impl Head {
    /// Reads the files, for states of `hidden` components. `has_prompt`: texts are preceded by a prompt.
    pub(crate) fn read_files(folder: &Path, hidden: usize, has_prompt: bool) -> io::Result<Self> {
        let refused = |what: String| Err(with_file_name(FILE, what));
        let Some(modules) = read_modules(folder)? else {
            // A model without modules. The reference implementation uses mean pooling.
            return Ok(Self {
                hidden,
                pooling: Pooling::Mean,
                steps: Vec::new(),
                dimension: hidden,
            });
        };
        let (mut pooling, mut steps, mut dimension) = (None, Vec::new(), hidden);
        for (module, number) in modules.iter().zip(0..) {
            match (module.class_name(), &pooling) {
                ("Transformer", _) if number == 0 && module.path.is_empty() => {}
                ("Transformer", _) if number == 0 => {
                    return refused(format!(
                        "a model in a folder of its own ({}) is not known",
                        module.path
                    ));
                }
                ("Pooling", None) => {
                    pooling = Some(Pooling::read_file(folder, &module.path, has_prompt)?)
                }
                ("Normalize", Some(_)) => steps.push(Step::Normalize),
                ("Dense", Some(_)) => {
                    let dense = Dense::read_files(folder, &module.path, dimension)?;
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

    /// Returns the embedding of a text, of length 1.
    pub(crate) fn embed_states(&self, states: &[f32]) -> io::Result<Vec<f32>> {
        let mut vector = self.pooling.pool_states(states, self.hidden);
        for step in &self.steps {
            vector = match step {
                Step::Normalize => normalize_vector(vector)?,
                Step::Dense(dense) => dense.transform_vector(&vector),
            };
        }
        normalize_vector(vector)
    }
}

fn normalize_vector(vector: Vec<f32>) -> io::Result<Vec<f32>> {
    scale_to_unit(vector)
        .ok_or_else(|| io::Error::other("the model returned NaN, infinite or only zero numbers"))
}
