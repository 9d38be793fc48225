//! Whole numbers that arrive as floating-point numbers.

/// Returns a number without a fraction, within the range that every JSON implementation represents
/// exactly.
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and below 2^53"
)]
pub(super) fn whole_number(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}
