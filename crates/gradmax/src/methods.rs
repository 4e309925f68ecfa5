//! How new neurons get their weights: the contract of growth methods, and a file for each of them.

pub(crate) mod adam;
pub(crate) mod firefly;
pub(crate) mod firefly_opt;
pub(crate) mod gradmax;
pub(crate) mod gradmax_opt;
pub(crate) mod gradmax_rectified;
pub(crate) mod growth_loss;
pub(crate) mod method;
pub(crate) mod nest;
pub(crate) mod north;
pub(crate) mod placement;
pub(crate) mod random;
pub(crate) mod split;
pub(crate) mod splitting_steepest_descent;
pub(crate) mod tiny;
pub(crate) mod unit_bias;
pub(crate) mod variance_transfer;

pub use self::firefly::Firefly;
pub use self::firefly_opt::FireflyOpt;
pub use self::gradmax::{GradMax, Sign};
pub use self::gradmax_opt::{Ascent, GradMaxOpt};
pub use self::gradmax_rectified::GradMaxRectified;
pub use self::growth_loss::{GrowthLoss, LossAt};
pub use self::method::{GrowthMethod, Need, Request};
pub use self::nest::Nest;
pub use self::north::North;
pub use self::placement::{Placement, Scale, SidePolicy};
pub use self::random::{Random, RandomPositive};
pub use self::split::Net2Wider;
pub use self::splitting_steepest_descent::SplittingSteepestDescent;
pub use self::tiny::Tiny;
pub use self::unit_bias::UnitBias;
pub use self::variance_transfer::VarianceTransfer;
