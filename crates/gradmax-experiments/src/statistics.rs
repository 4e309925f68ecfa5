//! Means, standard errors, paired differences, and bootstrap intervals.

use gradmax::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};
use statrs::statistics::Statistics;

/// The mean of a sample, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Standard error of the mean; none for a single value.
    pub standard_error: Option<f64>,
    /// Number of values.
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

    /// The same in another unit, of which so many are one of this.
    pub fn times(self, factor: f64) -> Self {
        Self { mean: factor * self.mean, standard_error: self.standard_error.map(|error| factor * error), ..self }
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

/// What pairs say about the mean of their differences, under a stated confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The mean of the differences.
    pub difference: Mean,
    /// The confidence level of its interval.
    pub confidence: f64,
    /// The confidence interval of the mean difference, by Student's t.
    pub interval: [f64; 2],
    /// The same by the bootstrap, see [`bootstrap_interval`]; none of fewer pairs than it needs.
    pub bootstrap: Option<[f64; 2]>,
    /// The two-sided p-value of a mean difference of zero, by the paired t-test.
    pub p: f64,
    /// Pairs with a positive difference.
    pub positive: usize,
}

impl Paired {
    /// Compares the pairs; none of fewer than two, or where all differences are the same and not zero.
    pub fn of(pairs: &[(f64, f64)], confidence: f64) -> Option<Self> {
        let differences = pairs.iter().map(|(a, b)| a - b).collect::<Vec<_>>();
        let difference = Mean::of(&differences)?;
        let (half, error) = (difference.half_width(confidence)?, difference.standard_error?);
        let p = match (error > 0.0, difference.mean) {
            (true, mean) => {
                let student =
                    StudentsT::new(0.0, 1.0, (difference.n - 1) as f64).expect("there is a degree of freedom");
                2.0 * student.cdf(-(mean / error).abs())
            }
            (false, 0.0) => 1.0,
            (false, _) => return None,
        };
        Some(Self {
            difference,
            confidence,
            interval: [difference.mean - half, difference.mean + half],
            bootstrap: bootstrap_interval(&differences, confidence),
            p,
            positive: differences.iter().filter(|difference| **difference > 0.0).count(),
        })
    }
}

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;
/// Values that a bootstrap needs at least: resamples of fewer are too much alike.
const BOOTSTRAP_VALUES: usize = 8;

/// The confidence interval of the mean by the bias-corrected and accelerated bootstrap (Efron 1987): 10 000 resamples
/// from a fixed seed. None of fewer than eight values, or of equal ones.
pub fn bootstrap_interval(values: &[f64], confidence: f64) -> Option<[f64; 2]> {
    let n = values.len();
    if n < BOOTSTRAP_VALUES || values.iter().all(|value| *value == values[0]) {
        return None;
    }
    let mean = values.mean();
    let mut rng = Seed::new(0).fold("bootstrap").rng();
    let mut means = (0..RESAMPLES)
        .map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect::<Vec<_>>();
    means.sort_by(f64::total_cmp);

    let normal = Normal::standard();
    // Resamples that hit the mean itself count half, so that symmetric samples have no bias.
    let below = means.partition_point(|resampled| *resampled < mean);
    let at = means.partition_point(|resampled| *resampled <= mean) - below;
    let bias = normal.inverse_cdf((below as f64 + at as f64 / 2.0) / RESAMPLES as f64);
    // The jackknife's means differ from the mean by (mean - value) / (n - 1): the skewness of the values, scaled.
    let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
    let acceleration = moment(3) / (6.0 * moment(2).powf(1.5));
    let end = |tail: f64| {
        let shifted = bias + normal.inverse_cdf(tail);
        let share = normal.cdf(bias + shifted / (1.0 - acceleration * shifted));
        means[((share * RESAMPLES as f64) as usize).min(RESAMPLES - 1)]
    };
    let tail = (1.0 - confidence) / 2.0;
    Some([end(tail), end(1.0 - tail)])
}

/// Pearson's correlation of pairs; none of fewer than three, or where one side does not vary.
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let side = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).collect::<Vec<_>>();
    let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
    let scale = a.as_slice().population_std_dev() * b.as_slice().population_std_dev();
    (pairs.len() > 2 && scale > 0.0).then(|| a.population_covariance(b) / scale)
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
    fn paired_tests_agree_with_others() {
        // scipy 1.17: ttest_rel(a, b).pvalue = 0.02174298, confidence_interval(.95) = (0.239639, 1.760361).
        let pairs = [(1.0, 0.0), (2.0, 1.5), (4.0, 2.0), (3.0, 2.5), (5.0, 4.0)];
        let paired = Paired::of(&pairs, 0.95).unwrap();
        assert_eq!((paired.difference.mean, paired.positive, paired.bootstrap), (1.0, 5, None));
        assert!((paired.p - 0.021_742_98).abs() < 1e-6, "{}", paired.p);
        assert!((paired.interval[0] - 0.239_639).abs() < 1e-5, "{:?}", paired.interval);
    }

    #[test]
    fn the_bootstrap_agrees_with_scipys_and_leans_with_skewed_values() {
        // scipy 1.17: bootstrap((values,), np.mean, method="BCa", n_resamples=100000) = (0.49, 2.11) to (0.49, 2.14).
        let values = [0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.9, 1.4, 2.5, 4.0];
        let [low, high] = bootstrap_interval(&values, 0.95).unwrap();
        assert!((low - 0.49).abs() < 0.02 && (high - 2.12).abs() < 0.06, "{low} {high}");
        assert!(high - 1.05 > 1.05 - low);
        assert_eq!(bootstrap_interval(&values[..7], 0.95), None);
        assert_eq!(bootstrap_interval(&[1.0; 20], 0.95), None);
    }

    #[test]
    fn correlations_have_their_sign() {
        let line = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)];
        assert!((correlation(&line).unwrap() - 1.0).abs() < 1e-12);
        assert!((correlation(&line.map(|(a, b)| (a, -b))).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&line[..2]), None);
        assert_eq!(correlation(&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]), None);
    }

    #[test]
    fn medians_of_even_and_odd_samples() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
