//! How new neurons get their weights: the contract of growth methods, and a file for each of them.

pub(crate) mod adam;
pub(crate) mod growth_loss;
pub(crate) mod method;
pub(crate) mod placement;

pub use self::growth_loss::{GrowthLoss, LossAt};
pub use self::method::{GrowthMethod, Need, Request};
pub use self::placement::{Placement, Scale, SidePolicy};
use crate::registry::registry;

registry! {
    /// Every growth method that configurations can name, in the order of help and tables.
    METHODS: dyn GrowthMethod;
    random { Random, RandomPositive } "random" = Random {}, "random_positive" = RandomPositive {};
    random_orthogonal { RandomOrthogonal } "random_orthogonal" = RandomOrthogonal {};
    gradmax { GradMax, Sign }
        "gradmax" = GradMax::default(),
        "gradmax_one_sided" = GradMax { sign: Sign::OneSided, ..GradMax::default() };
    gradmax_rectified { GradMaxRectified } "gradmax_rectified" = GradMaxRectified {};
    gradmax_opt { Ascent, GradMaxOpt }
        "gradmax_opt" = GradMaxOpt::default(),
        "gradmax_opt_authors" = GradMaxOpt::authors();
    tiny { Tiny } "tiny" = Tiny::default();
    north { North } "north" = North {};
    nest { Nest } "nest" = Nest::default();
    firefly { Firefly } "firefly" = Firefly::default();
    firefly_opt { FireflyOpt } "firefly_opt" = FireflyOpt::default();
    split { Net2Wider } "split" = Net2Wider::default();
    splitting_steepest_descent { SplittingSteepestDescent }
        "splitting_steepest_descent" = SplittingSteepestDescent::default(),
        "signed_splitting_descent" = SplittingSteepestDescent::signed();
    variance_transfer { VarianceTransfer } "variance_transfer" = VarianceTransfer {};
    unit_bias { UnitBias } "unit_bias" = UnitBias {};
}
