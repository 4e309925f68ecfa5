//! Depth by copies: blocks that are not there yet become copies of others.

use serde::{Deserialize, Serialize};

use super::method::{GrowthMethod, Need, Request, Series, refused};
use crate::error::Error;
use crate::matrix::Matrix;
use crate::site::declaration::Site;
use crate::site::side::Side;
use crate::surgery::new_neurons::NewNeurons;

/// What the readers of copied neurons have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// The weights of the original's readers: the copy does again what the original does, and the function changes.
    #[default]
    Copied,
    /// Zeros: the function stays.
    Zero,
}

/// Copies of the last blocks, as many as grow, on top of all (Gong et al. 2019; one block at a time, Reddi et al. 2023).
///
/// A copy has everything of its original: weights, companions, the norm in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stack {
    /// What the readers have.
    pub outputs: Outputs,
}

/// Copies of blocks, each behind its original (Chang et al. 2018): of the nearest block in front.
///
/// A copy has everything of its original: weights, companions, the norm in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interleave {
    /// What the readers have.
    pub outputs: Outputs,
}

impl GrowthMethod for Stack {
    fn name(&self) -> &str {
        "stack"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        self.outputs.zero_side()
    }

    fn draws(&self) -> bool {
        false
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        check_series(self.name(), site)
    }

    fn template(&self, series: &Series) -> Result<Option<usize>, String> {
        check_new(series)?;
        let there = (0..series.widths.len()).filter(|place| series.widths[*place] > 0).collect::<Vec<_>>();
        let (Some(last), Some(first)) = (there.last(), series.growing.first()) else {
            return Err("no block is there that could be copied".into());
        };
        if first < last {
            return Err("it copies blocks on top of all others, and this one has blocks behind it: name those that are \
                        not there yet last, or use `interleave`"
                .into());
        }
        let turn = series.growing.iter().position(|place| *place == series.place).unwrap_or_default();
        // The top of the stack again; all of it in turn where more blocks grow than there are.
        let lowest = there.len().saturating_sub(series.growing.len());
        Ok(Some(there[lowest + turn % (there.len() - lowest)]))
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        self.outputs.copies(request)
    }
}

impl GrowthMethod for Interleave {
    fn name(&self) -> &str {
        "interleave"
    }

    fn needs(&self) -> &'static [Need] {
        &[]
    }

    fn zero_side(&self, _: Side) -> Option<Side> {
        self.outputs.zero_side()
    }

    fn draws(&self) -> bool {
        false
    }

    fn check_site(&self, site: &Site) -> Result<(), Error> {
        check_series(self.name(), site)
    }

    fn template(&self, series: &Series) -> Result<Option<usize>, String> {
        check_new(series)?;
        match (0..series.place).rev().find(|place| series.widths[*place] > 0) {
            Some(place) => Ok(Some(place)),
            None => Err("it copies the nearest block in front, and there is none: let a block that is there come first".into()),
        }
    }

    fn neurons(&self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        self.outputs.copies(request)
    }
}

/// Refuses a site that is not one of a series.
fn check_series(method: &str, site: &Site) -> Result<(), Error> {
    match site.series {
        Some(_) => Ok(()),
        None => Err(refused(method, &site.name, "it copies whole blocks, and the site is in no series of blocks")),
    }
}

/// Refuses a block that is there.
fn check_new(series: &Series) -> Result<(), String> {
    match series.widths[series.place] {
        0 => Ok(()),
        width => Err(format!(
            "it copies whole blocks to where none is yet, and this one has {width} neurons: grow by `blocks` (`Amount::Blocks`)"
        )),
    }
}

impl Outputs {
    fn zero_side(self) -> Option<Side> {
        match self {
            Self::Copied => None,
            Self::Zero => Some(Side::Outgoing),
        }
    }

    fn copies(self, request: &Request<'_>) -> Result<NewNeurons, Error> {
        let template = request.template()?;
        let outgoing = match self {
            Self::Copied => template.outgoing,
            Self::Zero => Matrix::zeros(request.fan_out, request.count),
        };
        Ok(NewNeurons::new(template.incoming, outgoing, template.bias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that are copied, by place.
    fn copied(method: &impl GrowthMethod, widths: &[usize], growing: &[usize]) -> Result<Vec<usize>, String> {
        let at = |place: &usize| {
            let series = Series { widths: widths.to_vec(), growing: growing.to_vec(), place: *place };
            method.template(&series).map(Option::unwrap)
        };
        growing.iter().map(at).collect()
    }

    #[test]
    fn stacks_copy_the_top() {
        let stack = Stack::default();
        assert_eq!(copied(&stack, &[4, 4, 4, 0, 0, 0], &[3, 4, 5]), Ok(vec![0, 1, 2]));
        assert_eq!(copied(&stack, &[4, 4, 4, 0, 0, 0], &[3]), Ok(vec![2]));
        assert_eq!(copied(&stack, &[4, 4, 4, 4, 0, 0], &[4, 5]), Ok(vec![2, 3]));
        assert_eq!(copied(&stack, &[4, 4, 0, 0, 0, 0], &[2, 3, 4, 5]), Ok(vec![0, 1, 0, 1]));
        assert!(copied(&stack, &[4, 0, 4, 0], &[1, 3]).unwrap_err().contains("`interleave`"));
        assert!(copied(&stack, &[0, 0], &[0]).unwrap_err().contains("no block is there"));
    }

    #[test]
    fn interleaved_copies_come_behind_their_originals() {
        let interleave = Interleave::default();
        assert_eq!(copied(&interleave, &[4, 0, 4, 0], &[1, 3]), Ok(vec![0, 2]));
        assert_eq!(copied(&interleave, &[4, 0, 0, 4], &[1, 2]), Ok(vec![0, 0]));
        assert!(copied(&interleave, &[0, 4], &[0]).unwrap_err().contains("none"));
    }
}
