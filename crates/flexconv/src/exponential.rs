//! Functions that are built on the exponential, in a form that compilers vectorise.

/// `log2(e)`, and `ln(2)` in two parts, the first with zeros at its end.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Added to a number below `2^22`, it leaves the nearest integer in the last bits.
const ROUND: f32 = 12_582_912.0;

/// `exp(-x)` for `x >= 0`, to two units in the last place; nothing smaller than `exp(-87)`.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    // So written that what is not a number stays none.
    let x = if x >= 87.0 { -87.0 } else { -x };
    let rounded = x * LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2[0] - whole * LN_2[1];
    // The Taylor polynomial: what is left out is below `(ln(2) / 2)^8 / 8!`.
    let mut value = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        value = value * rest + coefficient;
    }
    // Times two to the integer, which is the exponent of a number.
    value * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

/// The probability that a standard normal number is below `x`, and the density at `x`: to 1e-7, by formula 7.1.26 of
/// Abramowitz and Stegun (1964).
#[inline(always)]
pub(crate) fn normal(x: f32) -> [f32; 2] {
    const ONE_OVER_ROOT_TWO_PI: f32 = 0.398_942_3;
    let falling = exp_of_negative(0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let mut sum = 1.061_405_4_f32;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        sum = sum * t + coefficient;
    }
    let beyond = 0.5 * sum * t * falling;
    [if x < 0.0 { beyond } else { 1.0 - beyond }, ONE_OVER_ROOT_TWO_PI * falling]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_standard_library() {
        for step in 0..87_000 {
            let x = step as f32 / 1000.0;
            let (ours, theirs) = (f64::from(exp_of_negative(x)), (-f64::from(x)).exp());
            assert!((ours / theirs - 1.0).abs() < 3e-7, "{x}: {ours} {theirs}");
        }
        assert!(exp_of_negative(1e9) > 0.0 && exp_of_negative(1e9) < 1e-37 && exp_of_negative(0.0) == 1.0);
    }

    #[test]
    fn the_normal_distribution_is_the_sum_of_its_density() {
        let (mut sum, step) = (0.0, 1e-4_f64);
        for index in -90_000..90_000 {
            let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let x = index as f64 * step;
            let [below, at] = normal(x as f32).map(f64::from);
            assert!((below - sum).abs() < 3e-7 && (at - density(x)).abs() < 1e-7, "{x}: {below} {sum}");
            // Simpson's rule.
            sum += step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
        }
    }
}
