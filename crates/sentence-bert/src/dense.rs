//! A dense module after the pooling: a matrix and an activation function.
//!
//! To add an activation: a variant of [`Activation`], with its name there and in [`Activation::apply_to`].

use std::io;
use std::path::Path;

use rten_simd::SimdUnaryOp;
use rten_vecmath::Gelu;
use serde::Deserialize;

use super::file::{SAVE_AGAIN, WEIGHTS_FILE, read_optional, with_file_name};
use super::weights::Weights;

/// `config.json`, with the defaults of the reference.
#[derive(Deserialize)]
struct DenseFile {
    in_features: usize,
    out_features: usize,
    #[serde(default = "default_bias")]
    bias: bool,
    #[serde(default = "default_activation")]
    activation_function: String,
    #[serde(default)]
    use_residual: bool,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

fn default_bias() -> bool {
    true
}

fn default_activation() -> String {
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
    /// Returns the activation with this class in PyTorch.
    fn from_class(class: &str) -> Option<Self> {
        Some(match class.strip_prefix("torch.nn.")?.rsplit('.').next()? {
            "Identity" => Self::Identity,
            "Tanh" => Self::Tanh,
            "ReLU" => Self::Relu,
            "GELU" => Self::Gelu,
            "Sigmoid" => Self::Sigmoid,
            _ => return None,
        })
    }

    fn apply_to(self, numbers: &mut [f32]) {
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

/// A loaded dense module.
pub(crate) struct Dense {
    /// The contribution of each input component to the output.
    rows: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl Dense {
    /// Reads the files of the module in `place`. Its input has `dimension` components.
    pub(crate) fn read_files(folder: &Path, place: &str, dimension: usize) -> io::Result<Self> {
        let name = format!("{place}/config.json");
        let refused = |what: String| Err(with_file_name(&name, what));
        let Some(file) = read_optional::<DenseFile>(folder, &name)? else {
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
        let Some(activation) = Activation::from_class(&file.activation_function) else {
            return refused(format!(
                "the activation {:?} is not known",
                file.activation_function
            ));
        };
        let path = folder.join(place).join(WEIGHTS_FILE);
        let name = format!("{place}/{WEIGHTS_FILE}");
        let read = || {
            let weights = Weights::open(&path)?;
            let bias = if file.bias {
                weights.read_tensor("linear.bias", &[outer])?
            } else {
                vec![0.0; outer]
            };
            io::Result::Ok((weights.read_tensor("linear.weight", &[outer, inner])?, bias))
        };
        let (weight, bias) = match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(with_file_name(&name, describe_missing(&path)));
            }
            other => other.map_err(|error| with_file_name(&name, error))?,
        };
        // Transposed, so that the components of the output are adjacent.
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

    /// Returns the dimension of the output.
    pub(crate) fn dimension(&self) -> usize {
        self.bias.len()
    }

    pub(crate) fn transform_vector(&self, vector: &[f32]) -> Vec<f32> {
        let mut to = self.bias.clone();
        for (x, row) in vector.iter().zip(self.rows.chunks_exact(to.len())) {
            to.iter_mut()
                .zip(row)
                .for_each(|(to, weight)| *to += x * weight);
        }
        self.activation.apply_to(&mut to);
        to
    }
}

/// Explains how to obtain missing weights.
fn describe_missing(weights: &Path) -> String {
    match weights.with_file_name("pytorch_model.bin").exists() {
        true => format!(
            "it is missing, and pytorch_model.bin is not read: {}",
            SAVE_AGAIN
        ),
        false => "it is missing".to_owned(),
    }
}
