//! Translates the cosines of a model into those of the model to which the constants of ranking were fitted.
//!
//! Models spread their cosines differently: unrelated texts have about 0.06 with all-MiniLM-L6-v2 and 0.77 with
//! multilingual-e5-small. Every constant that a cosine is compared with belongs to the former.

use std::fmt;

/// Mean cosines of all-MiniLM-L6-v2 on the golden set: of the nearest memory, of the third nearest, and of the memory
/// that is at one third of all.
const REFERENCE: [f64; 3] = [0.534, 0.368, 0.081];

/// A linear translation of cosines: `(cosine - offset) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// Cosine that becomes 0.
    pub offset: f64,
    /// Factor, above 0.
    pub scale: f64,
}

impl Calibration {
    /// The calibration of the model to which the constants were fitted.
    pub const IDENTITY: Self = Self {
        offset: 0.0,
        scale: 1.0,
    };

    /// Translates a cosine.
    #[must_use]
    pub fn translate(self, cosine: f64) -> f64 {
        (cosine - self.offset) * self.scale
    }

    /// Fits the translation to the cosines of answerable questions, each sorted from the nearest memory to the least
    /// near. Returns `None` if they do not decrease, so that no translation exists.
    #[must_use]
    pub fn fit(questions: &[Vec<f64>]) -> Option<Self> {
        let samples: Vec<[f64; 3]> = questions
            .iter()
            .filter(|cosines| cosines.len() >= 9)
            .map(|cosines| [cosines[0], cosines[2], cosines[cosines.len() / 3]])
            .collect();
        let count = samples.len() as f64;
        let means: [f64; 3] =
            std::array::from_fn(|at| samples.iter().map(|sample| sample[at]).sum::<f64>() / count);
        let (mean, reference) = (average(&means), average(&REFERENCE));
        let spread: f64 = means.iter().map(|x| (x - mean).powi(2)).sum();
        let common: f64 = means
            .iter()
            .zip(REFERENCE)
            .map(|(x, y)| (x - mean) * (y - reference))
            .sum();
        let scale = common / spread;
        (scale.is_finite() && scale > 0.0).then(|| Self {
            offset: mean - reference / scale,
            scale,
        })
    }
}

fn average(values: &[f64; 3]) -> f64 {
    values.iter().sum::<f64>() / 3.0
}

/// As the setting `MEMORY_MODEL_CALIBRATION` expects it.
impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3},{:.2}", self.offset, self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squeezed_and_shifted_cosines_are_translated_back() {
        let reference: Vec<f64> = [0.534, 0.45, 0.368, 0.2, 0.15, 0.1, 0.081]
            .into_iter()
            .chain(std::iter::repeat_n(0.05, 12))
            .collect();
        let squeezed: Vec<f64> = reference.iter().map(|c| c / 4.7 + 0.755).collect();
        let fitted = Calibration::fit(&[squeezed.clone(), squeezed]).unwrap();
        assert_eq!(fitted.to_string(), "0.755,4.70");
        assert!((fitted.translate(0.755 + 0.534 / 4.7) - 0.534).abs() < 1e-9);
        let own = Calibration::fit(&[reference]).unwrap();
        assert!((own.translate(0.3) - Calibration::IDENTITY.translate(0.3)).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_fitted_to_equal_cosines_or_too_few() {
        assert_eq!(Calibration::fit(&[]), None);
        assert_eq!(Calibration::fit(&[vec![0.5; 20]]), None);
        assert_eq!(Calibration::fit(&[vec![0.9, 0.5, 0.1]]), None);
    }
}
