//! Budgets: what a run may spend, and how large its network may become. They bind every policy.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::event::plan::Planned;
use crate::policies::look::{Cost, PolicyLook};

/// What a run may spend, and how large its network may become; without limits where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Floating-point operations of training and growth: the run ends once they are spent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub flops: Option<u64>,
    /// Seconds of the whole run: it ends once they are spent. Such a run depends on the machine's speed, so it is not the
    /// same twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Trainable parameters of the network: growth stops there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub parameters: Option<u64>,
    /// Floating-point operations of an example's forward pass: growth stops there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole")]
    pub inference_flops: Option<u64>,
}

/// A number that may be written as `1e12`, which is no whole number to every format.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = f64::deserialize(deserializer)?;
    match number >= 0.0 && number <= i64::MAX as f64 {
        true => Ok(Some(number as u64)),
        false => Err(D::Error::custom(format!("{number} is no budget: it must be a positive number"))),
    }
}

impl Budget {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it ends the run: it limits operations or seconds.
    pub fn ends_runs(&self) -> bool {
        self.flops.is_some() || self.seconds.is_some()
    }

    /// The share that is spent, of what is used up the most: 0 at the start, 1 or more at the end.
    pub fn spent(&self, flops: u64, seconds: f64) -> f64 {
        let of_flops = self.flops.map_or(0.0, |all| flops as f64 / all as f64);
        let of_seconds = self.seconds.map_or(0.0, |all| seconds / all);
        of_flops.max(of_seconds)
    }

    /// Whether a network of this size is within the limits.
    pub fn allows(&self, size: Cost) -> bool {
        self.parameters.is_none_or(|most| size.parameters <= most)
            && self.inference_flops.is_none_or(|most| size.flops <= most)
    }

    /// Checks that the limits make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<(), Error> {
        let bad = |option, value: String| {
            Err(Error::BadOption { option, value, remedy: "a budget is positive; leave it out for no limit" })
        };
        match *self {
            Self { flops: Some(0), .. } => bad("budget.flops", "0".into()),
            Self { parameters: Some(0), .. } => bad("budget.parameters", "0".into()),
            Self { inference_flops: Some(0), .. } => bad("budget.inference_flops", "0".into()),
            Self { seconds: Some(seconds), .. } if !(seconds > 0.0 && seconds.is_finite()) => {
                bad("budget.seconds", seconds.to_string())
            }
            _ => Ok(()),
        }
    }

    /// The part of a plan that stays within the limits: if not all of it does, the largest share of every site's neurons
    /// that fits, rounded down.
    ///
    /// # Errors
    /// Those of [`PolicyLook::grown_size`].
    pub(crate) fn trimmed(&self, plan: Vec<Planned>, look: &dyn PolicyLook) -> Result<Vec<Planned>, Error> {
        let limits_size = self.parameters.is_some() || self.inference_flops.is_some();
        if !limits_size || plan.is_empty() || self.allows(look.grown_size(&plan)?) {
            return Ok(plan);
        }
        let units = plan.iter().map(|planned| look.growth_unit(&planned.site)).collect::<Result<Vec<_>, _>>()?;
        // Every share at which one more unit of some site would come.
        let largest = plan.iter().zip(&units).map(|(planned, unit)| planned.count / unit).max().unwrap_or(0);
        let part = |number: usize| {
            let of_site = |(planned, unit): (&Planned, &usize)| {
                Planned::some(&planned.site, planned.count / unit * number / largest * unit)
            };
            plan.iter().zip(&units).filter_map(of_site).collect::<Vec<_>>()
        };
        let (mut fits, mut too_large) = (0, largest);
        while too_large - fits > 1 {
            let middle = fits.midpoint(too_large);
            match self.allows(look.grown_size(&part(middle))?) {
                true => fits = middle,
                false => too_large = middle,
            }
        }
        Ok(part(fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of 10 parameters, to which each neuron adds as many as its site says.
    struct Sizes;

    impl PolicyLook for Sizes {
        fn loss(&self) -> Result<f64, Error> {
            unreachable!("nothing is looked at")
        }
        fn gradient_norm(&self) -> Result<f64, Error> {
            unreachable!("nothing is looked at")
        }
        fn gains(&self, _: &[Planned]) -> Result<Vec<Vec<f64>>, Error> {
            unreachable!("nothing is looked at")
        }
        fn spectrum(&self, _: &str, _: usize) -> Result<Vec<f64>, Error> {
            unreachable!("nothing is looked at")
        }
        fn size(&self) -> Cost {
            Cost { parameters: 10, flops: 20 }
        }
        fn growth_unit(&self, site: &str) -> Result<usize, Error> {
            Ok(if site == "pairs" { 2 } else { 1 })
        }
        fn grown_size(&self, plan: &[Planned]) -> Result<Cost, Error> {
            let neurons = plan.iter().map(|planned| planned.count as u64).sum::<u64>();
            Ok(Cost { parameters: 10 + 3 * neurons, flops: 20 + 5 * neurons })
        }
        fn cost(&self, _: &str, _: usize) -> Result<Cost, Error> {
            unreachable!("the whole plan is counted")
        }
    }

    fn planned(counts: &[(&str, usize)]) -> Vec<Planned> {
        counts.iter().map(|(site, count)| Planned { site: site.to_string(), count: *count }).collect()
    }

    #[test]
    fn a_plan_that_is_too_large_is_cut_to_the_largest_share_that_fits() {
        let cut = |budget: Budget, counts: &[(&str, usize)]| budget.trimmed(planned(counts), &Sizes).unwrap();
        let parameters = |most| Budget { parameters: Some(most), ..Budget::default() };
        let whole = [("a", 4), ("pairs", 4)];
        assert_eq!(cut(Budget::default(), &whole), planned(&whole));
        assert_eq!(cut(parameters(34), &whole), planned(&whole));
        // 33 parameters are room for 7 neurons: three quarters are 3 of `a` and one pair.
        assert_eq!(cut(parameters(33), &whole), planned(&[("a", 3), ("pairs", 2)]));
        assert_eq!(cut(parameters(16), &whole), planned(&[("a", 1)]));
        assert_eq!(cut(parameters(10), &whole), planned(&[]));
        assert_eq!(cut(Budget { inference_flops: Some(29), ..Budget::default() }, &whole), planned(&[("a", 1)]));
    }

    #[test]
    fn what_is_used_up_the_most_counts() {
        let budget = Budget { flops: Some(100), seconds: Some(10.0), ..Budget::default() };
        assert_eq!([budget.spent(50, 1.0), budget.spent(50, 8.0), budget.spent(200, 1.0)], [0.5, 0.8, 2.0]);
        assert_eq!(Budget { parameters: Some(1), ..Budget::default() }.spent(50, 8.0), 0.0);
    }
}
