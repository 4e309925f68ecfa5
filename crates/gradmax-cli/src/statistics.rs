//! Means, standard errors and paired differences.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of a sample, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    pub mean: f64,
    /// Standard error of the mean; none for a single value.
    pub standard_error: Option<f64>,
    pub n: usize,
}

impl Mean {
    /// The mean of a sample; none of an empty one.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let standard_error = (n > 1).then(|| (squares / (n - 1) as f64 / n as f64).sqrt());
        Some(Self { mean, standard_error, n })
    }

    /// Half the width of the confidence interval of the mean (Student's t, n - 1 degrees of freedom).
    pub fn half_width(&self, confidence: f64) -> Option<f64> {
        let freedom = (self.n - 1) as f64;
        let error = self.standard_error?;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("there is at least one degree of freedom");
        Some(error * student.inverse_cdf(0.5 + confidence / 2.0))
    }
}

/// The mean of the differences `a - b` of pairs.
pub fn paired_difference(pairs: &[(f64, f64)]) -> Option<Mean> {
    Mean::of(&pairs.iter().map(|(a, b)| a - b).collect::<Vec<_>>())
}

/// The median; none of an empty sample.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_1_SQRT_2;

    use super::*;

    #[test]
    fn intervals_agree_with_tables() {
        // Mean 3, standard deviation sqrt(2.5), t(0.975, 4) = 2.776445.
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(mean.mean, 3.0);
        assert!((mean.standard_error.unwrap() - FRAC_1_SQRT_2).abs() < 1e-9);
        assert!((mean.half_width(0.95).unwrap() - 2.776_445 * FRAC_1_SQRT_2).abs() < 1e-5);
    }

    #[test]
    fn one_value_has_no_error() {
        let mean = Mean::of(&[2.0]).unwrap();
        assert_eq!((mean.standard_error, mean.half_width(0.95)), (None, None));
        assert_eq!(Mean::of(&[]), None);
    }

    #[test]
    fn medians_of_even_and_odd_samples() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
