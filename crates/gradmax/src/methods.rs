//! How new neurons get their weights: the contract of growth methods, and a file for each of them.

pub(crate) mod adam;
pub(crate) mod growth_loss;
pub(crate) mod method;
pub(crate) mod placement;

pub use self::growth_loss::{GrowthLoss, LossAt};
pub use self::method::{GrowthMethod, Need, Request, Series};
pub use self::placement::{Placement, Scale, SidePolicy};
use crate::registry::registry;

registry! {
    /// Every growth method that configurations can name, in the order of help and tables.
    METHODS: dyn GrowthMethod;
    random { Random, RandomPositive }
        "random" = Random {} => "random directions: the baseline",
        "random_positive" = RandomPositive {} => "random weights above 0, as in the authors' code";
    random_orthogonal { RandomOrthogonal }
        "random_orthogonal" = RandomOrthogonal {} => "random directions at right angles to each other";
    gradmax { GradMax, Sign }
        "gradmax" = GradMax::default() =>
            "the largest gradient for new neurons, by singular vectors (Evci et al. 2022)",
        "gradmax_one_sided" = GradMax { sign: Sign::OneSided, ..GradMax::default() } =>
            "as gradmax, with the signs under which the activation lets more of it through";
    gradmax_rectified { GradMaxRectified }
        "gradmax_rectified" = GradMaxRectified {} => "the largest gradient under the activation itself";
    gradmax_opt { Ascent, GradMaxOpt }
        "gradmax_opt" = GradMaxOpt::default() => "the largest gradient by ascent (Evci et al. 2022, section 3)",
        "gradmax_opt_authors" = GradMaxOpt::authors() => "the same with the settings of the authors' code";
    tiny { Tiny }
        "tiny" = Tiny::default() => "the best new neurons by a least-squares step (Verbockhaven et al. 2024)";
    north { North } "north" = North {} => "neurons that are orthogonal to those that there are (Maile et al. 2022)";
    nest { Nest } "nest" = Nest::default() => "a connection where the growth matrix is large (Dai et al. 2017)";
    firefly { Firefly }
        "firefly" = Firefly::default() => "trained candidates, the best of which are kept (Wu et al. 2020)";
    firefly_opt { FireflyOpt }
        "firefly_opt" = FireflyOpt::default() =>
            "weights that lower the loss at the growth batch, by descent (Evci et al. 2022, section 4.2)";
    split { Net2Wider }
        "split" = Net2Wider::default() =>
            "copies of neurons that share their outgoing weights (Net2Net, Chen et al. 2016)";
    splitting_steepest_descent { SplittingSteepestDescent }
        "splitting_steepest_descent" = SplittingSteepestDescent::default() =>
            "splits along the steepest descent of the splitting matrix (Liu et al. 2019)",
        "signed_splitting_descent" = SplittingSteepestDescent::signed() => "the same with signs (Wu et al. 2020)";
    variance_transfer { VarianceTransfer }
        "variance_transfer" = VarianceTransfer {} =>
            "weights of a size that keeps activations in scale (Yuan et al. 2023)";
    depth { Interleave, Outputs, Stack }
        "stack" = Stack::default() => "copies of whole blocks, on top of all (Gong et al. 2019)",
        "interleave" = Interleave::default() => "copies of whole blocks, each behind its original (Chang et al. 2018)";
    unit_bias { UnitBias } "unit_bias" = UnitBias {} => "zero weights and a bias of 1 (Evci et al. 2022, figure 13a)";
}
