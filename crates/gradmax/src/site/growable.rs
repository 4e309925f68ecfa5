//! What a network has to tell so that it can grow.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use crate::site::declaration::Site;
use crate::site::output::Output;
use crate::site::probe::Probe;

/// A plain Burn module that says where it may grow.
///
/// A network gains two things: a line per site in [`sites`](Growable::sites), and a line per site in its forward pass.
/// See the example `own_network`.
///
/// # Example
/// ```
/// use burn::module::Module;
/// use burn::nn::Linear;
/// use burn::tensor::Tensor;
/// use gradmax::site::{Activation, Growable, Probe, Site};
///
/// #[derive(Module, Debug)]
/// struct Network {
///     hidden: Linear,
///     output: Linear,
/// }
///
/// impl Growable for Network {
///     type Input = Tensor<2>;
///     type Output = Tensor<2>;
///
///     fn sites(&self) -> Vec<Site> {
///         vec![Site::new("hidden", &self.hidden, [Activation::Relu], &self.output)]
///     }
///
///     fn forward_probed(&self, input: Tensor<2>, probe: &mut dyn Probe) -> Tensor<2> {
///         let neurons = Activation::Relu.apply(self.hidden.forward(input.clone()));
///         probe.site("hidden", &input, self.output.forward(neurons))
///     }
/// }
/// ```
pub trait Growable: Module {
    /// What the network reads: usually a tensor `[batch, inputs]`.
    type Input: Clone;
    /// What the network computes: usually a tensor `[batch, outputs]`.
    type Output: Output;

    /// The sites, in the order of the forward pass. Cheap: layers share their tensors with the network.
    fn sites(&self) -> Vec<Site>;

    /// The forward pass, showing every site to the probe.
    fn forward_probed(&self, input: Self::Input, probe: &mut dyn Probe) -> Self::Output;

    /// The forward pass without a probe.
    fn forward(&self, input: Self::Input) -> Self::Output {
        self.forward_probed(input, &mut ())
    }

    /// Floating-point operations of one example's forward pass: two for each entry of a matrix, one for each of a bias.
    ///
    /// Right for dense networks, which use every weight once an example; override it for networks that use weights more
    /// often, as convolutions do (the library's networks count layer by layer). Activations are not counted.
    fn flops(&self) -> u64 {
        let mut count = DenseFlops(0);
        self.visit(&mut count);
        count.0
    }
}

/// Floating-point operations of a training step, an example: a forward pass, and a backward pass that costs twice as
/// much.
pub fn training_flops<N: Growable>(network: &N) -> u64 {
    // One product gives the gradient of the weights, another that of the inputs.
    3 * network.flops()
}

/// Number of entries that are trained, on a device with automatic differentiation. Running statistics of norms, and
/// what was frozen, are not among them; Burn's `num_params` counts all.
pub fn trainable_parameters<M: Module>(module: &M) -> usize {
    struct Trained(usize);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0 += param.lazy_shape().num_elements();
            }
        }
    }
    let mut trained = Trained(0);
    module.visit(&mut trained);
    trained.0
}

struct DenseFlops(u64);

impl ModuleVisitor for DenseFlops {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let entries = param.lazy_shape().num_elements() as u64;
        self.0 += if D > 1 { 2 * entries } else { entries };
    }
}

/// The device of a network's first parameter.
pub(crate) fn device_of<N: Growable>(network: &N) -> Device {
    network.devices().into_iter().next().expect("a network has parameters")
}
