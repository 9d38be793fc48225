//! A dense module behind the pooling: a matrix, and a function of each number.
//!
//! To add an activation: a variant of [`Activation`], with its name there and in [`Activation::apply`].

use std::io;
use std::path::Path;

use rten_simd::SimdUnaryOp;
use rten_vecmath::Gelu;
use serde::Deserialize;

use super::weights::Weights;
use super::{Vector, WEIGHTS, named, optional};

/// `config.json`. What is missing is as the reference has it by default.
#[derive(Deserialize)]
struct DenseFile {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default = "tanh")]
    activation_function: String,
    #[serde(default)]
    use_residual: bool,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

fn yes() -> bool {
    true
}

fn tanh() -> String {
    "torch.nn.modules.activation.Tanh".to_owned()
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
}

impl Activation {
    /// By its class in PyTorch.
    fn named(class: &str) -> Option<Self> {
        Some(match class.strip_prefix("torch.nn.")?.rsplit('.').next()? {
            "Identity" => Self::Identity,
            "Tanh" => Self::Tanh,
            "ReLU" => Self::Relu,
            "GELU" => Self::Gelu,
            "Sigmoid" => Self::Sigmoid,
            _ => return None,
        })
    }

    fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Tanh => numbers.iter_mut().for_each(|x| *x = x.tanh()),
            Self::Relu => numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Gelu => Gelu {}.map_mut(numbers),
            Self::Sigmoid => numbers
                .iter_mut()
                .for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        }
    }
}

/// A dense module, ready to run.
pub(super) struct Dense {
    /// What each number that comes in adds to those that go out.
    rows: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Dense {
    /// Reads the files of the module in `place`, into which vectors of `dimension` numbers come.
    pub(super) fn read(folder: &Path, place: &str, dimension: usize) -> io::Result<Self> {
        let name = format!("{place}/config.json");
        let refused = |what: String| Err(named(&name, what));
        let Some(file) = optional::<DenseFile>(folder, &name)? else {
            return refused("it is missing".to_owned());
        };
        let (inner, outer) = (file.in_features, file.out_features);
        if inner != dimension || outer == 0 {
            return refused(format!(
                "from {inner} to {outer} numbers does not fit vectors of {dimension}"
            ));
        }
        if file.use_residual {
            return refused("a residual connection (use_residual) is not known".to_owned());
        }
        let others = [&file.module_input_name, &file.module_output_name]
            .into_iter()
            .flatten();
        if let Some(other) = others
            .into_iter()
            .find(|name| *name != "sentence_embedding")
        {
            return refused(format!("a module that works on {other:?} is not known"));
        }
        let Some(activation) = Activation::named(&file.activation_function) else {
            return refused(format!(
                "the activation {:?} is not known",
                file.activation_function
            ));
        };
        let path = folder.join(place).join(WEIGHTS);
        let name = format!("{place}/{WEIGHTS}");
        let read = || {
            let weights = Weights::open(&path)?;
            let bias = if file.bias {
                weights.tensor("linear.bias", &[outer])?
            } else {
                vec![0.0; outer]
            };
            io::Result::Ok((weights.tensor("linear.weight", &[outer, inner])?, bias))
        };
        let (weight, bias) = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(named(&name, missing(&path)));
            }
            other => other.map_err(|error| named(&name, error))?,
        };
        // Turned, so that what is added to lies side by side.
        let rows = (0..inner)
            .flat_map(|column| weight.iter().skip(column).step_by(inner))
            .copied()
            .collect();
        Ok(Self {
            rows,
            bias,
            activation,
        })
    }

    /// Numbers that go out.
    pub(super) fn dimension(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn apply(&self, vector: &[f32]) -> Vector {
        let mut to = self.bias.clone();
        for (x, row) in vector.iter().zip(self.rows.chunks_exact(to.len())) {
            to.iter_mut()
                .zip(row)
                .for_each(|(to, weight)| *to += x * weight);
        }
        self.activation.apply(&mut to);
        to
    }
}

/// What to do about weights that are not there.
fn missing(weights: &Path) -> String {
    match weights.with_file_name("pytorch_model.bin").exists() {
        true => format!(
            "it is missing, and pytorch_model.bin is not read: {}",
            super::SAVE_ANEW
        ),
        false => "it is missing".to_owned(),
    }
}
