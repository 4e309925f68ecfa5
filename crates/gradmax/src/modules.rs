//! Modules in place of Burn's own where these do not fit growing networks.
//!
//! Burn's group norm and depthwise convolution keep their number of channels in a field that growth cannot reach, and
//! its dropout draws from a generator that no seed of a run reaches.

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;

mod depthwise;
mod dropout;
mod group_norm;
pub(crate) mod norm;

pub use self::depthwise::DepthwiseConv2d;
pub use self::dropout::Dropout;
pub use self::group_norm::GroupNorm;
pub use self::norm::{Norm, NormKind};

/// A parameter with these values, trained on devices with automatic differentiation.
pub(crate) fn parameter<const D: usize>(values: Tensor<D>) -> Param<Tensor<D>> {
    let tracked = values.is_autodiff();
    Param::initialized(ParamId::new(), if tracked { values.require_grad() } else { values })
}

/// The parameter with other values, made from its own without automatic differentiation: a leaf again, since optimizers step
/// leaves only, and trained or frozen as before.
pub(crate) fn revalued<const D: usize>(
    param: Param<Tensor<D>>,
    values: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    param.map(|old| {
        let (tracked, autodiff) = (old.is_require_grad(), old.is_autodiff());
        let values = values(old.inner());
        match autodiff {
            true => values.autodiff().set_require_grad(tracked),
            false => values,
        }
    })
}
