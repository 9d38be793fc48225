//! Products of hidden states with weight matrices, in floating-point or 8-bit integer arithmetic.
//!
//! Integer products are several times faster and need a quarter of the memory. Each row of the states and each column
//! of a matrix is quantized with its own scale.

use std::io;
use std::mem::MaybeUninit;

use rten_gemm::{
    GemmExecutor, GemmInT, GemmInputA, GemmInputB, GemmOptions, GemmOutT, PackedBMatrix,
};
use rten_simd::SimdOp;
use rten_tensor::Matrix;
use rten_vecmath::{MinMax, Quantize};

/// Largest absolute value of a quantized weight.
const MAX_WEIGHT: f32 = 127.0;

/// The arithmetic of products with weights. All other computations use 32-bit floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// 32-bit floating-point numbers.
    Float,
    /// 8-bit integers, if this processor has instructions for them, or else [`Float`](Self::Float).
    Integer,
}

/// The matrix kernels of this processor.
pub(crate) struct Kernels {
    pub(crate) float: GemmExecutor<f32>,
    integer: GemmExecutor<u8, i8, i32>,
    /// Largest quantized activation. Kernels without instructions for this purpose add pairs of products in 16 bits.
    max_activation: f32,
}

impl Default for Kernels {
    fn default() -> Self {
        let integer = GemmExecutor::<u8, i8, i32>::new();
        Self {
            float: GemmExecutor::new(),
            max_activation: if integer.may_saturate() { 127.0 } else { 255.0 },
            integer,
        }
    }
}

impl Kernels {
    /// Returns the arithmetic to use if `wanted` is configured.
    pub(crate) fn choose_arithmetic(&self, wanted: Arithmetic) -> Arithmetic {
        match self.integer.kernel_name().contains("generic") {
            true => Arithmetic::Float,
            false => wanted,
        }
    }

    /// Packs a matrix, whose element in a row and a column is `weights[column * step + row]`.
    pub(crate) fn pack_matrix(
        &self,
        arithmetic: Arithmetic,
        weights: &[f32],
        [rows, columns]: [usize; 2],
        step: usize,
    ) -> io::Result<PackedMatrix> {
        if arithmetic == Arithmetic::Float {
            let matrix = view_matrix(weights, [rows, columns], [1, step])?;
            return Ok(PackedMatrix::Float(self.float.prepack_b(matrix)));
        }
        let mut numbers = Vec::with_capacity(rows * columns);
        let mut of_columns = Columns::default();
        for column in 0..columns {
            let column = &weights[column * step..][..rows];
            let scale = find_largest(column) / MAX_WEIGHT;
            let inverse = invert_scale(scale);
            let quantized = column.iter().map(|x| (x * inverse).round());
            of_columns.sums.push(quantized.clone().sum());
            of_columns.scales.push(scale);
            numbers.extend(quantized.map(|x| x as i8));
        }
        let matrix = view_matrix(&numbers, [rows, columns], [1, rows])?;
        Ok(PackedMatrix::Integer {
            weights: self.integer.prepack_b(matrix),
            columns: of_columns,
        })
    }
}

/// A matrix that is packed for a kernel.
pub(crate) enum PackedMatrix {
    Float(PackedBMatrix<f32>),
    Integer {
        weights: PackedBMatrix<i8>,
        columns: Columns,
    },
}

/// The columns of quantized weights.
#[derive(Default)]
pub(crate) struct Columns {
    scales: Vec<f32>,
    /// Sum of the quantized weights of each column.
    sums: Vec<f32>,
}

/// A row of quantized activations.
struct Row {
    scale: f32,
    /// The quantized value of 0.
    zero: f32,
}

/// The buffers of one thread for integer products.
#[derive(Default)]
pub(crate) struct Scratch {
    rows: Vec<Row>,
    quantized: Vec<u8>,
    quantized_row: Vec<MaybeUninit<u8>>,
    products: Vec<i32>,
}

impl PackedMatrix {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Float(weights) => weights.rows(),
            Self::Integer { weights, .. } => weights.rows(),
        }
    }

    /// `to += from * self`
    pub(crate) fn add_product(
        &self,
        kernels: &Kernels,
        from: &[f32],
        scratch: &mut Scratch,
        to: &mut [f32],
    ) -> io::Result<()> {
        let width = self.rows();
        let shape = [from.len() / width, width];
        match self {
            Self::Float(weights) => {
                let options = GemmOptions {
                    beta: 1.0,
                    ..GemmOptions::default()
                };
                let from = view_matrix(from, shape, [width, 1])?;
                multiply(
                    &kernels.float,
                    from,
                    GemmInputB::Packed(weights),
                    to,
                    options,
                )
            }
            Self::Integer { weights, columns } => {
                scratch.quantize_rows(from, width, kernels.max_activation);
                scratch.products.resize(shape[0] * columns.sums.len(), 0);
                let from = view_matrix(&scratch.quantized, shape, [width, 1])?;
                // The zero points are subtracted afterwards, because the kernel expects the same one in all rows.
                let (weights, options) = (GemmInputB::Packed(weights), GemmOptions::default());
                multiply(
                    &kernels.integer,
                    from,
                    weights,
                    &mut scratch.products,
                    options,
                )?;
                scratch.add_products(columns, to);
                Ok(())
            }
        }
    }
}

/// Multiplies two matrices.
pub(crate) fn multiply<A: GemmInT, B: GemmInT, C: GemmOutT>(
    executor: &GemmExecutor<A, B, C>,
    a: Matrix<'_, A>,
    b: GemmInputB<'_, B>,
    to: &mut [C],
    options: GemmOptions<'_, A, B, C>,
) -> io::Result<()> {
    executor
        .gemm(to, GemmInputA::Unpacked(a), b, options)
        .map_err(io::Error::other)
}

impl Scratch {
    /// Quantizes each row: its smallest number, or 0, becomes 0, and its largest one `most`.
    fn quantize_rows(&mut self, rows: &[f32], width: usize, most: f32) {
        self.rows.clear();
        self.quantized.clear();
        self.quantized_row.resize(width, MaybeUninit::uninit());
        for row in rows.chunks_exact(width) {
            let (least, greatest) = MinMax::new(row).dispatch();
            let (least, greatest) = (least.min(0.0), greatest.max(0.0));
            let scale = (greatest - least) / most;
            let inverse = invert_scale(scale);
            let zero = (-least * inverse).round();
            let quantize = Quantize::new(row, &mut self.quantized_row, inverse, zero as u8);
            self.quantized.extend_from_slice(quantize.dispatch());
            self.rows.push(Row { scale, zero });
        }
    }

    /// Adds the products, without the zero points and with the scales of their rows and columns, to `to`.
    fn add_products(&self, columns: &Columns, to: &mut [f32]) {
        let width = columns.sums.len();
        let products = self.products.chunks_exact(width);
        for ((products, to), row) in products.zip(to.chunks_exact_mut(width)).zip(&self.rows) {
            let columns = columns.sums.iter().zip(&columns.scales);
            for ((to, product), (sum, scale)) in to.iter_mut().zip(products).zip(columns) {
                *to += (*product as f32 - row.zero * sum) * (row.scale * scale);
            }
        }
    }
}

/// Returns the largest absolute value, or NaN if a number is not finite, so that no embedding hides it.
fn find_largest(numbers: &[f32]) -> f32 {
    match numbers.iter().all(|number| number.is_finite()) {
        true => numbers
            .iter()
            .fold(0.0, |most, number| most.max(number.abs())),
        false => f32::NAN,
    }
}

/// Returns the factor that quantizes numbers with a scale. If all of them are 0, or one is not finite, they become 0.
fn invert_scale(scale: f32) -> f32 {
    if scale > 0.0 { 1.0 / scale } else { 0.0 }
}

/// Returns a matrix within `data`, with steps from row to row and from column to column.
pub(crate) fn view_matrix<T>(
    data: &[T],
    shape: [usize; 2],
    steps: [usize; 2],
) -> io::Result<Matrix<'_, T>> {
    Matrix::from_data_with_strides(shape, data, steps)
        .map_err(|error| io::Error::other(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|number| ((number * 7_919 + seed * 104_729) % 2_001) as f32 / 1_000.0 - 1.0)
            .collect()
    }

    fn multiply(
        arithmetic: Arithmetic,
        from: &[f32],
        weights: &[f32],
        shape: [usize; 2],
    ) -> Vec<f32> {
        let kernels = Kernels::default();
        let arithmetic = kernels.choose_arithmetic(arithmetic);
        let matrix = kernels
            .pack_matrix(arithmetic, weights, shape, shape[0] + 3)
            .unwrap();
        let mut to = vec![1.0; from.len() / shape[0] * shape[1]];
        matrix
            .add_product(&kernels, from, &mut Scratch::default(), &mut to)
            .unwrap();
        to
    }

    #[test]
    fn weights_that_are_not_finite_are_not_hidden() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut weights = make_numbers(8 * 2, 3);
            weights[8] = wrong;
            let product = multiply(Arithmetic::Integer, &[1.0; 5], &weights, [5, 2]);
            assert!(
                product[0].is_finite() && !product[1].is_finite(),
                "{product:?}"
            );
        }
    }

    #[test]
    fn integer_products_are_close_to_those_of_floating_point_numbers() {
        for (tokens, rows, columns) in [
            (1, 5, 7),
            (3, 64, 33),
            (14, 384, 100),
            (40, 96, 384),
            (300, 384, 64),
        ] {
            let from = make_numbers(tokens * rows, 1);
            let weights = make_numbers((rows + 3) * columns, 2);
            let float = multiply(Arithmetic::Float, &from, &weights, [rows, columns]);
            let integer = multiply(Arithmetic::Integer, &from, &weights, [rows, columns]);
            let size = float.iter().map(|x| x * x).sum::<f32>().sqrt();
            let off = float
                .iter()
                .zip(&integer)
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f32>()
                .sqrt();
            assert!(
                off < 0.02 * size,
                "{tokens} x {rows} x {columns}: {off} of {size}"
            );
        }
    }
}
